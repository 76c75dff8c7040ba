"""What a pilot costs, its answers counted, and what is said of that before it is run."""

from __future__ import annotations

from typing import Any

import pytest

from dcod.config import Config
from dcod.objective import price
from dcod.objective.price import Cost, Speed

ARMS: list[dict[str, Any]] = [{"name": name, "focus": 0.1 * n} for n, name in enumerate("abcde", 1)]
TOKENS, TRACES = 1_000_000, 10_000
ASKED = {"selection": 400, "pilot": 300}


def configured(arms: int = 2, twin: bool = False, **settings: Any) -> Config:
    train = {"arms": ARMS[:arms], "epochs": 3, "traces_per_step": 8, "twin": twin, "pilot": settings}
    return Config.model_validate({"ingest": {"pilot_share": 0.1}, "train": train})


def test_a_pilot_with_its_answers_costs_a_fifth_of_the_run() -> None:
    for config, full in ((configured(), 1), (configured(twin=True), 2)):
        cost = price.cost_of(config, TOKENS, TRACES, 20_000.0)
        assert cost.of_run == pytest.approx(0.2)
        assert cost.full == full * 3_000_000
        assert cost.whole == 6 * (cost.learnt + 20_000.0)
        assert cost.share < price.cost_of(config, TOKENS, TRACES, 0.0).share  # answers leave less for training
        assert "train.pilot.problems" not in cost.said(config, ASKED)
    assert price.cost_of(configured(share=0.8), TOKENS, TRACES, 20_000.0).share == 0.8


def test_where_a_fifth_cannot_be_kept_the_share_stays_above_the_least_and_it_is_said() -> None:
    """Answers that cost more than a pilot may: their way out is to ask fewer."""
    config = configured()
    cost = price.cost_of(config, TOKENS, TRACES, 400_000.0)
    assert cost.share == price.LEAST
    assert cost.of_run == pytest.approx(6 * 460_000 / (6 * 460_000 + 3_000_000))
    said = cost.said(config, ASKED)
    assert "6 students at most, each learns 60,000 tokens (3 epochs of 2.0% of the prompts), and 400 selection" in said
    assert "problems answered 7 times and 300 pilot problems answered 2 times cost as much as 400,000" in said
    assert "2,760,000 in all, 48% of the run, more than the 20% that train.pilot.share=auto aims at; lower" in said
    assert price.cost_of(config, 100_000, 1000, 400_000.0).share == pytest.approx(20 * 8 / 3000)  # twenty steps


def test_arms_that_are_not_tried_train_no_student() -> None:
    assert price.students_of(configured(2)) == (6, 0)
    assert price.students_of(configured(2), ["a"]) == (4, 0)
    assert price.students_of(configured(5)) == (6 + 4, 0)  # of five two are dropped after the first seed
    assert price.students_of(configured(5), ["a", "b"]) == (8, 0)  # three are too few to be halved


def test_plain_students_that_an_arm_needs_first_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    crossed = {"name": "crossed", "correction": {"name": "naturalness", "weights": "cross"}}
    asked = {"name": "asked", "correction": {"name": "success"}}
    monkeypatch.setattr(f"{__name__}.ARMS", [crossed, asked, *ARMS])
    config = configured(2)
    assert price.students_of(config) == (6, 4)
    assert price.students_of(config, ["asked"]) == (4, 2)
    assert price.students_of(configured(4), ["a"]) == (8, 4)
    assert price.students_of(configured(4, halve=2)) == (5 + 3, 2 + 2)  # either may be of the better half
    cost = price.cost_of(config, TOKENS, TRACES, 20_000.0)
    assert cost.of_run == pytest.approx(0.2)  # so each trains on less
    assert cost.whole == pytest.approx(6 * (cost.learnt + 20_000.0) + 4 * cost.learnt)
    assert "6 students at most (and 4 plain ones that these need first), each learns" in cost.said(config, ASKED)


def test_the_time_is_said_where_the_speed_is_known() -> None:
    """A token learnt takes three passes: 2,760,000 and 3,000,000 of them at 3,000 read a second."""
    config, speed = configured(), Speed(30_000, 10.0, "2 threads")
    cost = price.cost_of(config, TOKENS, TRACES, 400_000.0)
    assert speed.learnt == pytest.approx(0.001)
    assert cost.said(config, ASKED, speed).endswith(
        "; about 46 minutes, about 96 minutes with the trainings at full size, one student after another, as scoring "
        "read 3,000 tokens a second on 2 threads; the first steps tell it anew"
    )
    assert "minutes" not in cost.said(config, ASKED)
    assert cost.said(config, ASKED).endswith("; how long that takes, the first steps tell")


def test_no_time_is_said_on_a_gpu_where_writing_was_not_measured() -> None:
    cost = price.cost_of(configured(), TOKENS, TRACES, 400_000.0)
    said = cost.said(configured(), ASKED, Speed(30_000, 10.0, "NVIDIA H200"))
    assert "minute" not in said
    assert said.endswith("; no time is said for NVIDIA H200, since what writing costs was measured on a CPU")
    assert [price.on_cpu(device) for device in ("1 thread", "16 threads", "Tesla T4")] == [True, True, False]


def test_durations() -> None:
    told = {0.0: "1 minute", 89.0: "1 minute", 91.0: "2 minutes", 7_000.0: "117 minutes", 7_200.0: "2 hours"}
    assert {seconds: price.duration(seconds) for seconds in told} == {k: f"about {v}" for k, v in told.items()}
    assert price.duration(3_600_000.0) == "about 1,000 hours"
    said = Cost(0.1, 2, 60.0, 60.0, 720.0).time(1.0)
    assert said == "about 4 minutes, about 16 minutes with the trainings at full size"


def test_answers_cost_what_is_written_and_a_third_of_what_is_read() -> None:
    pairs = [(30, 10), (60, 20)]
    for settings, expected in (
        ({}, (7 + 2) * (30 + 30)),  # selection problems at all temperatures, pilot problems at one
        ({"max_new_tokens": 15}, (7 + 2) * (30 + 25)),
        ({"temperatures": [0.6]}, (2 + 2) * 60),
        ({"temperatures": [0.0]}, (1 + 1) * 60),
        ({"compare": "nll"}, 2 * 120 / 3),
    ):
        cost = sum(price.answered(configured(**settings).train.pilot, split, pairs) for split in ("selection", "pilot"))
        assert cost == pytest.approx(expected)
