"""What holds of every compiled pipeline, read off the goldens: what Kubeflow's backend runs, and what it does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dcod.cluster.placing import QUEUE_LABEL

GOLDENS = sorted((Path(__file__).resolve().parent.parent / "golden").glob("*.yaml"))


def test_all_of_them_are_here() -> None:
    assert len(GOLDENS) == 9


@pytest.fixture(scope="module", params=GOLDENS, ids=lambda path: path.stem)
def documents(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return list(yaml.load_all(request.param.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))


def tasks(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for dag in (spec["root"], *(each for each in spec["components"].values() if "dag" in each)):
        yield from dag["dag"]["tasks"].items()


def test_loops_run_over_strings_that_are_written_out(documents: list[dict[str, Any]]) -> None:
    """Items from a pipeline's input or a task fail in an exit handler (kubeflow/pipelines#12390), dicts are mis-scoped
    (#13273)."""
    spec, _ = documents
    loops = 0
    for name, task in tasks(spec):
        assert "artifactIterator" not in task, name
        if "parameterIterator" not in task:
            continue
        loops += 1
        items = json.loads(task["parameterIterator"]["items"]["raw"])
        assert items, name
        assert all(isinstance(item, str) for item in items), name
    fanned = any(name.startswith(("examine", "pilot")) for name, _ in tasks(spec))
    assert bool(loops) is fanned


def test_the_exit_task_waits_in_no_queue_and_is_tried_again(documents: list[dict[str, Any]]) -> None:
    spec, platform = documents
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    container = spec["deploymentSpec"]["executors"]["exec-finish"]["container"]
    assert QUEUE_LABEL not in pods["exec-finish"].get("podMetadata", {}).get("labels", {})
    assert int(pods["exec-finish"]["activeDeadlineSeconds"]) <= 1800
    assert "accelerator" not in container["resources"]
    assert container["image"].startswith("registry.example/dcod:1")
    assert {each["name"] for each in container["env"]} >= {"OMP_NUM_THREADS"}
    (finish,) = (task for name, task in tasks(spec) if name == "finish")
    assert finish["retryPolicy"]["maxRetryCount"] >= 1
    queued = {name for name, pod in pods.items() if QUEUE_LABEL in pod.get("podMetadata", {}).get("labels", {})}
    assert queued in (set(), pods.keys() - {"exec-finish"})


def test_the_runtime_of_training_jobs_keeps_sidecars_out_and_is_one_that_trainer_knows() -> None:
    """Read as it lies, so that it needs no kubectl."""
    from tests.fake_kubernetes import RefusedError, validate

    path = GOLDENS[0].parents[2] / "k8s" / "trainer" / "cluster-training-runtime.yaml"
    runtime = yaml.safe_load(path.read_text(encoding="utf-8"))
    validate(runtime, "clustertrainingruntimes.v2.3.0")
    (job,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]
    assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
    pod["spec"]["containers"][0]["imagePull"] = "Always"
    with pytest.raises(RefusedError, match=r"unknown field .*imagePull"):
        validate(runtime, "clustertrainingruntimes.v2.3.0")
