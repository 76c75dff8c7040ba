"""The checks of the gate one by one: numbers in, a reason out, with what was measured, its limit and their sentence.

All words of the gate are made here. A sentence is *about: verdict: measured* and what the check says of its limit, in
its own manner, or not at all. Who applies which check to what is in dcod.promote.gate.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from dcod.config import PromoteConfig
from dcod.evaluate.results import ModelRef
from dcod.promote.compare import POWER, Comparison
from dcod.promote.decision import Reason

_DIGEST = 12  # digits of a digest or fingerprint that are shown


def only_reported(reason: Reason) -> Reason:
    """The same where the configuration says that it decides nothing."""
    return replace(reason, passed=True, limit=f"{reason.limit}; only reported, decides nothing")


def already_champion(champion: ModelRef) -> Reason:
    """The student is the champion."""
    text = f"the student is champion version {champion.version} itself"
    return _reason("already_champion", False, text, "another model than the champion", "")


def champion_not_evaluated(champion: ModelRef, evaluated: ModelRef) -> Reason:
    """The results are those of another model than the champion."""
    text = (
        f"the champion is version {champion.version} ({champion.digest[:_DIGEST] or 'registered by another tool'}), "
        f"but the results are of {evaluated.digest[:_DIGEST]}"
    )
    return _void(
        "champion_not_evaluated", text, "results of the champion", "run again, so that the champion is evaluated"
    )


def rolled_back(version: int) -> Reason:
    """The student was champion, and that was taken back."""
    text = f"version {version}, the same model, was rolled back"
    return _void("rolled_back", text, "not taken back before", "to allow it again, delete its tag dcod.outcome")


def no_primary() -> Reason:
    """Nothing is asked to improve."""
    text = "no benchmark has the role primary"
    return _reason("no_primary", False, text, "at least one needed", ", so nothing can improve")


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
    return _reason("problems_differ", False, text, "the same problems", "", key)


def samples_differ(key: str, counts: Collection[int]) -> Reason:
    """Problems have different numbers of answers."""
    text = f"problems have different numbers of answers: {sorted(counts)}"
    return _reason("samples_differ", False, text, "as many for each", "", key)


def no_problems(key: str) -> Reason:
    """There is nothing to compare on."""
    return _reason("no_problems", False, "no problem on the gate split", "at least one needed", "", key)


def enough_problems(one: Comparison, needed: int) -> Reason:
    """Whether there are problems enough to decide on."""
    text, limit = f"{one.n} problems on the gate split", f"at least {needed} needed"
    return _reason("enough_problems", one.n >= needed, text, limit, f", {limit}", one.benchmark)


def share(key: str, outcome: str, found: float, allowed: float) -> Reason:
    """Whether few enough answers have an outcome that is no verdict."""
    limit = f"at most {allowed:.0%} allowed"
    return _reason(outcome, found <= allowed, f"{found:.1%} of the answers {outcome}", limit, f", {limit}", key)


def improves(one: Comparison, p_value: float, level: float, how: str) -> Reason:
    """Whether a primary benchmark improved; ``how`` says what was done to the p-value."""
    passed = p_value < level and one.difference > 0
    verdict = "improved" if passed else "no improvement shown"
    limit = (
        f"level {level:.3g}; a difference of {one.detectable * 100:.1f} points would be found with {POWER:.0%} power"
    )
    return _reason(
        "improves", passed, f"{_numbers(one)}, p = {p_value:.2g}{how}", limit, f", {limit}", one.benchmark, verdict
    )


def holds(one: Comparison, margin: float) -> Reason:
    """Whether a benchmark is shown to fall by less than the margin."""
    passed = one.worst > -margin
    limit = f"-{margin * 100:.1f} points; detectable {one.detectable * 100:.1f} points"
    measured, verdict = (
        f"{_numbers(one)}, at worst {_points(one.worst)}",
        "not worse" if passed else "not shown to hold",
    )
    return _reason("holds", passed, measured, limit, f", allowed {limit}", one.benchmark, verdict)


def steady(one: Comparison, margin: float) -> Reason:
    """Whether a share of bad answers is shown to rise by less than the margin."""
    text = f"{one.challenger:.1%} of the answers against {one.baseline:.1%}; difference at worst {_points(one.worst)}"
    return _reason("steady", one.worst < margin, text, _points(margin), f", limit {_points(margin)}", one.benchmark)


def uncontaminated(traces: Mapping[str, Any]) -> Reason:
    """Whether no training trace holds a problem of a benchmark."""
    dirty = traces["exact"] + traces["inside"]
    text = (
        f"{dirty} of {traces['traces']} training traces hold a problem of a benchmark ({traces['ngram']} more share "
        "much of their wording with one)"
    )
    if not dirty:
        return _reason("uncontaminated", True, text, "none allowed", "")
    text += f": {'; '.join(traces['named'][:3])}"
    return _void("uncontaminated", text, "none allowed", "leave ingest.decontaminate on")


def beats_twin(one: Comparison, level: float) -> Reason:
    """Whether the student is better than its SFT twin."""
    passed = one.p_value < level and one.difference > 0
    verdict = "the correction added" if passed else "no gain of the correction shown"
    about, text = f"{one.benchmark}, against the SFT twin", f"{verdict}: {_numbers(one)}, p = {one.p_value:.2g}"
    reason = _reason("beats_twin", passed, text, f"level {level:.3g}", "", about)
    return replace(reason, about=one.benchmark)  # the check's own name says against whom


def budget(tests: int, granted: bool, config: PromoteConfig) -> Reason:
    """Whether the period has a test left; ``tests`` are those spent, this one included where it is granted."""
    text = f"test {tests}"
    limit = f"at most {config.tests_per_period} in {config.period_days} days; together they promote noise with a "
    limit += f"chance of at most {config.level:g}"
    if granted:
        return _reason("budget", True, text, limit, f" of {limit}")
    limit += "; wait, or raise promote.tests_per_period, which lowers the level of each"
    return _reason("budget", False, f"the budget is spent: {text}", limit, f" of {limit}")


def _reason(
    code: str, passed: bool, measured: str, limit: str, said: str, about: str = "", verdict: str = ""
) -> Reason:
    """A reason whose sentence ends with what is ``said`` of the limit."""
    text = ": ".join(part for part in (about, verdict, measured + said) if part)
    return Reason(code, text, passed, about, measured, limit)


def _void(code: str, measured: str, limit: str, advice: str, about: str = "") -> Reason:
    """What makes a decision void: the sentence goes on with what to do about it, the limit as well."""
    return _reason(code, False, measured, f"{limit}; {advice}", f"; {advice}", about)


def _numbers(one: Comparison) -> str:
    return (
        f"{one.challenger:.1%} against {one.baseline:.1%} on {one.n} problems, {one.gains} better and "
        f"{one.losses} worse; difference {_points(one.difference)} (95% interval {_points(one.low)} to "
        f"{_points(one.high)})"
    )


def _points(value: float) -> str:
    return f"{value * 100:+.1f} points"
