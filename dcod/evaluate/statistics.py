"""Statistics of evaluation: intervals, paired tests, k samples, stability of traces. Pure numpy and scipy."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np
from scipy import stats
from scipy.special import entr

from dcod.grading import thoughts

POWER = 0.8  # with which a detectable difference is found
RESAMPLES = 10_000
_CHUNK = 4_000_000  # drawn indices held at once


def wilson_interval(correct: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a share (Wilson 1927); (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    interval = stats.binomtest(correct, n).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(gains: int, losses: int) -> float:
    """One-sided exact McNemar p-value of "more problems gained than lost" (a binomial test on the discordant)."""
    if gains + losses == 0:
        return 1.0
    return float(stats.binomtest(gains, gains + losses, 0.5, alternative="greater").pvalue)


def sign_flip(differences: Sequence[int]) -> float:
    """One-sided exact p-value of "the sum is no larger than chance", were each difference as likely of the other sign.

    The paired permutation test over problems: exact wherever two models answer each problem equally well, for any count
    of samples, however they hang together within a problem. With one sample a problem it is McNemar's. All sign flips
    are counted, none is drawn; flips leave the sum of squares alone, so the studentised test is the same one.

    Args:
        differences: by problem, in whole units such as answers; their order does not matter.
    """
    sizes, counts = np.unique([abs(one) for one in differences if one], return_counts=True)
    if not len(sizes):
        return 1.0
    unit = int(np.gcd.reduce(sizes))
    ways = np.ones(1)  # chance of each sum of the positive ones, in units
    for size, count in zip((sizes // unit).tolist(), counts.tolist(), strict=True):
        summed = np.zeros(len(ways) + size * count)
        for positive, chance in enumerate(stats.binom.pmf(np.arange(count + 1), count, 0.5)):
            summed[positive * size : positive * size + len(ways)] += chance * ways
        ways = summed
    return min(1.0, float(ways[sum(one for one in differences if one > 0) // unit :].sum()))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment (1979): reject where the adjusted p-value is at most the level of the family."""
    adjusted: dict[str, float] = {}
    worst = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = worst
    return {name: adjusted[name] for name in p_values}


def bootstrap_interval(values: Sequence[float], level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean over problems, seeded.

    Raises:
        ValueError: there are no values.
    """
    if not len(values):
        raise ValueError("a bootstrap needs at least one problem")
    if len(values) == 1:  # which scipy refuses
        return float(values[0]), float(values[0])
    result = stats.bootstrap(
        (np.asarray(values, dtype=float),),
        np.mean,
        confidence_level=level,
        n_resamples=RESAMPLES,
        batch=max(1, _CHUNK // len(values)),
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(result.low), float(result.high)


@lru_cache
def fewest(level: float) -> int:
    """The fewest problems on which a paired one-sided test can pass, all of them gained: five at level 0.05."""
    return next(n for n in itertools.count(1) if mcnemar(n, 0) < level)


def minimum_detectable_difference(n: int, discordant: float, level: float = 0.05) -> float:
    """The difference of two accuracies that a paired one-sided test finds with :data:`POWER`.

    Normal approximation of McNemar's test (Connor 1987): n problems, a share ``discordant`` of which the two
    models answer differently. At least what it takes when no problem is lost: above 1 where there are too few.
    """
    if n == 0:
        return 1.0
    z_level, z_power = stats.norm.isf(level), stats.norm.isf(1 - POWER)
    difference = 0.0
    for _ in range(50):  # the variance depends on the difference itself
        variance = max(discordant - difference**2, 0.0)
        difference = (z_level * math.sqrt(discordant) + z_power * math.sqrt(variance)) / math.sqrt(n)
    return max(float(min(difference, 1.0)), fewest(level) / n)


def problems_to_find(difference: float, discordant: float, level: float = 0.05) -> int:
    """About how many problems the exact test takes to find a difference with :data:`POWER`.

    :func:`minimum_detectable_difference` the other way round, and 1 / difference more: its normal approximation alone
    is some 5 % of power short of the exact test (Fleiss 1981).
    """
    z_level, z_power = stats.norm.isf(level), stats.norm.isf(1 - POWER)
    spread = z_level * math.sqrt(discordant) + z_power * math.sqrt(max(discordant - difference**2, 0.0))
    return math.ceil((spread / difference) ** 2 + 1.0 / difference)


def answer_entropy(answers: Sequence[str | None]) -> float:
    """Entropy, in nats, of the answers to one problem; no answer counts as an answer of its own."""
    shares = np.array(list(Counter(answers).values())) / max(len(answers), 1)
    return float(entr(shares).sum()) + 0.0  # never -0.0


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Unbiased pass@k from n samples of one problem (Chen et al. 2021, eq. 1)."""
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs at least {k} samples, got {n}")
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


def majority(answers: Sequence[str | None]) -> str | None:
    """maj@k: the most frequent answer, the earliest of equals; samples without an answer do not vote."""
    votes = Counter(answer for answer in answers if answer is not None)
    return max(votes, key=lambda a: (votes[a], -list(answers).index(a))) if votes else None


_WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]|\n+")


