"""The promotion gate: is the challenger really better? All its rules; the decision is data with its reasons.

Each check alone, from its numbers to its words, is in dcod.promote.checks.

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

A benchmark with the role *report* is compared and shown, and decides nothing; small ones also pooled.

What the registry says goes before all that: the student is no champion already, the champion was evaluated, and the
student was not rolled back. Training traces must hold no problem of a benchmark.

A gate that runs every night tests again and again. With ``schedule=repeated`` each test is made at ``level /
tests_per_period``, and a period holds no more tests than that: by the union bound the chance that noise is promoted,
or a guard's fall let through, within any period is at most the level, however the tests hang together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dcod.config import PromoteConfig
from dcod.errors import UserError
from dcod.evaluate import statistics, summaries
from dcod.evaluate.results import Answer, AskedBenchmark, ModelRef, Results
from dcod.promote import checks
from dcod.promote.compare import Comparison, compare, compare_rise
from dcod.promote.decision import Decision, Reason

SPLIT = "gate"
FEW = 100  # problems: a benchmark with less, that is only reported, is told together with others of its kind

Values = dict[str, list[float]]  # by problem, of each of its answers
AnswersByProblem = Mapping[str, list[Answer]]  # in the order of the samples


@dataclass(frozen=True)
class Contest:
    """What was found out about the student and whatever it may have to beat.

    Attributes:
        student: its results.
        baselines: results that may be the champion's, the likeliest first.
        twin: results of an SFT twin of the student; None where there is none.
        contamination: training traces by how they hold problems of the benchmarks; None where there are no traces.
    """

    student: Results
    baselines: tuple[Results, ...]
    twin: Results | None = None
    contamination: Mapping[str, Any] | None = None

    def baseline(self, champion: ModelRef) -> Results:
        """The results of the champion; the likeliest ones where it was not evaluated."""
        evaluated = (one for one in self.baselines if one.model.digest == champion.digest)
        return next(evaluated, self.baselines[0])


@dataclass(frozen=True)
class Standing:
    """What the registry says.

    Attributes:
        champion: the registered one.
        student_version: that the student has already; 0 for none.
        rolled_back: whether that version was champion and was taken back.
    """

    champion: ModelRef
    student_version: int = 0
    rolled_back: bool = False


@dataclass(frozen=True)
class Spending:
    """What became of a test's request to the budget of its period: tests spent so far, and whether it is one."""

    tests: int
    granted: bool


def level_of(config: PromoteConfig) -> float:
    """The level of one test: a part of that of the period where gates are repeated."""
    return config.level / config.tests_per_period if config.schedule == "repeated" else config.level


def judge(contest: Contest, standing: Standing, config: PromoteConfig) -> Decision:
    """The decision between student and champion, but for the budget; see the module.

    Raises:
        UserError: the twin was not evaluated as the student was.
    """
    student, champion = contest.student.model, standing.champion
    baseline = contest.baseline(champion)
    compared = decide(contest.student, baseline, config)
    reasons, comparisons = list(compared.reasons), list(compared.comparisons)
    if contest.contamination is not None:
        reasons.append(checks.uncontaminated(contest.contamination))
    if contest.twin is not None:
        of_twin, twin_reasons = against_twin(contest.student, contest.twin, config)
        comparisons += of_twin
        reasons += twin_reasons
    if champion.digest == student.digest:
        reasons = [checks.already_champion(champion)]
    elif champion.digest != baseline.model.digest:
        reasons.insert(0, checks.champion_not_evaluated(champion, baseline.model))
    elif standing.rolled_back:
        reasons.insert(0, checks.rolled_back(standing.student_version))
    return replace(
        compared,
        promote=all(reason.passed for reason in reasons),
        reasons=tuple(reasons),
        comparisons=tuple(comparisons),
        challenger=replace(student, version=standing.student_version),
        baseline=champion,
    )


def within_budget(decision: Decision, spending: Spending, config: PromoteConfig) -> Decision:
    """The decision with what the budget of the period says."""
    reason = checks.budget(spending.tests, spending.granted, config)
    return replace(decision, promote=decision.promote and reason.passed, reasons=(*decision.reasons, reason))


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
        reasons.append(checks.no_primary())
    for key in sorted({*ours_by, *theirs_by}):
        role = (ours_by.get(key) or theirs_by[key]).role
        incomparable = _why_incomparable(
            key, ours_by.get(key), theirs_by.get(key), ours.get(key, {}), theirs.get(key, {})
        )
        if incomparable is not None:
            reasons.append(checks.only_reported(incomparable) if role == "report" else incomparable)
            continue
        comparisons.append(compare(key, role, correctness(ours[key]), correctness(theirs[key]), level))
        if role != "report":
            reasons += _count_and_share_checks(
                comparisons[-1], [answer.outcome for answers in ours[key].values() for answer in answers], config
            )
            comparisons += _steadiness(key, ours[key], theirs[key], config)
    contests = [c.benchmark for c in comparisons if c.role == "report" and c.n < FEW]
    comparisons += _pooled({key: (correctness(ours[key]), correctness(theirs[key])) for key in contests}, level)
    reasons += _verdicts([c for c in comparisons if c.role == "primary"], config, level)
    reasons += [checks.holds(c, config.margin) for c in comparisons if c.role == "guard"]
    reasons += [checks.steady(c, config.stability_margin) for c in comparisons if c.role == "stability"]
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


