"""All rules of the promotion gate: what each looks at, when it holds, and its words.

A rule reads a :class:`~dcod.promote.contest.Match` and yields reasons, and comparisons of its own where it makes any. A
new one is a function here and its entry in ``RULES``; a threshold of it is a key of ``promote``.

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

What the registry says goes before all that: the student is no champion already, the champion was evaluated, and the
student was not rolled back. Training traces must hold no problem of a benchmark.

A sentence is *about: verdict: measured* and what the rule says of its limit, in its own manner, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from dcod.config import PromoteConfig
from dcod.errors import UserError
from dcod.evaluate import statistics, summaries
from dcod.evaluate.results import ModelRef, Results
from dcod.promote.compare import Comparison, apart, compare, compare_rise, points, problems_to_find
from dcod.promote.contest import SPLIT, AnswersByProblem, Match, Pair, Spending, correctness, pair_up
from dcod.promote.decision import Reason

_DIGEST = 12  # digits of a digest or fingerprint that are shown

Found = Iterator[Reason | Comparison]
Rule = Callable[[Match], Found]


def champion_was_evaluated(match: Match) -> Found:
    """The results to beat are those of the registered champion."""
    champion, evaluated = match.standing.champion, match.baseline.model
    if champion.digest != evaluated.digest:
        yield champion_not_evaluated(champion, evaluated)


def champion_not_evaluated(champion: ModelRef, evaluated: ModelRef) -> Reason:
    """The results are those of another model than the champion."""
    text = (
        f"the champion is version {champion.version} ({champion.digest[:_DIGEST] or 'registered by another tool'}), "
        f"but the results are of {evaluated.digest[:_DIGEST]}"
    )
    return _void(
        "champion_not_evaluated", text, "results of the champion", "run again, so that the champion is evaluated"
    )


def was_not_rolled_back(match: Match) -> Found:
    """The student was not taken back as champion before."""
    if match.standing.rolled_back:
        yield rolled_back(match.standing.student_version)


def rolled_back(version: int) -> Reason:
    """The student was champion, and that was taken back."""
    text = f"version {version}, the same model, was rolled back"
    return _void("rolled_back", text, "not taken back before", "to allow it again, delete its tag dcod.outcome")


def already_champion(champion: ModelRef) -> Reason:
    """The student is the champion."""
    text = f"the student is champion version {champion.version} itself"
    return _said(Reason("already_champion", text, False, limit="another model than the champion"))


def has_a_primary(match: Match) -> Found:
    """The student was asked a benchmark that is there to improve."""
    if not any(pair.ours is not None and pair.role == "primary" for pair in match.pairs):
        yield no_primary()


def no_primary() -> Reason:
    """Nothing is asked to improve."""
    text = "no benchmark has the role primary"
    return _said(Reason("no_primary", text, False, limit="at least one needed"), ", so nothing can improve")


def benchmarks_compare(match: Match) -> Found:
    """Both were asked the same problems in the same way."""
    for pair in match.pairs:
        reason = why_incomparable(pair)
        if reason is not None:
            yield only_reported(reason) if pair.role == "report" else reason


def why_incomparable(pair: Pair) -> Reason | None:
    """Why the two cannot be compared on a benchmark; None if they can."""
    key, ours, theirs = pair.key, pair.ours, pair.theirs
    if ours is None or theirs is None:
        return benchmark_missing(key, "challenger" if ours is None else "baseline")
    if ours.fingerprint != theirs.fingerprint:
        return evaluators_differ(key, ours.fingerprint, theirs.fingerprint)
    if pair.answers.keys() != pair.other_answers.keys():
        return problems_differ(key, len(pair.answers.keys() ^ pair.other_answers.keys()))
    counts = {len(given) for side in (pair.answers, pair.other_answers) for given in side.values()}
    if len(counts) > 1:
        return samples_differ(key, counts)
    return None if pair.answers else no_problems(key)


def benchmark_missing(key: str, who: str) -> Reason:
    """One of the two was not evaluated on a benchmark."""
    return _void(
        "benchmark_missing", f"the {who} was not evaluated on it", "results of both", "evaluate both alike", key
    )


def evaluators_differ(key: str, ours: str, theirs: str) -> Reason:
    """The two were evaluated with different fingerprints."""
    text = (
        f"evaluated differently (fingerprint {ours[:_DIGEST]} against {theirs[:_DIGEST]}: grader, prompt, template, "
        "engine, sampling or data)"
    )
    return _void("evaluators_differ", text, "the same evaluation", "evaluate the baseline again", key)


def problems_differ(key: str, odd: int) -> Reason:
    """Problems were answered by one of the two alone."""
    text = f"{odd} problems were answered by only one of the two models"
    return _said(Reason("problems_differ", text, False, key, limit="the same problems"))


def samples_differ(key: str, counts: Collection[int]) -> Reason:
    """Problems have different numbers of answers."""
    text = f"problems have different numbers of answers: {sorted(counts)}"
    return _said(Reason("samples_differ", text, False, key, limit="as many for each"))


def no_problems(key: str) -> Reason:
    """There is nothing to compare on."""
    return _said(Reason("no_problems", "no problem on the gate split", False, key, limit="at least one needed"))


def answers_suffice(match: Match) -> Found:
    """Enough problems, and not too many answers of the student without a verdict."""
    limits = {"truncated": match.config.max_truncated, "unparseable": match.config.max_unparseable}
    for pair, one in match.deciding:
        yield enough_problems(one, match.config.min_problems)
        outcomes = [answer.outcome for given in pair.answers.values() for answer in given]
        for outcome, limit in limits.items():
            yield share(pair.key, outcome, outcomes.count(outcome) / len(outcomes), limit)


def enough_problems(one: Comparison, needed: int) -> Reason:
    """Whether there are problems enough to decide on."""
    text, limit = f"{one.n} problems on the gate split", f"at least {needed} needed"
    reason = _said(Reason("enough_problems", text, one.n >= needed, one.benchmark, limit=limit), f", {limit}")
    return _few(reason, f"{one.benchmark} needs at least {needed:,} on the gate split, and has {one.n:,}")


def share(key: str, outcome: str, found: float, allowed: float) -> Reason:
    """Whether few enough answers have an outcome that is no verdict."""
    limit = f"at most {allowed:.0%} allowed"
    name = {"truncated": "answers cut off", "unparseable": "answers without a result"}[outcome]
    text = f"{found:.1%} of the answers {outcome}"
    return _said(Reason(outcome, text, found <= allowed, key, limit=limit, name=name), f", {limit}")


def primaries_improve(match: Match) -> Found:
    """All primaries improve; or one does after Holm's correction, while the others hold."""
    primaries, level = match.compared("primary"), match.level
    if match.config.primaries == "all":
        yield from (improves(one, one.p_value, level, "") for one in primaries)
        return
    adjusted = statistics.holm({one.benchmark: one.p_value for one in primaries})
    won = [improves(one, adjusted[one.benchmark], level, " after Holm's correction") for one in primaries]
    some = any(reason.passed for reason in won)
    for one, reason in zip(primaries, won, strict=True):  # where another one improved, this one must not pay for it
        yield reason if reason.passed or not some else holds(one, match.config.margin)


