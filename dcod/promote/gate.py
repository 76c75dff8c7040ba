"""The promotion gate: is the challenger really better? Pure functions; the decision is data with its reasons.

On the gate split, on the same problems, zero-shot:
  * the *primary* benchmarks must improve (dcod.promote.compare): all of them, each tested at the level itself (an
    intersection-union test needs no correction); or, with ``primaries=any``, at least one after Holm's correction,
    and no other may fall by more than the margin;
  * every *guard* must be non-inferior: the lower end of the one-sided interval of the difference, at the same
    level, lies above minus the margin;
  * so must the answers' *stability*: of each figure of ``stability``, the share of answers may not rise by more than
    its margin, on primaries and guards;
  * and nothing may make the comparison void: other problems, another evaluator, too few problems, too many
    answers cut off or not parseable.

A benchmark with the role *report* is compared and shown, and decides nothing.

A gate that runs every night tests again and again. With ``schedule=repeated`` each test is made at ``level /
tests_per_period``, and a period holds no more tests than that: by the union bound the chance that noise is promoted,
or a guard's fall let through, within any period is at most the level, however the tests hang together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from dcod.config import PromoteConfig
from dcod.errors import UserError
from dcod.evaluate import statistics, summaries
from dcod.evaluate.results import Answer, AskedBenchmark, ModelRef, Results
from dcod.promote.compare import POWER, Comparison, compare, compare_rise

SPLIT = "gate"

AnswersByProblem = Mapping[str, list[Answer]]  # in the order of the samples


@dataclass(frozen=True)
class Reason:
    """One check of the gate: a code for machines, a sentence with its numbers, and whether it holds."""

    code: str
    text: str
    passed: bool


@dataclass(frozen=True)
class Decision:
    """What the gate decided and why; ``level`` is that of this one test."""

    promote: bool
    reasons: tuple[Reason, ...]
    comparisons: tuple[Comparison, ...]
    challenger: ModelRef
    baseline: ModelRef
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
                    "challenger": ModelRef(**data["challenger"]),
                    "baseline": ModelRef(**data["baseline"]),
                }
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UserError(
                f"decision.json: not a decision of this version of dcod ({error}); run the gate again"
            ) from None


def level_of(config: PromoteConfig) -> float:
    """The level of one test: a part of that of the period where gates are repeated."""
    return config.level / config.tests_per_period if config.schedule == "repeated" else config.level


def decide(challenger: Results, baseline: Results, config: PromoteConfig) -> Decision:
    """Applies the rules of this module.

    Args:
        challenger: of the student.
        baseline: of the champion, or of the start where there is none.
        config: level, margin and limits.
    """
    level = level_of(config)
    ours, theirs = challenger.by_problem(SPLIT), baseline.by_problem(SPLIT)
    reasons: list[Reason] = []
    comparisons: list[Comparison] = []
    ours_by, theirs_by = challenger.benchmarks, baseline.benchmarks
    if not any(asked.role == "primary" for asked in ours_by.values()):
        reasons.append(Reason("no_primary", "no benchmark has the role primary, so nothing can improve", False))
    for key in sorted({*ours_by, *theirs_by}):
        role = (ours_by.get(key) or theirs_by[key]).role
        void = _void(key, ours_by.get(key), theirs_by.get(key), ours.get(key, {}), theirs.get(key, {}))
        if void is not None:
            reasons.append(Reason(void.code, void.text, role == "report"))
            continue
        comparisons.append(compare(key, role, _right(ours[key]), _right(theirs[key]), level))
        if role != "report":
            reasons += _sane(
                comparisons[-1], [answer.outcome for answers in ours[key].values() for answer in answers], config
            )
            comparisons += _steadiness(key, ours[key], theirs[key], config)
    reasons += _verdicts([c for c in comparisons if c.role == "primary"], config, level)
    reasons += [_holds(c, config.margin) for c in comparisons if c.role == "guard"]
    reasons += [_steady(c, config.stability_margin) for c in comparisons if c.role == "stability"]
    return Decision(
        promote=all(reason.passed for reason in reasons),
        reasons=tuple(reasons),
        comparisons=tuple(comparisons),
        challenger=challenger.model,
        baseline=baseline.model,
        level=level,
        margin=config.margin,
        registered_model=config.registered_model,
    )


def against_twin(student: Results, twin: Results, config: PromoteConfig) -> tuple[list[Comparison], list[Reason]]:
    """The student against a twin trained without correction at equal compute: what the correction added.

    Compared on the primary benchmarks, at the level of the test; decides only with ``promote.twin=require``.

    Raises:
        UserError: the two were not evaluated alike.
    """
    ours, theirs = student.by_problem(SPLIT), twin.by_problem(SPLIT)
    comparisons = []
    for key, asked in sorted(student.benchmarks.items()):
        if asked.role != "primary":
            continue
        void = _void(key, asked, twin.benchmarks.get(key), ours.get(key, {}), theirs.get(key, {}))
        if void is not None:
            raise UserError(f"twin: {void.text}")
        comparisons.append(compare(key, "twin", _right(ours[key]), _right(theirs[key]), level_of(config)))
    reasons = []
    for found in comparisons:
        better = found.p_value < level_of(config) and found.difference > 0
        verdict = "the correction added" if better else "no gain of the correction shown"
        text = f"{found.benchmark}, against the SFT twin: {verdict}: {_numbers(found)}, p = {found.p_value:.2g}"
        reasons.append(Reason("beats_twin", text, better or config.twin == "report"))
    return comparisons, reasons


def _right(answers: AnswersByProblem) -> dict[str, list[float]]:
    return {problem: [float(answer.outcome == "correct") for answer in group] for problem, group in answers.items()}


def _void(
    key: str,
    ours: AskedBenchmark | None,
    theirs: AskedBenchmark | None,
    answers: AnswersByProblem,
    baseline_answers: AnswersByProblem,
) -> Reason | None:
    """Why the two cannot be compared on this benchmark; None if they can."""
    if ours is None or theirs is None:
        who = "challenger" if ours is None else "baseline"
        return Reason("benchmark_missing", f"{key}: the {who} was not evaluated on it; evaluate both alike", False)
    if ours.fingerprint != theirs.fingerprint:
        return Reason(
            "evaluators_differ",
            f"{key}: evaluated differently (fingerprint {ours.fingerprint[:12]} against "
            f"{theirs.fingerprint[:12]}: grader, prompt, template, engine, sampling or data); evaluate the baseline "
            "again",
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


def _steadiness(key: str, ours: AnswersByProblem, theirs: AnswersByProblem, config: PromoteConfig) -> list[Comparison]:
    def values(answers: AnswersByProblem, name: str) -> dict[str, list[float]]:
        if name == "disagreeing":
            said = {p: [summaries.canonical(one.answer) for one in group] for p, group in answers.items()}
            return {p: [1.0 - summaries.agreement(one)] * len(one) for p, one in said.items()}
        return {problem: [float(getattr(answer, name)) for answer in group] for problem, group in answers.items()}

    samples = len(next(iter(ours.values())))
    names = [name for name in config.stability if name != "disagreeing" or samples > 1]
    return [compare_rise(f"{key} {n}", values(ours, n), values(theirs, n), level_of(config)) for n in names]


def _sane(found: Comparison, outcomes: Sequence[str], config: PromoteConfig) -> list[Reason]:
    """Enough problems, and not too many answers without a verdict; ``outcomes`` are the challenger's."""
    text = f"{found.benchmark}: {found.n} problems on the gate split, at least {config.min_problems} needed"
    reasons = [Reason("enough_problems", text, found.n >= config.min_problems)]
    for outcome, limit in (("truncated", config.max_truncated), ("unparseable", config.max_unparseable)):
        share = sum(o == outcome for o in outcomes) / len(outcomes)
        text = f"{found.benchmark}: {share:.1%} of the answers {outcome}, at most {limit:.0%} allowed"
        reasons.append(Reason(outcome, text, share <= limit))
    return reasons


