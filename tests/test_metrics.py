"""Statistics against closed forms and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dcod import metrics


def test_wilson_interval_against_its_formula() -> None:
    z, n, k = 1.959963984540054, 50, 20
    centre = (k / n + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(k / n * (1 - k / n) / n + z * z / (4 * n * n))
    assert metrics.wilson_interval(k, n) == pytest.approx((centre - half, centre + half))
    assert metrics.wilson_interval(0, 0) == (0.0, 1.0)
    assert metrics.wilson_interval(0, 10)[0] == 0.0


def test_mcnemar_is_the_binomial_tail() -> None:
    assert metrics.mcnemar(0, 0) == 1.0
    assert metrics.mcnemar(5, 0) == pytest.approx(2**-5)
    assert metrics.mcnemar(3, 1) == pytest.approx((4 + 1) / 16)


def test_pass_at_k_is_unbiased() -> None:
    assert metrics.pass_at_k(10, 0, 3) == 0.0
    assert metrics.pass_at_k(10, 10, 3) == 1.0
    generator, p, k = np.random.default_rng(0), 0.3, 4
    drawn = [metrics.pass_at_k(12, int(c), k) for c in generator.binomial(12, p, size=20_000)]
    assert np.mean(drawn) == pytest.approx(1 - (1 - p) ** k, abs=0.01)
    with pytest.raises(ValueError, match="pass@5"):
        metrics.pass_at_k(4, 1, 5)


def test_majority_vote() -> None:
    assert metrics.majority(["3", None, "4", "4", None, None]) == "4"
    assert metrics.majority(["3", "4"]) == "3"
    assert metrics.majority([None]) is None


def test_bootstrap_interval_covers_the_mean() -> None:
    generator = np.random.default_rng(1)
    hits = 0
    for seed in range(60):
        low, high = metrics.bootstrap_interval(list(generator.random(40)), seed=seed)
        hits += low <= 0.5 <= high
    assert hits >= 51


def test_minimum_detectable_difference_has_the_power_it_claims() -> None:
    n, discordant = 400, 0.3
    difference = metrics.minimum_detectable_difference(n, discordant)
    generator, found = np.random.default_rng(0), 0
    shares = [(discordant + difference) / 2, (discordant - difference) / 2, 1 - discordant]
    for gains, losses, _ in generator.multinomial(n, shares, size=600):
        found += metrics.mcnemar(int(gains), int(losses)) < 0.05
    assert found / 600 == pytest.approx(0.8, abs=0.06)
    assert metrics.minimum_detectable_difference(0, 0.3) == 1.0