def improves(one: Comparison, p_value: float, level: float, how: str) -> Reason:
    """Whether a primary benchmark improved; ``how`` says what was done to the p-value."""
    passed = p_value < level and one.difference > 0
    verdict = "improved" if passed else "no improvement shown"
    limit = f"level {level:.3g}; a difference of {one.detectable * 100:.1f} points would be found with "
    limit += f"{statistics.POWER:.0%} power" + ("" if passed else _aside(one, level))
    text, name = f"{_numbers(one)}, p = {p_value:.2g}{how}", "better than the champion"
    reason = _said(Reason("improves", text, passed, one.benchmark, limit=limit, name=name), f", {limit}", verdict)
    return _few(reason, _to_find(one, 0 if how else problems_to_find(one, level))) if one.difference > 0 else reason


def guards_hold(match: Match) -> Found:
    """No guard falls."""
    yield from (holds(one, match.config.margin) for one in match.compared("guard"))


def holds(one: Comparison, margin: float) -> Reason:
    """Whether a benchmark is shown to fall by less than the margin."""
    passed = one.worst > -margin
    limit = f"-{margin * 100:.1f} points; detectable {one.detectable * 100:.1f} points"
    text, name = f"{_numbers(one)}, at worst {points(one.worst)}", "guard benchmark holds"
    verdict = "not worse" if passed else "not shown to hold"
    reason = _said(Reason("holds", text, passed, one.benchmark, limit=limit, name=name), f", allowed {limit}", verdict)
    return _few(reason, _unsure(one)) if one.difference > -margin else reason


