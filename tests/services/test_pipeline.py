"""The whole pipeline through real servers: traces and lease on S3, runs and registry on PostgreSQL, artifacts on S3."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dcod import storage
from dcod.config import TrackingConfig
from dcod.registry import Registry
from tests.pipelines.test_distill import dcod, write_inputs
from tests.services.servers import Server

pytestmark = pytest.mark.service


def test_the_pipeline_on_real_servers(
    tmp_path: Path, tiny_student: Path, s3_environment: Server, mlflow_server: Server
) -> None:
    import boto3

    path, config = write_inputs(tmp_path, tiny_student)
    boto3.client("s3").create_bucket(Bucket="pipeline")
    storage.upload(tmp_path / "traces.jsonl", "s3://pipeline/raw/traces.jsonl")
    values = yaml.safe_load(path.read_text())
    values["ingest"]["sources"] = ["s3://pipeline/raw/"]
    values["promote"]["lease"] = "s3://pipeline/promotion.lease"
    values["tracking"] = {"uri": mlflow_server.uri, "experiment": "pipeline"}
    path.write_text(yaml.safe_dump(values))
    environment = {**s3_environment.env, "DCOD_CACHE": str(tmp_path / "cache")}

    done = dcod(tmp_path, "run", "--config", str(path), **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "decision  promote" in done.stdout
    registry = Registry(TrackingConfig.model_validate(values["tracking"]))
    champion = registry.champion(config.promote.registered_model)
    assert champion is not None
    assert champion.version == 2
    assert storage.list_objects("s3://pipeline/promotion.lease") == []  # given back

    # The champion is loaded by its name, from S3 through the server, and another run starts from it.
    again = dcod(tmp_path, "run", "--config", str(path), "student.model=models:/dcod-student@champion", **environment)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "decision  refuse" in again.stdout
    assert len(registry.versions(config.promote.registered_model)) == 3
