"""`dcod preflight`: each check good, bad with its way out, and unseen; against recording servers."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from dcod.cluster import kubernetes as kube
from dcod.config import Config
from dcod_pipelines import preflight, presets
from dcod_pipelines.checks import Check
from dcod_pipelines.cluster_checks import gpus_at_once
from dcod_pipelines.preflight import checks
from dcod_pipelines.versions import split_image
from tests import fake_kubeflow, fake_kubernetes
from tests.fake_kubeflow import FakeKubeflow
from tests.fake_kubernetes import FakeKubernetes


@pytest.fixture
def kubeflow() -> FakeKubeflow:
    return FakeKubeflow()


@pytest.fixture
def kubernetes() -> FakeKubernetes:
    quota = {"status": {"hard": {"requests.nvidia.com/gpu": "8"}, "used": {"requests.nvidia.com/gpu": "6"}}}
    return FakeKubernetes(
        held={
            "serviceaccounts": {"dcod-pipeline": {}},
            "secrets": {"dcod-s3": {}, "mlflow-client": {}, "mlpipeline-minio-artifact": {}},
            "services": {"ml-pipeline": {}},
            "persistentvolumeclaims": {"dcod-shared": {}},
            "resourcequotas": {"gpus": quota},
        }
    )


@pytest.fixture
def registry() -> Iterator[str]:
    """A registry that has dcod:1, hides what is private, and knows nothing else."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            known = self.path in ("/v2/team/dcod/manifests/1", "/v2/team/dcod/manifests/1-gpu")
            self.send_response(200 if known else 401 if "private" in self.path else 404)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def config(
    kubeflow: FakeKubeflow, kubernetes: FakeKubernetes, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Config]:
    """All is well, but for MLflow and S3, which other tests have for real."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(kube, "PATIENCE_S", 5.0)
    monkeypatch.setattr(preflight, "_tracking", lambda config: "good")
    monkeypatch.setattr("dcod.storage.probe", lambda uri: None)
    monkeypatch.setattr("dcod.storage.list_objects", lambda uri: [f"{uri}a.jsonl"])
    with fake_kubeflow.serving(kubeflow) as address, fake_kubernetes.serving(kubernetes, tmp_path) as kubeconfig:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        yield Config.model_validate(
            {
                "ingest": {"sources": ["s3://dcod/traces/"]},
                "cluster": {
                    "kubeflow": address,
                    "image": f"{registry}/team/dcod:1",
                    "gpu_image": f"{registry}/team/dcod:1-gpu",
                    "tracking": "http://mlflow.dcod:5000",
                    "storage": "s3://dcod/work",
                    "volume": "dcod-shared",
                    "gpu": {"count": 1},
                },
            }
        )


def found(config: Config, **cluster: Any) -> dict[str, Check]:
    section = config.cluster.model_copy(update=cluster)
    return {c.name: c for c in checks(config.model_copy(update={"cluster": section}), traces=False)}


def test_all_is_well(config: Config) -> None:
    seen = found(config)
    assert {check.state for check in seen.values()} == {"ok"}, seen
    assert len(seen) == 10
    assert seen["GPU quota"].text == "up to 4 GPUs at once; 2 of 8 free now (pods wait for the others)"


def test_the_preset_reasoning_passes_with_a_cluster_and_traces_of_ones_own(config: Config, registry: str) -> None:
    """Nothing of it belongs to one machine, and one GPU a pod is enough."""
    values = yaml.safe_load(presets.text_of("reasoning"))
    cluster = config.cluster.model_dump(mode="json", exclude_defaults=True) | values["cluster"]
    values |= {"ingest": values["ingest"] | {"sources": ["s3://dcod/traces/"]}, "cluster": cluster}
    reasoning = Config.model_validate(values)
    seen = found(reasoning)
    assert "evaluate.engine.name=vllm is not a pilot's" in seen["pilot"].text
    assert {check.state for name, check in seen.items() if name != "pilot"} == {"ok"}, seen
    assert found(reasoning, gpu_image=f"{registry}/team/dcod:2-gpu")["image"].state == "failed"


def test_a_pilot_that_is_not_like_its_run_is_a_warning(config: Config) -> None:
    """Nothing that keeps a run from being submitted."""
    train = config.train.model_copy(update={"arms": "auto", "sharding": "fsdp"})
    told = found(config.model_copy(update={"train": train}))["pilot"]
    assert (told.state, "train.sharding=fsdp is not a pilot's" in told.text) == ("warning", True)


def test_what_is_missing_is_named_with_the_way_out(
    config: Config, kubernetes: FakeKubernetes, kubeflow: FakeKubeflow, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(name: str, **cluster: Any) -> str:
        check = found(config, **cluster)[name]
        assert check.state == "failed", check
        return check.text

    del kubernetes.held["secrets"]["dcod-s3"]
    assert "lacks secret dcod-s3; see docs/cluster.md" in failed("namespace")
    assert "persistent volume claim other" in failed("namespace", volume="other")
    gpu = config.cluster.gpu.model_copy(update={"count": 16})
    assert "a training needs 16 GPUs, quota gpus allows 8: lower cluster.gpu.count" in failed("GPU quota", gpu=gpu)
    kubernetes.trainer = ""
    nodes = config.cluster.train.model_copy(update={"num_nodes": 2})
    assert "need Kubeflow Trainer v2, which is not installed" in failed("TrainJobs", train=nodes)
    kubeflow.token = "t"
    assert "set $KUBEFLOW_TOKEN" in failed("Kubeflow")
    assert "port-forward" in failed("Kubeflow", kubeflow="")
    assert "no fixed tag" in failed("image", image=f"{registry}/team/dcod:latest")
    assert "does not have it; push it" in failed("image", image=f"{registry}/team/dcod:2")
    evaluate = type(config.cluster).model_validate({"stages": {"evaluate": {"image": f"{registry}/team/dcod:3-vllm"}}})
    assert "dcod:3-vllm" in failed("image", stages=evaluate.stages)
    assert "cluster.image is empty" in failed("image", image="")
    assert "cluster.tracking" in failed("configuration", tracking="")
    monkeypatch.setattr("dcod.storage.list_objects", lambda uri: [])
    assert "nothing at s3://dcod/traces/; upload" in failed("traces are there")


def test_versions_that_drop_what_dcod_asks_for_are_refused(
    config: Config, kubernetes: FakeKubernetes, kubeflow: FakeKubeflow
) -> None:
    nodes = config.cluster.train.model_copy(update={"num_nodes": 2})
    assert "Kubeflow Trainer knows the job" in found(config, train=nodes)["TrainJobs"].text
    kubernetes.trainer = "2.1.0"
    check = found(config, train=nodes)["TrainJobs"]
    assert check.state == "failed"
    assert "spec.activeDeadlineSeconds, spec.runtimePatches of a TrainJob and would drop it" in check.text
    for tag, state in (
        ("2.15.2", "failed"),
        ("v2.5.0", "failed"),
        ("2.16.0", "ok"),
        ("3.0.0", "ok"),
        ("unknown", "ok"),
    ):
        kubeflow.tag = tag
        check = found(config)["Kubeflow"]
        assert check.state == state, tag
        assert "needs 2.16 or newer" in check.text or state == "ok"


def test_the_namespace_is_one_where_runs_execute(
    config: Config, kubernetes: FakeKubernetes, kubeflow: FakeKubeflow
) -> None:
    kubernetes.labels = {"app.kubernetes.io/part-of": "dcod"}  # somebody overwrote what the profile controller set
    check = found(config)["namespace"]
    assert check.state == "failed"
    assert "NetworkPolicies keep its pods out" in check.text
    kubernetes.labels = None
    assert "make the Profile" in found(config)["namespace"].text
    kubernetes.forbidden = {"namespaces"}
    assert found(config)["namespace"].state == "unchecked"
    kubernetes.forbidden, kubeflow.multi_user = set(), False  # no Profile is asked for: Kubeflow's own namespace
    del kubernetes.held["secrets"]["mlpipeline-minio-artifact"]
    assert found(config)["namespace"].state == "ok"
    del kubernetes.held["services"]["ml-pipeline"]
    check = found(config)["namespace"]
    assert check.state == "failed"
    assert "runs execute in its own namespace, and dcod-runs has no service ml-pipeline" in check.text


def test_rights_and_tokens(config: Config, kubernetes: FakeKubernetes, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = config.cluster.train.model_copy(update={"num_nodes": 2})
    kubernetes.denied = {"create trainjobs", "get pods/log"}
    assert found(config)["rights"].state == "ok"  # one node makes no job
    check = found(config, train=nodes)["rights"]
    assert check.state == "failed"
    assert "may not create trainjobs, get pods/log: kubectl apply -k k8s/runs" in check.text
    kubernetes.forbidden = {"localsubjectaccessreviews"}
    assert found(config)["rights"].state == "unchecked"

    def token(**claims: Any) -> str:
        part = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        return f"head.{part}.signature"

    for given, state in (
        (token(aud=["https://kubernetes.default.svc"]), "failed"),
        (token(aud="pipelines.kubeflow.org"), "ok"),
        (token(aud=["x", "pipelines.kubeflow.org"]), "ok"),
        (token(sub="me"), "ok"),
        ("opaque", "ok"),
    ):
        monkeypatch.setenv("KUBEFLOW_TOKEN", given)
        check = found(config)["Kubeflow"]
        assert check.state == state, given
        assert "--audience pipelines.kubeflow.org" in check.text or state == "ok"


def test_what_cannot_be_seen_from_here_is_no_failure(
    config: Config, kubernetes: FakeKubernetes, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubernetes.forbidden = {"secrets"}
    seen = found(config, image=f"{registry}/private/dcod:1", storage="/mnt/dcod/work")
    assert {name for name, check in seen.items() if check.state == "unchecked"} == {"namespace", "image", "bucket"}
    assert "you may not list secret" in seen["namespace"].text
    assert "answers 401 without credentials" in seen["image"].text
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    seen = found(config)
    assert {seen[name].state for name in ("namespace", "GPU quota")} == {"unchecked"}


def test_gpus_of_the_busiest_moment() -> None:
    plain = {"evaluate": {"benchmarks": [{"name": "gsm8k"}, {"name": "math500"}]}}
    few = Config.model_validate(plain | {"cluster": {"gpu": {"count": 2}}})
    assert gpus_at_once(few) == 2 * (1 + 3)
    many = {"gpu": {"count": 8}, "shards": 4, "train": {"num_nodes": 2}, "storage": "s3://a/b"}
    assert gpus_at_once(Config.model_validate(plain | {"cluster": many})) == 8 * (4 + 3 * 2)
    beside = {"twin": True, "seeds": 3}  # the student, its twin, and two more of each
    assert gpus_at_once(Config.model_validate(plain | {"train": beside})) == 0
    alone = plain | {"cluster": {"gpu": {"count": 1}}}
    assert gpus_at_once(Config.model_validate(alone | {"train": beside})) == 2 + 4 + 3
    pilots = {"twin": True, "arms": [{"name": f"a{n}", "focus": 0.1 * n} for n in range(1, 5)]}
    held = {"ingest": {"selection_share": 0.1, "pilot_share": 0.1}}
    assert gpus_at_once(Config.model_validate(alone | held | {"train": pilots})) == 5 + 1 + 3
    rated = {**pilots, "arms": [*pilots["arms"], {"name": "fast", "learning_rate": 3e-4}]}
    assert gpus_at_once(Config.model_validate(alone | held | {"train": rated})) == 7 + 3  # the twin waits for the rate


def test_gpus_of_stages_that_are_put_elsewhere() -> None:
    """Also of the student and its twin, which may be evaluated, in shards, as the start still is."""

    def found(stages: dict[str, str], **cluster: Any) -> int:
        placed = {name: {"pod": pod} for name, pod in stages.items()}
        names = ("gsm8k", "math500", "aime24", "aime25")
        given = {"gpu": {"count": 2}, "shards": 4, "storage": "s3://a/b", "stages": placed, **cluster}
        values = {"evaluate": {"benchmarks": [{"name": name} for name in names]}, "cluster": given}
        return gpus_at_once(Config.model_validate(values | {"train": {"twin": True}}))

    assert found({}) == 2 * (3 * 4 + 4 + 4)
    assert found({"evaluate": "pod"}) == 2 * 4  # the shards of the scoring
    assert found({"evaluate": "pod", "score": "pod"}) == 2 * 2
    assert found({"evaluate": "pod", "score": "pod", "train": "pod"}) == 0
    assert found({"evaluate": "pod", "score": "pod", "train": "pod", "gate": "gpu"}) == 2
    assert found({"score": "pod", "train": "pod"}) == 2 * (3 * 4 + 4 + 4)
    assert found({}, gpu={"count": 0}) == 0


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("registry:5000/a/b:1.2", ("registry:5000/a/b", "1.2")),
        ("registry:5000/a/b", ("registry:5000/a/b", "")),
        ("r.example/a@sha256:ab", ("r.example/a", "sha256:ab")),
        ("dcod:1", ("dcod", "1")),
    ],
)
def test_names_of_images(image: str, parts: tuple[str, str]) -> None:
    assert split_image(image) == parts


def test_the_student_and_the_traces_fit(tmp_path: Path, tiny_student: Path) -> None:
    """With a real student and real ingestion: coverage of log-probs against what the correction needs."""
    rows = [{"prompt": f"What is {n} + 1?", "completion": f"It is #### {n + 1}", "gold": str(n + 1)} for n in range(8)]
    (tmp_path / "traces.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    values: dict[str, Any] = {
        "student": {"model": str(tiny_student), "max_length": 400},
        "ingest": {"sources": [str(tmp_path / "traces.jsonl")]},
    }
    assert "8 traces pass; 0 with log-probs" in preflight._student_and_traces(Config.model_validate(values))
    values["train"] = {"correction": {"name": "prefix"}}
    with pytest.raises(ValueError, match=r"prefix needs behavior_logprobs.*: 0 of 8 traces have them; use `surprisal`"):
        preflight._student_and_traces(Config.model_validate(values))
    values["student"]["max_length"] = 4
    with pytest.raises(ValueError, match=r"none of the first 50 problems|max_length"):
        preflight._student_and_traces(Config.model_validate(values))