def answers_are_steady(match: Match) -> Found:
    """No figure of stability rises."""
    for pair, _ in match.deciding:
        samples = len(next(iter(pair.answers.values())))
        for name in match.config.stability:
            if name != "disagreeing" or samples > 1:
                ours, theirs = _stability(pair.answers, name), _stability(pair.other_answers, name)
                one = compare_rise(f"{pair.key} {name}", ours, theirs, match.level)
                yield one
                yield steady(one, match.config.stability_margin)


def _stability(answers: AnswersByProblem, name: str) -> dict[str, list[float]]:
    """By problem, one figure of stability of each answer."""
    if name == "disagreeing":
        said = {problem: [summaries.canonical(one.answer) for one in group] for problem, group in answers.items()}
        return {problem: [1.0 - summaries.agreement(one)] * len(one) for problem, one in said.items()}
    return {problem: [float(getattr(answer, name)) for answer in group] for problem, group in answers.items()}


def steady(one: Comparison, margin: float) -> Reason:
    """Whether a share of bad answers is shown to rise by less than the margin."""
    text = f"{one.challenger:.1%} of the answers against {one.baseline:.1%}; difference at worst {points(one.worst)}"
    limit, name = points(margin), "answers as steady"
    passed = one.worst < margin
    reason = _said(Reason("steady", text, passed, one.benchmark, limit=limit, name=name), f", limit {limit}")
    return _few(reason, _unsure(one)) if one.difference < margin else reason


def traces_are_clean(match: Match) -> Found:
    """No training trace holds a problem of a benchmark."""
    if match.contest.contamination is not None:
        yield uncontaminated(match.contest.contamination)


def uncontaminated(traces: Mapping[str, Any]) -> Reason:
    """Whether no training trace holds a problem of a benchmark."""
    name, dirty = "training data clean", traces["exact"] + traces["inside"]
    text = (
        f"{dirty} of {traces['traces']} training traces hold a problem of a benchmark ({traces['ngram']} more share "
        "much of their wording with one)"
    )
    if not dirty:
        return _said(Reason("uncontaminated", text, True, limit="none allowed", name=name))
    text += f": {'; '.join(traces['named'][:3])}"
    return _void("uncontaminated", text, "none allowed", "leave ingest.decontaminate on", name=name)


def correction_pays(match: Match) -> Found:
    """The student beats a twin trained without correction at equal compute; decides with ``promote.twin=require``."""
    if match.contest.twin is None:
        return
    compared = compared_with_twin(match.contest.student, match.contest.twin, SPLIT, match.level)
    yield from compared
    for one in compared:
        reason = beats_twin(one, match.level)
        yield only_reported(reason) if match.config.twin == "report" else reason


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
    compared = []
    for pair in pair_up(student, twin, split):
        if pair.ours is None or pair.role != "primary" or (split != SPLIT and not pair.answers):
            continue
        reason = why_incomparable(pair)
        if reason is not None:
            raise UserError(f"twin: {reason.text}")
        ours, theirs = correctness(pair.answers), correctness(pair.other_answers)
        compared.append(compare(pair.key, "twin", ours, theirs, level))
    return compared


