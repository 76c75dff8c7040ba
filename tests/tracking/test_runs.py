"""Runs, outputs and the registry on a real sqlite MLflow, in a folder of the test."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from dcod import storage
from dcod.config import Config, TrackingConfig
from dcod.errors import UserError
from dcod.models import loading
from dcod.tracking import Log, NullLog, flatten
from dcod.tracking.registry import Registry
from dcod.tracking.runs import StageRun, Tracker
from tests.tracked import fresh_store


@pytest.fixture
def tracking(tmp_path: Path) -> TrackingConfig:
    return fresh_store(tmp_path / "store")


@pytest.fixture
def tracker(tracking: TrackingConfig) -> Tracker:
    return Tracker(tracking)


def write_folder(folder: Path) -> Path:
    (folder / "inner").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "inner" / "rows.txt").write_text("1\n2\n")
    return folder


def test_first_use_creates_store_experiment_and_artifacts(tracking: TrackingConfig, tracker: Tracker) -> None:
    experiment = tracker.client.get_experiment(tracker.experiment_id)
    assert experiment.name == tracking.experiment
    assert experiment.artifact_location == str(Path(tracking.artifacts).resolve())
    assert Tracker(tracking).experiment_id == tracker.experiment_id


def test_nothing_is_written_outside_the_store(
    tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with tracker.stage("score", tracker.parent("p", "run", Config()), digest="d") as run:
        run.metrics({"ess": 0.5})
        run.text("note.txt", "hello")
    assert list(here.iterdir()) == []
    assert "".join(capfd.readouterr()) == ""


def test_an_unusable_store_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"tracking\.uri sqlite:.*cannot be used"):
        Tracker(TrackingConfig(uri=f"sqlite:///{tmp_path}/file/mlflow.db"))
    with pytest.raises(UserError, match=r"tracking\.uri ftp://nowhere: cannot be used"):
        Tracker(TrackingConfig(uri="ftp://nowhere"))


def test_parent_is_found_again_and_holds_the_configuration(tracker: Tracker) -> None:
    run_id = tracker.parent("p1", "quickstart", Config(seed=7), tags={"dcod.code": "abc"})
    tracker.finish("p1")
    assert tracker.client.get_run(run_id).info.status == "FINISHED"
    assert tracker.parent("p1", "quickstart", Config(seed=7)) == run_id
    run = tracker.client.get_run(run_id)
    assert run.info.status == "RUNNING"
    assert re.fullmatch(r"quickstart \d{4}-\d\d-\d\d \d\d:\d\d", run.info.run_name)
    kind = tracker.client.get_experiment(tracker.experiment_id).tags["mlflow.experimentKind"]
    assert kind == "custom_model_development"
    assert run.data.params["seed"] == "7"
    assert run.data.params["train.correction.name"] == "none"
    assert run.data.tags["dcod.code"] == "abc"
    text = Path(tracker.client.download_artifacts(run_id, "config.json")).read_text()
    assert json.loads(text)["seed"] == 7
    assert tracker.parent("p2", "other", Config()) != run_id


def test_threads_that_ask_at_once_get_one_parent(tracking: TrackingConfig) -> None:
    Tracker(tracking)
    got: list[str] = []

    def ask() -> None:
        got.append(Tracker(tracking).parent("p", "run", Config()))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 4
    assert len(set(got)) == 1


def test_stage_is_nested_and_its_metrics_are_batched(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    plain = tracker.client.log_batch
    parent = tracker.parent("p", "run", Config())

    def counted(run_id: str, metrics: tuple[object, ...] = (), **more: object) -> None:
        calls.append(len(metrics))
        plain(run_id, metrics=metrics, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(tracker.client, "log_batch", counted)
    with tracker.stage("train", parent, digest="d1", label="twin") as run:
        log: Log = run
        for step in range(90):
            log.metrics({"train/loss": 1.0 / (step + 1), "ess": 0.5, "odd=name": 1.0}, step)
        run.inputs([("traces", "f" * 64, "/data/traces")])
        run.params({"a": {"b": [1, 2]}})
    assert sum(calls) == 270
    assert len(calls) <= 4
    stored = tracker.client.get_run(run.run_id)
    assert stored.info.status == "FINISHED"
    assert stored.info.run_name == "train twin"
    assert stored.data.tags["mlflow.parentRunId"] == parent
    assert stored.data.params["a.b"] == "[1, 2]"
    history = tracker.client.get_metric_history(run.run_id, "train/loss")
    assert [point.step for point in sorted(history, key=lambda point: point.step)] == list(range(90))
    assert "odd_name" in stored.data.metrics
    (dataset,) = stored.inputs.dataset_inputs
    assert json.loads(dataset.dataset.source) == {"uri": "/data/traces", "digest": "f" * 64}


def test_runs_that_name_the_same_new_data_set_at_once(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store refuses all but one of them; once more, and it is there. A store that goes on refusing is told of."""
    from mlflow.exceptions import MlflowException

    own, refusals = tracker.client.log_inputs, 2

    def refusing(*arguments: Any) -> None:
        nonlocal refusals
        refusals -= 1
        if refusals >= 0:
            raise MlflowException("duplicate key value violates unique constraint")
        own(*arguments)

    monkeypatch.setattr(tracker.client, "log_inputs", refusing)
    with tracker.stage("ingest", None, digest="d" * 64) as run:
        run.inputs([("traces", "f" * 64, "/data/traces")])
        kept = tracker.client.get_run(run.run_id).inputs.dataset_inputs
        assert [item.dataset.name for item in kept] == ["traces"]
        refusals = 3
        with pytest.raises(MlflowException, match="duplicate key"):
            run.inputs([("other", "e" * 64, "/data/other")])


