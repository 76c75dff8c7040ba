"""What a pilot costs, its answers counted, and what is said of that before it is run."""

from __future__ import annotations

from typing import Any

import pytest

from dcod.config import Config
from dcod.stages import asked, pilot, piloting
from dcod.stages.asked import Problem
from dcod.stages.pilot import _Pace

ARMS = [{"name": name, "focus": 0.1 * n} for n, name in enumerate("abcde", 1)]


SIZES = [100] * 10_000  # a million tokens


def configured(arms: int = 2, twin: bool = False, **settings: Any) -> Config:
    train = {"arms": ARMS[:arms], "epochs": 3, "traces_per_step": 8, "twin": twin, "pilot": settings}
    return Config.model_validate({"ingest": {"pilot_share": 0.1}, "train": train})


def test_a_pilot_with_its_answers_costs_a_fifth_of_the_run() -> None:
    for config, full in ((configured(), 1), (configured(twin=True), 2)):
        cost = piloting.cost_of(config, SIZES, 20_000.0)
        assert cost.of_run == pytest.approx(0.2)
        assert cost.full == full * 3_000_000
        assert cost.whole == 6 * (cost.learnt + 20_000.0)
        assert cost.share < piloting.cost_of(config, SIZES, 0.0).share  # answers leave less for training
        assert "train.pilot.problems" not in cost.said(config, 800)
    assert piloting.cost_of(configured(share=0.8), SIZES, 20_000.0).share == 0.8


def test_where_a_fifth_cannot_be_kept_the_share_stays_above_the_least_and_it_is_said() -> None:
    """Answers that cost more than a pilot may: their way out is to ask fewer."""
    config = configured()
    cost = piloting.cost_of(config, SIZES, 400_000.0)
    assert cost.share == piloting.LEAST
    assert cost.of_run == pytest.approx(6 * 460_000 / (6 * 460_000 + 3_000_000))
    said = cost.said(config, 800)
    assert "6 students at most, each learns 60,000 tokens (3 epochs of 2.0% of the prompts), and 800 problems" in said
    assert "answered 7 times cost as much as 400,000" in said
    assert "2,760,000 in all, 48% of the run, more than the 20% that train.pilot.share=auto aims at; lower" in said
    assert piloting.cost_of(config, [100] * 1000, 400_000.0).share == pytest.approx(20 * 8 / 3000)  # twenty steps


def test_arms_that_are_not_tried_train_no_student() -> None:
    assert piloting.students_of(configured(2)) == 6
    assert piloting.students_of(configured(2), ["a"]) == 4
    assert piloting.students_of(configured(5)) == 6 + 4  # of five two are dropped after the first seed
    assert piloting.students_of(configured(5), ["a", "b"]) == 8  # three are too few to be halved


class Tokenizer:
    """A token a letter."""


def test_answers_cost_what_is_written_and_a_third_of_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked.prompts, "encode_completion", lambda _, text: list(range(len(text))))
    problems = [
        Problem("pilot", "a", [1] * 30, "1", "x" * 10, ([1] * 12,)),
        Problem("pilot", "b", [1] * 60, "1", "x" * 20),
    ]
    tokenizer: Any = Tokenizer()
    assert asked.cost(configured(), tokenizer, problems) == pytest.approx(7 * (30 + 30))
    assert asked.cost(configured(max_new_tokens=15), tokenizer, problems) == pytest.approx(7 * (30 + 25))
    assert asked.cost(configured(temperatures=[0.6]), tokenizer, problems) == pytest.approx(2 * 60)
    assert asked.cost(configured(compare="nll"), tokenizer, problems) == pytest.approx(42 / 3)


def test_the_time_is_said_anew_after_three_steps_with_the_answers(capsys: pytest.CaptureFixture[str]) -> None:
    cost = piloting.Cost(0.1, students=6, learnt=100.0, answered=300.0, full=1.0)
    pace = _Pace(1000, cost)
    assert pace.trainings == 24.0  # six students, each of which answers for as much as three trainings
    for number in range(1, 6):
        pace.step({"tokens": 100.0}, number)
    said = capsys.readouterr().out
    assert said.count("[dcod] pilot: at this speed 0.0 minutes of training and answering, one student after") == 1
    assert pace.seen == 200.0
    pilot._Pace(0, cost).step({"tokens": 1.0}, 1)
    assert not capsys.readouterr().out
