"""A month of nightly gates on one gate split: noise, a guard's fall, or more loops, get through at most at the level.

The champion's answers are drawn once a month, the challengers' every night, on the same problems: the tests of a month
hang together as those of a real schedule do. ``python -m tests.promote.test_gate_nightly MONTHS`` prints the rates of
docs/evaluation.md.
"""

from __future__ import annotations

import functools
import sys
from dataclasses import replace

import numpy as np
import pytest

from dcod.config import PromoteConfig
from dcod.evaluate import statistics
from dcod.evaluate.results import Results
from dcod.promote.compare import lower_bound
from dcod.promote.contest import level_of
from tests.promote.test_gate import allowed, run, side

NIGHTS, N, GUARDS = 30, 150, 300
REPEATED = PromoteConfig(schedule="repeated", tests_per_period=NIGHTS, margin=0.1, stability_margin=0.15)
SINGLE = REPEATED.model_copy(update={"schedule": "single"})

# What a challenger truly is, against the champion: gain on the primary, fall of the guard, rise of loops.
WORLDS = {
    "no better at all": (0.0, 0.0, 0.0),
    "no better, steadier": (0.0, -0.1, -0.05),
    "better, a guard falls by the margin": (0.35, 0.1, 0.0),
    "better, loops rise by the margin": (0.35, 0.0, 0.15),
}

mcnemar = functools.lru_cache(None)(statistics.mcnemar)
bound = functools.lru_cache(None)(lower_bound)


def month(rng: np.random.Generator, world: str, config: PromoteConfig) -> bool:
    """Whether any night promotes."""
    gain, fall, rise = WORLDS[world]
    ease, format_ease = rng.beta(1.0, 1.5, N) * 0.6, rng.beta(4.0, 1.0, GUARDS) * 0.85 + 0.1
    champion, kept = rng.random(N) < ease, rng.random(GUARDS) < format_ease
    loops = rng.random(N) < 0.05
    level = level_of(config)
    for _ in range(NIGHTS):
        ours = rng.random(N) < ease + gain
        held = rng.random(GUARDS) < format_ease - fall
        looping = rng.random(N) < 0.05 + rise
        gains, losses = int((ours & ~champion).sum()), int((champion & ~ours).sum())
        if mcnemar(gains, losses) >= level:
            continue  # the gate cannot promote; what follows is slow
        fine, falls = int((held & ~kept).sum()), int((kept & ~held).sum())
        calmer, wilder = int((loops & ~looping).sum()), int((looping & ~loops).sum())
        if bound(fine, falls, GUARDS, level) <= -config.margin:
            continue
        if bound(calmer, wilder, N, level) <= -config.stability_margin:
            continue
        if run(night("a", ours, held, looping), night("b", champion, kept, loops), config).promote:
            return True
    return False


def night(name: str, right: np.ndarray, held: np.ndarray, looping: np.ndarray) -> Results:
    """Results in memory."""
    told = np.array(["wrong", "correct"])
    made = side(name, sums={"outcomes": told[right.astype(int)].tolist()}, format={
        "outcomes": told[held.astype(int)].tolist(), "role": "guard"
    })  # fmt: skip
    primary = [one._replace(looping=bool(loops)) for one, loops in zip(made.answers, looping, strict=False)]
    return replace(made, answers=[*primary, *made.answers[len(primary) :]])  # those of the primary come first


def share(world: str, config: PromoteConfig, months: int, seed: int = 0) -> float:
    """Of the months, those in which a night promoted."""
    rng = np.random.default_rng(seed)
    return sum(month(rng, world, config) for _ in range(months)) / months


@pytest.mark.parametrize("world", WORLDS)
def test_a_month_of_challengers_that_must_not_pass(world: str) -> None:
    months = 1500
    assert share(world, REPEATED, months) <= allowed(REPEATED.level, months)


def test_without_a_schedule_a_month_promotes_noise() -> None:
    assert share("no better at all", SINGLE, 300) > 0.2


def test_the_shortcut_is_the_gate() -> None:
    """What the simulation skips, the gate refuses, and the simulation does not skip everything."""
    rng = np.random.default_rng(1)
    promoted = 0
    for n in range(60):
        ease = rng.random(N) * 0.6
        arrays = [rng.random(N) < ease + (0.2 if n % 2 else 0.0), rng.random(N) < ease]
        held = [rng.random(GUARDS) < 0.9 for _ in range(2)]
        loops = [rng.random(N) < 0.05 for _ in range(2)]
        decision = run(*(night(name, *parts) for name, *parts in zip("ab", arrays, held, loops, strict=True)), SINGLE)
        gains, losses = int((arrays[0] & ~arrays[1]).sum()), int((arrays[1] & ~arrays[0]).sum())
        if mcnemar(gains, losses) >= SINGLE.level:
            assert not decision.promote
        promoted += decision.promote
    assert promoted >= 10


def main(months: int) -> None:
    """Prints the rates."""
    for name, config in (("repeated", REPEATED), ("single", SINGLE)):
        for world in WORLDS:
            print(f"{name:<9} {world:<36} {share(world, config, months):.4f} of {months} months")


if __name__ == "__main__":
    main(int(sys.argv[1]))
