"""The promotion gate: is the challenger really better? Pure functions; the decision is data with its reasons.

On the gate split, on the same problems, zero-shot:
  * every *primary* benchmark must improve: exact one-sided McNemar test where each problem has one answer, a
    paired bootstrap over problems where it has k samples. All must hold, so each is tested at the level itself
    and the chance to promote a challenger that is no better on one of them stays below it (an
    intersection-union test needs no correction);
  * every *guard* must be non-inferior: the lower end of the one-sided interval of the difference, at the same
    level, lies above minus the margin;
  * and nothing may make the comparison void: other problems, another evaluator, too few problems, too many
    answers cut off or not parseable.

A benchmark with the role *report* is compared and shown, and decides nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from dcod import metrics
from dcod.config import PromoteConfig
from dcod.errors import UserError

SPLIT = "gate"
PROMPTING = "zero_shot"
POWER = 0.8  # of the minimum detectable difference
RESAMPLES = 10_000

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Model:
    """A model of the comparison.

    Attributes:
        digest: of its checkpoint.
        uri: where it was when it was evaluated.
        version: in the registry; 0 when it is not registered.
    """

    digest: str
    uri: str = ""
    version: int = 0


@dataclass(frozen=True)
class Reason:
    """One check of the gate: a code for machines, a sentence with its numbers, and whether it holds."""

    code: str
    text: str
    passed: bool


@dataclass(frozen=True)
class Comparison:
    """One benchmark, challenger against baseline, on the problems of the gate split.

    Attributes:
        n: problems; each has ``samples`` answers.
        challenger, baseline: accuracies.
        gains, losses: problems that the challenger answers better, and worse.
        difference: of the accuracies; ``low`` to ``high`` is its 95 % interval.
        p_value: one-sided, of "the challenger is no better".
        worst: lower end of the one-sided interval of the difference at the gate's level (for guards).
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


