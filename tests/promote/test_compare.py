"""The paired tests of the gate: exact by enumeration, monotone, symmetric under exchange, blind to order."""

from __future__ import annotations

import itertools
import math
import random
from statistics import NormalDist

import numpy as np
import pytest

from bench import gate as simulation
from dcod.evaluate import statistics
from dcod.promote.compare import Comparison, compare, lower_bound, score_bound
from tests.promote.test_gate import allowed

LEVEL = 0.05 / 30


def pairs(count: int = 210) -> list[tuple[dict[str, list[float]], dict[str, list[float]]]]:
    """Answers of two models to the same problems: several sizes, numbers of samples and kinds of drift."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        n, samples = int(rng.integers(2, 90)), int(rng.choice([2, 3, 4, 8, 16]))
        rates = rng.beta(0.6, 1.2, n)
        better = np.clip(rates + [0.0, 0.1, -0.1, 0.3][number % 4] * rng.random(n), 0, 1)
        ours, theirs = (rng.random((n, samples)) < side[:, None] for side in (better, rates))
        made.append(
            ({f"p{i}": row for i, row in enumerate(ours.astype(float).tolist())},
             {f"p{i}": row for i, row in enumerate(theirs.astype(float).tolist())})
        )  # fmt: skip
    return made


PAIRS = pairs()


def compared(ours: dict[str, list[float]], theirs: dict[str, list[float]]) -> Comparison:
    return compare("set", "primary", ours, theirs, LEVEL)


def test_two_hundred_pairs_and_what_must_not_matter() -> None:
    """Order of problems and of samples changes no bit; exchange turns everything round."""
    shuffled = random.Random(0)
    for ours, theirs in PAIRS:
        found = compared(ours, theirs)
        names = list(ours)
        shuffled.shuffle(names)
        again = compared(
            {f"q{i}": shuffled.sample(ours[name], len(ours[name])) for i, name in enumerate(names)},
            {f"q{i}": shuffled.sample(theirs[name], len(theirs[name])) for i, name in enumerate(names)},
        )
        decides = ("p_value", "low", "high", "worst", "gains", "losses")
        assert [getattr(again, one) for one in decides] == [getattr(found, one) for one in decides]
        turned = compared(theirs, ours)
        assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=1e-9)
        assert (turned.gains, turned.losses) == (found.losses, found.gains)
        assert found.p_value + turned.p_value >= 1.0 - 1e-12  # both count the outcome that was seen
        assert found.low <= found.difference + 1e-9 <= found.high + 2e-9
        assert -1.0 <= found.worst <= found.low + 1e-9
        assert 0.0 <= found.p_value <= 1.0
    assert len(PAIRS) >= 200


def test_one_more_right_answer_never_speaks_against_a_model() -> None:
    rng, steps = random.Random(1), 0
    for ours, theirs in PAIRS:
        found = compared(ours, theirs)
        name = rng.choice([one for one in ours if 0.0 in ours[one]] or [""])
        if not name:
            continue
        more = {**ours, name: [1.0, *sorted(ours[name])[1:]]}
        after = compared(more, theirs)
        assert after.p_value <= found.p_value + 1e-12
        assert after.low >= found.low - 1e-9
        assert after.worst >= found.worst - 1e-9
        steps += 1
    assert steps >= 190


def test_p_by_counting_all_signs() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        seen = rng.integers(-5, 6, size=int(rng.integers(1, 9)))
        sums = [int(np.abs(seen) @ signs) for signs in itertools.product((-1, 1), repeat=len(seen))]
        assert statistics.sign_flip(seen.tolist()) == pytest.approx(np.mean(np.array(sums) >= seen.sum()), abs=1e-12)


def test_it_rejects_at_most_at_its_level_whatever_the_sizes() -> None:
    """Over all signs of 12 problems: no draws, so true on every machine."""
    rng = np.random.default_rng(3)
    signs = np.array(list(itertools.product((-1, 1), repeat=12)))
    for _ in range(10):
        sizes = rng.integers(0, 9, size=12)
        sums = np.sort(signs @ sizes)
        counted = {value: statistics.sign_flip((sizes * signs[np.argmax(signs @ sizes == value)]).tolist())
                   for value in np.unique(sums[-400:])}  # fmt: skip
        for level in (LEVEL, 0.01, 0.05):
            assert np.mean([counted.get(value, 1.0) <= level for value in sums]) <= level


def tango(gains: int, losses: int, n: int, difference: float) -> float:
    """Tango's (1998) score statistic of the hypothesis that the accuracies differ by ``difference``."""
    b = -(gains + losses) + (2.0 * n - gains + losses) * difference
    c = -losses * difference * (1.0 - difference)
    share = (math.sqrt(max(b * b - 8.0 * n * c, 0.0)) - b) / (4.0 * n)  # of losses, under the hypothesis
    variance = n * (2.0 * share + difference * (1.0 - difference))
    return (gains - losses - n * difference) / math.sqrt(variance)


def test_of_one_answer_a_problem_it_is_mcnemar_s_and_tango_s() -> None:
    rng = np.random.default_rng(4)
    for _ in range(60):
        n = int(rng.integers(1, 200))
        seen = rng.choice([-1, 0, 1], n, p=rng.dirichlet([1, 5, 1]))
        gains, losses = int((seen > 0).sum()), int((seen < 0).sum())
        assert statistics.sign_flip(seen.tolist()) == pytest.approx(statistics.mcnemar(gains, losses), rel=1e-9)
        for level in (0.025, LEVEL):
            bound = score_bound(seen.astype(float).tolist(), level)
            assert bound == lower_bound(gains, losses, n, level)
            for side in (-1e-7, 1e-7):  # just above, his score test does not reject; just below, it does
                if -1.0 < bound + side < seen.mean():
                    assert (tango(gains, losses, n, bound + side) > NormalDist().inv_cdf(1.0 - level)) == (side < 0.0)


def test_a_deep_fall_that_was_not_seen_is_reckoned_with() -> None:
    """A spread of an eighth on few problems proves no equality, as a bootstrap would say."""
    assert score_bound([0.125, -0.125] * 20, LEVEL) < -0.1
    assert score_bound([0.125, -0.125] * 500, LEVEL) > -0.02
    assert score_bound([-1.0] * 9, LEVEL) == -1.0
    assert score_bound([1.0], 0.05) < 0.0


@pytest.mark.parametrize(("n", "samples"), [(60, 4), (150, 8)])
def test_no_better_passes_at_most_at_the_level(n: int, samples: int) -> None:
    """`python -m bench.gate 48000` measures it at the level of a month's nights."""
    assert simulation.improves(simulation.alike, n, samples, 1500, 0.05) <= allowed(0.05, 1500)
    assert simulation.holds(simulation.fallen(0.1), n, samples, 200, 0.1, 0.05) <= allowed(0.05, 200)
    assert simulation.improves(simulation.better(0.15), n, samples, 100, 0.05) >= 0.8


@pytest.mark.slow
def test_a_month_of_nights_keeps_its_level() -> None:
    draws = 20_000
    for n, samples in ((50, 8), (150, 8), (150, 2)):
        assert simulation.improves(simulation.alike, n, samples, draws) <= allowed(LEVEL, draws)
        assert simulation.improves(simulation.spread, n, samples, draws) <= allowed(LEVEL, draws)
