"""Scheduled retrains against the real servers: killed everywhere, two at once, a registry that answers late."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from dcod import storage
from dcod.config import Config
from dcod.retrain import history
from dcod.tracking.registry import Registry
from dcod.tracking.runs import Tracker
from tests.retrain import month, nights
from tests.services.servers import Server, add_user, mlflow_command

pytestmark = pytest.mark.service

# The order of the pipeline, so that each run gets further than the one before.
POINTS = ("fetch", "ingest", "decide", "score", "train", "evaluate", "gate:registered", "gate", "promote")
POINTS += ("promote:moved",)


def on_servers(folder: Path, student: Path, tracking: str, name: str, *more: str) -> tuple[list[str], Config]:
    """A world whose runs, registry and artifacts are on the servers; its first traces have arrived."""
    from dcod.config import parse_config
    from dcod_pipelines.presets import text_of

    arguments, _ = month.world(folder, student, 0)
    arguments += [
        f"tracking={json.dumps({'uri': tracking, 'experiment': name})}", f"promote.registered_model={name}", *more
    ]  # fmt: skip
    month.arrive(folder / "traces", "red", 60, 0)
    return arguments, parse_config(text_of("retrain"), arguments[3:])


def access(store: Server, tracking: Server) -> dict[str, str]:
    """What a run brings: the forked processes have the environment of the first one, not of this test."""
    return {**store.env, **tracking.env, "DCOD_CACHE": os.environ["DCOD_CACHE"]}


def parents(config: Config) -> list[str]:
    """How the pipeline runs ended."""
    tracker = Tracker(config.tracking)
    runs = tracker.client.search_runs([tracker.experiment_id])
    return sorted(run.info.status for run in runs if "dcod.pipeline" in run.data.tags)


def test_killed_at_every_stage_it_ends_with_one_champion_and_no_orphan(
    tmp_path: Path, tiny_student: Path, s3_environment: Server, mlflow_server: Server
) -> None:
    arguments, config = on_servers(tmp_path, tiny_student, mlflow_server.uri, "killed")
    environment = access(s3_environment, mlflow_server)
    registry = Registry(config.tracking)
    for point in POINTS:
        run = nights.dcod(tmp_path, *arguments, killed_in=point, environment=environment)
        assert run.ended() == -signal.SIGKILL, f"{point}: {run.said}"
        champion = registry.champion("killed")
        moved = point == "promote:moved"
        assert (champion.version if champion else 0) == (0 if point in POINTS[:6] else 1 + moved), point
        versions = registry.versions("killed")
        assert len(versions) == (0 if point in POINTS[:6] else 2), point
        challenger = registry.by_alias("killed", "challenger") if versions else None
        assert (challenger is not None) == (point in POINTS[7:]), point
    last = nights.dcod(tmp_path, *arguments, environment=environment)
    assert last.ended() == 0, last.said
    assert "retrain   too_few" in last.said  # the champion has learned all there is
    assert [version.version for version in registry.versions("killed")] == [1, 2]
    champion, challenger = registry.champion("killed"), registry.by_alias("killed", "challenger")
    assert champion is not None
    assert challenger is not None
    assert (champion.version, challenger.version) == (2, 2)
    assert champion.tags["dcod.previous_champion"] == "1"
    assert parents(config) == ["FAILED"] * len(POINTS) + ["FINISHED"]
    told = [past.outcome for past in history.decisions(Tracker(config.tracking), "killed")]
    assert told[:3] == ["skip", "waiting", "waiting"]


def test_two_at_once_make_one_champion(
    tmp_path: Path, tiny_student: Path, s3_environment: Server, mlflow_server: Server
) -> None:
    import boto3

    boto3.client("s3").create_bucket(Bucket="two")
    arguments, config = on_servers(tmp_path, tiny_student, mlflow_server.uri, "two", "promote.lease=s3://two/lease")
    environment = access(s3_environment, mlflow_server)
    runs = [nights.dcod(tmp_path, *arguments, environment=environment) for _ in range(2)]
    for run in runs:
        assert run.ended() == 0, run.said
    said = [code for run in runs for code in ("go", "waiting", "too_few") if f"retrain   {code}" in run.said]
    assert len(said) == 2, said
    assert "go" in said  # the other may have come when all was done
    registry = Registry(config.tracking)
    assert [version.version for version in registry.versions("two")] == [1, 2]
    champion = registry.champion("two")
    assert champion is not None
    assert (champion.version, champion.tags["dcod.outcome"]) == (2, "promoted")
    assert parents(config) == ["FINISHED", "FINISHED"]
    assert json.loads(registry.note("two", "dcod.tests")).values()  # one comparison, one test of the budget
    assert len(json.loads(registry.note("two", "dcod.tests"))) == 1
    assert storage.list_objects("s3://two/lease") == []


def test_a_registry_that_answers_late(
    tmp_path: Path, tiny_student: Path, s3_environment: Server, postgresql_server: Server, s3_server: Server
) -> None:
    """Every few seconds the server stands still for as long: the run takes longer, and ends as it would have."""
    server, start = mlflow_command(tmp_path, postgresql_server, s3_server)
    with ExitStack() as stack:
        process = stack.enter_context(start())
        add_user(server.uri)
        arguments, config = on_servers(tmp_path, tiny_student, server.uri, "late")
        over = threading.Event()

        def stutter() -> None:
            while not over.wait(4.0):
                os.killpg(process.pid, signal.SIGSTOP)
                time.sleep(4.0)
                os.killpg(process.pid, signal.SIGCONT)

        thread = threading.Thread(target=stutter)
        thread.start()
        try:
            run = nights.dcod(tmp_path, *arguments, environment=access(s3_environment, server))
            assert run.ended() == 0, run.said
        finally:
            over.set()
            thread.join()
        champion = Registry(config.tracking).champion("late")
        assert champion is not None
        assert champion.version == 2
        assert parents(config) == ["FINISHED"]
