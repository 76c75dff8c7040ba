"""The figures of a set of graded answers: accuracy at k with intervals, what could be detected, and stability.

An answer is a row of ``examples.parquet``; see :data:`dcod.stages.evaluate.SCHEMA`. Counts add up: correct + wrong +
unparseable + truncated + error are all answers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dcod.evaluate import statistics
from dcod.grading import quantities, spelling
from dcod.traces import cleaning

OUTCOMES = ("correct", "wrong", "unparseable", "truncated", "error")
SHOWN = {  # the title and format of a figure on pages; one of `stability` that is not here is shown by its name
    "mean_tokens": ("length", ".0f"),
    "truncated": ("cut off", ".1%"),
    "looping": ("loops", ".1%"),
    "contradicting": ("wrong steps", ".1%"),
    "repetition": ("repeated words", ".1%"),
    "openings": ("ways to begin", ".1f"),
    "agreement": ("agreement", ".1%"),
    "entropy": ("entropy (nats)", ".2f"),
    "tokens_p50": ("tokens, median", ".0f"),
    "tokens_p95": ("tokens, 95 %", ".0f"),
    "tokens_sd": ("tokens, spread", ".0f"),
}
Row = Mapping[str, Any]


def of_answer(text: str) -> dict[str, Any]:
    """What one answer shows of its stability: ``repetition``, ``looping``, ``contradicting``."""
    return {
        "repetition": statistics.repetition_rate(text),
        "looping": cleaning.repetition(text) is not None,
        "contradicting": False in statistics.arithmetic_steps(text),
    }


def summarise(rows: Sequence[Row], samples: int) -> dict[str, Any]:
    """All figures of one benchmark on one split.

    Args:
        rows: the answers; every problem has ``samples`` of them.
        samples: answers a problem.

    Returns:
        ``n`` problems; ``accuracy`` (avg@k) and its 95 % interval ``low`` to ``high``, Wilson's for one answer a
        problem, else a bootstrap over problems, since the samples of a problem hang together; ``detectable``, see
        :func:`detectable`; ``outcomes``; ``at_k``; ``stability``; ``mean_tokens``.
    """
    outcomes = Counter(row["outcome"] for row in rows)
    assert sum(outcomes[o] for o in OUTCOMES) == len(rows), "an answer has an unknown outcome"
    problems: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        problems[row["problem_id"]].append(row)
    shares = [sum(r["outcome"] == "correct" for r in group) / len(group) for group in problems.values()]
    low, high = (0.0, 1.0)
    if rows and samples == 1:
        low, high = statistics.wilson_interval(outcomes["correct"], len(rows))
    elif rows:
        low, high = _over_problems(shares)
    return {
        "n": len(problems),
        "samples": samples,
        "accuracy": outcomes["correct"] / len(rows) if rows else 0.0,
        "low": low,
        "high": high,
        "detectable": detectable(shares),
        "outcomes": {name: outcomes[name] for name in OUTCOMES},
        "at_k": at_k(list(problems.values())) if samples > 1 else {},
        "stability": stability(list(problems.values())),
        "mean_tokens": sum(row["tokens"] for row in rows) / len(rows) if rows else 0.0,
    }


def detectable(shares: Sequence[float]) -> float:
    """The smallest gain that a paired one-sided test at level 0.05 against this model would find with 80 % power.

    The other model's answers are not known here, so they are taken as independent given the same accuracy: the
    worst case of models that are alike. A comparison prints its own, from the share that really differs.

    Args:
        shares: per problem, the share of right answers.
    """
    n = len(shares)
    if not n:
        return 1.0
    mean = (sum(shares) + 1) / (n + 2)  # no accuracy is exactly 0 or 1
    spread = float(np.var(shares)) if 0 < sum(shares) < n else mean * (1 - mean)
    return min(1.0, statistics.minimum_detectable_difference(n, 2 * spread))


def at_k(problems: Sequence[Sequence[Row]]) -> dict[str, list[float]]:
    """avg@k, maj@k, and pass@j for the powers of two up to k: value and 95 % bootstrap interval over problems."""
    k = min(len(group) for group in problems) if problems else 0
    if not k:
        return {}
    correct = [sum(row["outcome"] == "correct" for row in group) for group in problems]
    figures = {f"avg@{k}": [c / len(group) for c, group in zip(correct, problems, strict=True)]}
    figures[f"maj@{k}"] = [float(_majority_is_right(group)) for group in problems]
    for j in sorted({k, *(2**i for i in range(1, k.bit_length()) if 2**i <= k)}):
        figures[f"pass@{j}"] = [statistics.pass_at_k(len(g), c, j) for c, g in zip(correct, problems, strict=True)]
    return {name: [float(np.mean(values)), *_over_problems(values)] for name, values in figures.items()}


def _over_problems(values: Sequence[float]) -> tuple[float, float]:
    """Bootstrap over problems; where all are 0 or all are 1 it would claim certainty, so Wilson's interval there."""
    if len(set(values)) == 1 and values[0] in (0.0, 1.0):
        return statistics.wilson_interval(int(sum(values)), len(values))
    return statistics.bootstrap_interval(values)


