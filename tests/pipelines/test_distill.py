"""The pipeline object: compiled (golden, valid IR), and run here: promoted, refused, failed in the middle."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from dcod.config import Config
from dcod.config.cluster import ClusterConfig
from dcod.storage import parquet
from dcod.tracking.registry import Registry
from dcod.tracking.runs import Tracker
from tests import planting
from tests.answering import answering
from tests.tracked import fresh_store

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
STAGES = {"fetch", "ingest", "score", "train", "evaluate", "gate", "promote"}
GPU: dict[str, Any] = {
    "image": "registry.example/dcod:1",
    "gpu_image": "registry.example/dcod:1-gpu",
    "queue": "distillation",
    "s3_endpoint": "https://s3.example",
    "volume": "dcod-shared",
    "gpu": {
        "count": 1,
        "node_selector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
        "tolerations": [{"key": "nvidia.com/gpu"}],
    },
    "secrets": {"hub": "huggingface", "image_pull": ["registry"]},
}
CLUSTERS: dict[str, dict[str, Any]] = {
    "distill": {"image": "registry.example/dcod:1"},
    "distill-gpu": GPU,
    "distill-multi-node": GPU | {"storage": "s3://dcod/work", "shards": 4, "train": {"num_nodes": 4}},
}


def compiled(file: Path, cluster: dict[str, Any]) -> list[dict[str, Any]]:
    """The documents of a compiled pipeline: the pipeline and its platform."""
    from dcod_pipelines.compile import compile_to

    compile_to(file, Config.model_validate({"cluster": cluster}))
    return list(yaml.safe_load_all(file.read_text()))


@pytest.mark.parametrize("name", CLUSTERS)
def test_compiled_pipeline_is_the_golden_one(
    tmp_path: Path, update_golden: bool, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, secret in planting.environment().items():  # what this machine knows of secrets is no part of it
        monkeypatch.setenv(variable, secret)
    compiled(tmp_path / "a.yaml", CLUSTERS[name])
    compiled(tmp_path / "b.yaml", CLUSTERS[name])
    text = (tmp_path / "a.yaml").read_text()
    assert text == (tmp_path / "b.yaml").read_text()
    assert "PLANTED" not in text
    golden = GOLDEN / f"{name}.yaml"
    if update_golden:
        golden.write_text(text)
    assert text == golden.read_text(), "the compiled pipeline changed; if it should, `make golden` and say why"


@pytest.mark.parametrize("name", CLUSTERS)
def test_compiled_pipeline_is_valid_and_never_cached(tmp_path: Path, name: str) -> None:
    from google.protobuf import json_format
    from kfp.components import load_component_from_file
    from kfp.kubernetes import kubernetes_executor_config_pb2
    from kfp.pipeline_spec import pipeline_spec_pb2

    spec, platform = compiled(tmp_path / "p.yaml", CLUSTERS[name])
    parsed = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    assert parsed.pipeline_info.name == "dcod-distill"
    executors = spec["deploymentSpec"]["executors"]
    assert {e["container"]["image"] for e in executors.values()} <= {
        "registry.example/dcod:1",
        "registry.example/dcod:1-gpu",
    }
    assert not any("pip install" in " ".join(e["container"]["command"]) for e in executors.values())
    dags = [spec["root"], *(c for c in spec["components"].values() if "dag" in c)]
    tasks = [(name, task) for dag in dags for name, task in dag["dag"]["tasks"].items()]
    known = {"train-nodes", "examine", "join", "merge", "finish", *STAGES}
    stages = [(name, task) for name, task in tasks if re.sub(r"-\d+$", "", name) in known]
    assert len(stages) == (18 if name == "distill-multi-node" else 12)
    assert not any(task.get("cachingOptions", {}).get("enableCache") for _, task in stages)
    load_component_from_file(str(tmp_path / "p.yaml"))
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert pods.keys() == executors.keys()
    for pod in pods.values():
        json_format.ParseDict(pod, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
        assert int(pod["activeDeadlineSeconds"]) > 0
        assert pod["securityContext"] == {"runAsNonRoot": True, "runAsUser": "10001", "runAsGroup": "10001"}
        assert {mount["mountPath"] for mount in pod["emptyDirMounts"]} >= {"/tmp"}
        assert {secret["secretName"] for secret in pod["secretAsEnv"]} >= {"dcod-s3", "mlflow-client"}
    retried = {kind(name) for name, task in stages if "retryPolicy" in task}
    assert retried == {kind(name) for name, _ in stages} - {"promote"}


def kind(name: str) -> str:
    """The component of a task or executor: without the number that the compiler adds."""
    return re.sub(r"-\d+$", "", name)


def test_gpus_go_to_the_stages_that_use_them(tmp_path: Path) -> None:
    spec, platform = compiled(tmp_path / "gpu.yaml", GPU)
    executors = spec["deploymentSpec"]["executors"]
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    on_gpu = {name for name, e in executors.items() if "accelerator" in e["container"]["resources"]}
    assert {kind(name) for name in on_gpu} == {"exec-score", "exec-train", "exec-evaluate", "exec-gate", "exec-promote"}
    assert len(on_gpu) == 8
    for name, executor in executors.items():
        container = executor["container"]
        resources = container["resources"]
        assert {"resourceCpuRequest", "resourceCpuLimit", "resourceMemoryRequest", "resourceMemoryLimit"} <= set(
            resources
        )
        if name in on_gpu:
            assert resources["accelerator"]["resourceType"] == "nvidia.com/gpu"
            assert container["image"] == "registry.example/dcod:1-gpu"
            assert [t["key"] for t in pods[name]["tolerations"]] == ["nvidia.com/gpu"]
        if kind(name) in ("exec-gate", "exec-promote"):
            assert resources["accelerator"]["resourceCount"] == "1"
            assert pods[name]["nodeSelector"]["labels"] == GPU["gpu"]["node_selector"]
        elif name in on_gpu:  # whose output may be there already: a task without a GPU looked
            look = pods[name]["nodeSelector"]["nodeSelectorJson"]["taskOutputParameter"]["producerTask"]
            asks = {"gpus": resources["accelerator"]["resourceCount"], "memory": resources["resourceMemoryLimit"]}
            for key, asked in (asks | {"cpu": resources["resourceCpuRequest"]}).items():
                assert asked == f"{{{{$.inputs.parameters['pipelinechannel--{look}-{key}']}}}}"
        elif kind(name) == "exec-look":
            assert container["image"] == "registry.example/dcod:1-gpu", "the code of the stage decides its digest"
            assert "nodeSelector" not in pods[name]
        else:
            assert container["image"] == "registry.example/dcod:1"
            assert "nodeSelector" not in pods[name]
    # on several nodes the training's own pod only follows the job
    spec, platform = compiled(tmp_path / "nodes.yaml", CLUSTERS["distill-multi-node"])
    follower = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train-nodes"]
    assert int(follower["activeDeadlineSeconds"]) > ClusterConfig().train.timeout_s
    trainer = spec["deploymentSpec"]["executors"]["exec-train-nodes"]["container"]
    assert "accelerator" not in trainer["resources"]
    assert "exec-train" not in spec["deploymentSpec"]["executors"]


def test_a_stage_may_have_an_image_and_a_size_of_its_own(tmp_path: Path) -> None:
    """Who loads the student again, `gate` and `promote`, goes where it was evaluated, the look for it as well."""
    vllm = {"image": "registry.example/dcod:1-vllm", "memory": "64Gi"}
    spec, _ = compiled(tmp_path / "own.yaml", GPU | {"stages": {"evaluate": vllm, "train": {"pod": "pod"}}})
    containers = {name: each["container"] for name, each in spec["deploymentSpec"]["executors"].items()}
    own = {name for name, each in containers.items() if each["image"] == vllm["image"]}
    assert {kind(name) for name in own} == {"exec-evaluate", "exec-gate", "exec-promote", "exec-look"}
    for name in ("exec-gate", "exec-promote"):
        assert containers[name]["resources"]["resourceMemoryLimit"] == "64Gi"
        assert "accelerator" in containers[name]["resources"]
    assert "accelerator" not in containers["exec-train"]["resources"]
    assert containers["exec-train"]["image"] == GPU["image"]
    train = {"image": vllm["image"], "pod": "gpu", "memory": "64Gi"}  # the job's: its follower has the code alone
    nodes = CLUSTERS["distill-multi-node"] | {"stages": {"train": train}}
    spec, _ = compiled(tmp_path / "nodes.yaml", nodes)
    follower = spec["deploymentSpec"]["executors"]["exec-train-nodes"]["container"]
    assert follower["image"] == vllm["image"]
    assert "accelerator" not in follower["resources"]
    assert follower["resources"]["resourceMemoryLimit"] == "4Gi"


def test_every_stage_may_have_a_pod_of_its_own() -> None:
    """But those that only look and merge: a component that is added is named in `cluster.stages`, too."""
    from typing import get_args

    from dcod.cluster.placing import GOES_BY, placement
    from dcod.config.cluster import Placed
    from dcod_components.ingest_more import ingest_more

    folder = GOLDEN.parents[1] / "components"
    small = {"__init__", "look", "settle", "halve", "seeds"}
    found = {path.stem for path in folder.glob("*.py")} - small
    others = {name.replace("-", "_") for name in GOES_BY} - {"gate", "promote"}
    assert found == set(get_args(Placed)) | others
    assert set(GOES_BY.values()) <= set(get_args(Placed))
    cluster = ClusterConfig.model_validate({"stages": {"ingest": {"image": "registry.example/dcod:own"}}})
    placed = placement(cluster, str(ingest_more.component_spec.name), False)
    assert placed.image == "registry.example/dcod:own"


def write_inputs(folder: Path, student: Path, **train: float) -> tuple[Path, Config]:
    """GCDs whose answer is 1 more often than not, and traces that say so: a thing a tiny student can learn."""
    from dcod.traces import synthetic
    from dcod.traces.prompts import prompt_for

    rows = [
        {"prompt": prompt_for("number", p.question)[0]["content"], "completion": "#### 1", "gold": "1"}
        for p in synthetic.problems("reasoning-gym://gcd?problems=60&seed=1&max_value=60")
    ]
    (folder / "traces.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": "no answer"}]))
    store = fresh_store(folder / "store")
    values = {
        "name": "tiny",
        "student": {"model": str(student), "max_length": 400},
        "ingest": {"sources": [str(folder / "traces.jsonl")], "selection_share": 0.1},
        "train": {
            "correction": {"name": "surprisal", "scope": "token"},
            "learning_rate": 0.02,
            "epochs": 12,
            "traces_per_step": 4,
            **train,
        },
        "evaluate": {
            "benchmarks": [
                {
                    "name": "reasoning_gym",
                    "source": "reasoning-gym://gcd?problems=80&seed=90000&max_value=60",
                    "max_new_tokens": 8,
                }
            ],
            "few_shot": 1,
        },
        "promote": {"min_problems": 20, "lease": str(folder / "lease"), "max_unparseable": 1.0, "max_truncated": 1.0},
        "tracking": store.model_dump(),
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path, Config.model_validate(values)


def dcod(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        [sys.executable, "-m", "dcod", *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


def answered(folder: Path, values: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The answer of a whole run of a configuration, and what the run said; it ends well."""
    path = folder / "dcod.yaml"
    path.write_text(yaml.safe_dump(values))
    done = dcod(folder, "run", "--config", str(path))
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "runs/latest/answer.json").read_text()), done.stdout


