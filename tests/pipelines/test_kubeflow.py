"""`dcod submit`, `schedule`, `status`, `cancel`: the real kfp client against a recording server that is strict."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from dcod.cli import app
from dcod.config import Config, load_config
from dcod.config.reach import for_cluster
from dcod.errors import UserError
from dcod_pipelines import kubeflow as api
from tests.fake_kubeflow import FakeKubeflow, serving, strict, validate_spec
from tests.fake_kubernetes import RefusedError

CLUSTER: dict[str, Any] = {
    "image": "registry.example/dcod:1",
    "tracking": "http://mlflow.dcod:5000",
    "storage": "s3://dcod/work",
    "gpu": {"count": 1},
}


@pytest.fixture
def fake() -> FakeKubeflow:
    return FakeKubeflow()


@pytest.fixture
def cluster(fake: FakeKubeflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A configuration for the fake."""
    monkeypatch.setenv("HOME", str(tmp_path))  # kfp keeps a context there
    monkeypatch.delenv(api.TOKEN, raising=False)
    monkeypatch.setattr(api, "_PATIENCE_S", 3.0)
    with serving(fake) as address:
        values = {"name": "nightly", "ingest": {"sources": ["s3://dcod/traces/"]}}
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(values | {"cluster": CLUSTER | {"kubeflow": address}}))
        yield path


