"""Statistics of evaluation: intervals, paired tests, k samples. Pure numpy and scipy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy import stats

RESAMPLES = 10_000


def wilson_interval(correct: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a share (Wilson 1927); (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    found = stats.binomtest(correct, n).proportion_ci(level, method="wilson")
    return float(found.low), float(found.high)


def mcnemar(gains: int, losses: int) -> float:
    """One-sided exact McNemar p-value of "more problems gained than lost" (a binomial test on the discordant)."""
    if gains + losses == 0:
        return 1.0
    return float(stats.binomtest(gains, gains + losses, 0.5, alternative="greater").pvalue)


def bootstrap_interval(values: Sequence[float], level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean over problems, seeded."""
    data = np.asarray(values, dtype=float)
    draws = np.random.default_rng(seed).choice(data, size=(RESAMPLES, len(data)), replace=True).mean(axis=1)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def minimum_detectable_difference(n: int, discordant: float, level: float = 0.05, power: float = 0.8) -> float:
    """The difference of two accuracies that a paired one-sided test finds with the given power.

    Normal approximation of McNemar's test (Connor 1987): n problems, a share ``discordant`` of which the two
    models answer differently.
    """
    if n == 0:
        return 1.0
    z_level, z_power = stats.norm.isf(level), stats.norm.isf(1 - power)
    difference = 0.0
    for _ in range(50):  # the variance depends on the difference itself
        variance = max(discordant - difference**2, 0.0)
        difference = (z_level * math.sqrt(discordant) + z_power * math.sqrt(variance)) / math.sqrt(n)
    return float(min(difference, 1.0))


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Unbiased pass@k from n samples of one problem (Chen et al. 2021, eq. 1)."""
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs at least {k} samples, got {n}")
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


def majority(answers: Sequence[str | None]) -> str | None:
    """maj@k: the most frequent answer, the earliest of equals; samples without an answer do not vote."""
    votes = Counter(answer for answer in answers if answer is not None)
    return max(votes, key=lambda a: (votes[a], -list(answers).index(a))) if votes else None
