"""The model card of a registered version: data, method, evidence, limits, licences, as Markdown with a YAML head.

The registry shows it as the version's description, and it lies as README.md beside the weights, where a hub reads it.
What is not known is said to be unknown; nothing is inferred. Its words are ``assets/model_card.md``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcod import storage
from dcod.evaluate.results import ZERO_SHOT
from dcod.reports import markdown, side_by_side
from dcod.reports import sections as accounts

if TYPE_CHECKING:
    from markupsafe import Markup

    from dcod.evaluate.results import Results
    from dcod.promote.decision import Decision
    from dcod.reports.arms import Answer
    from dcod.tracking.lineage import Origin

_SOURCES = 10  # that are named
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FOUND = {"promote": "better than the champion", "refuse": "not shown to be better than the champion"}


def student(
    decision: Decision,
    results: Mapping[str, Results],
    training: Path,
    traces: Path | None,
    base_licence: str,
    origin: Origin,
    answer: Answer,
) -> str:
    """The card of a student.

    Args:
        decision: of the gate, with the versions in it.
        results: by the name of the model; ``student`` is the one that the head of the card states.
        training: the student folder.
        traces: the trace set that it was trained on.
        base_licence: of the start; empty where nobody has said.
        origin: the files behind it.
        answer: what the correction brought.
    """
    settings, history = accounts.settings(training), accounts.history_of(training)
    manifest = accounts.of_json(training / storage.MANIFEST) if settings else None
    base = manifest["config"]["student"]["model"] if manifest else ""
    name = f"{decision.registered_model}, version {decision.challenger.version}"
    values = {
        "title": name,
        "about": f"A student of {base or 'an unknown base model'}, distilled from recorded reasoning traces by dcod.",
        "decided": f"The gate found it {_FOUND.get(decision.outcome, 'to be the champion itself')}.",
        "data": _data(traces),
        "settings": settings,
        "strength": _strength(history) if settings and history else "",
        "answer": answered(answer.to_dict(), whole=True),
        **_evidence(decision, results),
        **_licences(base, base_licence, traces),
        "weights": decision.challenger.digest,
        "baseline": decision.baseline,
        "files": list(origin.files.items())[:_SOURCES],
        "more": max(len(origin.files) - _SOURCES, 0),
        "gap": origin.gap,
    }
    head = _head(name, base, base_licence, results.get("student"), distilled=bool(settings))
    return head + markdown.render("model_card.md", **values)


def start(name: str, version: int, model: str, base_licence: str) -> str:
    """The card of the first champion, which is the start of the first run and was not trained by dcod."""
    title = f"{name}, version {version}"
    about = "The start of the first run, registered as the first champion. It was not trained by dcod."
    values = {"title": title, "about": about, "decided": "", **_licences(model, base_licence, None)}
    return _head(title, model, base_licence, None, distilled=False) + markdown.render("model_card.md", **values)


def answered(given: Mapping[str, Any], *, whole: bool = False) -> Markup:
    """The answer of a run (answer.json) as Markdown: its sentence, the arms; all that is known of them if ``whole``."""
    return markdown.joined(_answered(given, whole=whole))


def _answered(given: Mapping[str, Any], *, whole: bool) -> Iterator[str | side_by_side.Table]:
    yield given["text"]
    yield side_by_side.against_plain(given["comparisons"])
    if choice := given["choice"]:
        yield side_by_side.serve(choice)
        yield side_by_side.accuracies(choice)
    if whole:
        if choice:
            yield side_by_side.writing(choice)
            yield side_by_side.asked(choice.get("asked", {}))
        yield side_by_side.asked(side_by_side.by_name(given["students"]))
        yield side_by_side.took(given["students"])
        yield side_by_side.unequal(given["students"])


def _head(name: str, base: str, base_licence: str, results: Results | None, *, distilled: bool) -> str:
    """The YAML block that a hub reads."""
    from huggingface_hub import EvalResult, ModelCardData

    measured = [
        EvalResult(
            task_type="text-generation",
            dataset_type=row.benchmark,
            dataset_name=f"{row.benchmark}, report split, {row.n} problems",
            metric_type="accuracy",
            metric_value=round(row.accuracy, 4),
        )
        for row in (results.on("report") if results else ())
        if row.prompting == ZERO_SHOT
    ]
    data = ModelCardData(
        license=base_licence or "unknown",
        base_model=base if _HUB_ID.fullmatch(base) else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["dcod", *(["distillation"] if distilled else [])],
        model_name=name if measured else None,
        eval_results=measured or None,
    )
    return f"---\n{data.to_yaml()}\n---\n\n"


def _data(traces: Path | None) -> dict[str, Any] | None:
    """The counts of the trace set, and what its traces say of themselves."""
    counts = accounts.of_json(traces / "counts.json") if traces else None
    if traces is None or counts is None:
        return None
    refused = sorted(counts["quarantined"].items(), key=lambda item: -item[1])
    known, titles = accounts.columns(traces), {"source_file": "sources", "teacher": "teachers", "verdict": "verdicts"}
    return {
        **counts,
        "refused": ", ".join(f"{n:,} {reason}" for reason, n in refused),
        "known": {title: _counted(known.get(column, Counter())) for column, title in titles.items()},
    }


def _strength(history: Sequence[Mapping[str, float]]) -> str:
    gamma, ess = accounts.strength(history)
    return f"{len(history)} optimizer steps; mean γ {gamma:.3f}, mean effective sample size {ess:.1%}"


def _evidence(decision: Decision, results: Mapping[str, Results]) -> dict[str, Any]:
    """What was measured on the report split, what the gate checked, and on what the student lost."""
    rows = ((label, row) for label, one in results.items() for row in one.on("report"))
    measured = [
        (f"{row.benchmark} ({row.prompting.replace('_', '-')})", label, f"{row.n}",
         f"{row.accuracy:.1%}", f"{row.low:.1%} to {row.high:.1%}")
        for label, row in rows
    ]  # fmt: skip
    checked = [["yes" if reason.passed else "NO", *reason.cells] for reason in decision.reasons]
    asked = sorted({key for one in results.values() for key in one.benchmarks})
    against = (one for one in decision.comparisons if one.role in ("primary", "guard", "report"))
    return {
        "measured": measured,
        "checked": side_by_side.filled((["holds", "check", "measured", "limit"], checked)),
        "asked": ", ".join(asked) or "nothing",
        "lost": "; ".join(f"{one.losses} of {one.n} on {one.benchmark}" for one in against),
    }


def _licences(base: str, base_licence: str, traces: Path | None) -> dict[str, str]:
    known = accounts.columns(traces).get("licence", Counter()) if traces else None
    return {"base": base, "base_licence": base_licence, "licences": "" if known is None else _counted(known)}


def _counted(counts: Counter[str]) -> str:
    named = [f"{value or 'unknown'} ({n:,})" for value, n in counts.most_common(_SOURCES)]
    more = len(counts) - len(named)
    return (", ".join(named) or "unknown") + (f", and {more} more" if more > 0 else "")
