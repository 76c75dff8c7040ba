"""Two models on the same problems of a benchmark: the paired statistics that the gate decides by. Pure functions.

The p-value is that of the exact paired permutation test over problems (for one answer a problem, McNemar's), the ends
of intervals are those of Tango's score interval, and of the same with several answers a problem. Nothing is drawn.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from dcod.evaluate import statistics

SIDE = 0.025  # chance of an error that the 95 % interval allows at either end
_NEAR = 1e-12


@dataclass(frozen=True)
class Comparison:
    """One figure of a benchmark, challenger against baseline, on the problems of the gate split.

    Attributes:
        n: problems; each has ``samples`` answers.
        role: primary, guard, report, stability, or twin.
        challenger, baseline: accuracies; of a stability figure, the shares of answers.
        gains, losses: problems that the challenger answers better, and worse.
        difference: of the accuracies; ``low`` to ``high`` is its 95 % interval.
        p_value: one-sided, of "the challenger is no better".
        worst: lower end of the one-sided interval of the difference at the gate's level (for guards). Of a stability
            figure, where more is worse: the upper end.
        detectable: the smallest difference found with 80 % power, at this n and this share of disagreement.
    """

    benchmark: str
    role: str
    n: int
    samples: int
    challenger: float
    baseline: float
    gains: int
    losses: int
    difference: float
    low: float
    high: float
    p_value: float
    worst: float
    detectable: float


def compare(
    key: str, role: str, ours: Mapping[str, list[float]], theirs: Mapping[str, list[float]], level: float
) -> Comparison:
    """Compares two models.

    Args:
        key: the benchmark.
        role: what the gate does with it.
        ours: by problem, a value of each of its answers: 1 for a right one, 0 for another.
        theirs: the same of the baseline, on the same problems.
        level: of the one-sided interval.
    """
    problems = sorted(ours)
    n, samples = len(problems), len(ours[problems[0]])
    challenger = [sum(ours[problem]) / samples for problem in problems]
    baseline = [sum(theirs[problem]) / len(theirs[problem]) for problem in problems]
    differences = [a - b for a, b in zip(challenger, baseline, strict=True)]
    gains, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    unit = math.lcm(samples, *{len(answers) for answers in theirs.values()})
    steps = [round(d * unit) for d in differences]
    rounded = [step / unit for step in steps]
    return Comparison(
        benchmark=key,
        role=role,
        n=n,
        samples=samples,
        challenger=sum(challenger) / n,
        baseline=sum(baseline) / n,
        gains=gains,
        losses=losses,
        difference=(sum(challenger) - sum(baseline)) / n,
        low=score_bound(rounded, SIDE),
        high=-score_bound([-d for d in rounded], SIDE),
        p_value=statistics.mcnemar(gains, losses) if samples == 1 else statistics.sign_flip(steps),
        worst=score_bound(rounded, level),
        detectable=_detectable(differences, level),
    )


def compare_rise(
    key: str, ours: Mapping[str, list[float]], theirs: Mapping[str, list[float]], level: float
) -> Comparison:
    """Compares shares of bad answers: ``worst`` is the largest rise that is not ruled out, gains are improvements."""
    good, before = ({p: [-v for v in values] for p, values in side.items()} for side in (ours, theirs))
    fall = compare(key, "stability", good, before, level)
    return replace(
        fall,
        challenger=0.0 - fall.challenger,  # never -0.0, which prints as such
        baseline=0.0 - fall.baseline,
        difference=0.0 - fall.difference,
        low=0.0 - fall.high,
        high=0.0 - fall.low,
        p_value=1.0,
        worst=0.0 - fall.worst,
    )


def _detectable(differences: Sequence[float], level: float) -> float:
    n = len(differences)
    discordant = sum(d * d for d in differences) / n  # with one answer a problem, the share that differs
    return statistics.minimum_detectable_difference(n, discordant, level)


def points(share: float) -> str:
    """A difference as a sentence says it."""
    return f"{share * 100:+.1f} points"


def at(temperature: float) -> str:
    """A temperature as a sentence says it."""
    return f"at temperature {temperature:g}" if temperature else "greedy"


def problems_to_find(one: Comparison, level: float) -> int:
    """About how many problems would show the difference that was found with 80 % power; 0 where that is not known.

    That is so without a gain, and with several answers a problem, whose spread a comparison does not hold.
    """
    if one.samples > 1 or one.difference <= 0.0:
        return 0
    return statistics.problems_to_find(one.difference, (one.gains + one.losses) / one.n, level)


def apart(one: Comparison, level: float) -> str:
    """Why a test refuses a difference whose interval excludes 0, in words; "" where the interval holds 0.

    The interval's lower end is that of a score test, an approximation, at 2.5 %. So where the level is no stricter than
    that, only the exact counting of the test tells them apart: with one answer a problem and a level of 0.05 that is
    where four answers changed, all for the better.
    """
    if one.low <= 0.0:
        return ""
    if one.p_value >= level >= SIDE:
        return (
            "the interval excludes 0 all the same: it is an approximation, while the test is exact, and so careful "
            f"where the answers to few problems changed (here {one.gains + one.losses})"
        )
    return (
        f"the interval excludes 0 all the same: it allows an error of {SIDE:.1%} at either end and looks at this "
        "comparison alone, and the test is stricter"
    )


def score_bound(differences: Sequence[float], level: float) -> float:
    """Lower end of the one-sided interval of a mean of paired differences in [-1, 1], from -1 to their mean.

    The smallest mean that the score test does not reject at ``level``, its variance taken from the likeliest
    distribution of that mean: of weights on the differences that were seen, and on a loss of 1, seen or not (empirical
    likelihood, Owen 1988). So, as with Tango's interval, which it is for differences of -1, 0 and 1, a few problems
    without a loss are no proof of equality, and a rare deep fall is reckoned with.
    """
    from scipy import optimize

    n, bound = len(differences), NormalDist().inv_cdf(1.0 - level)
    shares = {value: count / n for value, count in Counter(sorted(differences)).items()}  # in any order, the same bits
    seen = math.fsum(differences) / n

    def beyond(mean: float) -> float:
        return seen - mean - bound * math.sqrt(_variance(shares, mean) / n)

    least, most = -1.0 + _NEAR, seen - _NEAR
    if most <= least or beyond(least) <= 0.0:
        return -1.0
    return float(optimize.brentq(beyond, least, most, xtol=_NEAR)) if beyond(most) < 0.0 else most


def _variance(shares: Mapping[float, float], mean: float) -> float:
    """Of the likeliest distribution with a mean that is not above that of what was seen."""
    from scipy import optimize

    off = [(value - mean, share) for value, share in shares.items()]

    def pull(tilt: float) -> float:
        return sum(share * away / (1.0 + tilt * away) for away, share in off)  # few values: faster than arrays

    tilt = (1.0 - _NEAR) / (1.0 + mean)  # where a loss of 1 would have to come
    if pull(0.0) <= 0.0:
        tilt = 0.0
    elif pull(tilt) < 0.0:
        tilt = optimize.brentq(pull, 0.0, tilt, xtol=_NEAR)
    weights = [(away, share / (1.0 + tilt * away)) for away, share in off]
    unseen = max(1.0 - sum(weight for _, weight in weights), 0.0)  # of the loss of 1
    return sum(weight * away**2 for away, weight in weights) + unseen * (1.0 + mean) ** 2


def lower_bound(gains: int, losses: int, n: int, level: float) -> float:
    """:func:`score_bound` with one answer a problem, where it is Tango's: of (gains - losses) / n."""
    return score_bound([1.0] * gains + [-1.0] * losses + [0.0] * (n - gains - losses), level)
