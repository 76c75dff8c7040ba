"""The runtime of TrainJobs: rendered, read by the API's own models, and as locked down as the other pods."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dcod.config.cluster import NodesConfig
from dcod.config.gpu import SHARED_MEMORY
from tests.fake_kubernetes import unknown

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def runtime() -> dict[str, Any]:
    tool = shutil.which("kubectl", path=str(Path(sys.executable).parent))
    assert tool, "`make test-services` installs kubectl"
    command = [tool, "kustomize", str(ROOT / "k8s" / "trainer")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (document,) = yaml.safe_load_all(done.stdout)
    return dict(document)


def dropped(document: dict[str, Any]) -> list[str]:
    """Fields that the API's models do not know."""
    from kubeflow_trainer_api import models

    read = models.TrainerV1alpha1ClusterTrainingRuntime.from_dict(document)
    assert read is not None
    return list(unknown(document, json.loads(json.dumps(read.to_dict()))))


@pytest.mark.service
def test_the_runtime_is_valid(runtime: dict[str, Any]) -> None:
    assert dropped(runtime) == []
    wrong, misplaced = copy.deepcopy(runtime), copy.deepcopy(runtime)
    wrong["spec"]["mlPolicy"]["numNodes"] = "two"
    misplaced["spec"]["template"]["spec"]["replicatedJobs"][0]["image"] = "x"
    with pytest.raises(ValueError, match=r"num_nodes|numNodes"):
        dropped(wrong)
    assert dropped(misplaced) == ["spec.template.spec.replicatedJobs[0].image"]


@pytest.mark.service
def test_the_runtime_is_the_one_that_jobs_name_and_is_restricted(runtime: dict[str, Any]) -> None:
    assert runtime["metadata"]["name"] == NodesConfig().runtime
    (job,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    assert job["name"] == "node"
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    assert container["image"] == "registry.example.com/dcod:0.1.0-gpu"
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {"/tmp": "tmp", "/dev/shm": SHARED_MEMORY}
    limits = (ROOT / "k8s" / "runs" / "limits.yaml").read_text(encoding="utf-8")
    assert f"name: {pod['priorityClassName']}" in limits