def _verdicts(primaries: Sequence[Comparison], config: PromoteConfig, level: float) -> list[Reason]:
    """All must improve; or one after Holm's correction, while the others hold."""
    if config.primaries == "all":
        return [_improves(found, found.p_value, level, "") for found in primaries]
    adjusted = statistics.holm({found.benchmark: found.p_value for found in primaries})
    won = [_improves(found, adjusted[found.benchmark], level, " after Holm's correction") for found in primaries]
    some = any(reason.passed for reason in won)
    out = []
    for found, reason in zip(primaries, won, strict=True):
        if reason.passed or not some:
            out.append(reason)
        else:  # another one improved; this one must not pay for it
            out.append(_holds(found, config.margin))
    return out


def _improves(found: Comparison, p_value: float, level: float, how: str) -> Reason:
    passed = p_value < level and found.difference > 0
    verdict = "improved" if passed else "no improvement shown"
    text = f"{found.benchmark}: {verdict}: {_numbers(found)}, p = {p_value:.2g}{how}, level {level:.3g}"
    text += f"; a difference of {found.detectable * 100:.1f} points would be found with {POWER:.0%} power"
    return Reason("improves", text, passed)


def _holds(found: Comparison, margin: float) -> Reason:
    passed = found.worst > -margin
    verdict = "not worse" if passed else "not shown to hold"
    text = f"{found.benchmark}: {verdict}: {_numbers(found)}, at worst {_points(found.worst)}, allowed "
    return Reason("holds", f"{text}-{margin * 100:.1f} points; detectable {found.detectable * 100:.1f} points", passed)


def _steady(found: Comparison, margin: float) -> Reason:
    passed = found.worst < margin
    text = (
        f"{found.benchmark}: {found.challenger:.1%} of the answers against {found.baseline:.1%}, a rise of at worst "
        f"{_points(found.worst)}, allowed {_points(margin)}"
    )
    return Reason("steady", text, passed)


def _numbers(found: Comparison) -> str:
    return (
        f"{found.challenger:.1%} against {found.baseline:.1%} on {found.n} problems, {found.gains} better and "
        f"{found.losses} worse; difference {_points(found.difference)} (95% interval {_points(found.low)} to "
        f"{_points(found.high)})"
    )


def _points(value: float) -> str:
    return f"{value * 100:+.1f} points"
