"""Chances of success, asked for: of a plain student, on held-back problems; kept, and the same whatever was killed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dcod import grading
from dcod.config import TrainConfig
from dcod.errors import UserError
from dcod.grading import Grade
from dcod.models import loading
from dcod.score import asking, frozen
from dcod.score.preparing import Preparation, beside
from dcod.score.scores import StoredTraces, read_scores
from dcod.score.success import Success
from dcod.traces.prompts import load_tokenizer
from dcod.traces.scored import ScoredTrace
from dcod.train import loop
from dcod.train.checkpoints import Checkpoints
from tests.score.test_crossfit import stored
from tests.train.test_checkpoints import make_examples

CONFIG = TrainConfig.model_validate(
    {"learning_rate": 1e-2, "epochs": 2, "traces_per_step": 4, "correction": {"name": "success", "ess_floor": 0.5}}
)


@pytest.fixture(scope="module")
def examples(tiny_student: Path) -> list[ScoredTrace]:
    """Two traces of each of fourteen prompts."""
    return [replace(trace, gold=trace.trace_id) for trace in make_examples(tiny_student)]


@pytest.fixture
def held(examples: list[ScoredTrace], tmp_path: Path) -> StoredTraces:
    """Sixteen other problems with a reference, and one without."""
    rows = [replace(each, prompt_id=f"held {n}", gold="7") for n, each in enumerate(examples[:17])]
    rows[3] = replace(rows[3], gold=None)
    return stored(tmp_path / "held", rows)


@pytest.fixture(autouse=True)
def graded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer of an odd length is right."""
    grade = lambda answers, **_: [Grade("correct" if len(text) % 2 else "wrong") for text, _, _ in answers]  # noqa: E731
    monkeypatch.setattr(grading, "grade_many", grade)


def asked(student: Path, traces: StoredTraces, held: StoredTraces, kept: Checkpoints | None = None) -> Any:
    by = Preparation(CONFIG, 3, lambda: loading.load(student), load_tokenizer(student), kept)
    return asking.asked(traces, held, by)


def test_chances_are_those_of_a_plain_students_answers(
    tiny_student: Path, examples: list[ScoredTrace], held: StoredTraces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the second time nothing is trained, since the answers are kept."""
    monkeypatch.setattr(asking, "_EVERY", 5)
    seen: list[TrainConfig] = []
    true = loop.train
    monkeypatch.setattr(loop, "train", lambda *args: (seen.append(args[3]), true(*args))[1])
    traces, kept = stored(tmp_path / "set", examples), Checkpoints(str(tmp_path / "kept"), 2)
    found = asked(tiny_student, traces, held, kept)
    assert [(one.correction.name, one.loss.name, one.learning_rate) for one in seen] == [("none", "log", 1e-2)]
    place = beside(CONFIG, kept)
    assert place
    with place.parts.file(0) as path:
        own = read_scores(path.parent)["train"]
    assert len(own) == 16 * asking.ATTEMPTS
    assert "held 3" not in {each.prompt_id for each in own}
    assert len({tuple(each.completion_tokens) for each in own}) > 16, "an answer is drawn anew each time"
    decode = load_tokenizer(tiny_student).decode
    said = [decode(each.completion_tokens, skip_special_tokens=True) for each in own]
    known = Success(said, [each.success == 1.0 for each in own], [each.prompt_id for each in own])
    assert known.contrasts
    assert 0.0 < known.mean < 1.0
    rows = found.take(range(len(found)))
    wanted = known.chances([decode(each.completion_tokens, skip_special_tokens=True) for each in examples])
    assert [each.success for each in rows] == pytest.approx(wanted)
    assert [replace(each, success=None) for each in rows] == traces.take(range(len(traces)))
    assert asked(tiny_student, traces, held, kept).take(range(len(found))) == rows
    assert len(seen) == 1
    place.clear()
    assert asked(tiny_student, traces, held).take(range(len(found))) == rows
    weights = loop.first_weights(found, CONFIG, 3)
    assert {values[0] for values in weights.values()} != {1.0}
    assert {value for values in loop.first_weights(examples, CONFIG, 3).values() for value in values} == {1.0}


def test_it_is_prepared_where_it_is_wanted_and_forgotten(
    tiny_student: Path, examples: list[ScoredTrace], held: StoredTraces, tmp_path: Path
) -> None:
    traces, place = stored(tmp_path / "set", examples), Checkpoints(str(tmp_path / "place"), 2)
    given = 3, lambda: loading.load(tiny_student), load_tokenizer(tiny_student), place
    assert frozen.fitted(traces, held, Preparation(TrainConfig(), *given)) is traces
    made = frozen.fitted(traces, held, Preparation(CONFIG, *given))
    assert made.missing(["success"]) == 0
    assert list(tmp_path.glob("place-asked*"))
    frozen.forget(CONFIG, place)
    assert not [file for left in tmp_path.glob("place*") for file in left.rglob("*") if file.is_file()]


def test_what_it_cannot_do_is_said(examples: list[ScoredTrace], held: StoredTraces, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="its weights stay: set train"):
        TrainConfig.model_validate({"correction": {"name": "success", "weights": "live"}})
    with pytest.raises(ValidationError, match="weights=cross does not change"):
        TrainConfig.model_validate({"correction": {"name": "success", "weights": "cross"}})
    loop.check(CONFIG, examples)
    with pytest.raises(UserError, match="the traces lack their chances"):
        loop.train(None, examples, [], CONFIG, 3, lambda _: None, lambda *_: None)  # type: ignore[arg-type]
    few = stored(tmp_path / "few", held.take(range(12)))
    by = Preparation(CONFIG, 3, lambda: None, None, None)  # type: ignore
    with pytest.raises(UserError, match=r"11 of them have a reference answer; 16 are the fewest"):
        asking.asked(stored(tmp_path / "set", examples), few, by)


def test_answers_that_tell_nothing_are_an_error(
    tiny_student: Path, examples: list[ScoredTrace], held: StoredTraces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grading, "grade_many", lambda answers, **_: [Grade("wrong") for _ in answers])
    with pytest.raises(UserError, match="0% are right, and no problem was solved in one and missed in another"):
        asked(tiny_student, stored(tmp_path / "set", examples), held)


def test_a_reference_and_the_longest_answer_are_found_in_any_trace_of_a_problem(
    held: StoredTraces, tmp_path: Path
) -> None:
    rows = held.take(range(len(held)))
    long = replace(rows[3], gold="7", completion_tokens=[*rows[3].completion_tokens[:-1], *[5] * 90, 2])
    problems, longest = asking._problems(stored(tmp_path / "more", [*rows, long]), 3)
    assert len(problems) == 17
    assert longest == len(long.completion_tokens)