def test_promoted_then_nothing_twice(tmp_path: Path, tiny_student: Path) -> None:
    """The environment is full of secrets, and the webhook's server repeats what it was sent: none is kept or said."""
    path, config = write_inputs(tmp_path, tiny_student)
    heard: list[bytes] = []
    (tmp_path / "scratch").mkdir()
    secrets = planting.environment() | {"TMPDIR": str(tmp_path / "scratch")}
    with answering("HTTP/1.1 400 No\r\nX: PLANTED\r\nContent-Length: 12\r\n\r\nyou: PLANTED", heard=heard) as url:
        secrets["DCOD_WEBHOOK_URL"] = f"{url}/PLANTED-hook"
        done = dcod(tmp_path, "run", "--config", str(path), "notify.url=environment", **secrets)
    assert done.returncode == 0, done.stdout + done.stderr
    assert any(b"PLANTED-hook" in request for request in heard)
    assert "PLANTED" not in done.stdout + done.stderr
    assert planting.left(tmp_path) == []
    kinds = {file.suffix for file in tmp_path.rglob("*") if file.is_file()}
    assert kinds >= {".parquet", ".json", ".html", ".safetensors", ".db", ".yaml"}
    assert "decision  promote" in done.stdout
    tracker = Tracker(config.tracking)
    registry = Registry(tracker)
    champion = registry.champion("dcod-student")
    assert champion is not None
    assert champion.version == 2
    assert champion.tags["dcod.decision"] == "promote"
    assert "improved" in champion.tags["dcod.reasons"]
    start = registry.by_version("dcod-student", 1)
    assert start is not None
    assert start.tags["dcod.decision"] == "start"
    runs = tracker.client.search_runs([tracker.experiment_id])
    assert not [run for run in runs if "PLANTED" in str(run.to_dictionary())]
    parents = [run for run in runs if "dcod.pipeline" in run.data.tags]
    assert [run.info.status for run in parents] == ["FINISHED"]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert {run.data.tags["dcod.stage"] for run in children} == STAGES
    assert {run.info.status for run in children} == {"FINISHED"}
    compared_by(parents[0], tracker)
    trained = next(run for run in children if run.data.tags["dcod.stage"] == "train")
    losses = tracker.client.get_metric_history(trained.info.run_id, "loss")
    assert len(losses) > 10
    assert {"gamma", "ess", "mean_surprisal", "selection_nll"} <= set(trained.data.metrics)
    # every row of the source is accounted for, and so is every answer
    ingested = next(tmp_path.glob("runs/pipeline/*/*/ingest/traces"))
    quarantine = pq.read_table(ingested / "quarantine.parquet").to_pylist()
    assert quarantine[-1]["source_line"] == 61
    assert {row["reason"] for row in quarantine[:-1]} <= {"contaminated"}
    assert parquet.count(ingested / "traces.parquet") + len(quarantine) == 61
    results = next(tmp_path.glob("runs/pipeline/*/*/evaluate/results"))
    summary = json.loads((results / "summary.json").read_text())["benchmarks"]["reasoning_gym:gcd"]["prompting"]
    splits = summary["zero_shot"]
    assert sum(sum(split["outcomes"].values()) for split in splits.values()) == 80
    page = next(tmp_path.glob("runs/pipeline/*/*/gate/decision/report.html")).read_text()
    assert (
        page.count("<script") == page.count('<script>"use strict"') == 1
    )  # our own, which the page allows by its hash

    # resolved by its registry name, and run again: reused, nothing registered twice
    again = dcod(tmp_path, "run", "--config", str(path), "notify.url=environment", **secrets)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "already_champion" in again.stdout
    assert [version.version for version in registry.versions("dcod-student")] == [1, 2]
    reused = [r for r in tracker.client.search_runs([tracker.experiment_id]) if "dcod.reused_from" in r.data.tags]
    assert {"ingest", "score", "train", "evaluate"} == {run.data.tags["dcod.stage"] for run in reused}