def beats_twin(one: Comparison, level: float) -> Reason:
    """Whether the student is better than its SFT twin."""
    passed = one.p_value < level and one.difference > 0
    verdict = "the correction added" if passed else "no gain of the correction shown"
    about, text = f"{one.benchmark}, against the SFT twin", f"{verdict}: {_numbers(one)}, p = {one.p_value:.2g}"
    name, aside = "against plain fine-tuning", "" if passed else _aside(one, level)
    reason = _said(Reason("beats_twin", text, passed, about, limit=f"level {level:.3g}{aside}", name=name), aside)
    if one.difference > 0:
        reason = _few(reason, _to_find(one, problems_to_find(one, level), " over its twin"))
    return replace(reason, about=one.benchmark)  # the name says against whom


def within_budget(match: Match) -> Found:
    """The period has a test left, where tests are counted."""
    if match.standing.spending is not None:
        yield budget(match.standing.spending, match.config)


def budget(spending: Spending, config: PromoteConfig) -> Reason:
    """Whether the period has a test left; its tests are those spent, this one included where it is granted."""
    text = f"test {spending.tests}"
    limit = f"at most {config.tests_per_period} in {config.period_days} days; together they promote noise with a "
    limit += f"chance of at most {config.level:g}"
    if not spending.granted:
        text = f"the budget is spent: {text}"
        limit += "; wait, or raise promote.tests_per_period, which lowers the level of each"
    return _said(Reason("budget", text, spending.granted, limit=limit, name="tests left this period"), f" of {limit}")


RULES: tuple[Rule, ...] = (  # in the order in which they are told
    champion_was_evaluated,
    was_not_rolled_back,
    has_a_primary,
    benchmarks_compare,
    answers_suffice,
    primaries_improve,
    guards_hold,
    answers_are_steady,
    traces_are_clean,
    correction_pays,
    within_budget,
)


def only_reported(reason: Reason) -> Reason:
    """The same where the configuration says that it decides nothing."""
    return replace(reason, passed=True, limit=f"{reason.limit}; only reported, decides nothing")


def _said(reason: Reason, tail: str = "", verdict: str = "") -> Reason:
    """The reason in a whole sentence: so far its text is what was measured, and ``tail`` is said of the limit."""
    text = ": ".join(part for part in (reason.about, verdict, reason.text + tail) if part)
    return replace(reason, text=text, measured=reason.text)


def _void(code: str, measured: str, limit: str, advice: str, about: str = "", name: str = "") -> Reason:
    """What makes a decision void: the sentence goes on with what to do about it, the limit as well."""
    return _said(Reason(code, measured, False, about, limit=f"{limit}; {advice}", name=name), f"; {advice}")


def _few(reason: Reason, advice: str) -> Reason:
    """A reason that more problems might turn: where it does not hold, with what needs more."""
    return reason if reason.passed else replace(reason, advice=advice)


def _to_find(one: Comparison, needed: int, over: str = "") -> str:
    """What a gain that was found but not shown needs; ``needed`` is 0 where no number can be told."""
    if not needed:
        return f"{one.benchmark} gained{over}, and its {one.n:,} on the gate split are too few to show it"
    return (
        f"{one.benchmark} needs about {needed:,} on the gate split, and has {one.n:,}, to show such a gain{over} with "
        f"{statistics.POWER:.0%} power"
    )


def _unsure(one: Comparison) -> str:
    """What was not seen to go beyond its limit, and is not shown to keep it."""
    return (
        f"{one.benchmark} was not seen to break its limit, and its {one.n:,} on the gate split are too few to show it"
    )


def _aside(one: Comparison, level: float) -> str:
    """Why the test refuses where the interval excludes 0, behind the limit; "" where it does not."""
    told = apart(one, level)
    return f"; {told}" if told else ""


def _numbers(one: Comparison) -> str:
    return (
        f"{one.challenger:.1%} against {one.baseline:.1%} on {one.n} problems, {one.gains} better and "
        f"{one.losses} worse; difference {points(one.difference)} (95% interval {points(one.low)} to "
        f"{points(one.high)})"
    )
