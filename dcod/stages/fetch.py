"""Fetch: a model becomes an artifact of the run, so that lineage holds and later stages read a plain folder.

``which`` is ``start`` (the configured student), ``champion`` (the registry's, else the start), ``begin``: one of
the two, as ``retrain.start`` says; or ``teacher``.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from dcod import storage
from dcod.config import Config
from dcod.models import loading
from dcod.tracking import Log, registry


def run(config: Config, out: Path, log: Log, *, which: str) -> dict[str, float]:
    """Links (or copies) the files of a model into ``out``; see the module."""
    store = registry.Registry(config.tracking)
    uri, revision = config.student.model, config.student.revision
    if which == "teacher":
        uri, revision = config.teach.model, config.teach.revision
    if which == "begin":
        which = "champion" if config.retrain.start == "champion" else "start"
    if which == "champion" and store.champion(config.promote.registered_model):
        uri = f"models:/{config.promote.registered_model}@champion"
    folder = loading.resolve(uri, revision, store.resolve)
    for path in {p for pattern in loading.MODEL_FILES for p in folder.glob(pattern)}:
        if path.name == storage.MANIFEST:
            continue
        try:
            os.link(path.resolve(), out / path.name)
        except OSError:  # another file system
            shutil.copyfile(path, out / path.name)
    size = sum(p.stat().st_size for p in out.iterdir())
    log.text("model.txt", f"{which}: {uri}\ndigest: {loading.digest(out)}\n")
    return {"bytes": float(size)}
