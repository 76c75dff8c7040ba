"""Weights between the pods of a run: by reference where `promote.log_model=reference` says so, else as they are.

An artifact of a model then holds a reference in the place of its weights, which lie once a digest in the bucket
(:mod:`dcod.models.references`): Kubeflow's store gets none of them, and what lies there already is not sent again.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dcod import storage
from dcod.config import Config
from dcod.models import loading, references


def place_of(config: Config) -> str:
    """Where the weights of all models lie; empty where they travel with their artifacts."""
    return f"{config.cluster.storage.rstrip('/')}/models" if config.promote.log_model == "reference" else ""


@contextmanager
def taken(config: Config, inputs: Mapping[str, Path], out: Path) -> Iterator[dict[str, Path]]:
    """The inputs of a stage with all of their weights; its output loses its own when the block ends well.

    Args:
        config: of the run.
        inputs: artifacts by argument; they stay as they are.
        out: the output artifact, which the block makes.

    Raises:
        UserError: weights are not there any more.
    """
    with ExitStack() as stack:
        whole = {}
        for name, path in inputs.items():
            whole[name] = path
            if references.is_reference(path):
                whole[name] = stack.enter_context(storage.scratch()) / path.name
                shutil.copytree(path, whole[name])
                references.complete(whole[name])
        yield whole
    _slim(out, place_of(config))


def _slim(out: Path, place: str) -> None:
    weights = [path for path in out.glob(f"*{references.WEIGHTS}") if path.is_file()] if place else []
    if not weights or not (out / "config.json").is_file():
        return
    with storage.scratch() as scratch:
        reference = references.put(out, place, loading.digest(out), scratch)
        with storage.output_folder(out) as new:
            for path in (*(path for path in out.iterdir() if path not in weights), reference):
                if path.name != storage.MARK:
                    (shutil.copytree if path.is_dir() else shutil.copyfile)(path, new / path.name)
