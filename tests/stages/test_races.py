"""Thirty races of two promoters on sqlite: one champion at the end, alias and tags agree, the loser is told."""

from __future__ import annotations

from pathlib import Path

from dcod.config import Config, PromoteConfig
from tests.racing import races
from tests.tracked import fresh_store


def test_thirty_races_on_sqlite(tmp_path: Path) -> None:
    section = PromoteConfig(registered_model="raced", lease=str(tmp_path / "lease"))
    found = races(Config(promote=section, tracking=fresh_store(tmp_path / "store")), tmp_path, 30)
    assert len(found) == 30
    assert [race for race in found if not race.sound()] == []
