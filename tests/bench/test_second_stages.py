"""Every stage by one command, and none twice whose choice is committed."""

from __future__ import annotations

from pathlib import Path

from bench.study.second.__main__ import CHOICES, Stage, in_order

ORDER = ["tune-sft", "screen", "shortlist", "tune", "choose", "confirm", "tables"]


def test_all_is_every_stage_in_order(tmp_path: Path) -> None:
    ran: list[str] = []
    in_order(Stage.ALL, tmp_path, lambda stage: ran.append(stage.value))
    assert ran == ORDER


def test_a_choice_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / CHOICES[Stage.SHORTLIST]).write_text("{}")
    ran: list[str] = []
    in_order(Stage.ALL, tmp_path, lambda stage: ran.append(stage.value))
    assert ran == [stage for stage in ORDER if stage != "shortlist"]
    in_order(Stage.SHORTLIST, tmp_path, lambda stage: ran.append(stage.value))
    assert ran[-1] == "shortlist"
