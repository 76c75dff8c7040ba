"""Statistics against closed forms and simulation."""

from __future__ import annotations

import json
import math
import re
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from dcod.evaluate import statistics


def test_wilson_interval_against_its_formula() -> None:
    z, n, k = 1.959963984540054, 50, 20
    centre = (k / n + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(k / n * (1 - k / n) / n + z * z / (4 * n * n))
    assert statistics.wilson_interval(k, n) == pytest.approx((centre - half, centre + half))
    assert statistics.wilson_interval(0, 0) == (0.0, 1.0)
    assert statistics.wilson_interval(0, 10)[0] == 0.0


def test_mcnemar_is_the_binomial_tail() -> None:
    assert statistics.mcnemar(0, 0) == 1.0
    assert statistics.mcnemar(5, 0) == pytest.approx(2**-5)
    assert statistics.mcnemar(3, 1) == pytest.approx((4 + 1) / 16)


def test_pass_at_k_is_unbiased() -> None:
    assert statistics.pass_at_k(10, 0, 3) == 0.0
    assert statistics.pass_at_k(10, 10, 3) == 1.0
    generator, p, k = np.random.default_rng(0), 0.3, 4
    drawn = [statistics.pass_at_k(12, int(c), k) for c in generator.binomial(12, p, size=20_000)]
    assert np.mean(drawn) == pytest.approx(1 - (1 - p) ** k, abs=0.01)
    with pytest.raises(ValueError, match="pass@5"):
        statistics.pass_at_k(4, 1, 5)


def test_majority_vote() -> None:
    assert statistics.majority(["3", None, "4", "4", None, None]) == "4"
    assert statistics.majority(["3", "4"]) == "3"
    assert statistics.majority([None]) is None


def test_bootstrap_interval_covers_the_mean() -> None:
    generator = np.random.default_rng(1)
    hits = 0
    for seed in range(60):
        low, high = statistics.bootstrap_interval(list(generator.random(40)), seed=seed)
        hits += low <= 0.5 <= high
    assert hits >= 51


def test_minimum_detectable_difference_has_the_power_it_claims() -> None:
    n, discordant = 400, 0.3
    difference = statistics.minimum_detectable_difference(n, discordant)
    generator, found = np.random.default_rng(0), 0
    shares = [(discordant + difference) / 2, (discordant - difference) / 2, 1 - discordant]
    for gains, losses, _ in generator.multinomial(n, shares, size=600):
        found += statistics.mcnemar(int(gains), int(losses)) < 0.05
    assert found / 600 == pytest.approx(0.8, abs=0.06)
    assert statistics.minimum_detectable_difference(0, 0.3) == 1.0


@pytest.mark.parametrize("level", [0.05, 0.05 / 30])
@pytest.mark.parametrize("difference", [0.02, 0.05, 0.1, 0.2])
@pytest.mark.parametrize("spread", [1.0, 1.5, 3.0])
def test_so_many_problems_find_a_difference_with_the_power_that_is_said(
    level: float, difference: float, spread: float
) -> None:
    """By the exact test, over all outcomes; without the correction it would be 0.72 to 0.77 at the level of 0.05."""
    discordant = spread * difference
    n = statistics.problems_to_find(difference, discordant, level)
    changed = np.arange(n + 1)
    needed = stats.binom.isf(level, changed, 0.5) + 1  # gains of so many that changed
    found = stats.binom.sf(needed - 1, changed, (1 + 1 / spread) / 2)
    assert 0.78 <= float(stats.binom.pmf(changed, n, discordant) @ found) <= 0.96


def test_entropy_of_answers() -> None:
    assert statistics.answer_entropy(["4", "4", "4"]) == 0.0
    assert statistics.answer_entropy(["4", "5", None, "7"]) == pytest.approx(math.log(4))
    assert statistics.answer_entropy([]) == 0.0


def test_holm_against_a_worked_example() -> None:
    found = statistics.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert statistics.holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert statistics.holm({}) == {}


def test_holm_keeps_the_error_rate_of_the_family() -> None:
    drawn = np.random.default_rng(0).random((4000, 5))
    wrong = sum(min(statistics.holm(dict(zip("abcde", row, strict=True))).values()) <= 0.05 for row in drawn)
    assert wrong / 4000 == pytest.approx(0.05, abs=0.012)


def test_a_large_bootstrap_is_drawn_in_parts() -> None:
    values = [0.0, 1.0] * 5000
    low, high = statistics.bootstrap_interval(values)
    assert (low, high) == pytest.approx((0.49, 0.51), abs=0.003)


def test_repetition() -> None:
    assert statistics.repetition_rate("so \\boxed{} " * 300) > 0.95
    assert (
        statistics.repetition_rate("First take three eggs and add four more of them to the basket in the kitchen")
        == 0.0
    )
    assert statistics.repetition_rate("short") == statistics.repetition_rate("") == 0.0


STEPS = [
    ("3 * 4 + 1 = 13", [True]),
    ("3 + 4 * 2 = 14", [False]),
    ("$0.50 x 8 = $4.00", [True]),
    ("1,200 + 300 = 1,500", [True]),
    ("16-3-4=9 eggs", [True]),
    ("2 + 2 = 5", [False]),
    ("10/3 = 3.33", [True]),
    ("10/3 = 3.34", [False]),
    ("7/2 = 4 (rounded up)", [True]),
    ("5 - 8 = -3.", [True]),
    ("12 \\times 3 = 36", [True]),
    ("6 ÷ 4 = 1.5 and 6 − 4 = 3", [True, False]),
    ("3 + 4 = 7 + 1 = 8", [True]),
    ("a total of 2 + 1 = 3", [True]),
    ("- 3 + 4 = 7", [True]),
    ("(3 + 4 = 7)", [True]),
    ("60 students x 2/3 = 40", []),
    ("20% of 50 + 1 = 11", []),
    ("100 - 20% = 80", []),
    ("2^3 + 1 = 9", []),
    ("x + 3 = 5", []),
    ("2x + 3 = 5", []),
    ("(3+4)*2 = 14", []),
    ("1/2 = 2/4", []),
    ("3/0 = 1", []),
    ("no steps", []),
]


@pytest.mark.parametrize(("text", "holds"), STEPS)
def test_arithmetic_steps(text: str, holds: list[bool]) -> None:
    assert statistics.arithmetic_steps(text) == holds


def test_worked_human_solutions_hardly_contradict_themselves(data_dir: Path) -> None:
    lines = (data_dir / "gsm8k" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [re.sub(r"<<[^>]*>>", "", json.loads(line)["answer"]) for line in lines]
    steps = [holds for text in texts for holds in statistics.arithmetic_steps(text)]
    assert len(steps) > 18_000
    assert steps.count(False) / len(steps) < 0.004
    broken = [re.sub(r"= ?\$?(\d)", lambda m: m.group()[:-1] + str((int(m.group(1)) + 1) % 10), text) for text in texts]
    found = [holds for text in broken for holds in statistics.arithmetic_steps(text)]
    assert found.count(False) / len(found) > 0.95


@pytest.mark.parametrize("text", ["1+" * 100_000, "1+1=2 " * 30_000, "=" * 100_000, "1" * 100_000, "x " * 100_000])
def test_stability_of_long_texts_takes_linear_time(text: str) -> None:
    begun = time.process_time()
    statistics.arithmetic_steps(text)
    statistics.repetition_rate(text)
    assert time.process_time() - begun < 5


def test_the_bootstrap_of_one_problem_is_that_problem_and_of_none_an_error() -> None:
    assert statistics.bootstrap_interval([0.25]) == (0.25, 0.25)
    assert statistics.bootstrap_interval([0.5, 0.5]) == (0.5, 0.5)
    with pytest.raises(ValueError, match="at least one problem"):
        statistics.bootstrap_interval([])


def test_openings_count_ways_to_begin_and_no_problems() -> None:
    assert statistics.openings(["2 + 3 = 5", "41 + 7 = 48"]) == 1.0
    assert statistics.openings(["2 + 3 = 5", "First 2 and 3", "Let us see"]) == pytest.approx(3.0)
    assert statistics.openings(["a b c", "a b c", "d e f", "d e g"]) == pytest.approx(2.0 * 2**0.5)  # 1.5 bits
    assert statistics.openings([]) == 1.0
    thinking = ["<think>\nOkay, so", "<think>\nLet me see", "[THINK]The problem is"]
    assert statistics.openings(thinking) == pytest.approx(3.0)
    assert statistics.openings([f"<think>{text}" for text in ("1 + 1 = 2", "2 + 1 = 3")]) == 1.0