@dataclass(frozen=True)
class Decision:
    """What the gate decided and why."""

    promote: bool
    reasons: tuple[Reason, ...]
    comparisons: tuple[Comparison, ...]
    challenger: Model
    baseline: Model
    level: float
    margin: float
    registered_model: str = ""

    @property
    def outcome(self) -> str:
        """``promote``, ``refuse``, or ``already_champion`` where both are the same model."""
        if self.challenger.digest == self.baseline.digest:
            return "already_champion"
        return "promote" if self.promote else "refuse"

    @property
    def failed(self) -> tuple[Reason, ...]:
        """The checks that do not hold."""
        return tuple(reason for reason in self.reasons if not reason.passed)

    def to_json(self) -> str:
        """The decision as indented JSON, with the outcome spelled out."""
        return json.dumps({**asdict(self), "outcome": self.outcome}, indent=2, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Decision:
        """Reads what :meth:`to_json` wrote.

        Raises:
            UserError: it is no decision.
        """
        try:
            data = json.loads(text)
            data.pop("outcome")
            return cls(
                **{
                    **data,
                    "reasons": tuple(Reason(**item) for item in data["reasons"]),
                    "comparisons": tuple(Comparison(**item) for item in data["comparisons"]),
                    "challenger": Model(**data["challenger"]),
                    "baseline": Model(**data["baseline"]),
                }
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UserError(
                f"decision.json: not a decision of this version of dcod ({error}); run the gate again"
            ) from None


@dataclass(frozen=True)
class Results:
    """A results folder of the evaluate stage."""

    summary: dict[str, Any]
    examples: list[dict[str, Any]]

    @property
    def model(self) -> Model:
        """The model that was evaluated."""
        return Model(self.summary["model"]["digest"], self.summary["model"]["uri"])


def load_results(folder: Path) -> Results:
    """Reads a results folder.

    Raises:
        UserError: it is none.
    """
    import pyarrow.parquet as pq

    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        columns = ["benchmark", "problem_id", "split", "prompting", "sample", "outcome"]
        return Results(summary, pq.read_table(folder / "examples.parquet", columns=columns).to_pylist())
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}: no results of an evaluation ({error}); make them with `dcod evaluate`") from None


def decide(
    challenger: dict[str, Any],
    baseline: dict[str, Any],
    examples_challenger: Sequence[Row],
    examples_baseline: Sequence[Row],
    config: PromoteConfig,
) -> Decision:
    """Applies the rules of this module.

    Args:
        challenger: the summary of its results folder.
        baseline: the summary of the champion, or of the start where there is none.
        examples_challenger: one row an answer: benchmark, problem_id, split, prompting, sample, outcome.
        examples_baseline: the same of the baseline.
        config: level, margin and limits.
    """
    ours, theirs = _outcomes(examples_challenger), _outcomes(examples_baseline)
    reasons: list[Reason] = []
    comparisons: list[Comparison] = []
    ours_by, theirs_by = challenger["benchmarks"], baseline["benchmarks"]
    if not any(entry["role"] == "primary" for entry in ours_by.values()):
        reasons.append(Reason("no_primary", "no benchmark has the role primary, so nothing can improve", False))
    for key in sorted({*ours_by, *theirs_by}):
        role = (ours_by.get(key) or theirs_by[key])["role"]
        void = _void(key, ours_by.get(key), theirs_by.get(key), ours.get(key, {}), theirs.get(key, {}))
        if void is not None:
            reasons.append(Reason(void.code, void.text, role == "report"))
            continue
        found = _compare(key, role, ours.get(key, {}), theirs.get(key, {}), config.level)
        comparisons.append(found)
        if role != "report":
            reasons += _checks(found, [o for answers in ours[key].values() for o in answers], config)
    return Decision(
        promote=all(reason.passed for reason in reasons),
        reasons=tuple(reasons),
        comparisons=tuple(comparisons),
        challenger=Model(**challenger["model"]),
        baseline=Model(**baseline["model"]),
        level=config.level,
        margin=config.margin,
        registered_model=config.registered_model,
    )


def _outcomes(rows: Iterable[Row]) -> dict[str, dict[str, list[str]]]:
    """Outcomes of the gate split, by benchmark and problem, in the order of the samples."""
    found: dict[str, dict[str, dict[int, str]]] = {}
    for row in rows:
        if row["split"] == SPLIT and row["prompting"] == PROMPTING:
            answers = found.setdefault(row["benchmark"], {}).setdefault(row["problem_id"], {})
            answers[row["sample"]] = row["outcome"]
    return {
        key: {problem: [answers[i] for i in sorted(answers)] for problem, answers in problems.items()}
        for key, problems in found.items()
    }


def _void(
    key: str,
    ours: Mapping[str, Any] | None,
    theirs: Mapping[str, Any] | None,
    answers: Mapping[str, list[str]],
    baseline_answers: Mapping[str, list[str]],
) -> Reason | None:
    """Why the two cannot be compared on this benchmark; None if they can."""
    if ours is None or theirs is None:
        who = "challenger" if ours is None else "baseline"
        return Reason("benchmark_missing", f"{key}: the {who} was not evaluated on it; evaluate both alike", False)
    if ours["fingerprint"] != theirs["fingerprint"]:
        return Reason(
            "evaluators_differ",
            f"{key}: evaluated differently (fingerprint {ours['fingerprint'][:12]} against "
            f"{theirs['fingerprint'][:12]}: grader, prompt, sampling or data); evaluate the baseline again",
            False,
        )
    if answers.keys() != baseline_answers.keys():
        odd = len(answers.keys() ^ baseline_answers.keys())
        return Reason("problems_differ", f"{key}: {odd} problems were answered by only one of the two models", False)
    counts = {len(v) for v in answers.values()} | {len(v) for v in baseline_answers.values()}
    if len(counts) > 1:
        return Reason("samples_differ", f"{key}: problems have different numbers of answers: {sorted(counts)}", False)
    if not answers:
        return Reason("no_problems", f"{key}: no problem on the gate split", False)
    return None


def _compare(
    key: str, role: str, ours: Mapping[str, list[str]], theirs: Mapping[str, list[str]], level: float
) -> Comparison:
    problems = sorted(ours)
    n, samples = len(problems), len(ours[problems[0]])
    challenger = [sum(o == "correct" for o in ours[problem]) / samples for problem in problems]
    baseline = [sum(o == "correct" for o in theirs[problem]) / samples for problem in problems]
    gains = sum(a > b for a, b in zip(challenger, baseline, strict=True))
    losses = sum(a < b for a, b in zip(challenger, baseline, strict=True))
    difference = (sum(challenger) - sum(baseline)) / n
    if samples == 1:
        p_value = metrics.mcnemar(gains, losses)
        low, high = lower_bound(gains, losses, n, 0.025), -lower_bound(losses, gains, n, 0.025)
        worst = lower_bound(gains, losses, n, level)
    else:
        p_value, low, high, worst = _bootstrap([a - b for a, b in zip(challenger, baseline, strict=True)], level)
    return Comparison(
        benchmark=key,
        role=role,
        n=n,
        samples=samples,
        challenger=sum(challenger) / n,
        baseline=sum(baseline) / n,
        gains=gains,
        losses=losses,
        difference=difference,
        low=low,
        high=high,
        p_value=p_value,
        worst=worst,
        detectable=_detectable([a - b for a, b in zip(challenger, baseline, strict=True)], level),
    )


def _detectable(differences: Sequence[float], level: float) -> float:
    """Minimum detectable difference; at least what it takes when no problem is lost (five gains at level 0.05)."""
    n = len(differences)
    discordant = sum(d * d for d in differences) / n  # with one answer a problem, the share that differs
    least = math.floor(math.log(level) / math.log(0.5)) + 1
    return max(metrics.minimum_detectable_difference(n, discordant, level, POWER), least / n)


def _checks(found: Comparison, outcomes: Sequence[str], config: PromoteConfig) -> list[Reason]:
    """The rules for one benchmark that can be compared; ``outcomes`` are the challenger's."""
    key = found.benchmark
    enough = found.n >= config.min_problems
    reasons = [
        Reason(
            "enough_problems",
            f"{key}: {found.n} problems on the gate split, at least {config.min_problems} needed",
            enough,
        )
    ]
    numbers = (
        f"{found.challenger:.1%} against {found.baseline:.1%} on {found.n} problems, {found.gains} better and "
        f"{found.losses} worse; difference {_points(found.difference)} (95% interval {_points(found.low)} to "
        f"{_points(found.high)})"
    )
    if found.role == "primary":
        passed = found.p_value < config.level and found.difference > 0
        verdict = "improved" if passed else "no improvement shown"
        text = f"{key}: {verdict}: {numbers}, p = {found.p_value:.2g}, level {config.level:g}"
        if not passed:
            text += f"; a difference of {found.detectable * 100:.1f} points would be found with {POWER:.0%} power"
        reasons.append(Reason("improves", text, passed))
    else:
        passed = found.worst > -config.margin
        verdict = "not worse" if passed else "not shown to hold"
        reasons.append(
            Reason(
                "holds",
                f"{key}: {verdict}: {numbers}, at worst {_points(found.worst)}, allowed "
                f"-{config.margin * 100:.1f} points",
                passed,
            )
        )
    for outcome, limit in (("truncated", config.max_truncated), ("unparseable", config.max_unparseable)):
        share = sum(o == outcome for o in outcomes) / len(outcomes)
        reasons.append(
            Reason(outcome, f"{key}: {share:.1%} of the answers {outcome}, at most {limit:.0%} allowed", share <= limit)
        )
    return reasons


def _points(value: float) -> str:
    return f"{value * 100:+.1f} points"


def _bootstrap(differences: Sequence[float], level: float) -> tuple[float, float, float, float]:
    """Paired bootstrap over problems: one-sided p, 95 % interval, and the lower end at ``level``.

    The spread is scaled by sqrt(n / (n - 1)), since a resample of few problems varies too little. Seeded: the
    same results give the same decision.
    """
    n = len(differences)
    values, counts = np.unique(np.round(differences, 12), return_counts=True)
    drawn = np.random.default_rng(0).multinomial(n, counts / n, size=RESAMPLES) @ values / n
    mean = float(np.mean(differences))
    drawn = mean + (drawn - mean) * math.sqrt(n / max(n - 1, 1))
    p_value = (1 + int(np.count_nonzero(drawn <= 0.0))) / (RESAMPLES + 1)
    low, high, worst = np.quantile(drawn, (0.025, 0.975, level))
    return p_value, float(low), float(high), float(worst)


def lower_bound(gains: int, losses: int, n: int, level: float) -> float:
    """Lower end of the one-sided interval of (gains - losses) / n: Tango's score interval for paired proportions.

    The smallest difference d that the score test does not reject at ``level``; unlike the normal
    approximation it does not call three problems without a loss a proof of equality.
    """
    bound = NormalDist().inv_cdf(1.0 - level)
    low, high = -1.0, (gains - losses) / n
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _score(gains, losses, n, middle) > bound else (low, middle)
    return low


def _score(gains: int, losses: int, n: int, difference: float) -> float:
    """Tango's (1998) score statistic of the hypothesis that the accuracies differ by ``difference``."""
    a = 2.0 * n
    b = -(gains + losses) + (2.0 * n - gains + losses) * difference
    c = -losses * difference * (1.0 - difference)
    share = (math.sqrt(max(b * b - 4.0 * a * c, 0.0)) - b) / (2.0 * a)  # of losses, under the hypothesis
    variance = n * (2.0 * share + difference * (1.0 - difference))
    if variance <= 0.0:
        return math.inf if gains - losses > n * difference else 0.0
    return (gains - losses - n * difference) / math.sqrt(variance)
