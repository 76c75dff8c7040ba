"""Which arm trains the student: the pilot's statistics. Pure functions of answers that were graded.

  1. Each arm is looked at where it is best: of its temperatures the one with the highest accuracy on the selection
     problems, which are not asked again. What only sharpens gains nothing over SFT at SFT's own best temperature.
  2. SFT is what an arm must beat; where it was tried at several rates, the best one on the selection problems.
  3. On the pilot problems the difference to SFT is taken by problem (the mean of its seeds and samples). Its variance
     is that of the mean over problems, and that between seeds: training again would give another student, and the
     problems know nothing of that. With one seed the configured deviation stands for it.
  4. One-sided tests with Holm's correction over the arms. An arm is chosen only if "no better" is rejected for it;
     among those the highest lower bound wins, else SFT. With many arms the worse half is dropped after a first seed
     (:func:`worse_half`). Dropping can only take a rejection away, as long as the dropped ones still count among the
     arms: Holm's procedure takes their p-values for 1.

Nothing here sees a problem of the gate or the report.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dcod.config.arms import SFT, PilotConfig
from dcod.evaluate import statistics
from dcod.evaluate.statistics import POWER
from dcod.promote.compare import Comparison, points

AIMED_GAIN, AIMED = 0.1, 0.95  # this much is to be found, and SFT kept where nothing helps, with this probability
PRIOR = 4.0  # degrees of freedom of the configured deviation between seeds: it counts as much as five seeds
_DIFFERENT = 0.5  # variance of the difference of two answers where every second problem is answered differently

Hits = NDArray[np.float64]  # share of right answers by seed and problem [S, P]


@dataclass(frozen=True)
class ArmAnswers:
    """What the students of one arm answered.

    Attributes:
        name: of the arm.
        sft: whether it is plain fine-tuning.
        selection: share of right answers by temperature, of all seeds: on the problems that choose the temperature.
        pilot: by temperature, seeds by problems; the problems are the same, in the same order, for every arm.
    """

    name: str
    sft: bool
    selection: Mapping[float, float]
    pilot: Mapping[float, Hits]

    @property
    def best(self) -> float:
        """Its best temperature; of equals the lowest."""
        return max(sorted(self.selection), key=lambda t: self.selection[t])


@dataclass(frozen=True)
class Versus:
    """One arm against SFT on the pilot problems, each at its own best temperature.

    Attributes:
        temperature: the arm's.
        accuracy: the arm's; ``sft`` that of SFT.
        difference: of the two; ``low`` to ``high`` is its 95 % interval over problems and seeds.
        bound: the lower end of the one-sided interval at the level that Holm's procedure gives the arm.
        p_value: adjusted by Holm over the arms.
        better: whether it is shown to be better.
    """

    name: str
    temperature: float
    accuracy: float
    sft: float
    difference: float
    low: float
    high: float
    bound: float
    p_value: float
    better: bool


@dataclass(frozen=True)
class Choice:
    """What the pilot chose, and why.

    Attributes:
        arm: the chosen one.
        sft: the arm that SFT was represented by.
        why: one sentence.
        against: every other arm against SFT.
        problems: of the pilot.
        seeds: a student each.
        deviation: between seeds, of a difference; ``measured``: the pilot's seeds had a part in it, as seeds - 1 to
            :data:`PRIOR`, else it is the configured one.
        detectable: the difference that would be found with 80 % power.
    """

    arm: str
    sft: str
    why: str
    against: tuple[Versus, ...]
    problems: int
    seeds: int
    deviation: float
    measured: bool
    detectable: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def worse_half(arms: Sequence[ArmAnswers], pilot: PilotConfig) -> dict[str, float]:
    """Arms that get no further seed, with their difference to SFT after the first; fewer than ``halve`` lose none.

    Of k arms k // 2 go, those with the smallest differences at each one's best temperature; never SFT.

    Args:
        arms: all that were tried, with one seed each; at least one is SFT.
        pilot: says from how many arms on.
    """
    sft, others = _apart(arms)
    if pilot.halve == "never" or len(others) < pilot.halve:
        return {}
    gaps = {arm.name: float((arm.pilot[arm.best] - sft.pilot[sft.best]).mean()) for arm in others}
    worst = sorted(gaps, key=lambda name: gaps[name])[: len(gaps) // 2]
    return {name: gaps[name] for name in worst}


def _apart(arms: Sequence[ArmAnswers]) -> tuple[ArmAnswers, list[ArmAnswers]]:
    """What every arm must beat, and the others."""
    plain = [arm for arm in arms if arm.sft]
    if not plain:
        raise ValueError(f"no arm is {SFT}")
    return max(plain, key=lambda arm: arm.selection[arm.best]), [arm for arm in arms if not arm.sft]


def after_first(arm: ArmAnswers, arms: Sequence[ArmAnswers], pilot: PilotConfig) -> Versus:
    """A dropped arm against the first students of SFT: shown, and used for nothing.

    Args:
        arm: with the answers of its one seed.
        arms: all that were tried to the end; at least one is SFT.
        pilot: says by how much a difference spreads between seeds.

    Raises:
        ValueError: there is no SFT among them.
    """
    sft, _ = _apart(arms)
    base = sft.pilot[sft.best][:1]
    gap = arm.pilot[arm.best] - base
    error = _error(gap, pilot.seed_deviation, math.inf)
    return _versus(arm, gap, base, error, {arm.name: 1.0}, {arm.name: pilot.level}, pilot)


def choose(arms: Sequence[ArmAnswers], pilot: PilotConfig, dropped: Sequence[str] = ()) -> Choice:
    """The arm that trains the student; see the module.

    Args:
        arms: all that were tried; at least one is SFT.
        pilot: level, least number of problems, and the deviation between seeds for want of a measured one.
        dropped: names of arms that began and got no further seed; they count among those that were tried.

    Raises:
        ValueError: there is no SFT among them.
    """
    sft, others = _apart(arms)
    base = sft.pilot[sft.best]
    seeds, problems = base.shape
    gaps = {arm.name: arm.pilot[arm.best] - base for arm in others}
    deviation, freedom = _between_seeds(list(gaps.values()), pilot)
    count = len(others) + len(dropped)
    seen = detectable(problems, seeds, count, pilot, deviation if others else pilot.seed_deviation, gaps.values())
    errors = {name: _error(gap, deviation, freedom) for name, gap in gaps.items()}
    raw = {name: _p_value(float(gaps[name].mean()), *errors[name]) for name in gaps} | dict.fromkeys(dropped, 1.0)
    adjusted, levels = statistics.holm(raw), _levels(raw, pilot.level)
    against = tuple(_versus(arm, gaps[arm.name], base, errors[arm.name], adjusted, levels, pilot) for arm in others)
    winners = [one for one in against if one.better] if problems >= pilot.min_problems else []
    arm, why = sft.name, _why_sft(against, problems, seen, pilot)
    if winners:
        best = max(winners, key=lambda one: one.bound)
        interval = f"{points(best.low)} to {points(best.high)}, p = {best.p_value:.2g} among {count}"
        arm, why = best.name, f"{best.name} brought {points(best.difference)} over plain fine-tuning"
        why += f" on {problems} pilot problems (95 % interval {interval})"
    return Choice(arm, sft.name, why, against, problems, seeds, deviation, bool(gaps) and seeds > 1, seen)


def detectable(problems: int, seeds: int, arms: int, pilot: PilotConfig, deviation: float, gaps: Any = ()) -> float:
    """The true difference by which one arm of several would be found with 80 % power.

    Args:
        problems: of the pilot.
        seeds: students an arm.
        arms: how many are tried, without SFT.
        pilot: its level, samples of an answer, and the deviation that few seeds lean on.
        deviation: of a difference between seeds.
        gaps: differences by seed and problem, where they are there; before the pilot two models are thought of that
            answer every second problem differently.
    """
    if not problems:
        return 1.0
    error, least = _foreseen(problems, seeds, arms, pilot, deviation, gaps)
    return float(min(1.0, (least + stats.norm.isf(1.0 - POWER)) * error))


def power(gain: float, problems: int, seeds: int, arms: int, pilot: PilotConfig, deviation: float) -> float:
    """How likely a pilot finds an arm that is better by so much; before it is run, as :func:`detectable` sees it.

    Args:
        gain: the true difference.
        problems: of the pilot.
        seeds: students an arm.
        arms: how many are tried, without SFT.
        pilot: its level, samples of an answer, and the deviation that few seeds lean on.
        deviation: of a difference between seeds.
    """
    if not problems:
        return 0.0
    error, least = _foreseen(problems, seeds, arms, pilot, deviation)
    return float(stats.norm.sf(least - gain / error))


def _foreseen(
    problems: int, seeds: int, arms: int, pilot: PilotConfig, deviation: float, gaps: Any = ()
) -> tuple[float, float]:
    """The standard error of a mean difference, and by how many of them one of the arms must be better."""
    seen = [float(gap.mean(axis=0).var()) for gap in gaps]
    each = _DIFFERENT / (max(seeds, 1) * (pilot.samples if any(pilot.temperatures) else 1))
    over = (sum(seen) / len(seen) if seen else each) / problems
    freedom = seeds - 1 + PRIOR if seeds > 1 else math.inf
    error, degrees = _summed(over, problems, deviation**2 / max(seeds, 1), freedom)
    return error, float(stats.t.isf(pilot.level / max(arms, 1), degrees))


def over_seeds(first: Comparison, gap: Hits, pilot: PilotConfig, level: float) -> Comparison:
    """A comparison of one seed made one over several: the mean difference, with its interval over problems and seeds.

    Args:
        first: of the judged seed.
        gap: differences of shares of right answers [S, P], at least two seeds.
        pilot: by how much a difference spreads between seeds at least; where these spread by less, it counts as five.
        level: of the one-sided bound ``worst``.
    """
    measured = float(gap.mean(axis=1).std(ddof=1))
    # Unlike a pilot, which must choose on few seeds, a claim does not shrink what it saw towards what is usual.
    wide = measured > pilot.seed_deviation
    deviation, freedom = (measured, float(len(gap) - 1)) if wide else _between_seeds([gap], pilot)
    error, degrees = _error(gap, deviation, freedom)
    mean, by_problem = float(gap.mean()), gap.mean(axis=0)
    half, bound, power = (float(stats.t.isf(tail, degrees)) * error for tail in (0.025, level, 1.0 - POWER))
    return replace(
        first,
        gains=int((by_problem > 0).sum()),
        losses=int((by_problem < 0).sum()),
        difference=mean,
        low=mean - half,
        high=mean + half,
        p_value=_p_value(mean, error, degrees),
        worst=mean - bound,
        detectable=min(1.0, bound + power),
    )


def _between_seeds(gaps: Sequence[Hits], pilot: PilotConfig) -> tuple[float, float]:
    """The standard deviation of a difference between seeds, and its degrees of freedom; pooled over the arms.

    Arms share SFT's students, so their spreads hang together: the degrees of freedom are those of one arm, and a spread
    below the configured one is not believed on so few.
    """
    seeds = gaps[0].shape[0] if gaps else 1
    if seeds == 1:
        return pilot.seed_deviation, math.inf
    variance = float(np.mean([gap.mean(axis=1).var(ddof=1) for gap in gaps]))
    known = pilot.seed_deviation**2
    freedom = float(seeds - 1)
    return math.sqrt((freedom * variance + PRIOR * known) / (freedom + PRIOR)), freedom + PRIOR


def _error(gap: Hits, deviation: float, freedom: float) -> tuple[float, float]:
    """Standard error of the mean difference, and its degrees of freedom."""
    seeds, problems = gap.shape
    mean = gap.mean(axis=0)
    # As if one more problem were lost and one more won: without a difference seen, no certainty that there is none.
    over = (float(((mean - mean.mean()) ** 2).sum()) + 2.0) / (problems * (problems + 2))
    return _summed(over, problems, deviation**2 / seeds, freedom)


def _summed(over: float, problems: int, between: float, freedom: float) -> tuple[float, float]:
    """Standard error of two variances together, and its degrees of freedom (Welch and Satterthwaite)."""
    total, down = over + between, over**2 / max(problems - 1, 1) + between**2 / freedom
    return math.sqrt(total), total**2 / down if down else math.inf


def _p_value(difference: float, error: float, freedom: float) -> float:
    return float(stats.t.sf(difference / error, freedom))


def _levels(raw: Mapping[str, float], level: float) -> dict[str, float]:
    """The level at which Holm's procedure tests each arm."""
    order = sorted(raw, key=lambda name: raw[name])
    return {name: level / (len(order) - rank) for rank, name in enumerate(order)}


def _versus(
    arm: ArmAnswers,
    gap: Hits,
    base: Hits,
    error: tuple[float, float],
    adjusted: Mapping[str, float],
    levels: Mapping[str, float],
    pilot: PilotConfig,
) -> Versus:
    difference, (sd, freedom) = float(gap.mean()), error
    half = float(stats.t.isf(0.025, freedom)) * sd
    bound = difference - float(stats.t.isf(levels[arm.name], freedom)) * sd
    better = adjusted[arm.name] <= pilot.level and bound > 0.0
    return Versus(
        arm.name, arm.best, float(arm.pilot[arm.best].mean()), float(base.mean()), difference, difference - half,
        difference + half, bound, adjusted[arm.name], better,
    )  # fmt: skip


def _why_sft(against: Sequence[Versus], problems: int, seen: float, pilot: PilotConfig) -> str:
    if not against:
        return "no arm but plain fine-tuning could be tried on these traces"
    if problems < pilot.min_problems:
        return f"{problems} pilot problems are fewer than {pilot.min_problems}, so nothing is told from them"
    return (
        f"no arm could be told from plain fine-tuning on {problems} pilot problems; "
        f"{seen * 100:.0f} points would have been seen"
    )
