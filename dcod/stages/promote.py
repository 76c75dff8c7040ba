"""Promote: what the gate decided on becomes the champion; see :mod:`dcod.promote.promote`."""

from __future__ import annotations

from pathlib import Path

from dcod import storage
from dcod.config import Config
from dcod.promote.promote import promote
from dcod.tracking import Log
from dcod.tracking.runs import StageRun, Tracker


def run(config: Config, out: Path, log: Log, *, decision: Path) -> dict[str, float]:
    """Promotes; ``decision`` is the output of the gate."""
    tracker = log.tracker if isinstance(log, StageRun) else Tracker(config.tracking)
    outcome = promote(config, tracker=tracker, decision=decision)
    storage.write_json(out / "outcome.json", {"outcome": outcome})
    if isinstance(log, StageRun):
        log.tag("dcod.decision", outcome)
    log.text("outcome.txt", f"{outcome}\n")
    return {"promoted": float(outcome == "promoted")}