def dcod(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def submit(config: Path, *more: str) -> tuple[int, str]:
    return dcod("submit", "--config", str(config), "--no-preflight", *more)


@pytest.mark.parametrize("multi_user", [True, False])
def test_submitted(fake: FakeKubeflow, cluster: Path, multi_user: bool) -> None:
    fake.multi_user = multi_user
    code, output = submit(cluster)
    assert code == 0, output
    ((run_id, run),) = fake.runs.items()
    assert f"submitted {run_id}" in output
    assert f"/#/runs/details/{run_id}" in output
    assert run["display_name"].startswith("nightly ")
    assert run["service_account"] == "dcod-pipeline"
    assert fake.experiments[run["experiment_id"]]["namespace"] == ("dcod-runs" if multi_user else "")
    sent = Config.model_validate_json(run["runtime_config"]["parameters"]["config"])
    assert sent.tracking.uri == "http://mlflow.dcod:5000"
    assert sent.promote.lease == "s3://dcod/work/promotion.lease"
    assert sent.train.checkpoints.uri == sent.score.checkpoints.uri == "s3://dcod/work/checkpoints"
    assert "enableCache" not in json.dumps(run["pipeline_spec"])
    assert submit(cluster)[0] == 0
    assert len(fake.experiments) == 1, "the experiment is made once"


def test_followed_to_its_end(fake: FakeKubeflow, cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follow = api.Kubeflow.follow
    monkeypatch.setattr(api.Kubeflow, "follow", lambda self, run, show: follow(self, run, show, poll_s=0.01))
    fake.states = ["PENDING", "RUNNING", "RUNNING", "SUCCEEDED"]
    fake.tasks = [{}, {"root": "RUNNING", "score traces": "RUNNING"}, {"score traces": "RUNNING"}]
    fake.tasks += [{"score traces": "SUCCEEDED", "train student": "SUCCEEDED"}]
    code, output = submit(cluster, "--follow")
    assert code == 0, output
    assert output.count("score traces") == 2  # once a change
    assert "root" not in output
    assert "succeeded: http" in output
    for state in ("FAILED", "CANCELED"):
        fake.states = ["RUNNING", state]
        code, output = submit(cluster, "--follow")
        assert code == 1
        assert f"{state.lower()}: http" in output


def test_an_api_that_is_away_is_waited_for_and_then_given_up(fake: FakeKubeflow, cluster: Path) -> None:
    submit(cluster)
    (run_id,) = fake.runs
    with_config = ("--config", str(cluster))
    kubeflow = api.Kubeflow(for_cluster(read(cluster)))
    fake.broken = 1
    assert kubeflow.run(run_id).run_id == run_id
    fake.broken = 100
    with pytest.raises(UserError, match=r"503 .*the run goes on, look later: dcod status"):
        kubeflow.run(run_id)
    fake.broken = 0
    code, output = dcod("status", run_id, *with_config)
    assert (code, f"/#/runs/details/{run_id}" in output) == (0, True)


def read(path: Path) -> Config:
    return load_config(path)


def test_status_and_cancel(fake: FakeKubeflow, cluster: Path) -> None:
    with_config = ("--config", str(cluster))
    submit(cluster)
    (run_id,) = fake.runs
    fake.states, fake.tasks = ["RUNNING"], [{"fetch start": "SUCCEEDED", "score traces": "RUNNING"}]
    code, output = dcod("status", *with_config)
    assert code == 0
    assert output.startswith(f"{run_id}  running")
    code, output = dcod("status", run_id, *with_config)
    assert output.splitlines()[2].split() == ["fetch", "start", "succeeded"]
    assert output.splitlines()[3].split() == ["score", "traces", "running"]
    code, output = dcod("cancel", run_id, *with_config)
    assert (code, fake.terminated) == (0, [run_id])
    assert "is being cancelled" in output
    fake.states = ["SUCCEEDED"]
    code, output = dcod("cancel", run_id, *with_config)
    assert fake.terminated == [run_id], "an ended run is not ended again"
    with pytest.raises(UserError, match=r"not there .*`dcod status` lists the runs"):
        dcod("cancel", "nobody", *with_config)


def test_scheduled_replaced_and_removed(fake: FakeKubeflow, cluster: Path) -> None:
    with_config = ("--config", str(cluster))
    for name in ("other-1", "other-2", "other-3"):
        assert dcod("schedule", name, "--cron", "@daily", *with_config)[0] == 0
    code, output = dcod("schedule", "nightly", "--cron", "30 2 * * 1-5", *with_config)
    assert code == 0, output
    assert "nightly: At 02:30 on Monday through Friday" in output
    assert "0 30 2 * * 1-5" in output
    made = next(one for one in fake.recurring.values() if one["display_name"] == "nightly")
    assert made["trigger"] == {"cron_schedule": {"cron": "0 30 2 * * 1-5"}}
    assert (made["max_concurrency"], made["no_catchup"], made["mode"]) == (1, True, "ENABLE")
    assert made["description"].startswith("At 02:30")
    code, output = dcod("schedule", "nightly", "--cron", "0 4 * * 7", *with_config)
    assert "in place of 1 earlier" in output
    named = [one for one in fake.recurring.values() if one["display_name"] == "nightly"]
    assert [one["trigger"]["cron_schedule"]["cron"] for one in named] == ["0 0 4 * * 0"]
    order = [method for method, path in fake.requests if "recurringruns" in path and method != "GET"]
    assert order[-2:] == ["POST", "DELETE"], "the new one is there before the old one goes"
    assert len(fake.recurring) == 4
    code, output = dcod("schedule", "nightly", "--remove", *with_config)
    assert (code, "removed 1" in output) == (0, True)
    assert len(fake.recurring) == 3
    with pytest.raises(UserError, match="--cron or --remove"):
        dcod("schedule", "nightly", *with_config)


def test_what_exists_here_only_is_refused_before_anything_is_sent(fake: FakeKubeflow, cluster: Path) -> None:
    wrong = ("ingest.sources=[./traces.jsonl]", "student.model=./student", "cluster.tracking=''", "cluster.storage=''")
    with pytest.raises(UserError) as caught:
        submit(cluster, *wrong)
    said = str(caught.value)
    for part in ("./traces.jsonl", "student.model ./student", "cluster.tracking", "cluster.storage"):
        assert part in said
    assert fake.requests == []
    with pytest.raises(UserError, match="port-forward"):
        submit(cluster, "cluster.kubeflow=''")


def test_no_access_and_no_answer_say_the_way_out(
    fake: FakeKubeflow, cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.token = "secret-token"
    with pytest.raises(UserError, match=r"401 .*set \$KUBEFLOW_TOKEN"):
        submit(cluster)
    monkeypatch.setenv(api.TOKEN, "secret-token")
    code, output = submit(cluster)
    assert code == 0
    assert "secret-token" not in output + json.dumps(fake.runs)
    with pytest.raises(UserError, match=r"no answer .*check cluster\.kubeflow"):
        submit(cluster, "cluster.kubeflow=http://127.0.0.1:1")


def test_the_fake_server_is_strict(fake: FakeKubeflow, cluster: Path) -> None:
    submit(cluster)
    (run,) = fake.runs.values()
    spec, parameters = run["pipeline_spec"], run["runtime_config"]["parameters"]
    validate_spec(spec, parameters)
    broken = copy.deepcopy(spec)
    broken["pipeline_spec"]["root"]["dag"]["tasks"]["exit-handler-1"]["cachingOption"] = {}
    wrong_pod = copy.deepcopy(spec)
    pods = wrong_pod["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    next(iter(pods.values()))["nodeSelectors"] = {}
    for bad in (broken, wrong_pod):
        with pytest.raises(RefusedError, match="Failed to parse"):
            validate_spec(bad, parameters)
    with pytest.raises(RefusedError, match="parameters"):
        validate_spec(spec, {**parameters, "configuration": "x"})
    with pytest.raises(RefusedError, match=r"unknown field runtime_config\.params"):
        strict({"runtime_config": {"params": {}}}, "V2beta1Run")
    with pytest.raises(RefusedError, match="no_catchup: expected bool"):
        strict({"no_catchup": "true"}, "V2beta1RecurringRun")
