"""Students against their twins over problems and seeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dcod.config import TrainConfig
from dcod.config.arms import PilotConfig
from dcod.errors import UserError
from dcod.evaluate import results, summaries
from dcod.evaluate.results import Answer, Results
from dcod.promote import choice, twins


def asked(hits: np.ndarray[Any, Any], key: str = "sums") -> Results:
    """Results of one greedy benchmark on the report split; ``hits`` by problem."""
    outcomes = ["correct" if hit else "wrong" for hit in hits]
    rows = [
        {"problem_id": f"p{n}", "outcome": outcome, "answer": "1", "response": "1", "tokens": 1, "truncated": False,
         **summaries.of_answer("1")} for n, outcome in enumerate(outcomes)
    ]  # fmt: skip
    figures = {**summaries.summarise(rows, 1), "figures": {}}
    entry = {"role": "primary", "fingerprint": "f", "prompting": {"zero_shot": {"report": figures}}}
    answers = [
        Answer(
            key, f"p{n}", "report", "zero_shot", 0, outcome, "1", truncated=False, looping=False, contradicting=False
        )
        for n, outcome in enumerate(outcomes)
    ]
    return results.of_summary({"model": {"digest": "d", "uri": "u"}, "benchmarks": {key: entry}}, answers)


def drawn(rng: np.random.Generator, share: float, problems: int = 300) -> np.ndarray[Any, Any]:
    return rng.random(problems) < share


def test_one_seed_is_the_comparison_on_the_report_problems() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = asked(drawn(rng, 0.6)), asked(drawn(rng, 0.4))
    assert twins.over_seeds([ours], [theirs], PilotConfig()) == twins.on_report(ours, theirs)


def test_of_several_the_means_count_and_seeds_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    base = [asked(drawn(rng, 0.4)) for _ in range(4)]
    alike = [asked(drawn(rng, 0.6)) for _ in range(4)]
    apart = [asked(drawn(rng, share)) for share in (0.4, 0.8, 0.4, 0.8)]
    (steady,) = twins.over_seeds(alike, base, PilotConfig())
    (torn,) = twins.over_seeds(apart, base, PilotConfig())
    by_seed = [twins.on_report(mine, other)[0] for mine, other in zip(alike, base, strict=True)]
    assert steady.difference == pytest.approx(np.mean([one.difference for one in by_seed]))
    assert steady.challenger == pytest.approx(np.mean([one.challenger for one in by_seed]))
    assert steady.difference == pytest.approx(steady.challenger - steady.baseline)
    assert steady.low < steady.worst < steady.difference < steady.high
    assert steady.high - steady.low < by_seed[0].high - by_seed[0].low  # four seeds tell more than one
    assert torn.high - torn.low > 2.0 * (steady.high - steady.low)
    assert torn.detectable > steady.detectable


@pytest.mark.parametrize(("deviation", "least"), [(0.0, 0.95), (0.03, 0.93), (0.08, 0.91)])
def test_the_interval_covers_the_truth_over_problems_and_seeds(deviation: float, least: float) -> None:
    """Nothing helps; the true accuracies spread between seeds, by as much as is reckoned with, or by far more."""
    rng, pilot, inside = np.random.default_rng(2), PilotConfig(), 0
    (first,) = twins.on_report(*(asked(drawn(rng, 0.5, 200)) for _ in range(2)))
    for _ in range(400):
        skill = rng.random((1, 200)) - 0.5  # some problems are harder, for all
        ours, theirs = (
            rng.random((3, 200)) < 0.5 + 0.6 * skill + rng.normal(0.0, deviation / 2**0.5, (3, 1)) for _ in range(2)
        )
        spread = choice.over_seeds(first, ours.astype(float) - theirs, pilot, 0.05)
        inside += spread.low <= 0.0 <= spread.high
    assert inside / 400 >= least


def test_a_twin_at_another_rate_than_the_pilots_best_is_refused(tmp_path: Path) -> None:
    train = {"learning_rate": 1e-5}
    (tmp_path / "manifest.json").write_text(json.dumps({"stage": "train", "config": {"train": train}}))
    twins.best_rate(tmp_path, TrainConfig(learning_rate=1e-5), "sft")
    with pytest.raises(
        UserError,
        match=r"at learning_rate 1e-05, .* best at 5e-05 \(sft-5e-05\); train the twin with --arm sft --choice",
    ):
        twins.best_rate(tmp_path, TrainConfig(learning_rate=5e-5), "sft-5e-05")


def test_students_that_are_no_pairs_are_refused() -> None:
    rng = np.random.default_rng(3)
    one, other, shorter = asked(drawn(rng, 0.5)), asked(drawn(rng, 0.5)), asked(drawn(rng, 0.5, 200))
    with pytest.raises(UserError, match="2 students and 1 twins"):
        twins.over_seeds([one, one], [other], PilotConfig())
    with pytest.raises(UserError, match="not asked the same problems of sums"):
        twins.over_seeds([one, shorter], [other, shorter], PilotConfig())