def _pooled(contests: Mapping[str, tuple[Values, Values]], level: float) -> list[Comparison]:
    """Small benchmarks that are only reported as one: 30 problems can show nothing alone, 100 a little.

    Where there are at least two with as many answers a problem; by each problem's share of right answers.
    """
    alike: dict[int, list[str]] = {}
    for key, sides in contests.items():
        samples = {len(answers) for side in sides for answers in side.values()}
        if len(samples) == 1:
            alike.setdefault(samples.pop(), []).append(key)
    out = []
    for keys in alike.values():
        ours, theirs = (
            {f"{key}/{problem}": given for key in keys for problem, given in contests[key][side].items()}
            for side in (0, 1)
        )
        if len(keys) > 1:
            out.append(compare(f"{' '.join(sorted(keys))} pooled", "report", ours, theirs, level))
    return out


def against_twin(student: Results, twin: Results, config: PromoteConfig) -> tuple[list[Comparison], list[Reason]]:
    """The student against a twin trained without correction at equal compute: what the correction added.

    Compared on the primary benchmarks, at the level of the test; decides only with ``promote.twin=require``.

    Raises:
        UserError: the two were not evaluated alike.
    """
    level = level_of(config)
    comparisons = compared_with_twin(student, twin, SPLIT, level)
    reasons = [checks.beats_twin(one, level) for one in comparisons]
    if config.twin == "report":
        reasons = [checks.only_reported(reason) for reason in reasons]
    return comparisons, reasons


def compared_with_twin(student: Results, twin: Results, split: str, level: float) -> list[Comparison]:
    """The student against its twin on the primary benchmarks.

    Args:
        student: its results.
        twin: those of the twin.
        split: ``gate`` or ``report``; benchmarks without a problem there are left out of the report.
        level: of the one-sided bound.

    Raises:
        UserError: the two were not evaluated alike.
    """
    ours, theirs = student.by_problem(split), twin.by_problem(split)
    compared = []
    for key, asked in sorted(student.benchmarks.items()):
        if asked.role != "primary" or (split != SPLIT and not ours.get(key)):
            continue
        incomparable = _why_incomparable(key, asked, twin.benchmarks.get(key), ours.get(key, {}), theirs.get(key, {}))
        if incomparable is not None:
            raise UserError(f"twin: {incomparable.text}")
        compared.append(compare(key, "twin", correctness(ours[key]), correctness(theirs[key]), level))
    return compared


def correctness(answers: AnswersByProblem) -> Values:
    """By problem, 1 for each right answer and 0 for any other."""
    return {problem: [float(answer.outcome == "correct") for answer in group] for problem, group in answers.items()}


def _why_incomparable(
    key: str,
    ours: AskedBenchmark | None,
    theirs: AskedBenchmark | None,
    answers: AnswersByProblem,
    baseline_answers: AnswersByProblem,
) -> Reason | None:
    """Why the two cannot be compared on this benchmark; None if they can."""
    if ours is None or theirs is None:
        return checks.benchmark_missing(key, "challenger" if ours is None else "baseline")
    if ours.fingerprint != theirs.fingerprint:
        return checks.evaluators_differ(key, ours.fingerprint, theirs.fingerprint)
    if answers.keys() != baseline_answers.keys():
        return checks.problems_differ(key, len(answers.keys() ^ baseline_answers.keys()))
    counts = {len(v) for v in answers.values()} | {len(v) for v in baseline_answers.values()}
    if len(counts) > 1:
        return checks.samples_differ(key, counts)
    if not answers:
        return checks.no_problems(key)
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


def _count_and_share_checks(comparison: Comparison, outcomes: Sequence[str], config: PromoteConfig) -> list[Reason]:
    """Enough problems, and not too many answers without a verdict; ``outcomes`` are the challenger's."""
    reasons = [checks.enough_problems(comparison, config.min_problems)]
    for outcome, limit in (("truncated", config.max_truncated), ("unparseable", config.max_unparseable)):
        share = sum(o == outcome for o in outcomes) / len(outcomes)
        reasons.append(checks.share(comparison.benchmark, outcome, share, limit))
    return reasons


def _verdicts(primaries: Sequence[Comparison], config: PromoteConfig, level: float) -> list[Reason]:
    """All must improve; or one after Holm's correction, while the others hold."""
    if config.primaries == "all":
        return [checks.improves(one, one.p_value, level, "") for one in primaries]
    adjusted = statistics.holm({one.benchmark: one.p_value for one in primaries})
    won = [checks.improves(one, adjusted[one.benchmark], level, " after Holm's correction") for one in primaries]
    some = any(reason.passed for reason in won)
    out = []
    for one, reason in zip(primaries, won, strict=True):
        if reason.passed or not some:
            out.append(reason)
        else:  # another one improved; this one must not pay for it
            out.append(checks.holds(one, config.margin))
    return out
