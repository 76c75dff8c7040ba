"""Cross-fitted scores: of students that never saw the traces they score; frozen, kept, in the order of the set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dcod.config import Config, TrainConfig
from dcod.engines.transformers import TransformersEngine
from dcod.errors import UserError
from dcod.models import loading
from dcod.objective.price import Cost
from dcod.score import crossfit, frozen
from dcod.score.preparing import Preparation
from dcod.score.scores import StoredTraces, open_scores, write_scores
from dcod.stages import pilot, train, train_rank
from dcod.traces.prompts import load_tokenizer
from dcod.traces.scored import ScoredTrace
from dcod.tracking import NullLog
from dcod.train import loop
from dcod.train.checkpoints import Checkpoints
from tests.train.test_checkpoints import make_examples

KNOBS: dict[str, Any] = {
    "learning_rate": 1e-2,
    "epochs": 2,
    "traces_per_step": 4,
    "focus": 0.5,
    "correction": {"name": "surprisal", "weights": "cross", "ess_floor": 0.5},
}


@pytest.fixture(scope="module")
def examples(tiny_student: Path) -> list[ScoredTrace]:
    """Two traces of each of fourteen prompts, those of a prompt far apart."""
    made = make_examples(tiny_student)
    return [replace(trace, gold=trace.trace_id) for trace in [*made[::2], *made[1::2]]]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several parts."""
    monkeypatch.setattr(crossfit, "EVERY", 10)


def stored(folder: Path, examples: list[ScoredTrace]) -> StoredTraces:
    folder.mkdir(exist_ok=True)
    write_scores(folder / "scores.parquet", examples, ["train"] * len(examples))
    return open_scores(folder)["train"]


def by_hand(student: Path, examples: list[ScoredTrace]) -> Iterator[ScoredTrace]:
    """The definition: a half of the prompts, in the order in which they come, teaches who scores the other."""
    halves = [[e for e in examples if int(e.prompt_id) % 2 == side] for side in (0, 1)]
    config = TrainConfig.model_validate({**KNOBS, "correction": {}, "focus": 0.0})
    for learnt, scored in (halves, halves[::-1]):
        model = loading.load(student)
        loop.train(model, learnt, [], config, 3, lambda _: None, lambda *_: None)
        copies = [replace(e) for e in scored]
        TransformersEngine(model.eval(), load_tokenizer(student)).annotate(copies, 4096)
        yield from copies


def crossed(student: Path, traces: StoredTraces, kept: Checkpoints | None = None, load: Any = None) -> StoredTraces:
    config = TrainConfig.model_validate(KNOBS)
    load = load or (lambda: loading.load(student))
    return crossfit.crossed(traces, Preparation(config, 3, load, load_tokenizer(student), kept))


@pytest.mark.usefixtures("small")
def test_each_half_is_scored_by_a_student_of_the_other(
    tiny_student: Path, examples: list[ScoredTrace], tmp_path: Path
) -> None:
    found = crossed(tiny_student, stored(tmp_path / "set", examples))
    traces = found.take(range(len(found)))
    assert [trace.trace_id for trace in traces] == [trace.trace_id for trace in examples]
    expected = {trace.trace_id: trace for trace in by_hand(tiny_student, examples)}
    for trace, start in zip(traces, examples, strict=True):
        other = expected[trace.trace_id]
        assert trace.student_logprobs == pytest.approx(other.student_logprobs, abs=2e-3)
        assert trace.entropies == pytest.approx(other.entropies, abs=2e-3)
        assert trace.student_logprobs != pytest.approx(start.student_logprobs, abs=1e-2)
        assert trace.gold == start.gold
        assert trace.behavior_logprobs == pytest.approx(start.behavior_logprobs)


