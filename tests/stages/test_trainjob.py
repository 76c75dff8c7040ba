"""Training by a TrainJob, against a recording Kubernetes API; once with the real torchrun behind it."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dcod.cluster import kubernetes, trainjobs
from dcod.config import Config
from dcod.config.cluster import ClusterConfig
from dcod.errors import UserError
from dcod.stages import component, handover, train_job, train_node
from dcod.stages.execute import RunContext, execute
from dcod.storage import parts
from dcod.tracking import NullLog
from tests.fake_kubernetes import FakeKubernetes, RefusedError, serving, validate_trainjob
from tests.tracked import fresh_store

NODE = "dcod.stages.train_node"
GPUS = {
    "image": "registry.example/dcod:1",
    "gpu_image": "registry.example/dcod:1-gpu",
    "storage": "s3://dcod/work",
    "s3_endpoint": "https://s3.example",
    "queue": "distillation",
    "volume": "dcod-shared",
    "gpu": {
        "count": 8,
        "node_selector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
        "tolerations": [{"key": "nvidia.com/gpu"}, {"key": "team", "operator": "Equal", "value": "ml"}],
    },
    "train": {"num_nodes": 4},
    "secrets": {"image_pull": ["registry"]},
}


def condition(kind: str, reason: str = "", message: str = "") -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": "True", "reason": reason, "message": message}]}


def nodes(**counts: int) -> dict[str, Any]:
    row = {"name": "node", "ready": 0, "active": 0, "succeeded": 0, "failed": 0, "suspended": 0} | counts
    return {"jobsStatus": [row]}


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKubernetes]:
    server = FakeKubernetes(held={"pods": {"dcod-node-0": {}}})
    with serving(server, tmp_path) as kubeconfig:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        monkeypatch.setattr(kubernetes, "PATIENCE_S", 10.0)
        yield server


def on_a_volume(folder: Path, monkeypatch: pytest.MonkeyPatch, poll_s: float) -> ClusterConfig:
    """A cluster of two nodes whose shared volume is a folder of this machine."""
    monkeypatch.setattr("dcod.config.cluster.MOUNT", str(folder))
    monkeypatch.setattr(train_job, "Follower", partial(trainjobs.Follower, poll_s=poll_s))
    return ClusterConfig.model_validate({"storage": f"{folder}/shared", "volume": "claim", "train": {"num_nodes": 2}})


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    return Config(cluster=on_a_volume(tmp_path, monkeypatch, 0.01))


@pytest.fixture
def inputs(tmp_path: Path, tiny_student: Path) -> dict[str, Path]:
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "scores.parquet").write_bytes(b"rows")
    return {"scores": tmp_path / "scores", "student": tiny_student}


def finished(config: Config, student: Path) -> Any:
    """A node that has done its work at once."""

    def work(job: dict[str, Any]) -> None:
        folder = Path(job["spec"]["trainer"]["args"][-1])
        assert (folder / "scores" / "scores.parquet").is_file()
        assert Config.model_validate_json((folder / "config.json").read_text()).train == config.train
        shutil.copytree(student, folder / "output")
        (folder / "output" / "training.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.5}\n')
        (folder / "output" / "weights.json").write_text("{}")
        (folder / "output" / "done.json").write_text('{"steps": 2.0}')

    return work


class Recorded(NullLog):
    def __init__(self) -> None:
        self.steps: list[tuple[int | None, dict[str, float]]] = []

    def metrics(self, values: Any, step: int | None = None) -> None:
        self.steps.append((step, dict(values)))


def test_the_job_is_what_the_api_knows() -> None:
    job = trainjobs.build(ClusterConfig.model_validate(GPUS), "dcod-train-1", "run 1", "s3://dcod/work/x", NODE)
    validate_trainjob(job)
    trainer = job["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (4, 8)
    assert trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == "8"
    assert trainer["image"] == "registry.example/dcod:1-gpu"
    assert trainer["command"] + trainer["args"] == ["torchrun", "--module", NODE, "s3://dcod/work/x"]
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "distillation"
    variables = {item["name"]: item for item in trainer["env"]}
    assert variables["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"] == {"name": "dcod-s3", "key": "secret-key"}
    assert not any("KEY" in name and "value" in item for name, item in variables.items()), "a key in the open"
    (patch,) = job["spec"]["runtimePatches"]
    pod = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == GPUS["gpu"]["node_selector"]  # type: ignore[index]
    assert [t["key"] for t in pod["tolerations"]] == ["nvidia.com/gpu", "team"]
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "dcod-shared"}


def test_what_is_said_of_training_holds_for_its_nodes() -> None:
    """Image, size and place of the stage `train`, and the shared memory of pods with GPUs, as in a pipeline's pod."""

    def built(stage: dict[str, str], gpu: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any], str]:
        said = GPUS | {"stages": {"train": stage}, "gpu": GPUS["gpu"] | gpu}  # type: ignore[operator]
        config = Config(cluster=ClusterConfig.model_validate(said))
        job = trainjobs.build(config.cluster, "dcod-train-1", "run 1", "s3://dcod/work/x", NODE)
        validate_trainjob(job)
        (patch,) = job["spec"]["runtimePatches"]
        (nodes,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
        ranks = train_job.source_digests(config)["ranks"]
        return job["spec"]["trainer"], nodes["template"]["spec"]["template"]["spec"], ranks

    own = {"image": "registry.example/dcod:own", "cpu": "6", "cpu_limit": "7", "memory": "96Gi"}
    trainer, pod, ranks = built(own, {"shared_memory": "64Gi"})
    assert (trainer["image"], ranks) == (own["image"], "4x8")
    with_gpus = {"memory": "96Gi", "nvidia.com/gpu": "8"}
    assert trainer["resourcesPerNode"] == {
        "requests": {"cpu": "6"} | with_gpus, "limits": {"cpu": "7"} | with_gpus
    }  # fmt: skip
    assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "64Gi"}} in pod["volumes"]
    assert {"name": "shm", "mountPath": "/dev/shm"} in pod["containers"][0]["volumeMounts"]
    trainer, pod, ranks = built({"pod": "pod"}, {})
    assert (trainer["image"], trainer["numProcPerNode"], ranks) == (GPUS["image"], 1, "4x1")
    assert trainer["resourcesPerNode"]["limits"] == {"cpu": "4", "memory": "4Gi"}
    assert not {"nodeSelector", "tolerations"} & set(pod)
    assert [each["name"] for each in pod["volumes"]] == ["shared"]


