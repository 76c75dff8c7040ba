"""The whole pipeline through real servers: traces and lease on S3, runs and registry on PostgreSQL, artifacts on S3."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from dcod import storage
from dcod.config import Config
from dcod.tracking import cards, lineage
from dcod.tracking.registry import Registry
from dcod.tracking.runs import Tracker
from tests.pipelines.test_distill import dcod, write_inputs
from tests.services.servers import Server, add_user, answers, mlflow_command

pytestmark = pytest.mark.service


def on_servers(folder: Path, student: Path, tracking: str, bucket: str) -> tuple[Path, Config]:
    """The configuration of a run whose traces, lease and artifacts are on the servers."""
    import boto3

    path, _ = write_inputs(folder, student)
    boto3.client("s3").create_bucket(Bucket=bucket)
    storage.upload(folder / "traces.jsonl", f"s3://{bucket}/raw/traces.jsonl")
    values = yaml.safe_load(path.read_text())
    values["ingest"]["sources"] = [f"s3://{bucket}/raw/"]
    values["promote"]["lease"] = f"s3://{bucket}/promotion.lease"
    values["tracking"] = {"uri": tracking, "experiment": bucket}
    values["promote"]["registered_model"] = f"student-{bucket}"
    path.write_text(yaml.safe_dump(values))
    return path, Config.model_validate(values)


def test_the_pipeline_on_real_servers(
    tmp_path: Path, tiny_student: Path, s3_environment: Server, mlflow_server: Server
) -> None:
    path, config = on_servers(tmp_path, tiny_student, mlflow_server.uri, "pipeline")
    environment = {**s3_environment.env, "DCOD_CACHE": str(tmp_path / "cache")}

    done = dcod(tmp_path, "run", "--config", str(path), **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "decision  promote" in done.stdout
    registry = Registry(config.tracking)
    champion = registry.champion(config.promote.registered_model)
    assert champion is not None
    assert champion.version == 2
    assert storage.list_objects("s3://pipeline/promotion.lease") == []  # given back
    behind = lineage.files(registry, champion)
    assert behind == {storage.digest_file(tmp_path / "traces.jsonl"): "s3://pipeline/raw/traces.jsonl"}
    card = registry.card(champion.uri)
    assert set(behind) < set(card.replace("`", " ").split())
    described = registry.tracker.client.get_model_version(champion.name, str(champion.version)).description
    assert described == cards.description(card)

    # The champion is loaded by its name, from S3 through the server, and another run starts from it.
    again = dcod(
        tmp_path, "run", "--config", str(path), "student.model=models:/student-pipeline@champion", **environment
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert "decision  refuse" in again.stdout
    assert len(registry.versions(config.promote.registered_model)) == 3


def test_the_tracking_server_dies_in_the_middle_and_comes_back(
    tmp_path: Path,
    tiny_student: Path,
    s3_environment: Server,
    postgresql_server: Server,
    s3_server: Server,
) -> None:
    """Killed when the scores are there, started again seconds later: the run waits and finishes, nothing is lost.

    The run is fanned out into shards; the one benchmark leaves the second shard of each evaluation empty.
    """
    server, start = mlflow_command(tmp_path, postgresql_server, s3_server)
    with ExitStack() as stack:
        process = stack.enter_context(start())
        add_user(server.uri)
        path, config = on_servers(tmp_path, tiny_student, server.uri, "outage")
        environment = os.environ | s3_environment.env | {"DCOD_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "dcod", "run", "--config", str(path), "cluster.shards=2"]
        with (tmp_path / "run.log").open("wb") as log:
            run = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT)
        stack.callback(run.kill)

        def said(text: str) -> bool:
            assert run.poll() is None or text in (tmp_path / "run.log").read_text(), (tmp_path / "run.log").read_text()
            return text in (tmp_path / "run.log").read_text()

        await_(lambda: said(" merge score"), 300)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not answers(f"{server.uri}/health")
        time.sleep(8)  # stages find nobody
        assert run.poll() is None
        with start():
            assert run.wait(900) == 0, (tmp_path / "run.log").read_text()
            assert "decision  promote" in (tmp_path / "run.log").read_text()
            tracker = Tracker(config.tracking)
            runs = tracker.client.search_runs([tracker.experiment_id])
            stages = [run for run in runs if "dcod.stage" in run.data.tags]
            finished = Counter(run.data.tags["dcod.stage"] for run in stages if run.info.status == "FINISHED")
            assert finished == {
                "fetch": 2, "examine": 2, "ingest": 1, "score": 2, "train": 1, "evaluate": 4, "merge": 5, "gate": 1,
                "promote": 1,
            }  # fmt: skip
            trained = next(run for run in stages if run.data.tags["dcod.stage"] == "train")
            history = next(tmp_path.glob("runs/pipeline/*/*/train/student/training.jsonl")).read_text().splitlines()
            losses = tracker.client.get_metric_history(trained.info.run_id, "loss")
            assert sorted(point.step for point in losses) == list(range(1, len(history) + 1))
            champion = Registry(tracker).champion(config.promote.registered_model)
            assert champion is not None
            assert champion.version == 2


def await_(true: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