def compared_by(parent: Any, tracker: Tracker) -> None:
    """The parent run holds what one compares: figures, settings, data, the decision, the report."""
    benchmark = "reasoning_gym_gcd"
    wanted = {"traces", "problems", "tokens", "gamma", "ess", "steps", "seconds", "promoted", "level"}
    wanted |= {f"{benchmark}/{name}" for name in ("difference", "difference_low", "difference_high", "p_value")}
    wanted |= {f"{who}/{benchmark}/accuracy{end}" for who in ("start", "student") for end in ("", "_low", "_high")}
    metrics = {key.replace(":", "_"): value for key, value in parent.data.metrics.items()}
    assert wanted <= metrics.keys(), wanted - metrics.keys()
    assert metrics["promoted"] == 1.0
    assert parent.data.params["train.learning_rate"] == "0.02"
    assert "**promote**" in parent.data.tags["mlflow.note.content"]
    assert [each.dataset.name for each in parent.inputs.dataset_inputs if "traces.jsonl" in each.dataset.name]
    assert "report.html" in {item.path for item in tracker.client.list_artifacts(parent.info.run_id)}
    models = {model.name: model for model in tracker.client.search_logged_models([tracker.experiment_id])}
    assert models.keys() == {"start", "student"}
    for model in models.values():
        assert "mlflow.modelVersions" in model.tags
        assert {metric.key for metric in model.metrics or []} >= {"report/accuracy", "gate/accuracy"}


