"""The pipeline as the YAML that a cluster takes."""

from __future__ import annotations

import tempfile
from pathlib import Path


def compile_to(out: Path, image: str = "") -> None:
    """Compiles `distill`; two compiles of the same code are byte-identical.

    Args:
        out: the YAML file.
        image: replaces the image of every component.

    Raises:
        UserError: the file cannot be written, or its name does not end in .yaml.
    """
    from kfp import compiler

    from dcod.errors import UserError
    from dcod.storage import write_text
    from pipelines.distill import COMPONENTS, distill

    if out.suffix not in (".yaml", ".yml"):
        raise UserError(f"--out {out}: must end in .yaml")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "pipeline.yaml"
        compiler.Compiler().compile(distill, str(file))
        text = file.read_text(encoding="utf-8")
    if image:
        default = COMPONENTS[0].component_spec.implementation.container.image
        text = text.replace(f"image: {default}\n", f"image: {image}\n")
    write_text(out, text)