def test_a_failed_stage_says_why(tracker: Tracker) -> None:
    def fail() -> None:
        with tracker.stage("ingest", tracker.parent("p", "run", Config()), digest="d") as run:
            run.metrics({"rows": 3.0})
            raise ValueError("no such\nfile")

    with pytest.raises(ValueError, match="no such"):
        fail()
    (stored,) = tracker.client.search_runs([tracker.experiment_id], "tags.`dcod.stage` = 'ingest'")
    assert stored.info.status == "FAILED"
    assert stored.data.tags["dcod.error"] == "no such file"
    assert stored.data.metrics["rows"] == 3.0
    text = Path(tracker.client.download_artifacts(stored.info.run_id, "error.txt")).read_text()
    assert "Traceback" in text
    assert "no such" in text


def test_metrics_are_kept_while_the_store_is_away(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, away = tracker.client.log_batch, [True]

    def flaky(*args: object, **more: object) -> None:
        if away[0]:
            raise ConnectionError("down")
        plain(*args, **more)  # type: ignore[arg-type]

    with tracker.stage("train", None, digest="d") as run:
        monkeypatch.setattr(tracker.client, "log_batch", flaky)
        for step in range(300):
            run.metrics({"loss": float(step)}, step)
        away[0] = False
    assert len(tracker.client.get_metric_history(run.run_id, "loss")) == 300


def test_finish_records_a_failure_even_without_a_parent(tracker: Tracker) -> None:
    tracker.finish("p", failed="Inner task failed\nscore: no traces")
    (run,) = tracker.client.search_runs([tracker.experiment_id])
    assert run.info.status == "FAILED"
    assert run.data.tags["dcod.error"] == "Inner task failed score: no traces"
    assert tracker.client.list_artifacts(run.info.run_id)[0].path == "error.txt"


def test_finish_ends_the_stages_that_were_killed(tracker: Tracker) -> None:
    parent = tracker.parent("p", "run", Config())
    killed = tracker.client.create_run(tracker.experiment_id, tags={"mlflow.parentRunId": parent})
    tracker.finish("p", failed="killed")
    assert tracker.client.get_run(killed.info.run_id).info.status == "KILLED"


def test_outputs_are_found_by_digest_and_restored(tracker: Tracker, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "out")
    assert tracker.outputs.find("score", "d1") is None
    with tracker.stage("score", None, digest="d1") as run:
        run.output(folder)
        assert tracker.outputs.find("score", "d1") is None  # not finished
    assert tracker.outputs.find("score", "d2") is None
    assert tracker.outputs.find("train", "d1") is None
    assert tracker.outputs.find("score", "d1") == run.run_id
    tracker.outputs.fetch(run.run_id, tmp_path / "again")
    assert storage.digest_folder(tmp_path / "again") == storage.digest_folder(folder)


def test_changed_or_lost_outputs_are_not_reused(tracker: Tracker, tmp_path: Path) -> None:
    with tracker.stage("score", None, digest="d1") as run:
        run.output(write_folder(tmp_path / "out"))
    stored = Path(tracker.client.get_run(run.run_id).info.artifact_uri.removeprefix("file://")) / "output"
    (stored / "inner" / "rows.txt").write_text("1\n")
    with pytest.raises(UserError, match="differs from what was written"):
        tracker.outputs.fetch(run.run_id, tmp_path / "again")
    assert not (tmp_path / "again").exists()
    shutil.rmtree(stored)
    assert tracker.outputs.find("score", "d1") is None
    with tracker.stage("ingest", None, digest="d2") as other:
        pass
    assert tracker.outputs.find("ingest", "d2") is None
    with pytest.raises(UserError, match="no output is stored"):
        tracker.outputs.fetch(other.run_id, tmp_path / "again")


def model_of(run: StageRun) -> str:
    return str(run.tracker.client.get_run(run.run_id).data.tags["dcod.model_id"])


def copy_student(tiny_student: Path, folder: Path, note: str = "{}") -> Path:
    shutil.copytree(tiny_student, folder)
    (folder / "training.jsonl").write_text(note)
    (folder / "manifest.json").write_text(note)
    return folder


def test_a_student_is_stored_once_and_restored_with_its_own_notes(
    tracker: Tracker, tiny_student: Path, tmp_path: Path
) -> None:
    first = copy_student(tiny_student, tmp_path / "first", '{"run": 1}')
    second = copy_student(tiny_student, tmp_path / "second", '{"run": 2}')
    with tracker.stage("train", None, digest="d1") as one:
        one.output(first)
    with tracker.stage("train", None, digest="d2") as two:
        two.output(second)
    assert model_of(one) == model_of(two)
    for run, folder in ((one, first), (two, second)):
        assert tracker.outputs.find("train", "d1" if run is one else "d2") == run.run_id
        tracker.outputs.fetch(run.run_id, tmp_path / "again")
        assert storage.digest_folder(tmp_path / "again") == storage.digest_folder(folder)
    assert len(list(Path(tracker.config.artifacts).rglob("*.safetensors"))) == 1


def test_a_registered_student_loads_from_its_artifact_folder(tracker: Tracker, tiny_student: Path) -> None:
    registry = Registry(tracker)
    with tracker.stage("train", None, digest="d1") as run:
        run.output(tiny_student)
    version = registry.register("student", tiny_student, run.run_id, {"dcod.decision": "promote"})
    assert (version.version, version.digest) == (1, loading.digest(tiny_student))
    assert version.run_id == run.run_id
    assert version.tags["dcod.decision"] == "promote"
    assert registry.register("student", tiny_student, run.run_id).version == 1
    assert [item.version for item in registry.versions("student")] == [1]
    page = tracker.client.get_logged_model(model_of(run))
    assert json.loads(page.tags["mlflow.modelVersions"]) == [{"name": "student", "version": "1"}]
    tracker.models.measured(version.digest, run.run_id, ("gsm8k, gate split", "f" * 64), {"accuracy": 0.5})
    (measured,) = tracker.client.get_logged_model(model_of(run)).metrics
    assert (measured.key, measured.value, measured.dataset_name) == ("accuracy", 0.5, "gsm8k, gate split")
    with tracker.stage("evaluate", None, digest="d2") as later:
        tracker.models.taken(later.run_id, ["f" * 64, version.digest, version.digest])
    (taken,) = tracker.client.get_run(later.run_id).inputs.model_inputs
    assert taken.model_id == model_of(run)
    registry.set_alias("student", "champion", 1)
    folder = registry.resolve("models:/student@champion")
    assert registry.resolve("models:/student/1") == folder
    assert loading.digest(folder) == version.digest
    model = loading.load(folder)
    assert sum(p.numel() for p in model.parameters()) > 1000
    assert not [p for p in folder.parent.rglob("*") if p.suffix in (".pkl", ".pickle", ".bin", ".pt")]


def test_mlflow_itself_loads_the_logged_model(tracker: Tracker, tiny_student: Path) -> None:
    import mlflow.transformers
    from mlflow.models import Model

    with tracker.stage("train", None, digest="d1") as run:
        run.output(tiny_student)
    model_id = model_of(run)
    location = tracker.client.get_logged_model(model_id).artifact_location
    described = Model.load(location)
    assert described.signature.inputs.to_dict()[0]["name"] == "messages"
    assert described.model_id == model_id
    assert described.flavors["transformers"]["source_model_name"] == "student"
    folder = Path(location.removeprefix("file://"))
    assert not (folder / "LICENSE.txt").exists()
    assert "torch==" in (folder / "requirements.txt").read_text()
    loaded = mlflow.transformers.load_model(location, return_type="components")
    assert set(loaded) >= {"model", "tokenizer"}
    assert tracker.client.get_run(run.run_id).outputs.model_outputs[0].model_id == model_id


def test_what_the_registry_does_not_have(tracker: Tracker, tiny_student: Path) -> None:
    registry = Registry(tracker)
    assert registry.champion("student") is None
    assert registry.by_version("student", 1) is None
    assert registry.find("student", "0" * 64) is None
    with pytest.raises(UserError, match="no such registered model"):
        registry.resolve("models:/student@champion")
    with tracker.stage("train", None, digest="d1") as run:
        registry.register("student", tiny_student, run.run_id)
    assert registry.champion("student") is None
    with pytest.raises(UserError, match="versions: 1"):
        registry.resolve("models:/student@champion")
    with pytest.raises(UserError, match="expected models:/name@alias"):
        registry.resolve("models:/student")


def test_null_log_and_flatten() -> None:
    log: Log = NullLog()
    log.metrics({"a": 1.0})
    log.text("a", "b")
    assert flatten({"a": {"b": 1, "c": "x"}, "d": [1, {"e": None}]}) == {
        "a.b": "1",
        "a.c": "x",
        "d": '[1, {"e": null}]',
    }


@pytest.mark.service
def test_a_server_that_restarts_loses_nothing(
    tmp_path: Path, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCOD_CACHE", str(tmp_path / "cache"))
    server = Server(tmp_path)
    tracker = Tracker(TrackingConfig(uri=server.uri))  # waits for it
    try:
        with tracker.stage("train", tracker.parent("p", "run", Config()), digest="d1") as run:
            for step in range(300):
                run.metrics({"loss": float(step)}, step)
            run.flush()
            server.stop()
            threading.Timer(3.0, server.start).start()
            run.metrics({"loss": 0.0}, 300)
            run.output(tiny_student)
        assert len(tracker.client.get_metric_history(run.run_id, "loss")) == 301
        assert tracker.outputs.find("train", "d1") == run.run_id
        tracker.outputs.fetch(run.run_id, tmp_path / "again")
        assert storage.digest_folder(tmp_path / "again") == storage.digest_folder(tiny_student)
        registry = Registry(tracker)
        version = registry.register("student", tiny_student, run.run_id)
        assert registry.register("student", tiny_student, run.run_id) == version
        assert registry.champion("student") is None
        assert registry.set_alias("student", "champion", version.version) == registry.champion("student")
        folder = registry.resolve("models:/student@champion")
        assert folder.is_relative_to(tmp_path / "cache")
        assert loading.digest(folder) == loading.digest(tiny_student)
    finally:
        server.stop()


class Server:
    """An MLflow server on sqlite, which hands out artifacts itself."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.uri = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/server.db", "--workers", "1"]
        command += ["--artifacts-destination", str(self.folder / "server")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
