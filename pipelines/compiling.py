"""The pipeline as the YAML that a cluster takes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dcod.cluster import ClusterConfig


def compile_to(out: Path, cluster: ClusterConfig | None = None) -> None:
    """Compiles the pipeline for a cluster; two compiles of the same code are byte-identical.

    Args:
        out: the YAML file: the pipeline, and what Kubernetes is told about its pods.
        cluster: the cluster's section; else the default one.

    Raises:
        UserError: the file cannot be written, or its name does not end in .yaml.
    """
    from kfp import compiler

    from dcod.errors import UserError
    from dcod.storage import write_text
    from pipelines.distill import COMPONENTS, build

    if out.suffix not in (".yaml", ".yml"):
        raise UserError(f"--out {out}: must end in .yaml")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "pipeline.yaml"
        compiler.Compiler().compile(build(cluster), str(file))
        text = file.read_text(encoding="utf-8")
    if cluster and cluster.image:  # also of the exit handler, whose image no call sets
        default = COMPONENTS[0].component_spec.implementation.container.image
        text = text.replace(f"image: {default}\n", f"image: {cluster.image}\n")
    write_text(out, text)