def stability(problems: Sequence[Sequence[Row]]) -> dict[str, float]:
    """How steady the answers are: shares of answers, token counts, and agreement where a problem has several.

    ``truncated`` counts every answer that the limit ended, also a right one; ``looping`` ends in a loop or is half
    one line; ``contradicting`` states arithmetic that does not hold; ``openings`` counts the ways to begin of each
    problem's first sample (:func:`dcod.evaluate.statistics.openings`); ``agreement`` is the share of a problem's
    samples that say what most say, ``entropy`` (nats) that of its answers.
    """
    rows = [row for group in problems for row in group]
    if not rows:
        return {}
    tokens = np.asarray([row["tokens"] for row in rows], dtype=float)
    share: Callable[[str], float] = lambda name: sum(bool(row[name]) for row in rows) / len(rows)  # noqa: E731
    figures = {
        "truncated": share("truncated"),
        "looping": share("looping"),
        "contradicting": share("contradicting"),
        "repetition": float(np.mean([row["repetition"] for row in rows])),
        "openings": statistics.openings([group[0]["response"] for group in problems]),
        "tokens_sd": float(tokens.std()),
        "tokens_p50": float(np.quantile(tokens, 0.5)),
        "tokens_p95": float(np.quantile(tokens, 0.95)),
    }
    if max(len(group) for group in problems) > 1:
        said = [[canonical(row["answer"]) for row in group] for group in problems]
        figures["agreement"] = float(np.mean([agreement(one) for one in said]))
        figures["entropy"] = float(np.mean([statistics.answer_entropy(one) for one in said]))
    return figures


def formatted(figures: Mapping[str, float], names: Sequence[str]) -> list[str]:
    """Figures by their names, each in its format; those that are not there are empty."""
    return [format(figures[name], SHOWN.get(name, ("", ".4g"))[1]) if name in figures else "" for name in names]


def titles(names: Sequence[str]) -> list[str]:
    """What pages call figures."""
    return [SHOWN.get(name, (name.replace("_", " "), ""))[0] for name in names]


def agreement(said: Sequence[str | None]) -> float:
    """The share of the samples of a problem that say what most of them say; having no answer is no agreement."""
    votes = Counter(answer for answer in said if answer is not None)
    return max(votes.values(), default=0) / len(said)


def canonical(answer: str | None) -> str | None:
    """An answer in a spelling that equal numbers and equal texts share; for votes, not for grading."""
    if answer is None:
        return None
    number = quantities.as_number(spelling.tidy(answer))
    return spelling.normalise(answer).casefold() if number is None else str(number)


def _majority_is_right(group: Sequence[Row]) -> bool:
    said = [canonical(row["answer"]) for row in group]
    winner = statistics.majority(said)
    return winner is not None and group[said.index(winner)]["outcome"] == "correct"
