"""Tracking and registry on a real MLflow server with PostgreSQL and S3 behind it."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from dcod.config import Config, TrackingConfig
from dcod.errors import UserError
from dcod.tracking import cards, machine, retention
from dcod.tracking.registry import Registry
from dcod.tracking.runs import Tracker
from tests.services import servers

pytestmark = pytest.mark.service


def test_a_stage_and_its_output_come_back_through_the_server(
    mlflow_server: servers.Server, s3_server: servers.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in s3_server.env:
        monkeypatch.delenv(name, raising=False)  # a client needs no keys of the store
    tracker = Tracker(TrackingConfig(uri=mlflow_server.uri, experiment="services"))
    output = tmp_path / "output"
    (output / "deep").mkdir(parents=True)
    (output / "deep" / "rows.txt").write_text("1\n2\n", encoding="utf-8")
    parent = tracker.parent("p1", "services", Config())
    with tracker.stage("score", parent, digest="d1") as log:
        log.metrics({"ess": 0.5}, step=3)
        log.output(output)
    found = tracker.outputs.find("score", "d1")
    assert found
    tracker.outputs.fetch(found, tmp_path / "again")
    assert (tmp_path / "again" / "deep" / "rows.txt").read_text(encoding="utf-8") == "1\n2\n"
    assert tracker.client.get_metric_history(found, "ess")[0].step == 3
    stored = servers.client(s3_server).list_objects_v2(Bucket="mlflow", Prefix="artifacts/")["Contents"]
    assert any(item["Key"].endswith("deep/rows.txt") for item in stored)


def test_what_nothing_needs_is_deleted_through_the_server(
    mlflow_server: servers.Server, s3_server: servers.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in s3_server.env:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)  # the defaults are places below
    tracker = Tracker(TrackingConfig(uri=mlflow_server.uri, experiment="retention"))
    output = tmp_path / "output"
    output.mkdir()
    (output / "rows.txt").write_text("1\n", encoding="utf-8")
    with tracker.stage("ingest", None, digest="old") as log:
        log.output(output)
        log.text("note.txt", "stays")
    store = servers.client(s3_server)

    def kept() -> list[str]:
        found = store.list_objects_v2(Bucket="mlflow", Prefix="artifacts/").get("Contents", [])
        return sorted(item["Key"].rpartition("artifacts/")[2] for item in found if f"/{log.run_id}/" in item["Key"])

    assert kept() == ["note.txt", "output/rows.txt"]
    (item,) = retention.removable(tracker, Config(), 30, time.time() + 40 * retention.DAY_S)
    assert item.name == f"ingest {log.run_id[:8]}"
    item.remove()
    assert kept() == ["note.txt"]
    assert tracker.outputs.find("ingest", "old") is None
    assert retention.removable(tracker, Config(), 30, time.time() + 40 * retention.DAY_S) == []


def test_a_card_longer_than_a_description_may_be_is_kept_whole(
    mlflow_server: servers.Server, s3_server: servers.Server, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in s3_server.env:
        monkeypatch.delenv(name, raising=False)
    registry = Registry(TrackingConfig(uri=mlflow_server.uri, experiment="cards"))
    with registry.tracker.stage("gate", None, digest="d") as log:
        version = registry.register("cards", tiny_student, log.run_id)
    assert registry.card(version.uri) == ""
    sections = [f"## Part {number}\n\n{'wörter 言葉 ' * 50}" for number in range(12)]
    card = "---\nlicense: unknown\n---\n\n" + "\n\n".join(["# A card", *sections]) + "\n"
    registry.describe(version, card)
    assert registry.card(version.uri) == card
    described = registry.tracker.client.get_model_version("cards", str(version.version)).description
    assert described == cards.description(card)
    assert 4000 < len(described) <= cards.DESCRIPTION
    assert described.endswith("The whole card is README.md beside the weights.")
    full = "x" * cards.DESCRIPTION  # all that the database's column takes
    registry.describe(version, f"---\n---\n{full}")
    assert registry.tracker.client.get_model_version("cards", str(version.version)).description == full
    assert registry.card("models:/cards/1") == f"---\n---\n{full}"


@pytest.mark.parametrize("password", ["", "wrong"])
def test_without_the_password_it_says_what_to_set(
    mlflow_server: servers.Server, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    if not password:
        monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
        monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    with pytest.raises(UserError, match="MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD") as caught:
        Tracker(TrackingConfig(uri=mlflow_server.uri, experiment="services"))
    assert servers.PASSWORD not in str(caught.value)


def test_another_host_is_refused(mlflow_server: servers.Server) -> None:
    request = urllib.request.Request(f"{mlflow_server.uri}/api/2.0/mlflow/experiments/search", headers={"Host": "evil"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request, timeout=30)


def test_the_database_is_the_one_that_was_given(
    mlflow_server: servers.Server, postgresql_server: servers.Server
) -> None:
    from sqlalchemy import create_engine, text

    with create_engine(postgresql_server.uri).connect() as connection:
        assert connection.execute(text("select count(*) from experiments")).scalar_one() >= 1


def test_the_machine_is_watched_during_a_training(mlflow_server: servers.Server) -> None:
    tracker = Tracker(TrackingConfig(uri=mlflow_server.uri, experiment="services"))
    with tracker.stage("train", None, digest="watched") as log:
        with machine.watched(log, every_s=0.2):
            deadline = time.monotonic() + 30
            while not (seen := tracker.client.get_run(log.run_id).data.metrics) and time.monotonic() < deadline:
                time.sleep(0.2)
        assert 0 < seen["system/system_memory_usage_percentage"] < 100
    assert tracker.client.get_run(log.run_id).info.status == "FINISHED"
