"""The model card of a registered version: data, method, evidence, limits, licences, as Markdown with a YAML head.

The registry shows it as the version's description, and it lies as README.md beside the weights, where a hub reads it.
What is not known is said to be unknown; nothing is inferred. What comes from traces is escaped: a licence or a source
may hold Markdown and HTML.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcod import storage
from dcod.evaluate.results import ZERO_SHOT
from dcod.reports import sections as accounts
from dcod.reports import side_by_side

if TYPE_CHECKING:
    from dcod.evaluate.results import Results
    from dcod.promote.decision import Decision
    from dcod.reports.arms import Answer
    from dcod.tracking.lineage import Origin

_SOURCES = 10  # that are named
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_USE = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("FOLDER")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
```

`vllm serve FOLDER` serves it. The chat template is the one that it was trained with."""


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
    parts = {
        "Use": _USE,
        "Data": _data(traces),
        "Method": _method(settings, history),
        "Did the correction help?": _correction(answer),
        "Evidence": _evidence(decision, results),
        "Limits": _limits(decision, results),
        "Licences": _licences(base, base_licence, traces),
        "Lineage": _lineage(decision, origin),
    }
    first = f"A student of {_plain(base) or 'an unknown base model'}, distilled from recorded reasoning traces by dcod."
    head = _head(name, base, base_licence, results.get("student"), settings)
    return head + _body(name, [first, _decided(decision)], parts)


def start(name: str, version: int, model: str, base_licence: str) -> str:
    """The card of the first champion, which is the start of the first run and was not trained by dcod."""
    title = f"{name}, version {version}"
    first = "The start of the first run, registered as the first champion. It was not trained by dcod."
    parts = {"Use": _USE, "Licences": _licences(model, base_licence, None)}
    return _head(title, model, base_licence, None, {}) + _body(title, [first], parts)


def _head(name: str, base: str, base_licence: str, results: Results | None, settings: Mapping[str, object]) -> str:
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
        tags=["dcod", *(["distillation"] if settings else [])],
        model_name=name if measured else None,
        eval_results=measured or None,
    )
    return f"---\n{data.to_yaml()}\n---\n\n"


def _body(title: str, paragraphs: Sequence[str], parts: Mapping[str, str]) -> str:
    sections = [f"## {name}\n\n{text}" for name, text in parts.items()]
    return "\n\n".join([f"# {_plain(title)}", *filter(None, paragraphs), *sections]) + "\n"


def _decided(decision: Decision) -> str:
    word = {"promote": "better than the champion", "refuse": "not shown to be better than the champion"}
    return f"The gate found it {word.get(decision.outcome, 'to be the champion itself')}."


def _data(traces: Path | None) -> str:
    counts = accounts.of_json(traces / "counts.json") if traces else None
    if traces is None or counts is None:
        return "Unknown: the trace set was not given."
    lines = [
        f"- {counts['accepted']:,} of {counts['read']:,} rows accepted, {counts['problems']:,} problems; "
        f"{counts['train']:,} traces trained on, {counts['selection']:,} held back to select the checkpoint"
    ]
    refused = sorted(counts["quarantined"].items(), key=lambda item: -item[1])
    if refused:
        lines.append("- refused: " + ", ".join(f"{n:,} {_plain(reason)}" for reason, n in refused))
    known = accounts.columns(traces)
    for column, title in (("source_file", "sources"), ("teacher", "teachers"), ("verdict", "verdicts")):
        lines.append(f"- {title}: {_counted(known.get(column, Counter()))}")
    return "\n".join(lines)


def _method(settings: Mapping[str, object], history: Sequence[Mapping[str, float]]) -> str:
    if not settings:
        return "Unknown: no manifest of a training lies beside the weights."
    lines = [f"- {name}: {_plain(str(value))}" for name, value in settings.items()]
    if history:
        gamma, ess = accounts.strength(history)
        lines.append(f"- {len(history)} optimizer steps; mean γ {gamma:.3f}, mean effective sample size {ess:.1%}")
    return "\n".join(lines)


def answered(given: Mapping[str, Any]) -> str:
    """The answer of a run (answer.json) in short, as Markdown: its sentence, and the arms with their accuracies."""
    lines, choice = [_plain(given["text"])], given["choice"]
    lines += _table(side_by_side.against_plain(given["comparisons"]))
    if choice:
        lines += ["", _plain(serve)] if (serve := side_by_side.serve(choice)) else []
        lines += _table(side_by_side.accuracies(choice))
    return "\n".join(lines)


