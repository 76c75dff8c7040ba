"""Runs that Kubeflow's MLflow plugin makes: written into, never ended and never reopened."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcod.config import Config, TrackingConfig
from dcod.retrain import endings
from dcod.tracking import platform
from dcod.tracking.platform import ENDED, FOREIGN
from dcod.tracking.runs import Tracker
from tests.tracked import fresh_store


@pytest.fixture
def tracker(tmp_path: Path) -> Tracker:
    return Tracker(fresh_store(tmp_path / "store"))


class Plugin:
    """What the plugin does to MLflow, after backend/src/v2/common/plugins/mlflow/handler.go of kubeflow/pipelines."""

    def __init__(self, tracker: Tracker, monkeypatch: pytest.MonkeyPatch, experiment: str = "") -> None:
        self.client, self.experiment = tracker.client, experiment or tracker.experiment_id
        self.environment = monkeypatch
        self.root = self._run("pipeline", {})

    def _run(self, name: str, tags: dict[str, str]) -> str:
        return str(self.client.create_run(self.experiment, run_name=name, tags=tags).info.run_id)

    def begin(self, name: str, below: str = "") -> str:
        """A task begins: its run, and the variables of its pod."""
        run_id = self._run(name, {"mlflow.parentRunId": below or self.root})
        self.environment.setenv("MLFLOW_RUN_ID", run_id)
        self.environment.setenv("MLFLOW_EXPERIMENT_ID", self.experiment)
        return run_id

    def end(self, run_id: str, status: str = "FINISHED") -> None:
        """A task, or the run, ends, and with it what is open right below it."""
        self.client.log_metric(run_id, "of-kubeflow", 1.0)
        below = f"tags.`mlflow.parentRunId` = '{run_id}' and attributes.status = 'RUNNING'"
        for child in self.client.search_runs([self.experiment], below):
            self.client.set_terminated(child.info.run_id, status)
        self.client.set_terminated(run_id, status)

    def status(self, run_id: str) -> str:
        return str(self.client.get_run(run_id).info.status)


def runs(tracker: Tracker) -> int:
    return len(tracker.client.search_runs([tracker.experiment_id]))


def test_a_stage_writes_into_the_run_of_its_task(
    tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = Plugin(tracker, monkeypatch)
    group = plugin.begin("score-shards")
    task = plugin.begin("score-1", group)
    parent = tracker.parent("p", "nightly", Config())
    assert parent == plugin.root
    output = tmp_path / "out"
    output.mkdir()
    (output / "rows").write_text("1")
    with tracker.stage("score", parent, digest="d") as log:
        log.metrics({"ess": 0.5})
        log.headline({"gain": 0.1})
        log.output(output)
    assert log.run_id == task
    assert plugin.status(task) == "RUNNING", "the platform ends it"
    assert tracker.outputs.find("score", "d") is None, "not before it is whole"
    plugin.end(task)
    assert tracker.outputs.find("score", "d") == task
    found = tracker.client.get_run(task).data
    assert found.metrics == {"ess": 0.5, "of-kubeflow": 1.0}
    assert found.tags["mlflow.parentRunId"] == plugin.root, "flat, as dcod's own runs are"
    root = tracker.client.get_run(plugin.root).data
    assert root.metrics == {"gain": 0.1}
    assert (root.tags["dcod.pipeline"], root.tags["dcod.name"], root.tags[FOREIGN]) == ("p", "nightly", "kubeflow")
    assert root.params["seed"] == "0"
    assert runs(tracker) == 3
    plugin.begin("train")
    assert tracker.parent("p", "nightly", Config()) == plugin.root


def test_a_second_stage_and_a_second_try_get_runs_of_their_own(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = Plugin(tracker, monkeypatch)
    task = plugin.begin("gate")
    parent = tracker.parent("p", "nightly", Config())
    with tracker.stage("gate", parent, digest="d") as first, tracker.stage("evaluate", parent, digest="e") as inner:
        pass
    assert first.run_id == task
    assert inner.run_id != task
    assert plugin.status(inner.run_id) == "FINISHED"
    plugin.end(task, "FAILED")
    with tracker.stage("gate", parent, digest="d") as again:
        pass
    assert again.run_id != task
    assert (plugin.status(task), plugin.status(again.run_id)) == ("FAILED", "FINISHED")


def test_a_failed_stage_says_why_and_leaves_the_end_to_the_platform(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = Plugin(tracker, monkeypatch)
    task = plugin.begin("train")
    parent = tracker.parent("p", "nightly", Config())
    with pytest.raises(ValueError, match="no gradient"), tracker.stage("train", parent, digest="d"):
        raise ValueError("no gradient")
    assert plugin.status(task) == "RUNNING"
    assert tracker.client.get_run(task).data.tags["dcod.error"] == "no gradient"
    plugin.end(task, "FAILED")
    plugin.begin("finish")
    tracker.note_error("p", "nightly", Config(), "train: no gradient")
    tracker.finish("p", failed="the pipeline ended as FAILED")
    root = tracker.client.get_run(plugin.root)
    assert (root.info.status, platform.status(root)) == ("RUNNING", "FAILED")
    assert root.data.tags["dcod.error"] == "train: no gradient"
    plugin.end(plugin.root, "FAILED")
    assert platform.status(tracker.client.get_run(plugin.root)) == "FAILED"


def test_the_exit_task_ends_nothing_and_its_own_run_is_no_killed_stage(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = Plugin(tracker, monkeypatch)
    last = plugin.begin("promote")
    parent = tracker.parent("p", "nightly", Config())
    with tracker.stage("promote", parent, digest="d") as log:
        log.tag("dcod.decision", "promoted")
    plugin.end(last)
    closing = plugin.begin("finish")
    assert endings.failure(tracker, "p", "COMPLETE") == ""
    tracker.finish("p")
    assert (plugin.status(plugin.root), plugin.status(closing)) == ("RUNNING", "RUNNING")
    root = tracker.client.get_run(plugin.root)
    assert root.data.tags[ENDED] == platform.status(root) == "FINISHED"
    assert root.data.metrics["seconds"] >= 0
    told = endings.ending(tracker, "p")
    assert told is not None
    assert told[0] == "promoted"
    plugin.end(closing)
    plugin.end(plugin.root)
    tracker.parent("p", "nightly", Config())
    assert plugin.status(plugin.root) == "FINISHED", "reopened"


def test_a_stage_that_was_killed_is_named(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = Plugin(tracker, monkeypatch)
    plugin.begin("train")
    parent = tracker.parent("p", "nightly", Config())
    tracker.stage("train", parent, digest="d").__enter__()
    plugin.begin("finish")
    assert "its pod was killed" in endings.failure(tracker, "p", "RUNNING")


@pytest.mark.parametrize("case", ["another experiment", "no such run", "a run of the user's shell"])
def test_runs_of_others_are_left_alone(tracker: Tracker, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    other = str(tracker.client.create_experiment("other")) if case == "another experiment" else ""
    plugin = Plugin(tracker, monkeypatch, other)
    task = plugin.begin("score")
    if case == "no such run":
        monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    elif not other:
        monkeypatch.setenv("MLFLOW_RUN_ID", plugin.root)
    parent = tracker.parent("p", "nightly", Config())
    with tracker.stage("score", parent, digest="d") as log:
        pass
    assert parent != plugin.root
    assert log.run_id not in (task, plugin.root)
    tracker.finish("p")
    assert plugin.status(parent) == plugin.status(log.run_id) == "FINISHED"
    for run_id in (task, plugin.root):
        assert plugin.status(run_id) == "RUNNING"
        assert not [key for key in tracker.client.get_run(run_id).data.tags if key.startswith("dcod.")]


def test_without_a_pipeline_a_stage_has_its_own_run(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Plugin(tracker, monkeypatch).begin("notebook")
    with tracker.stage("score", None, digest="d") as log:
        pass
    assert log.run_id != task


def test_the_store_is_named_as_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin also sets MLFLOW_TRACKING_URI; dcod's configuration decides."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    config: TrackingConfig = fresh_store(tmp_path / "store")
    assert Tracker(config).parent("p", "nightly", Config())
