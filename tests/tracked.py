"""A fresh MLflow store for a test: migrations take seconds, so one migrated database is copied."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from dcod.config import TrackingConfig


@cache
def _template() -> Path:
    from dcod.tracking.runs import Tracker

    folder = Path(tempfile.mkdtemp(prefix="dcod-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    uri = f"sqlite:///{folder}/mlflow.db"
    Tracker(TrackingConfig(uri=uri, artifacts=str(folder / "artifacts"), experiment="template"))
    return folder / "mlflow.db"


def fresh_store(folder: Path) -> TrackingConfig:
    """The configuration of an empty sqlite store in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(_template(), folder / "mlflow.db")
    return TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db", artifacts=str(folder / "artifacts"))
