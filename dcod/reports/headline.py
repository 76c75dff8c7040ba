"""The first screen of a run's page: verdict, how much better, what the correction brought, what went in; the checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dcod.evaluate.results import ZERO_SHOT
from dcod.promote.compare import apart
from dcod.reports import arms, sections
from dcod.reports.html import minus, missing, part, table
from dcod.reports.run_page import RunPage
from dcod.reports.side_by_side import filled, points

if TYPE_CHECKING:
    from markupsafe import Markup

    from dcod.evaluate.results import Results
    from dcod.promote.compare import Comparison
    from dcod.promote.decision import Decision, Reason

_VERDICTS = {
    "promote": ("good", "Promoted", "The student is better than the champion; all checks of the gate hold."),
    "refuse": ("bad", "Refused", "The student does not replace the champion."),
    "already_champion": ("plain", "Nothing to do", "The student is the champion already."),
}


def headline(run: RunPage) -> Markup:
    """What is to be understood in ten seconds."""
    decision, brought = run.decision, run.answer.text if run.answer else arms.NOTHING
    kind, word, sentence = (
        _VERDICTS[decision.outcome] if decision else ("plain", "No decision", "The gate did not run.")
    )
    advice = decision.advice if decision else ""
    gains = [(f"{points(one.difference)} points", how) for one, how in _gains(decision)] if decision else []
    told = [*_on_report(run.results), *_correction(run.training)]
    facts: dict[str, str | Markup] = {**_facts(run)}
    for name, address in run.links.items():
        web = address.startswith(("https://", "http://"))
        facts[name] = part("link", address, address.rpartition("/")[2][:12]) if web else address
    return part("headline", brought, kind, word, run.title, sentence, advice, gains, told, facts)


def checks(decision: Decision | None) -> Markup:
    """The checks as a table: the failed ones first, those that hold behind a fold."""
    if decision is None:
        return missing("No decision: the gate did not run.")
    failed, passed = decision.failed, [one for one in decision.reasons if one.passed]
    shown = _checks(failed, "Checks that do not hold") if failed else None
    folded = _checks(passed, "Checks that hold") if passed else None
    return part("checks", shown, folded, len(passed), f"{decision.level:g}", f"{decision.margin * 100:g}")


def _checks(reasons: Sequence[Reason], caption: str) -> Markup:
    """Check, measured and limit; a decision of an earlier version has no limits, but sentences that say them."""
    head, rows = filled((["check", "measured", "limit"], [list(map(minus, one.cells)) for one in reasons]))
    marked = [[part("marked", one.passed, check), *cells] for one, (check, *cells) in zip(reasons, rows, strict=True)]
    return table(head, marked, caption)


def _gains(decision: Decision) -> Iterator[tuple[Comparison, str]]:
    """The primaries, and how each was found; where a test refused what its interval seems to show, why."""
    refused = {reason.about for reason in decision.failed if reason.code == "improves"}
    for one in decision.comparisons:
        if one.role == "primary":
            why = apart(one, decision.level) if one.benchmark in refused else ""
            yield one, f"{_how(one)}; {why}" if why else _how(one)


def _how(one: Comparison) -> str:
    return (
        f"{one.benchmark}, on the gate problems, which decide: {one.challenger:.1%} against {one.baseline:.1%}; "
        f"95 % interval {points(one.low)} to {points(one.high)}, p = {one.p_value:.2g}, {one.n} problems"
    )


def _on_report(results: Mapping[str, Results]) -> Iterator[str]:
    """The same on problems that decided nothing: these are the figures to quote."""
    student = results.get("student")
    other = next((label for label in ("champion", "start") if label in results), None)
    for ours in student.on("report") if student else ():
        primary = student is not None and student.benchmarks[ours.benchmark].role == "primary"
        if not primary or ours.prompting != ZERO_SHOT:
            continue
        text = f"{ours.benchmark}, on the report problems, which decided nothing: {ours.accuracy:.1%}"
        for theirs in results[other].on("report") if other else ():
            if (theirs.benchmark, theirs.prompting) == (ours.benchmark, ours.prompting):
                difference = points(ours.accuracy - theirs.accuracy)
                text += f" against {theirs.accuracy:.1%} of the {other} ({difference} points)"
        yield f"{text}; {ours.n} problems"


def _correction(training: Path | None) -> Iterator[str]:
    """Which correction it was, and how strong."""
    settings, history = sections.settings(training), sections.history_of(training)
    name = str(settings.get("correction", "")).partition(",")[0]
    if not name:
        return
    if name.startswith("none"):
        return
    gamma, ess = sections.strength(history)
    yield f"Correction {name}: mean γ {gamma:.2f}, effective sample size {ess:.0%}."


def _facts(run: RunPage) -> dict[str, str]:
    """Who, from what, when."""
    facts = {"date": run.date}
    if decision := run.decision:
        models = [decision.challenger, decision.baseline]
        names = [f"version {one.version}" if one.version else one.digest[:12] for one in models]
        facts |= {"student": f"{decision.registered_model} {names[0]} against {names[1]}".strip()}
    facts |= {"start": str(sections.settings(run.training).get("start", "")).partition(" (")[0]}
    counts = sections.of_json(run.ingest / "counts.json") if run.ingest else None
    if run.ingest and counts:
        problems = f", to {counts['problems']:,} problems" if "problems" in counts else ""
        facts |= {"traces": f"{counts.get('accepted', 0):,}{problems}"}
        teachers = [name for name, _ in sections.columns(run.ingest).get("teacher", {}).items() if name]
        facts |= {"teacher": ", ".join(teachers[:3]) + ("" if len(teachers) <= 3 else ", …")}
    if run.costs:
        facts |= {"time": sections.duration(sum(one.seconds or 0.0 for one in run.costs))}
    return {name: value for name, value in facts.items() if value}
