"""A student above 2 GiB that is logged by reference: its bytes go to the bucket, none of them through MLflow."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dcod.config import TrackingConfig
from dcod.tracking.registry import Registry
from tests.services import servers

pytestmark = pytest.mark.service
GIB = 2**30


def test_three_gibibytes_pass_by_the_server(
    mlflow_server: servers.Server, s3_environment: servers.Server, bucket: str, tmp_path: Path, tiny_student: Path
) -> None:
    folder = shutil.copytree(tiny_student, tmp_path / "student")
    (folder / "model.safetensors").unlink()
    for number, size in enumerate((2 * GIB, 1 * GIB), 1):  # sparse: they take no room here
        with (folder / f"model-{number:05d}-of-00002.safetensors").open("wb") as file:
            file.truncate(size)
    registry = Registry(TrackingConfig(uri=mlflow_server.uri, experiment="references"))
    registry.models.weights = f"s3://{bucket}/work/models"
    with registry.tracker.stage("gate", None, digest="d") as log:
        version = registry.register("large", folder, log.run_id)
    held = servers.client(s3_environment).list_objects_v2(Bucket=bucket)["Contents"]
    sizes = {item["Key"].removeprefix(f"work/models/{version.digest}/"): item["Size"] for item in held}
    assert sizes.pop("reference.json") < 1000
    assert sizes == {f"model-{number:05d}-of-00002.safetensors": (3 - number) * GIB for number in (1, 2)}
    model = registry.models.find(version.digest)
    names = [item.path for item in registry.tracker.client.list_logged_model_artifacts(model or "", "model")]
    assert "model/reference.json" in names
    assert not [name for name in names if name.endswith(".safetensors")]