def words(text: str) -> list[str]:
    """Words, signs and line ends of a text; numbers count as one word: other problems are no other style."""
    return ["0" if word.isdigit() else word.casefold() for word in _WORD.findall(text)]


def openings(texts: Sequence[str]) -> float:
    """How many ways to begin there are among some texts: exp of the entropy of their first three words.

    Behind a tag that opens a thought. 1 where all begin alike. It grows with the number of texts, so compare equally
    many. A student that fell into one of its teacher's styles shows fewer than others.
    """
    return math.exp(answer_entropy([" ".join(words(_begun(text))[:3]) for text in texts]))


def _begun(text: str) -> str:
    """The beginning of a text, without a tag that opens a thought."""
    text = text.lstrip()[:400]
    first = next(iter(thoughts.marks(text)), None)
    return text[first.end :] if first and first.does == "open" and first.begin == 0 else text


def repetition_rate(text: str, n: int = 8) -> float:
    """The share of a text's n-grams of words that stood in it before: about 1 for a loop, 0 for a short text."""
    words = text.split()
    grams = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    total = sum(grams.values())
    return (total - len(grams)) / total if total else 0.0


_TERM = r"(?:[$€£]\s?)?(\d{1,15}(?:,\d{3}){0,6}(?:\.\d{1,9})?)(?![\w%.,]?\d)"
_OPERATOR = r"\s{0,4}(?:[-+*/×÷x−]|\\times|\\cdot|\\div)\s{0,4}"  # longer runs of blanks are no sum
_STEP = re.compile(rf"(?<![\w.)\]}}+\-*/×÷^=,$]){_TERM}((?:{_OPERATOR}{_TERM}){{1,8}})\s{{0,4}}=\s{{0,4}}")
_BEFORE = re.compile(
    r"(?:[\w)\]}$%.]\s{0,4}[-+*/×÷^−]|(?:[\d%]|half|thirds?|quarters?)\sof|\b(?:x|times)|\\times|\\cdot|\\div)\s{0,4}\Z"
)
_OPERATION = re.compile(rf"\s{{0,4}}([-+*/×÷x−]|\\times|\\cdot|\\div)\s{{0,4}}{_TERM}")
_RESULT = re.compile(
    r"(?:[$€£]\s?)?([-−]?\d{1,18}(?:,\d{3}){0,6}(?:\.\d{1,12})?)"
    r"(?!\s{0,4}[-+*/×÷^−x\\(\d{:,]\s{0,4}[\d({\\])(?![\w.^%/]?\d|%|[A-Z])"
)


def arithmetic_steps(text: str) -> list[bool]:
    """For every stated step with numbers only, such as ``3 * 4 + 1 = 13``, whether it holds.

    Products before sums; a rounded result holds when it is right to the decimals that it has. Steps with
    letters, brackets, powers or percentages are not looked at.
    """
    verdicts = []
    for match in _STEP.finditer(text):
        if _BEFORE.search(text, max(0, match.start() - 20), match.start()):
            continue  # the end of a longer step: 60 students x 2/3 = 40
        result = _RESULT.match(text, match.end())
        value = _evaluate(match.group(1), match.group(2))
        if result is None or value is None:
            continue
        digits = result.group(1).replace(",", "").replace("−", "-")
        places = len(digits.partition(".")[2])
        verdicts.append(abs(value - Fraction(digits)) <= (Fraction(1, 2 * 10**places) if value.denominator > 1 else 0))
    return verdicts


def _evaluate(first: str, rest: str) -> Fraction | None:
    terms = [Fraction(first.replace(",", ""))]
    for match in _OPERATION.finditer(rest):
        operator, number = match.group(1), Fraction(match.group(2).replace(",", ""))
        if operator in "+-−":
            terms.append(number if operator == "+" else -number)
        elif operator in ("/", "÷", "\\div"):
            if not number:
                return None
            terms[-1] /= number
        else:
            terms[-1] *= number
    return sum(terms, Fraction(0))
