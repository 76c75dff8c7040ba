"""The local runner knows a dead run by its lock, which the kernel lets go of, whatever killed the process."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

from dcod.config import Config
from dcod_pipelines import local


def test_only_dead_runs_of_this_place_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[tuple[str, str]] = []

    class Tracker:
        def __init__(self, config: object) -> None: ...

        def finish(self, name: str, failed: str) -> None:
            ended.append((name, failed))

    for name in ("living", "dead", "unmarked"):
        (tmp_path / "here" / name).mkdir(parents=True)
    (tmp_path / "here" / "dead" / local.ALIVE).touch()
    places = [
        (name, tmp_path / "here" / name / "stage" / "output") for name in ("living", "dead", "unmarked", "absent")
    ]
    monkeypatch.setattr("dcod.tracking.Tracker", Tracker)
    monkeypatch.setattr(
        "dcod.retrain.history.unfinished", lambda tracker: [*places, ("elsewhere", tmp_path / "x" / "y")]
    )
    with FileLock(tmp_path / "here" / "living" / local.ALIVE):
        local._close_dead(Config(), tmp_path / "here")
    assert ended == [("dead", "the run was killed")]
    assert not (tmp_path / "here" / "unmarked" / local.ALIVE).exists()
