"""What is known of a pilot's cost: of what it asks, by the speed of the scoring, and once its first steps are taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dcod.config import Config
from dcod.models import loading
from dcod.objective.price import Cost, Speed
from dcod.stages import asked, manifests, pilot
from dcod.stages.asked import Problem
from dcod.stages.pilot import _Pace


def configured(**settings: Any) -> Config:
    return Config.model_validate({"ingest": {"pilot_share": 0.1}, "train": {"arms": "auto", "pilot": settings}})


class Tokenizer:
    """A token a letter."""


def test_what_is_asked_costs_what_is_written_and_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked.prompts, "encode_completion", lambda _, text: list(range(len(text))))
    problems = [
        Problem("pilot", "a", [1] * 30, "1", "x" * 10, ([1] * 12,)),
        Problem("pilot", "b", [1] * 60, "1", "x" * 20),
    ]
    tokenizer: Any = Tokenizer()
    assert asked.cost(configured(), tokenizer, problems) == pytest.approx(2 * (30 + 30))
    selection = [problem._replace(split="selection") for problem in problems]
    assert asked.cost(configured(), tokenizer, selection) == pytest.approx(7 * (30 + 30))
    assert asked.cost(configured(), tokenizer, [*selection, *problems]) == pytest.approx(9 * (30 + 30))
    assert asked.cost(configured(max_new_tokens=15), tokenizer, problems) == pytest.approx(2 * (30 + 25))
    assert asked.cost(configured(compare="nll"), tokenizer, problems) == pytest.approx(42 / 3)


def test_the_speed_of_the_scoring_counts_where_training_computes_alike(tmp_path: Path) -> None:
    """On another device, or in another number format, nothing is known; nor of scores that do not tell."""
    speed, here = {"tokens": 3000, "seconds": 2.0}, {"device": loading.device_name()}

    def told(speed: dict[str, Any] | None, **settings: Any) -> Speed | None:
        facts = {"student": {"head": "fused", **({"speed": speed} if speed else {})}}
        manifests.note(tmp_path, **facts)
        manifests.write(tmp_path, {}, {})
        return pilot._speed(Config.model_validate(settings), tmp_path)

    assert pilot._speed(Config(), tmp_path) is None  # no manifest
    assert told({**speed, **here}) == Speed(3000, 2.0, loading.device_name())
    assert told({**speed, "device": "a GPU that is not here"}) is None
    assert told(None) is None
    low = {"train": {"precision": "bfloat16"}}
    assert told({**speed, **here}, **low) is None
    assert told({**speed, **here}, **low, student={"dtype": "bfloat16"}) is not None


def test_the_time_is_said_anew_after_three_steps_with_the_answers(capsys: pytest.CaptureFixture[str]) -> None:
    cost = Cost(0.1, students=6, learnt=100.0, answered=300.0, full=1.0, before=2)
    pace = _Pace(1000, cost)
    assert pace.trainings == 26.0  # six students, each of which answers for as much as three trainings; two before them
    for number in range(1, 6):
        pace.step({"tokens": 100.0}, number)
    said = capsys.readouterr().out
    assert said.count("[dcod] pilot: at this speed 0.0 minutes of training and answering, one student after") == 1
    assert pace.seen == 200.0
    _Pace(0, cost).step({"tokens": 1.0}, 1)
    assert not capsys.readouterr().out
