"""What decides an output, as digests: of inputs, of code, and of an attempt that a later one may go on from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from dcod import storage
from dcod.config import Config
from dcod.models import loading, references
from dcod.stages import imports, manifests


def output_digest(path: Path) -> str:
    """The digest that stands for an input: of the weights, of a stage's output, or of a file."""
    if path.is_file():
        return storage.digest_file(path)
    if references.is_reference(path):
        return references.digest(path)
    if (path / "config.json").is_file():
        return loading.digest(path)
    if (path / storage.MANIFEST).is_file():
        return str(manifests.read(path)["digest"])
    return storage.digest_folder(path)


def attempt_place(uri: str, stage: str, config: Config, sections: Mapping[str, Any], *inputs: Path) -> str:
    """Where the attempts at one run keep what is done: of the same student's settings, seed, inputs and code alone.

    Args:
        uri: what it lies below; empty: nothing is kept.
        stage: module of this package.
        config: the configuration.
        sections: what else of it decides.
        inputs: of the stage.

    Returns:
        The folder or s3:// prefix; empty without ``uri``.
    """
    if not uri:
        return ""
    everything = {"student": config.student.model_dump(mode="json"), **sections}
    decides = [everything, config.seed, *(output_digest(path) for path in inputs), code_digest(stage)]
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]
    return f"{uri.rstrip('/')}/{digest}"


@cache
def code_digest(*stages: str, root: Path = imports.ROOT) -> str:
    """SHA-256 over the files of dcod that stages may load: other code may give another output.

    Who executes a stage is not among them, nor who shows its output: an edit of a report page voids no student.

    Args:
        stages: modules of this package.
        root: the folder of dcod.
    """
    total = hashlib.sha256()
    for path in imports.reached(*(f"{__package__}.{stage}" for stage in stages), root=root):
        total.update(f"{path.relative_to(root).as_posix()}\x1f".encode() + path.read_bytes())
    return total.hexdigest()