def _correction(answer: Answer) -> str:
    """The answer, and the arms side by side."""
    lines = [answered(answer.to_dict())]
    if answer.choice:
        lines += _table(side_by_side.writing(answer.choice))
        if asked := answer.choice.get("asked"):
            lines += _table(side_by_side.asked(asked))
    if answer.students:
        lines += _table(side_by_side.asked(side_by_side.by_name(answer.students)))
        lines += _table(side_by_side.took(answer.students))
        if apart := side_by_side.unequal(answer.students):
            lines += ["", _plain(apart)]
    return "\n".join(lines)


def _table(table: side_by_side.Table) -> list[str]:
    head, rows = side_by_side.filled(table)
    return ["", *(f"| {' | '.join(map(_plain, row))} |" for row in [head, ["---"] * len(head), *rows])] if rows else []


def _evidence(decision: Decision, results: Mapping[str, Results]) -> str:
    lines = [
        "On the report split, which neither training nor selection nor the gate has seen, with 95 % intervals:",
        "",
        "| benchmark | model | problems | accuracy | interval |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {_plain(row.benchmark)} ({row.prompting.replace('_', '-')}) | {_plain(label)} | {row.n} | "
        f"{row.accuracy:.1%} | {row.low:.1%} to {row.high:.1%} |"
        for label, one in results.items()
        for row in one.on("report")
    ]
    lines += ["", "What the gate checked, on its own split:"]
    checked = [["yes" if reason.passed else "NO", *reason.cells] for reason in decision.reasons]
    lines += _table((["holds", "check", "measured", "limit"], checked))
    return "\n".join(lines)


def _limits(decision: Decision, results: Mapping[str, Results]) -> str:
    asked = sorted({key for one in results.values() for key in one.benchmarks})
    losses = [
        f"{comparison.losses} of {comparison.n} on {_plain(comparison.benchmark)}"
        for comparison in decision.comparisons
        if comparison.role in ("primary", "guard", "report")
    ]
    lines = [f"- measured on {', '.join(map(_plain, asked)) or 'nothing'} and on nothing else; one training run"]
    if losses:
        lines.append(f"- problems of the gate split that the champion solved and it does not: {'; '.join(losses)}")
    lines += [
        "- its mistakes may read as sure as its answers: wrong steps are not marked",
        "- safety, bias, and other languages than that of the traces were not examined",
    ]
    return "\n".join(lines)


def _licences(base: str, base_licence: str, traces: Path | None) -> str:
    known = accounts.columns(traces).get("licence", Counter()) if traces else Counter()
    said = _plain(base_licence) if base_licence else "unknown (promote.base_licence says it)"
    lines = [f"- base model {_plain(base) or 'unknown'}: {said}"]
    if traces is not None:
        lines.append(f"- traces: {_counted(known)}")
    return "\n".join([*lines, "- of the student nothing is claimed beyond what these two allow"])


def _lineage(decision: Decision, origin: Origin) -> str:
    lines = [
        f"- weights: `{decision.challenger.digest}`",
        f"- compared with: version {decision.baseline.version}, `{decision.baseline.digest}`",
        "- files behind it and the students that it goes back to, with SHA-256:"
        if origin.files
        else "- files behind it: unknown",
    ]
    lines += [f"  - {_plain(name)}: `{digest}`" for digest, name in list(origin.files.items())[:_SOURCES]]
    if len(origin.files) > _SOURCES:
        lines.append(f"  - and {len(origin.files) - _SOURCES} more; `dcod lineage` names all")
    if origin.gap:
        lines.append(f"- {origin.gap}")
    return "\n".join(lines)


def _counted(counts: Counter[str]) -> str:
    named = [f"{_plain(value) or 'unknown'} ({n:,})" for value, n in counts.most_common(_SOURCES)]
    more = len(counts) - len(named)
    return (", ".join(named) or "unknown") + (f", and {more} more" if more > 0 else "")


def _plain(text: str) -> str:
    """Text on one line that is neither Markdown nor HTML."""
    escaped = escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_{}\[\]|#!<>])", r"\\\1", escaped)