@pytest.mark.usefixtures("small")
def test_a_killed_one_goes_on(tiny_student: Path, examples: list[ScoredTrace], tmp_path: Path) -> None:
    traces, kept, loads = stored(tmp_path / "set", examples), Checkpoints(str(tmp_path / "kept"), 2), list[int]()

    def load(killed: bool) -> Any:
        loads.append(1)
        if killed and len(loads) == 2:
            raise RuntimeError("killed")
        return loading.load(tiny_student)

    with pytest.raises(RuntimeError, match="killed"):
        crossed(tiny_student, traces, kept, lambda: load(True))
    loads.clear()
    again = crossed(tiny_student, traces, kept, lambda: load(False))
    assert len(loads) == 1, "one half was there"
    crossed(tiny_student, traces, kept, lambda: load(False))
    assert len(loads) == 1
    calm = crossed(tiny_student, traces)
    rows = range(len(calm))
    assert again.take(rows) == calm.take(rows)
    frozen.forget(TrainConfig.model_validate(KNOBS), kept)
    assert not list(tmp_path.glob("kept*"))


def test_training_takes_its_weights_from_them_and_forgets_the_way(
    tiny_student: Path, examples: list[ScoredTrace], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same student as from scores that were crossed before; what it costs is said first."""
    splits = {"train": stored(tmp_path / "set", examples), "selection": stored(tmp_path / "held", examples[:4])}
    settings = {**KNOBS, "checkpoints": {"uri": str(tmp_path / "kept"), "every": 1}}
    config = Config.model_validate({"train": settings, "seed": 3})
    paths = {"scores": tmp_path / "set", "student": tiny_student}

    def ran(config: Config, splits: dict[str, StoredTraces]) -> loop.Result:
        return train_rank.on_this_rank(config, splits, *paths.values(), lambda _: None, lambda *_: None)

    result = ran(config, splits)
    assert (
        "8 steps on half of the prompts, to score the other, beside the 14 to come (1 of 2)" in capsys.readouterr().err
    )
    assert len(list(tmp_path.glob("kept/*-cross*"))) == 3
    train.settle(config, **paths)
    assert not list(tmp_path.glob("kept/*"))
    before = {**settings, "correction": {**KNOBS["correction"], "weights": "stored"}}
    twin = Config.model_validate({"train": before, "seed": 3})
    assert ran(twin, {**splits, "train": crossed(tiny_student, splits["train"])}).history == result.history
    train.settle(twin, **paths)
    assert ran(twin, splits).history[0]["loss"] != result.history[0]["loss"]


def test_a_pilot_takes_them_too(
    tiny_student: Path, examples: list[ScoredTrace], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An arm with such weights is tried as it would be trained."""
    part = stored(tmp_path / "set", examples)
    config = Config.model_validate({"train": {**KNOBS, "checkpoints": {"uri": str(tmp_path / "kept")}}, "seed": 3})
    pace = pilot._Pace(0, Cost(1.0, students=1, learnt=1.0, answered=0.0, full=1.0))
    history = pilot._trained(config, (part, part), 0, tmp_path / "out", NullLog(), tmp_path / "set", tiny_student, pace)
    assert capsys.readouterr().err.count("8 steps on half of the prompts") == 2
    assert not list((tmp_path / "kept").glob("*"))
    splits = {"train": part, "selection": stored(tmp_path / "none", [])}
    result = train_rank.on_this_rank(config, splits, tmp_path / "set", tiny_student, lambda _: None, lambda *_: None)
    assert history == result.history


def test_what_cannot_be_crossed_is_refused(
    tiny_student: Path, examples: list[ScoredTrace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = stored(tmp_path / "alone", [e for e in examples if e.prompt_id == "0"])
    with pytest.raises(UserError, match="weights=cross fits on half of the prompts, and there is one alone"):
        crossed(tiny_student, alone)
    monkeypatch.setattr("dcod.train.parallel.is_sharded_by", lambda _: True)
    with pytest.raises(UserError, match=r"split over ranks is not cross-fitted; set train\.sharding=ddp"):
        crossed(tiny_student, stored(tmp_path / "set", examples))
    for name, why in (
        ("token_support", "the start alone"),
        ("given", "nothing that"),
        ("iw_sft", r"needs correction\.weights=live"),
    ):
        with pytest.raises(ValidationError, match=why):
            TrainConfig.model_validate({"correction": {"name": name, "weights": "cross"}})
    plain = TrainConfig.model_validate({"correction": {"weights": "cross"}})
    assert frozen.fitted(alone, alone, Preparation(plain, 3, lambda: None, None, None)) is alone  # type: ignore
