"""The local runner knows a dead run by its lock, which the kernel lets go of, whatever killed the process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kfp.local
import pytest
from filelock import FileLock
from kfp import dsl

from dcod.config import Config
from dcod_pipelines import compile as compiling
from dcod_pipelines import local
from tests.tracked import fresh_store


def test_pods_with_gpus_are_no_matter_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The local runner cannot size a pod by another task's answer; a stage takes the GPU that is there."""
    store = fresh_store(tmp_path / "store").model_dump()
    config = Config.model_validate({"cluster": {"gpu": {"count": 2}}, "tracking": store})
    built: list[Config] = []

    def build(settings: Config, parallelism: int) -> None:
        assert parallelism == 1  # trainings run one after the other
        built.append(settings)
        raise RuntimeError("not run here")

    monkeypatch.setattr("dcod_pipelines.compile.build", build)
    assert "not run here" in local.run_here(config, tmp_path / "runs").error
    assert [one.cluster.gpu.count for one in built] == [0]
    assert built[0].cluster.retries == 0


@pytest.mark.parametrize(
    ("made", "found"), [(["ingest/traces", "ingest-more/more"], "more"), (["join/traces"], "traces")]
)
def test_the_decision_of_a_run_and_its_traces_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: list[str], found: str
) -> None:
    """The set that a teacher's attempts came into holds the refused rows of the first as well."""

    def build(settings: Config, parallelism: int) -> Any:
        def run(config: str) -> None:
            (work,) = (tmp_path / "runs" / "pipeline").iterdir()
            for folder in (*made, "gate/decision", "examine/examined"):
                (work / "name" / folder).mkdir(parents=True)
                (work / "name" / folder / "manifest.json").write_text("{}")

        return run

    monkeypatch.setattr("dcod_pipelines.compile.build", build)
    config = Config.model_validate({"tracking": fresh_store(tmp_path / "store").model_dump()})
    outcome = local.run_here(config, tmp_path / "runs", quiet=True)
    assert outcome.decision
    assert outcome.traces
    assert (outcome.decision.name, outcome.traces.name) == ("decision", found)


@pytest.mark.parametrize("pipeline", ["distill", "retrain"])
def test_trainings_fan_out_on_a_cluster_and_run_one_after_the_other_at_home(pipeline: str) -> None:
    """Two beside each other would take twice the memory of a laptop."""
    train = {"twin": True, "seeds": 2, "arms": [{"name": f"a{n}", "focus": 0.1 * n} for n in range(1, 5)]}
    held = {"selection_share": 0.1, "pilot_share": 0.1}
    config = Config.model_validate({"pipeline": pipeline, "train": train, "ingest": held})

    def limits(parallelism: int) -> list[int]:
        spec = compiling.build(config, parallelism).pipeline_spec
        dags = [part.dag for part in (spec.root, *spec.components.values()) if part.WhichOneof("implementation")]
        tasks = [task for dag in dags for task in dag.tasks.values() if task.WhichOneof("iterator")]
        return [task.iterator_policy.parallelism_limit for task in tasks]

    assert limits(0) == [0, 0, 0]  # both rounds of the pilots, and the further seeds
    assert limits(local.AT_ONCE) == [1, 1, 1]


def test_the_local_runner_heeds_how_many_run_at_once(tmp_path: Path) -> None:
    def note(name: str, log: str) -> None:
        import time

        for what in ("begins", "ends"):
            with open(log, "a") as file:
                file.write(f"{name} {what}\n")
            time.sleep(0.5)

    note.__annotations__ = {"name": str, "log": str}  # not as text
    component: Any = dsl.component(note, base_image="python", install_kfp_package=False)

    def body(log: str) -> None:
        with dsl.ParallelFor(items=["a", "b", "c"], parallelism=local.AT_ONCE) as name:
            component(name=name, log=log)

    body.__annotations__ = {"log": str}
    loop: Any = dsl.pipeline(name="loop")(body)
    kfp.local.init(kfp.local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path), raise_on_error=True)
    loop(log=str(tmp_path / "log"))
    lines = (tmp_path / "log").read_text().split()
    assert lines[1::2] == ["begins", "ends"] * 3
    assert lines[0:6:2] == ["a", "a", "b"]


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
    monkeypatch.setattr("dcod.tracking.runs.Tracker", Tracker)
    monkeypatch.setattr(
        "dcod.retrain.history.unfinished", lambda tracker: [*places, ("elsewhere", tmp_path / "x" / "y")]
    )
    with FileLock(tmp_path / "here" / "living" / local.ALIVE):
        local._close_dead(Config(), tmp_path / "here")
    assert ended == [("dead", "the run was killed")]
    assert not (tmp_path / "here" / "unmarked" / local.ALIVE).exists()
