"""What ranks that train and who follows them hand each other: names, metrics in a log, the student, last words."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcod import storage
from dcod.cluster.trainjobs import TrainJobError
from dcod.errors import UserError

if TYPE_CHECKING:
    from dcod.tracking import Log

METRICS, OUTPUT, ERROR = "[dcod-metrics] ", "output", "error.json"
_MADE_BY = "dcod train"


def relay(line: str, log: Log, steps: set[int]) -> None:
    """A line of a node's log: training metrics go to MLflow, once a step, anything else into our own log."""
    if not line.startswith(METRICS):
        print(line, flush=True)
        return
    with contextlib.suppress(ValueError):  # a line that was cut
        row = json.loads(line.removeprefix(METRICS))
        if row["step"] not in steps:
            steps.add(row["step"])
            log.metrics(row["values"], step=row["step"])


def take_over(place: str, out: Path, log: Log, steps: set[int]) -> dict[str, float]:
    """The student, and what training said: steps that the log lost are told to MLflow now."""
    scratch = out / ".fetched"
    try:
        folder = storage.fetch(place, scratch)
    except UserError as error:
        raise TrainJobError(f"the job is complete, but its student cannot be fetched: {error}") from error
    if not (folder / "done.json").is_file():
        raise TrainJobError(f"the job is complete, but {place} holds no whole student; run it again")
    for path in folder.iterdir():
        if not path.name.startswith("."):
            shutil.move(path, out / path.name)
    shutil.rmtree(scratch, ignore_errors=True)
    metrics: dict[str, float] = storage.read_json(out / "done.json", made_by=_MADE_BY)
    (out / "done.json").unlink()
    for line in (out / "training.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        number = int(row.pop("step"))
        if number not in steps:
            log.metrics(row, step=number)
    return metrics


def note(place: str, out: Path) -> dict[str, Any] | None:
    """What a node wrote about its own failure, when it could."""
    with contextlib.suppress(UserError, OSError):
        return storage.read_json(storage.fetch(place, out / ".note"), made_by=_MADE_BY)
    return None
