"""Thirty races of two promoters on PostgreSQL: by an MLflow server and a lease in a bucket, and straight."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcod.config import Config, PromoteConfig, TrackingConfig
from tests.racing import races
from tests.services import servers

pytestmark = pytest.mark.service


def test_thirty_races_through_a_server(mlflow_server: servers.Server, bucket: str, tmp_path: Path) -> None:
    section = PromoteConfig(registered_model="raced", lease=f"s3://{bucket}/promotion.lease")
    tracking = TrackingConfig(uri=mlflow_server.uri, experiment="races")
    found = races(Config(promote=section, tracking=tracking), tmp_path, 30)
    assert len(found) == 30
    assert [race for race in found if not race.sound()] == []


def test_thirty_races_straight_on_the_database(postgresql_server: servers.Server, tmp_path: Path) -> None:
    """No server between them and the tables, and a lease in a file."""
    section = PromoteConfig(registered_model="raced-straight", lease=str(tmp_path / "lease"))
    tracking = TrackingConfig(uri=postgresql_server.uri, artifacts=str(tmp_path / "artifacts"), experiment="straight")
    found = races(Config(promote=section, tracking=tracking), tmp_path, 30)
    assert len(found) == 30
    assert [race for race in found if not race.sound()] == []
