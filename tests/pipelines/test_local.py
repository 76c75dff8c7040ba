"""The local runner knows a dead run by its lock, which the kernel lets go of, whatever killed the process."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

from dcod.config import Config
from dcod_pipelines import local
from tests.tracked import fresh_store


def test_pods_with_gpus_are_no_matter_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The local runner cannot size a pod by another task's answer; a stage takes the GPU that is there."""
    store = fresh_store(tmp_path / "store").model_dump()
    config = Config.model_validate({"cluster": {"gpu": {"count": 2}}, "tracking": store})
    built: list[Config] = []

    def build(settings: Config) -> None:
        built.append(settings)
        raise RuntimeError("not run here")

    monkeypatch.setattr("dcod_pipelines.compile.build", build)
    assert "not run here" in local.run_here(config, tmp_path / "runs").error
    assert [one.cluster.gpu.count for one in built] == [0]
    assert built[0].cluster.retries == 0


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