@pytest.mark.parametrize(
    "change",
    [
        lambda job: job["spec"].update(numNodes=4),
        lambda job: job["spec"]["trainer"].update(numNodes="4"),
        lambda job: job["spec"].pop("runtimeRef"),
        lambda job: job["spec"]["trainer"]["env"][0].update(val="x"),
        lambda job: job["metadata"].update(name="Dcod_Train"),
    ],
)
def test_the_fake_api_is_strict(change: Any) -> None:
    job = trainjobs.build(ClusterConfig.model_validate(GPUS), "dcod-train-1", "run 1", "s3://dcod/work/x", NODE)
    broken = copy.deepcopy(job)
    change(broken)
    with pytest.raises(RefusedError):
        validate_trainjob(broken)


def test_submitted_followed_and_taken_over(
    fake: FakeKubernetes, config: Config, inputs: dict[str, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    fake.on_create = finished(config, inputs["student"])
    fake.statuses = [{}, condition("Suspended", "Queued"), nodes(active=2), nodes(active=2, ready=2)]
    fake.statuses += [condition("Complete") | nodes(succeeded=2)]
    fake.broken = 1  # the API is away for a moment
    fake.log = [
        "2026-01-01T00:00:01Z loading",
        '2026-01-01T00:00:02Z [dcod-metrics] {"step": 1, "values": {"loss": 2}}',
    ]
    out = tmp_path / "out"
    out.mkdir()
    log = Recorded()
    metrics = train_job.run(config, out, log, **inputs, pipeline="run-1")
    assert metrics == {"steps": 2.0}
    assert (out / "model.safetensors").read_bytes() == (inputs["student"] / "model.safetensors").read_bytes()
    assert {"done.json", "config.json.bak", ".fetched"} & {path.name for path in out.iterdir()} == set()
    assert log.steps == [(1, {"loss": 2}), (2, {"loss": 1.5})]  # once from the log, once from the history
    printed = capsys.readouterr().out
    assert printed.count("loading") == 1
    assert printed.count("Suspended (Queued)") == 1
    assert fake.jobs == {}, "a finished job is cleaned up"
    assert [method for method, _ in fake.requests].count("POST") == 1


def test_a_restarted_component_finds_its_job(
    fake: FakeKubernetes, config: Config, inputs: dict[str, Path], tmp_path: Path
) -> None:
    work = f"{config.cluster.storage}/trainjobs/{trainjobs.job_name('run-1')}"
    job = trainjobs.build(config.cluster, trainjobs.job_name("run-1"), "run-1", work, NODE)
    fake.jobs[job["metadata"]["name"]] = job
    parts.copy(inputs["scores"], f"{work}/scores")
    (Path(work) / "config.json").write_text(config.to_json())
    finished(config, inputs["student"])(job)
    fake.statuses = [nodes(active=2), condition("Complete")]
    out = tmp_path / "out"
    out.mkdir()
    log, priced = Recorded(), config.tracking.model_copy(update={"hour_price": 3600.0})  # two nodes without a GPU
    began = time.monotonic()
    train_job.run(config.model_copy(update={"tracking": priced}), out, log, **inputs, pipeline="run-1")
    (cost,) = [values["cost"] for _, values in log.steps if "cost" in values]
    assert 0 < cost <= 2 * (time.monotonic() - began)
    assert "POST" not in {method for method, _ in fake.requests}
    assert trainjobs.job_name("run-1") != trainjobs.job_name("run-2")


def test_a_failed_job_of_an_earlier_attempt_is_replaced(
    fake: FakeKubernetes, config: Config, inputs: dict[str, Path], tmp_path: Path
) -> None:
    name = trainjobs.job_name("run-1")
    fake.jobs[name] = trainjobs.build(config.cluster, name, "run-1", "/nowhere", NODE)
    fake.statuses = [condition("Failed"), condition("Complete")]
    fake.on_create = finished(config, inputs["student"])
    out = tmp_path / "out"
    out.mkdir()
    train_job.run(config, out, NullLog(), **inputs, pipeline="run-1")
    methods = [method for method, path in fake.requests if "trainjobs" in path]
    assert methods.index("DELETE") < methods.index("POST")


def test_every_bad_end_says_what_and_where_to_look(
    fake: FakeKubernetes, config: Config, inputs: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()

    def ending() -> str:
        fake.jobs.clear()
        with pytest.raises((trainjobs.TrainJobError, UserError)) as caught:
            train_job.run(config, out, NullLog(), **inputs, pipeline="run-1")
        return str(caught.value)

    fake.statuses = [nodes(active=2), condition("Failed", "JobsFailed", "jobset failed") | nodes(failed=1)]
    said = ending()
    assert "failed: JobsFailed: jobset failed; its nodes: node 1 failed" in said
    assert "kubectl -n dcod-runs describe trainjob" in said
    fake.statuses = [condition("Failed", "DeadlineExceeded", "active longer than specified deadline")]
    assert "DeadlineExceeded" in ending()
    fake.statuses = [condition("Complete")]
    assert "its student cannot be fetched" in ending()
    (Path(config.cluster.storage) / "trainjobs" / trainjobs.job_name("run-1") / "output").mkdir()
    assert "holds no whole student" in ending()
    # what the nodes say themselves: their mistake, then the user's
    note = Path(config.cluster.storage) / "trainjobs" / trainjobs.job_name("run-1") / "error.json"

    def fail(mistake: bool) -> None:
        note.write_text(json.dumps({"error": "rank 3: OutOfMemoryError: CUDA", "users_mistake": mistake}))

    fake.statuses = [condition("Failed")]
    fake.on_create = lambda job: fail(False)
    assert "Its own words: rank 3: OutOfMemoryError" in ending()
    fake.on_create = lambda job: fail(True)
    assert ending() == "rank 3: OutOfMemoryError: CUDA"
    # someone deletes it
    fake.on_create = lambda job: threading.Timer(0.2, fake.jobs.clear).start()
    fake.statuses = [nodes(active=2)]
    assert "was deleted while it ran" in ending()
    # the cluster has no Trainer; the account may not
    fake.trainer = ""
    assert "install Kubeflow Trainer v2" in ending()


def test_a_rank_that_fails_says_why_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it leaves in the bucket is read by whoever may read the bucket."""
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "0")

    def away(*_: object) -> None:
        raise ConnectionError("no answer\nfrom https://me:PLANTED@host/v1")

    monkeypatch.setattr(train_node, "_inputs", away)
    with pytest.raises(ConnectionError):
        train_node.main(str(tmp_path))
    said = json.loads((tmp_path / handover.ERROR).read_text())
    line = "rank 3: ConnectionError: no answer from https://***@host/v1"
    assert said == {"error": line, "users_mistake": False, "rank": 3}


def test_what_an_api_says_is_logged_without_secrets(
    fake: FakeKubernetes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(*_: object) -> None:
        raise RefusedError(503, "a webhook is away: https://me:PLANTED@host")

    monkeypatch.setattr(fake, "answer", answer)
    with pytest.raises(UserError, match="a webhook is away"):
        kubernetes.Kube("dcod-runs", patience_s=1).names("secret")
    assert "a webhook is away: https://***@host" in caplog.text
    assert "PLANTED" not in caplog.text


def test_an_api_that_stays_away_is_given_up(fake: FakeKubernetes, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.broken = 100
    with pytest.raises(UserError, match=r"no answer for 2 s \(503 etcd is away\)"):
        kubernetes.Kube("dcod-runs", patience_s=2).names("secret")
    fake.broken, fake.forbidden = 0, {"secrets"}
    with pytest.raises(UserError, match=r"not allowed.*k8s/runs/access\.yaml"):
        kubernetes.Kube("dcod-runs").names("secret")
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    with pytest.raises(UserError, match="set KUBECONFIG"):
        kubernetes.Kube("dcod-runs")


@pytest.mark.parametrize("moved", [False, True])
def test_a_cancelled_run_deletes_its_job_a_moved_pod_does_not(
    fake: FakeKubernetes, config: Config, inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    moved: bool,
) -> None:  # fmt: skip
    monkeypatch.setenv("KFP_POD_NAME", "me")
    status = condition("DisruptionTarget", "PreemptionByScheduler") if moved else {}
    fake.held["pods"]["me"] = {"status": status}
    fake.statuses = [nodes(active=2)]
    fake.on_create = lambda job: threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    out = tmp_path / "out"
    out.mkdir()
    said = "the next attempt follows it" if moved else "cancelled; TrainJob .* is deleted"
    with pytest.raises(trainjobs.TrainJobError, match=said):
        train_job.run(config, out, NullLog(), **inputs, pipeline="run-1")
    assert bool(fake.jobs) is moved
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_the_end_of_a_pipeline_leaves_no_job_behind(fake: FakeKubernetes, config: Config, tmp_path: Path) -> None:
    """The pod that followed it was moved away, and was not tried again."""
    config = config.model_copy(update={"tracking": fresh_store(tmp_path / "store")})
    name = trainjobs.job_name("run-1")
    fake.jobs[name] = trainjobs.build(config.cluster, name, "run-1", "/nowhere", NODE)
    component.finish(config.to_json(), "run-2", "FAILED", "another run")
    assert list(fake.jobs) == [name]
    component.finish(config.to_json(), "run-1", "FAILED", "preempted")
    assert fake.jobs == {}
    fake.trainer = ""  # nothing to delete, and nobody to ask: the run is closed all the same
    component.finish(config.to_json(), "run-1", "RUNNING", "")


@pytest.mark.slow
def test_two_real_ranks_behind_the_job(
    fake: FakeKubernetes, tmp_path: Path, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command of the job, run by the real torchrun with what the runtime would set: the student comes back."""
    from tests.pipelines.test_distill import write_inputs

    _, config = write_inputs(tmp_path, tiny_student, epochs=1)
    config = config.model_copy(update={"cluster": on_a_volume(tmp_path, monkeypatch, 0.3)})
    execute("ingest", config, tmp_path / "traces", {"student": tiny_student}, RunContext(tracked=False))
    inputs = {"traces": tmp_path / "traces", "student": tiny_student}
    execute("score", config, tmp_path / "scores", inputs, RunContext(tracked=False))
    running: list[subprocess.Popen[bytes]] = []

    def start(job: dict[str, Any]) -> None:
        trainer = job["spec"]["trainer"]
        command = [sys.executable, "-m", "torch.distributed.run", *trainer["args"]]
        environment = {**os.environ, "PET_NNODES": "1", "PET_NPROC_PER_NODE": "2", "PET_MASTER_ADDR": "127.0.0.1"}
        environment |= {"PET_RDZV_BACKEND": "c10d", "PET_RDZV_ENDPOINT": "127.0.0.1:0"}
        environment["OMP_NUM_THREADS"] = "1"
        log = (tmp_path / "node.log").open("wb")
        running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT))

    class Real(FakeKubernetes):
        def answer(self, method: str, target: str, body: dict[str, Any]) -> dict[str, Any] | str:
            if running:
                ended = running[0].poll()
                done = (
                    condition("Complete") if ended == 0 else condition("Failed", "NodeFailed", f"exit status {ended}")
                )
                fake.statuses = [nodes(active=2) if ended is None else done]
                lines = (tmp_path / "node.log").read_text(errors="replace").splitlines()
                fake.log = [f"2026-01-01T00:00:00.{n:09d}Z {line}" for n, line in enumerate(lines)]
            return FakeKubernetes.answer(fake, method, target, body)

    fake.on_create = start
    with serving(Real(), tmp_path) as kubeconfig, pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(kubeconfig))
        student = {"scores": tmp_path / "scores", "student": tiny_student}
        metrics = execute("train_job", config, tmp_path / "out", student, RunContext(tracked=False, pipeline="run-1"))
    assert metrics["steps"] > 5
    assert (tmp_path / "out" / "model.safetensors").is_file()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["stage"] == "train"
    assert manifest["sources"] == {"ranks": "2x1"}
    assert len((tmp_path / "out" / "training.jsonl").read_text().splitlines()) == metrics["steps"]
    assert handover.METRICS in (tmp_path / "node.log").read_text()
