"""`dcod submit`, `schedule`, `status`, `cancel`: the real kfp client against a recording server that is strict."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
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
from dcod_pipelines import preflight
from dcod_pipelines.versions import version_name
from tests.fake_kubeflow import BASE, FakeKubeflow, serving, strict, validate_spec
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
    (pipeline,), (version,) = fake.pipelines.values(), fake.versions.values()
    assert (pipeline["name"], pipeline.get("namespace", "")) == ("dcod-distill", "dcod-runs" if multi_user else "")
    assert re.fullmatch(r"code-[0-9a-f]{8}-image-1-pipeline-[0-9a-f]{8}", version["display_name"])
    assert f"uploaded version {version['display_name']} of dcod-distill" in output
    reference = {"pipeline_id": "pipeline-1", "pipeline_version_id": "version-1"}
    assert run["pipeline_version_reference"] == reference
    parameters = run["runtime_config"]["parameters"]
    assert (
        parameters.keys() == version["pipeline_spec"]["pipeline_spec"]["root"]["inputDefinitions"]["parameters"].keys()
    )
    assert (parameters["data_traces"], parameters["run_name"]) == ("s3://dcod/traces/", "nightly")
    sent = Config.model_validate_json(parameters["config"])
    assert sent.tracking.uri == "http://mlflow.dcod:5000"
    assert sent.promote.lease == "s3://dcod/work/promotion.lease"
    assert sent.train.checkpoints.uri == sent.score.checkpoints.uri == "s3://dcod/work/checkpoints"
    assert "enableCache" not in json.dumps(version["pipeline_spec"])
    code, output = submit(cluster)
    assert (code, f"has version {version['display_name']}" in output) == (0, True)
    assert len(fake.experiments) == len(fake.pipelines) == len(fake.versions) == 1, "made once"


def test_a_version_that_somebody_else_uploads_meanwhile_is_taken(
    fake: FakeKubeflow, cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeflow = api.Kubeflow(for_cluster(read(cluster)))
    first = kubeflow.upload()
    look, looked = api.Kubeflow._versions, [[]]
    monkeypatch.setattr(api.Kubeflow, "_versions", lambda *a, **kw: looked.pop() if looked else look(*a, **kw))
    assert kubeflow.upload() == dataclasses.replace(first, new=False)
    assert len(fake.versions) == 1


def test_names_of_versions_follow_code_image_and_configuration() -> None:
    config = Config.model_validate({"cluster": {"image": "registry.example:5000/dcod@sha256:0123456789ab"}})
    name = version_name(config, b"one")
    assert name != version_name(config, b"two")
    assert "-image-01234567-" in name
    tagged = Config.model_validate({"cluster": {"image": "registry.example:5000/dcod:1.0_RC" + "x" * 90}})
    assert re.fullmatch(r"[a-z0-9-]{1,127}", version_name(tagged, b"one"))
    assert "-image-1-0-rcx" in version_name(tagged, b"one")


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


def test_verbs_of_a_cluster_speak_json(fake: FakeKubeflow, cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*arguments: str) -> Any:
        (line,) = dcod("--json", *arguments, "--config", str(cluster))[1].splitlines()
        return json.loads(line)

    run_id = read("submit", "--no-preflight")["run"]
    fake.states, fake.tasks = ["RUNNING"], [{"fetch start": "SUCCEEDED"}]
    assert read("schedule", "nightly", "--cron", "@daily", "--no-preflight")["cron"] == "0 0 0 * * *"
    told = read("status")
    assert [one["run"] for one in told["runs"]] == [run_id] == [*fake.runs]
    assert [one["name"] for one in told["schedules"]] == ["nightly"]
    assert read("status", run_id)["stages"] == [{"name": "fetch start", "state": "SUCCEEDED"}]
    assert read("cancel", run_id) == {"run": run_id, "was": "RUNNING", "cancelled": True}
    assert read("schedule", "nightly", "--remove") == {"name": "nightly", "removed": 1}
    monkeypatch.setattr(preflight, "checks", lambda *_, **__: [preflight.Check("image", "ok", "is there")])
    assert read("preflight") == {"name": "image", "state": "ok", "text": "is there"}


def test_scheduled_replaced_and_removed(fake: FakeKubeflow, cluster: Path) -> None:
    with_config = ("--config", str(cluster))

    def schedule(name: str, cron: str) -> tuple[int, str]:
        return dcod("schedule", name, "--cron", cron, "--no-preflight", *with_config)

    for name in ("other-1", "other-2", "other-3"):
        assert schedule(name, "@daily")[0] == 0
    code, output = schedule("nightly", "30 2 * * 1-5")
    assert code == 0, output
    assert "nightly: At 02:30 on Monday through Friday" in output
    assert "0 30 2 * * 1-5" in output
    made = next(one for one in fake.recurring.values() if one["display_name"] == "nightly")
    assert made["trigger"] == {"cron_schedule": {"cron": "0 30 2 * * 1-5"}}
    assert (made["max_concurrency"], made["no_catchup"], made["mode"]) == (1, True, "ENABLE")
    assert made["description"].startswith("At 02:30")
    code, output = schedule("nightly", "0 4 * * 7")
    assert "1 earlier stopped, with its runs still listed" in output
    named = [one for one in fake.recurring.values() if one["display_name"] == "nightly"]
    crons = {one["trigger"]["cron_schedule"]["cron"]: one["mode"] for one in named}
    assert crons == {"0 30 2 * * 1-5": "DISABLE", "0 0 4 * * 0": "ENABLE"}, "Kubernetes ends a removed one's runs"
    order = [path.removeprefix(BASE) for method, path in fake.requests if "recurringruns" in path and method != "GET"]
    assert order[-2:] == ["/recurringruns", f"/recurringruns/{made['recurring_run_id']}:disable"], "the new one first"
    code, output = dcod("status", *with_config)
    (line,) = (line for line in output.splitlines() if line.startswith("schedule nightly"))
    assert line.startswith("schedule nightly: At 04:00 on Sunday; pinned to version code-")
    code, output = dcod("schedule", "nightly", "--remove", *with_config)
    assert (code, "removed 2" in output) == (0, True)
    assert len(fake.recurring) == 3
    with pytest.raises(UserError, match="--cron or --remove"):
        dcod("schedule", "nightly", *with_config)


def test_a_schedule_is_checked_as_a_run_is(fake: FakeKubeflow, cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dcod_pipelines import preflight

    for failing in ("submit", "schedule"):
        bad = [preflight.Check("namespace", "failed", "no secret dcod-s3")]
        monkeypatch.setattr(preflight, "checks", lambda config, traces, bad=bad: iter(bad))
        more = ("nightly", "--cron", "@daily") if failing == "schedule" else ()
        code, output = dcod(failing, *more, "--config", str(cluster))
        assert code == 2
        assert "no secret dcod-s3" in output
    assert [path for method, path in fake.requests if method != "GET"] == []


def test_a_schedule_is_pinned_or_takes_the_newest_version_and_says_which(fake: FakeKubeflow, cluster: Path) -> None:
    def schedule(*more: str) -> tuple[dict[str, Any], str]:
        code, output = dcod(
            "schedule", "nightly", "--cron", "@daily", "--no-preflight", "--config", str(cluster), *more
        )
        assert code == 0, output
        return list(fake.recurring.values())[-1], output

    made, output = schedule()
    name = fake.versions["version-1"]["display_name"]
    assert made["pipeline_version_reference"] == {"pipeline_id": "pipeline-1", "pipeline_version_id": "version-1"}
    assert f"pinned to version {name} of dcod-distill" in output
    assert made["description"].endswith(f"pinned to version {name} of dcod-distill")
    made, output = schedule("--newest", "train.epochs=7")
    assert made["pipeline_version_reference"] == {"pipeline_id": "pipeline-1"}
    assert "runs the newest version of dcod-distill" in output
    assert made["runtime_config"]["parameters"]["train_epochs"] == 7
    with pytest.raises(UserError, match=f"the newest version of dcod-distill is .*, not {name}.*leave out --newest"):
        schedule("--newest")
    assert len(fake.recurring) == 2


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
    (run,), (version,) = fake.runs.values(), fake.versions.values()
    spec, parameters = version["pipeline_spec"], run["runtime_config"]["parameters"]
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
