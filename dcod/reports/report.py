"""The page of a run: one self-contained HTML file, no network; everything from a trace is escaped.

What is missing is named on the page, never left out in silence. The plots come from :mod:`dcod.reports.figures`, what
went into the run from :mod:`dcod.reports.sections`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dcod.evaluate.statistics import POWER
from dcod.evaluate.summaries import OUTCOMES, SHOWN, formatted, titles
from dcod.reports import arms, sections
from dcod.reports.figures import accuracy_figure
from dcod.reports.headline import checks, headline
from dcod.reports.html import chapters, cut, document, joined, minus, missing, note, pairs, part, plot, table
from dcod.reports.run_page import RunPage
from dcod.reports.side_by_side import filled

if TYPE_CHECKING:
    from markupsafe import Markup

    from dcod.evaluate.results import Results
    from dcod.promote.compare import Comparison
    from dcod.promote.decision import Decision

_EXAMPLES = 300  # of each kind, against all models
_TITLE = 90  # characters of a problem in the line that opens it
_SHOWN = 1500  # characters of a response


def page(run: RunPage) -> str:
    """The report of a run."""
    history, once = sections.history_of(run.training), _once(run.results)
    parts = {
        "Did the correction help?": arms.section(run.answer) if run.answer else missing(arms.NOTHING),
        "Checks": checks(run.decision),
        "Accuracy": _accuracy(once),
        "How steady the answers are": _steadiness(once),
        "Student against champion": _comparisons(run.decision),
        "Better and worse": _examples(run.results),
        "Training": sections.training(run.training),
        "Weights": sections.weights(run.training) + _viewer(run.viewer),
        "Drift": sections.drift(run.scores) + sections.exposure(run.exposed),
        "Data": sections.data(run.ingest, run.card),
        "Lineage": (pairs(run.lineage) if run.lineage else missing("No digests were given."))
        + sections.files(run.origin),
        "Cost": sections.cost(run.costs, history),
    }
    return document(run.title, [headline(run), *chapters(parts)])


def _viewer(name: str) -> Markup:
    if not name:
        return missing("No page of the traces beside this one; `dcod inspect` makes one.")
    return part("page_link", "Every token with its weight", name)


def _once(results: Mapping[str, Results]) -> dict[str, Results]:
    """The start once, where it is the champion as well."""
    start, champion = results.get("start"), results.get("champion")
    if start is None or champion is None or start.model.digest != champion.model.digest or start.rows != champion.rows:
        return dict(results)
    named = {"start": "start, the champion so far"}
    return {named.get(label, label): one for label, one in results.items() if label != "champion"}


def _accuracy(results: Mapping[str, Results]) -> Markup:
    rows = [
        [
            f"{row.benchmark} ({row.prompting.replace('_', '-')})",
            label,
            str(row.n),
            f"{row.accuracy:.1%}",
            f"{row.low:.1%} to {row.high:.1%}",
            f"{row.detectable * 100:.1f}",
            *(str(row.outcomes.get(outcome, 0)) for outcome in OUTCOMES),
        ]
        for label, one in results.items()
        for row in one.on("report")
    ]
    if not rows:
        return missing("No results on the report split.")
    rows.sort(key=lambda row: row[0].split(" (")[0])
    head = ["benchmark", "model", "problems", "accuracy", "95 % interval", "detectable (points)", *OUTCOMES]
    words = (
        "On the report split, which neither training, nor the choice of a checkpoint, nor the gate has seen. The "
        "outcomes count answers and add up. Detectable is the gain over this model that a paired test on so many "
        f"problems would find with {POWER * 100:.0f} % power."
    )
    shown = table(head, rows, "Accuracy on the report split, by benchmark and model")
    return note(words) + shown + plot(accuracy_figure(results), "accuracy")


def _steadiness(results: Mapping[str, Results]) -> Markup:
    """Stability of the answers, and avg, pass and maj at k where a problem has several."""
    found = [(label, row) for label, one in results.items() for row in one.on("report")]
    names, rows = list(dict.fromkeys([*SHOWN, *(name for _, row in found for name in row.stability)])), []
    for label, row in found:
        more = [f"{name} {value:.1%} ({low:.1%} to {high:.1%})" for name, (value, low, high) in row.at_k.items()]
        more += [f"{name.replace('_', ' ')} {value:.1%}" for name, value in row.figures.items()]
        steady = formatted(row.stability, names)
        rows.append([f"{row.benchmark} ({row.prompting.replace('_', '-')})", label, *steady, "; ".join(more)])
    if not rows:
        return missing("No results on the report split.")
    rows.sort(key=lambda row: row[0].split(" (")[0])
    words = (
        "Shares of answers on the report split. Wrong steps are stated sums that do not hold; ways to begin are the "
        "effective number of first three words (numbers as one); agreement is the share of a problem's samples that "
        "say what most say."
    )
    head = ["benchmark", "model", *titles(names), "further figures"]
    return note(words) + table(*filled((head, rows)), "How steady the answers are")


def _comparisons(decision: Decision | None) -> Markup:
    if decision is None or not decision.comparisons:
        return missing("No comparison was possible.")
    words = (
        "On the gate split, the same problems for both. Stability compares shares of answers, where less is better; "
        "p is one-sided, the interval two-sided."
    )
    return note(words) + table(
        ["benchmark", "role", "problems", "student", "champion", "better", "worse", "difference (points)",
         "95 % interval", "p (one-sided)", "detectable (points)"],
        [_comparison(one) for one in decision.comparisons],
        "Student against champion on the gate split",
    )  # fmt: skip


def _comparison(comparison: Comparison) -> list[str]:
    return [
        comparison.benchmark,
        comparison.role,
        str(comparison.n) if comparison.samples == 1 else f"{comparison.n} × {comparison.samples}",
        f"{comparison.challenger:.1%}",
        f"{comparison.baseline:.1%}",
        str(comparison.gains),
        str(comparison.losses),
        minus(f"{comparison.difference * 100:+.1f}"),
        minus(f"{comparison.low * 100:+.1f} to {comparison.high * 100:+.1f}"),
        f"{comparison.p_value:.2g}",
        f"{comparison.detectable * 100:.1f}",
    ]


def _examples(results: Mapping[str, Results]) -> Markup:
    """The answers of the report split that changed, side by side: against the champion, and the SFT twin."""
    before = next((label for label in ("champion", "start") if label in results), None)
    others = [label for label in (before, "SFT twin") if label in results]
    if "student" not in results or not others:
        return missing("No second results folder to compare answers with.")
    return joined(_changed(results, label, _EXAMPLES // len(others)) for label in others if label)


def _changed(results: Mapping[str, Results], other: str, most: int) -> Markup:
    """The answers that are better or worse than another model's, at most so many of each kind."""
    ours, theirs = (results[label].texts("report") for label in ("student", other))
    shared = sorted(ours.keys() & theirs.keys())
    better = [k for k in shared if ours[k]["outcome"] == "correct" != theirs[k]["outcome"]]
    worse = [k for k in shared if ours[k]["outcome"] != "correct" == theirs[k]["outcome"]]
    words = (
        f"Report split: {len(better)} answers better, {len(worse)} worse than the {other}. A problem opens to both "
        "answers; the browser's own search finds problems and answers, in closed ones as well."
    )
    rows: list[list[str | Markup]] = []
    for word, keys in (("better", better), ("worse", worse)):
        for number, key in enumerate(keys[:most], 1):
            sides = [
                (label, row, cut(row["response"], _SHOWN))
                for label, row in (("student", ours[key]), (other, theirs[key]))
            ]
            problem = cut(ours[key].get("problem", "not recorded"), _SHOWN)
            title = " ".join(problem.split())
            title = title if len(title) <= _TITLE else f"{title[:_TITLE]}…"
            opened = part("answers", title, f"{key[0]}, {key[1]}", problem, sides)
            said = [_short(row["answer"]) for _, row, _ in sides]
            rows.append([f"{word} {number}", opened, _short(ours[key]["gold"]), *said])
    if not rows:
        return note(words)
    head = ["", "problem", "right answer", "student", other]
    parts = [note(words), part("changed", table(head, rows, f"Answers that changed against the {other}"))]
    left = len(better) + len(worse) - len(rows)
    if left:
        parts.append(note(f"and {left:,} more; all are in examples.parquet of the results."))
    return joined(parts)


def _short(answer: object) -> str:
    text = "none found" if answer is None else str(answer)
    return text if len(text) <= _TITLE else f"{text[:_TITLE]}…"