def test_refused(tmp_path: Path, tiny_student: Path) -> None:
    path, config = write_inputs(tmp_path, tiny_student, learning_rate=1e-8)
    done = dcod(tmp_path, "run", "--config", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "decision  refuse" in done.stdout
    registry = Registry(config.tracking)
    champion, challenger = registry.champion("dcod-student"), registry.by_alias("dcod-student", "challenger")
    assert champion is not None
    assert challenger is not None
    assert (champion.version, challenger.version) == (1, 2)
    assert challenger.tags["dcod.decision"] == "refuse"
    assert "no improvement shown" in challenger.tags["dcod.reasons"]


def test_failed_in_the_middle(tmp_path: Path, tiny_student: Path) -> None:
    """A stage crashes: exit code 1, the error in MLflow, no output where it crashed."""
    path, config = write_inputs(tmp_path, tiny_student)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'dcod.stages.train':\n"
        "            raise RuntimeError('the disk went away')\n"
        "sys.meta_path.insert(0, Refuse())\n"
    )
    done = dcod(tmp_path, "run", "--config", str(path), PYTHONPATH=str(broken))
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("dcod: train: RuntimeError: the disk went away")
    assert "Traceback" not in done.stderr
    tracker = Tracker(config.tracking)
    runs = tracker.client.search_runs([tracker.experiment_id])
    parent = next(run for run in runs if "dcod.pipeline" in run.data.tags)
    assert parent.info.status == "FAILED"
    assert parent.data.tags["dcod.error"] == "train: RuntimeError: the disk went away"
    assert not list(tmp_path.glob("runs/pipeline/*/*/train/student"))
    assert list(tmp_path.glob("runs/pipeline/*/*/score/scores/scores.parquet"))
    assert Registry(tracker).champion("dcod-student") is None


def test_a_users_mistake_in_a_stage_is_one_line(tmp_path: Path, tiny_student: Path) -> None:
    path, _ = write_inputs(tmp_path, tiny_student)
    done = dcod(tmp_path, "run", "--config", str(path), "train.correction.name=prefix")
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert "score: train.correction.name=prefix needs behavior_logprobs: 0 of" in line
    assert "surprisal" in line
