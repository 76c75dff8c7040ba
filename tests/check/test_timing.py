"""How long a run takes, by a sample of its traces: its trainings, its evaluation, its pilot."""

from __future__ import annotations

from typing import Any

import pytest

from dcod.check import timing
from dcod.check.sample import Sample
from dcod.config import Config, IngestConfig, TrainConfig
from dcod.objective import price
from dcod.traces import Trace

SIZE = 10**9
ARMS = [{"name": name, "focus": 0.1 * n} for n, name in enumerate("abcd", 1)]


def sample(train: int = 100, held: int = 0, total: int = 0) -> Sample:
    """Traces of 100 tokens, one a prompt: so many for training, and so many in either held-back part."""
    splits: list[Any] = ["train"] * train + ["selection", "pilot"] * held
    traces = [
        Trace([{"role": "user", "content": f"p{n}"}], "c", gold="1", split=split, prompt_id=f"{n:08x}")
        for n, split in enumerate(splits)
    ]
    count = len(traces)
    return Sample("d", IngestConfig(), traces=traces, rows=count, total=total or count, tokens=[(50, 50)] * count)


def seconds(train: dict[str, Any], taken: Sample, asked: float = 0.0, **more: Any) -> float:
    return timing.run(Config.model_validate({"train": train, **more}), taken, SIZE, asked)[0]


def test_all_trainings_and_the_evaluation_are_counted() -> None:
    plain, twin, asked = (seconds({"twin": t}, sample(), a) for t, a in ((False, 0.0), (True, 0.0), (False, 4e4)))
    assert twin / plain == pytest.approx(4.5 / 2.5, rel=0.2)
    assert asked > 3 * plain
    for correction in ({"name": "success"}, {"name": "naturalness", "weights": "cross"}):  # plain students before it
        train = TrainConfig.model_validate({"correction": correction, "epochs": 2})
        assert "2 epochs, 2 trainings: " in timing.run(Config(train=train), sample(), SIZE, 0.0)[1]


def test_what_is_held_back_is_scored_and_not_trained_on() -> None:
    assert seconds({}, sample(90, 5)) < seconds({}, sample(100)) < seconds({}, sample(100, 5))


def test_a_pilot_is_counted_as_a_run_counts_it() -> None:
    """By its arms, share, seeds, halving and problems; what the sample holds stands for all rows."""
    taken = sample(80, 10, total=10_000)
    train: dict[str, Any] = {"epochs": 2, "arms": ARMS[:2], "pilot": {"problems": 300}}
    config = Config.model_validate({"train": train})
    cost = timing.pilot(config, taken)
    # Selection problems, half as many, at four temperatures, two answers at three of them; pilot problems at one.
    answered = (7 * 150 + 2 * 300) * (50 / 3 + 50)
    assert cost is not None
    assert cost.answered == pytest.approx(answered)
    assert cost == price.cost_of(config, 800_000, 8_000, cost.answered)
    more = seconds(train, taken) - seconds({"epochs": 2}, taken)
    learnt = (seconds({"epochs": 2}, taken) - seconds({"epochs": 1}, taken)) / 800_000
    assert more == pytest.approx(cost.whole * learnt + 3 * timing.STAGE_S)
    told = timing.run(config, taken, SIZE, 0.0)[1]
    assert f", a pilot of 6 students on {cost.share:.1%} of the prompts ({cost.time(learnt)}): about " in told
    for settings in ({"seeds": 3}, {"share": 0.9}, {"problems": 400}, {"samples": 4}):
        assert seconds({**train, "pilot": {**train["pilot"], **settings}}, taken) > seconds(train, taken), settings
    four = {**train, "arms": ARMS, "pilot": {"problems": 300, "share": 0.1}}
    whole = {**four, "pilot": {**four["pilot"], "halve": "never"}}
    halved = timing.pilot(Config.model_validate({"train": four}), taken)
    assert halved is not None
    assert halved.students == 8
    assert seconds(four, taken) < seconds(whole, taken)


def test_arms_that_do_not_suit_the_traces_cost_nothing() -> None:
    """One trace a prompt: of `auto` nothing that compares the traces of a prompt is tried."""
    cost = timing.pilot(Config.model_validate({"train": {"arms": "auto"}}), sample(80, 10, total=10_000))
    assert cost is not None
    assert cost.students == 6  # plain fine-tuning, gce, support_text


def test_no_pilot_on_too_few_problems_and_it_is_said() -> None:
    train: dict[str, Any] = {"arms": ARMS[:2], "pilot": {"min_problems": 100}}
    config = Config.model_validate({"train": train})
    assert timing.pilot(config, sample(80, 10, total=900)) is None
    assert timing.pilot(config, sample(80, 10, total=1_000)) is not None
    told = timing.run(config, sample(80, 10), SIZE, 0.0)[1]
    assert "2 epochs, no pilot by these rows: about" in told
    few = "10 selection and 10 pilot problems at most, 100 of either kind are the least (train.pilot.min_problems)"
    assert few in timing.too_few(config, sample(80, 10))
    assert timing.pilot(Config(), sample(80, 10, total=10_000)) is None
    assert timing.too_few(Config(), sample(80, 10)) == ""


def test_selection_problems_are_held_to_the_same_minimum() -> None:
    """They choose every temperature, and the rate of plain fine-tuning."""
    taken = sample(80, 10, total=1_000)
    config = Config.model_validate({"train": {"arms": ARMS[:2]}})
    assert timing.too_few(config, taken) == ""
    moved = next(trace for trace in taken.traces if trace.split == "selection")
    moved.split = "train"
    assert timing.pilot(config, taken) is None
    assert timing.too_few(config, taken).startswith("too few problems for a pilot: 90 selection problems at most, 100")
    assert timing.too_few(config, taken).endswith("; set ingest.selection_share higher, or bring more prompts")


def test_a_pilot_by_likelihood_reads_all_traces_of_its_problems() -> None:
    taken = sample(80, 10, total=10_000)
    for trace in taken.traces:
        trace.prompt_id = f"{int(trace.prompt_id, 16) // 4:08x}"
    config = Config.model_validate({"train": {"arms": ARMS[:1], "pilot": {"compare": "nll", "problems": 150}}})
    cost = timing.pilot(config, taken)
    assert cost is not None
    problems = len({(t.split, t.prompt_id) for t in taken.traces if t.split != "train"})
    assert cost.answered == pytest.approx((100 + 150) * 20 / problems * 100 / 3)
