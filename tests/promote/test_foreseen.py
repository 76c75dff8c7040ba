"""What a pilot can tell is said before it runs, with the way out only where it is needed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dcod.config import Config
from dcod.config.arms import PilotConfig
from dcod.evaluate import statistics
from dcod.objective.feasibility import Holdings
from dcod.promote import foreseen

ALONE = Holdings(traces=900, prompts=900, alone=900, golds=900, selection=100, pilot=100)
NEAR = [{"name": "near", "correction": {"name": "naturalness"}}]


def config(arms: Any = "auto", pilot: Any = None, **train: Any) -> Config:
    section = {"arms": arms, "pilot": pilot or {}, **train}
    return Config.model_validate({"ingest": {"pilot_share": 0.1}, "train": section})


def test_what_it_can_tell() -> None:
    one = PilotConfig(samples=1)
    few, many = (foreseen.outlook(one, count, 2) for count in (40, 400))
    assert few.startswith(
        "2 arms against plain fine-tuning on 40 problems, 2 seeds, 1 answers each: a difference of 23"
    )
    assert "difference of 9 points" in many
    assert [text.count("more than a correction brought anywhere") for text in (few, many)] == [1, 0]
    assert "difference of 8 points" in foreseen.outlook(PilotConfig(samples=4), 400, 2)
    assert "(the aim is 95%), and plain fine-tuning is kept with 95% or more where nothing helps" in many


def test_the_way_to_more_is_told_where_the_aim_is_not_reached() -> None:
    way = "more answers a problem (train.pilot.samples)"
    for seeds, reached in ((2, False), (3, True)):
        pilot = PilotConfig(seeds=seeds)
        assert (foreseen.found(pilot, 400, 3) >= 0.95) == reached
        assert (way in foreseen.outlook(pilot, 400, 3)) == (not reached)


def test_the_fewest_problems_that_suffice() -> None:
    pilot = PilotConfig()
    enough = foreseen.enough(pilot, 3)
    assert foreseen.found(pilot, enough, 3) >= statistics.POWER > foreseen.found(pilot, enough - 1, 3)
    assert foreseen.enough(PilotConfig(problems=enough - 1), 3) == 0


@pytest.mark.parametrize(
    ("given", "holdings", "problems", "expected"),
    [
        (config(), ALONE, 100, [("note", "arms", "gce, support_text"), ("warning", "pilot", "on 100 problems")]),
        (config(), ALONE, 900, [("note", "arms", ""), ("note", "pilot", "2 arms against plain fine-tuning on 400")]),
        (config(), ALONE, 99, [("warning", "arms", "99 selection and 99 pilot problems at most, 100 of either kind")]),
        (config(), replace(ALONE, golds=0), 0, [("impossible", "arms", "compare=nll")]),
        (config(NEAR), ALONE, 400, [("note", "arms", ""), ("idle", "arms", "train.allow_idle=true")]),
        (
            config(NEAR, allow_idle=True),
            ALONE,
            400,
            [("note", "arms", "sft, near"), ("note", "pilot", "1 arm against")],
        ),
        (Config(), ALONE, 400, []),
    ],
)
def test_a_run_is_told_of_its_pilot(given: Config, holdings: Holdings, problems: int, expected: Any) -> None:
    found = list(foreseen.remarks(given, holdings, {"selection": problems, "pilot": problems}))
    assert [(one.level, one.code) for one in found] == [(level, code) for level, code, _ in expected]
    assert all(text in str(one) for one, (_, _, text) in zip(found, expected, strict=True))


def test_a_pilot_by_likelihood_needs_no_reference() -> None:
    given, held = config(pilot={"compare": "nll"}), replace(ALONE, golds=0)
    assert {one.level for one in foreseen.remarks(given, held, {"selection": 400, "pilot": 400})} == {"note"}
