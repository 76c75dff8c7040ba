"""Which arm a scheduled run trains: what the last pilot chose, while that is young and the traces are as they were."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dcod.config import Config, TrainConfig
from dcod.config.arms import ArmConfig
from dcod.retrain import arms, history
from dcod.retrain.arms import DAY, Kept
from dcod.stages import piloting
from dcod.tracking.runs import Tracker
from tests.retrain import month, nights
from tests.retrain.test_month import new_world
from tests.tracked import fresh_store

TRUST: dict[str, Any] = {"name": "trust", "loss": {"name": "gce", "power": 0.25}}
TRAIN = TrainConfig.model_validate({"arms": [TRUST]})
KEPT = Kept(ArmConfig.model_validate(TRUST), at=100 * DAY, alone=1.0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"now": 129.9 * DAY}, ""),
        ({"now": 130.0 * DAY}, r"the last pilot was 30 days ago \(retrain\.pilot_every=30\)"),
        ({"kept": None}, "no pilot chose an arm yet"),
        ({"kept": replace(KEPT, arm=ArmConfig(name="sft"))}, ""),  # plain fine-tuning was chosen
        ({"kept": replace(KEPT, arm=ArmConfig(name="gone", focus=1.0))}, r"gone, .* is not in train\.arms any more.*"),
        ({"kept": replace(KEPT, arm=ArmConfig(name="trust", focus=1.0))}, r"trust, .* or is set otherwise"),
        ({"moved": ["another style", "longer"]}, "the traces have moved: another style"),
        ({"alone": 0.4}, "40% of the traces are alone with their prompt now, 100% were at the last pilot"),
        ({"alone": 0.6}, ""),
    ],
)
def test_when_the_arms_are_compared_anew(changes: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"kept": KEPT, "moved": [], "alone": 1.0, "days": 30.0, "now": 101 * DAY}
    why = arms.anew(train=TRAIN, **(given | changes))
    assert re.fullmatch(said, why), why


def test_what_is_kept_survives_its_file(tmp_path: Path) -> None:
    (tmp_path / "arm.json").write_text(json.dumps(replace(KEPT, why="young").to_dict()))
    assert arms.read(tmp_path / "arm.json") == replace(KEPT, why="young")
    assert arms.read(tmp_path / "none.json") is None
    fast = replace(KEPT, sft=ArmConfig(name="sft-5e-05", learning_rate=5e-5))  # twins of later nights train so
    (tmp_path / "arm.json").write_text(json.dumps(fast.to_dict()))
    assert arms.read(tmp_path / "arm.json") == fast
    (tmp_path / "arm.json").write_text(json.dumps({"arm": fast.sft.model_dump(), "at": 1.0, "alone": 1.0}))
    before = arms.read(tmp_path / "arm.json")  # of a dcod that did not note it
    assert before is not None
    assert before.sft == before.arm == fast.sft


def test_the_pilots_of_a_period_share_its_level() -> None:
    """The first spends half, and however many follow, all together spend no more than the level."""
    assert arms.spent(0.05, 0) == 0.025
    assert sum(arms.spent(0.05, before) for before in range(10_000)) == pytest.approx(0.05, rel=1e-3)
    told = [piloting.level_of(TRAIN.pilot, before).level for before in (-1, 0, 3)]
    assert told == [0.05, 0.025, 0.05 / 20]


def test_the_pilots_of_a_period_are_counted(tmp_path: Path) -> None:
    """Those that came to their end, since then; a night that took an arm over is none. The newest comes first."""
    tracker = Tracker(fresh_store(tmp_path))

    def night(at: float, made: bool, failed: bool = False, outcome: str = "go") -> None:
        parent = tracker.parent(f"run-{at}", "nightly", Config(), {})
        with tracker.stage("decide", parent, digest=f"{at}", label="") as log:
            log.text(history.RECORD, json.dumps({"at": at, "pilot": made}))
            log.tag(history.MODEL, "student")
            log.tag(history.OUTCOME, outcome)
        tracker.finish(f"run-{at}", failed="it was killed" if failed else "")

    for at, made, failed in ((1.0, True, False), (5.0, True, False), (6.0, False, False), (7.0, True, True)):
        night(at, made, failed)
    night(8.0, True)
    night(9.0, False, outcome="skip")
    assert history.pilots(tracker, "student", 4.0) == 2
    assert history.pilots(tracker, "student", 0.0) == 3
    assert history.pilots(tracker, "other", 0.0) == 0
    assert [told["at"] for told in history.piloted(tracker, "student")] == [8.0, 5.0, 1.0]


@pytest.mark.slow
def test_a_schedule_takes_the_champions_arm_over_until_it_is_old(tmp_path: Path) -> None:
    """A pilot the first night; none the second, whose student is the same arm's; one again after pilot_every days.

    The second night also trains plain fine-tuning beside its student.
    """
    world = new_world(tmp_path, 0)
    cheap = {"min_problems": 5, "share": 0.5, "seeds": 1, "temperatures": [0.0], "problems": 10}
    world.arguments += [
        f"train.arms={json.dumps([TRUST])}",
        f"train.pilot={json.dumps(cheap)}",
        "ingest.pilot_share=0.2",
        "train.correction.name=none",
        "retrain.limits.surprisal=10",  # or other colours are traces that have moved
    ]

    def night(arrives: str, date: str, *more: str) -> tuple[str, dict[str, Any]]:
        month.arrive(world.folder / "traces", arrives, 60, world.seed)
        environment = world.environment | {nights.NOW: f"{date}T02:30+00:00"}
        run = nights.dcod(world.folder, *world.arguments, *more, environment=environment)
        assert run.ended() == 0, run.said
        return run.said, history.latest(Tracker(world.config.tracking), "dcod-student")

    def tried() -> int:
        tracker = Tracker(world.config.tracking)
        runs = tracker.client.search_runs([tracker.experiment_id], max_results=1000)
        pilots = [run for run in runs if run.data.tags.get("dcod.stage") == "pilot"]
        return sum(run.data.metrics.get("tried") == 1.0 for run in pilots)

    said, record = night("red", "2026-11-01")
    assert record["reasons"][-1]["text"] == "the arms are compared anew: no pilot chose an arm yet"
    assert (record["pilot"], len(record["new"])) == (True, 1)
    assert tried() == 2
    kept = history.chosen(world.registry, "dcod-student")
    assert kept is not None
    assert kept.alone == 1.0
    said, record = night("blue", "2026-11-15", "train.twin=true")
    answer = json.loads((world.folder / "runs" / "latest" / "answer.json").read_text())
    assert answer["size"] == ("" if kept.arm.is_sft else "full")
    assert "train sft" in said
    assert record["reasons"][-1]["text"].startswith(f"{kept.arm.name}, which the pilot of ")
    assert record["reasons"][-1]["text"] in said
    assert (record["pilot"], tried()) == (False, 2)
    assert world.champion == 3
    again = history.chosen(world.registry, "dcod-student")
    assert again == kept  # and its age is that of the pilot
    _, record = night("green", "2027-02-01")
    assert "days ago (retrain.pilot_every=30)" in record["reasons"][-1]["text"]
    assert tried() == 4
