"""How often the gate's test of several samples a problem errs, and what it finds; the figures of docs/evaluation.md.

``python -m bench.gate 48000`` draws so many pairs of models, none better, for each number of problems and samples, and
counts those that pass at 0.05 / 30 (a minute a row); then the power at that level.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from dcod.evaluate import statistics
from dcod.promote.compare import score_bound

LEVEL = 0.05 / 30
SIZES = [(n, samples) for n in (50, 150, 600) for samples in (2, 8)]
Rates = tuple[np.ndarray, np.ndarray]
World = Callable[[np.random.Generator, int], Rates]


def alike(rng: np.random.Generator, n: int) -> Rates:
    """Each problem is as hard for one as for the other: what the test is exact for."""
    rates = rng.beta(0.6, 1.2, n)
    return rates, rates


def spread(rng: np.random.Generator, n: int) -> Rates:
    """Better on some, worse on others, as often and as much."""
    rates = rng.uniform(0.2, 0.8, n)
    return rates + rng.uniform(-0.2, 0.2, n), rates


def lopsided(rng: np.random.Generator, n: int) -> Rates:
    """A tenth of the problems lost altogether, the others a little better: no better in the mean, and skewed."""
    rates = rng.uniform(0.5, 0.9, n)
    return np.where(rng.random(n) < 0.1, 0.0, rates + 0.1 * 0.7 / 0.9), rates


def better(by: float) -> World:
    """Better by so much."""

    def world(rng: np.random.Generator, n: int) -> Rates:
        rates = rng.beta(1.0, 1.5, n) * (1.0 - by)
        return rates + by, rates

    return world


def fallen(by: float) -> World:
    """A guard that falls by so much, on few problems altogether."""

    def world(rng: np.random.Generator, n: int) -> Rates:
        rates = rng.beta(4.0, 1.0, n) * 0.85 + 0.1
        return np.where(rng.random(n) < by / rates.mean(), 0.0, rates), rates

    return world


def held(rng: np.random.Generator, n: int) -> Rates:
    """A guard that does not fall."""
    rates = rng.beta(4.0, 1.0, n) * 0.85 + 0.1
    return rates, rates


def improves(world: World, n: int, samples: int, draws: int, level: float = LEVEL, seed: int = 0) -> float:
    """The share of pairs in which the challenger is taken for better."""
    rng, found = np.random.default_rng(seed), 0
    for _ in range(draws):
        ours, theirs = world(rng, n)
        gained = rng.binomial(samples, ours) - rng.binomial(samples, theirs)
        if gained.sum() > 1.5 * np.sqrt((gained**2).sum()):  # else p is above 0.05 by far
            found += statistics.sign_flip(gained.tolist()) < level
    return found / draws


def holds(world: World, n: int, samples: int, draws: int, margin: float, level: float = LEVEL, seed: int = 0) -> float:
    """The share of pairs in which a guard passes."""
    rng, found = np.random.default_rng(seed), 0
    for _ in range(draws):
        ours, theirs = world(rng, n)
        gained = (rng.binomial(samples, ours) - rng.binomial(samples, theirs)) / samples
        if gained.mean() > -margin:
            found += score_bound(gained.tolist(), level) > -margin
    return found / draws


def main(draws: int) -> None:
    """Prints the rates."""
    print(f"level {LEVEL:.3%}, {draws} draws; powers and guards by {draws // 20}")
    for n, samples in SIZES:
        rates = [f"{world.__name__} {improves(world, n, samples, draws):.3%}" for world in (alike, spread, lopsided)]
        print(f"{n:>5} problems, {samples} samples: {', '.join(rates)}", flush=True)
    for n, by in ((50, 0.12), (150, 0.06), (300, 0.05), (1319, 0.02)):
        print(f"{n:>5} problems, 8 samples, {by:.0%} better: {improves(better(by), n, 8, draws // 20):.1%}", flush=True)
    for n, margin in ((100, 0.1), (150, 0.1), (300, 0.05)):
        falls, keeps = (holds(world, n, 8, draws // 20, margin) for world in (fallen(margin), held))
        print(f"{n:>5} problems, 8 samples, guard at {margin:.0%}: falls {falls:.3%}, holds {keeps:.1%}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
