"""The data card of a trace set: what went in, what came out and why not, as a page and as Markdown.

All that comes from a trace is escaped: prompts may hold HTML, Markdown and scripts.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from dcod import storage
from dcod.errors import UserError
from dcod.ingest import quarantine
from dcod.ingest.assemble import COUNTS, MADE_BY, SOURCES
from dcod.reports import figures, markdown
from dcod.reports.html import cut, document, missing, part, plot, table
from dcod.reports.sections import columns
from dcod.storage import outputs, parquet
from dcod.traces import FILE, Trace, read_batches, read_traces

PAGE, TEXT = "card.html", "card.md"
_EXAMPLES = 3  # accepted traces, and quarantined rows of each reason
_SHOWN = 800  # characters of each
_KNOWN = ("teacher", "licence")

Section = tuple[str, Sequence[str], Sequence[Sequence[str]]]  # title, head and rows of a table


def write(out: Path, traces: Path | None = None, drift: Mapping[str, Any] | None = None) -> None:
    """Writes ``card.html`` and ``card.md``.

    Args:
        out: where.
        traces: the trace set; else ``out`` itself.
        drift: of its scores; see dcod.stages.score.
    """
    folder = traces or out
    counts, files = (storage.read_json(folder / name, made_by=MADE_BY) for name in (COUNTS, SOURCES))
    tables = _tables(folder, counts, files["files"])
    accepted = list(islice(read_traces(folder), _EXAMPLES))
    refused = _refused(folder)
    told = _verdict(counts)
    storage.write_text(out / PAGE, _page(told, tables, accepted, refused, drift))
    storage.write_text(out / TEXT, _markdown(told, tables, accepted, refused, drift))


def export(traces: Path, out: Path) -> None:
    """Copies a trace set as a data set that a hub shows: Parquet below ``data``, and the card with a hub's head.

    What was refused stays behind, and so do dcod's own records, which name places of ours.

    Raises:
        UserError: ``traces`` is no trace set, or the folder cannot be written.
    """
    from huggingface_hub import DatasetCardData

    shards = parquet.shards(traces / FILE)
    if not shards or not (traces / TEXT).is_file():
        raise UserError(f"{traces}: no trace set with its {TEXT}; make one with `dcod ingest`")
    outputs.check_folder(out)
    outputs.check_apart(out, {"the traces": traces}, {})
    licences = {value.lower() or "unknown" for value in columns(traces)["licence"]}
    head = DatasetCardData(
        license=licences.pop() if len(licences) == 1 else "other",
        task_categories=["text-generation"],
        tags=["dcod", "distillation", "reasoning"],
        configs=[{"config_name": "default", "data_files": "data/*.parquet"}],
    )
    with storage.output_folder(out) as scratch:
        (scratch / "data").mkdir()
        for shard in shards:
            shutil.copyfile(shard, scratch / "data" / shard.name)
        card = (traces / TEXT).read_text(encoding="utf-8")
        storage.write_text(scratch / "README.md", f"---\n{head.to_yaml()}\n---\n\n{card}")


def _verdict(counts: Mapping[str, Any]) -> str:
    """What a reader wants to know first: how much may be trained on, and what refused the most."""
    items = counts.get("items", counts["read"])
    told = f"{_n(counts['accepted'])} of {_n(items)} traces accepted ({counts['accepted'] / max(items, 1):.1%})"
    if not counts["accepted"]:
        told = f"Nothing to train on: none of {_n(items)} traces was accepted"
    reasons = sorted(counts["quarantined"].items(), key=lambda item: -item[1])
    if reasons:
        told += f"; most were refused for {reasons[0][0]} ({_n(reasons[0][1])})"
    unsure = counts["verdicts"].get("unverified", 0)
    if unsure:
        told += f". {_n(unsure)} are taught without their answer having been checked"
    return f"{told}."


def _tables(folder: Path, counts: Mapping[str, Any], files: Sequence[Mapping[str, Any]]) -> list[Section]:
    reasons = sorted(counts["quarantined"].items(), key=lambda item: -item[1])
    shown = ["read", "accepted", "train", "selection", *(["pilot"] if counts.get("pilot") else [])]
    lengths = sorted({*counts["prompt_lengths"], *counts["completion_lengths"]}, key=int)
    sections: list[Section] = [
        ("Rows", ["", "rows"], [[name, _n(counts[name])] for name in shown]),
        (
            "Refused",
            ["reason", "rows", "share"],
            [[name, _n(n), f"{n / counts.get('items', counts['read']):.1%}"] for name, n in reasons],
        ),
        (
            "Sources",
            ["file", "SHA-256", "read", "accepted", "refused", "by reason"],
            [
                [
                    item["file"],
                    item["digest"][:12],
                    _n(item["read"]),
                    _n(item["accepted"]),
                    _n(sum(item["quarantined"].values())),
                    ", ".join(f"{n} {name}" for name, n in item["quarantined"].items()),
                ]
                for item in files
            ],
        ),
        *_readings(counts, files),
        ("Verdicts", ["verdict", "traces"], [[name, _n(n)] for name, n in counts["verdicts"].items()]),
        (
            "The student's own answers, among the accepted",
            ["", "traces"],
            [[name, _n(n)] for name, n in counts.get("own", {}).items()],
        ),
        ("Cleaning", ["change", "traces"], [[name, _n(n)] for name, n in counts["changes"].items()]),
        (
            "Lengths, in the student's tokens",
            ["up to", "prompts", "completions"],
            [
                [_n(int(up)), *(_n(counts[f"{of}_lengths"].get(up, 0)) for of in ("prompt", "completion"))]
                for up in lengths
            ],
        ),
        (
            "Wording shared with benchmarks (not refused)",
            ["benchmark", "traces"],
            [[name, _n(n)] for name, n in counts["ngram_hits"].items()],
        ),
    ]
    for column in _KNOWN:
        values: Counter[str] = Counter()
        for batch in read_batches(folder, columns=[column]):
            values.update(str(value or "not said") for value in batch[column].to_pylist())
        rows = [[value, _n(count)] for value, count in values.items()]
        sections.append((f"By {column}", [column, "traces"], rows))
    return sections


def _readings(counts: Mapping[str, Any], files: Sequence[Mapping[str, Any]]) -> list[Section]:
    """How the files were read, and what their rows say of themselves."""
    read = [
        [item["file"], text, ", ".join(told["unused"])]
        for item in files
        for text, told in item.get("read_as", {}).items()
    ]
    flags = [[name, _n(n)] for name, n in counts.get("flags", {}).items()]
    return [
        ("Read as", ["file", "format and columns", "left out"], read),
        ("Flags", ["flag of the row", "traces"], flags),
    ]


def _refused(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """A few quarantined rows of each reason."""
    examples: dict[str, list[dict[str, Any]]] = {}
    for batch in quarantine.batches(folder):
        for index, reason in enumerate(batch["reason"].to_pylist()):
            if len(examples.setdefault(reason, [])) < _EXAMPLES:
                examples[reason].append(batch.slice(index, 1).to_pylist()[0])
    return examples


def _page(
    told: str,
    tables: Sequence[Section],
    accepted: Sequence[Trace],
    refused: Mapping[str, Sequence[Mapping[str, Any]]],
    drift: Mapping[str, Any] | None,
) -> str:
    body = [part("title", "Data card"), part("lead", told)]
    for title, head, rows in tables:
        body.append(part("chapter", "", title, table(head, rows, title) if rows else missing("None.")))
    curve = plot(figures.drift_figure(drift), "drift") if drift else missing("Not scored yet.")
    body += [part("chapter", "", "Drift", curve), part("chapter", "", "Examples", "")]
    for trace in accepted:
        text = f"{trace.problem}\n\n{trace.completion}"
        body.append(part("text", f"accepted, {trace.verdict}: {_place(trace)}", cut(text, _SHOWN)))
    for reason, rows_of in refused.items():
        for row in rows_of:
            place = f"{row['source_file']}:{row['source_line']}"
            body.append(part("text", f"{reason}: {place}", cut(f"{row['message']}\n\n{row['raw']}", _SHOWN)))
    return document("Data card", body)


def _markdown(
    told: str,
    tables: Sequence[Section],
    accepted: Sequence[Trace],
    refused: Mapping[str, Sequence[Mapping[str, Any]]],
    drift: Mapping[str, Any] | None,
) -> str:
    examples = [(f"Accepted, {trace.verdict}: {_place(trace)}", trace.completion) for trace in accepted]
    examples += [
        (f"{reason}: {row['source_file']}:{row['source_line']}: {row['message']}", row["raw"])
        for reason, rows_of in refused.items()
        for row in rows_of
    ]
    shown = [(words, markdown.fenced(cut(text, _SHOWN))) for words, text in examples]
    values = {
        "told": told,
        "tables": tables,
        "examples": shown,
        "drift": f"See {PAGE}." if drift else "Not scored yet.",
    }
    return markdown.render("data_card.md", **values)


def _place(trace: Trace) -> str:
    return f"{trace.source_file}:{trace.source_line}"


def _n(value: int) -> str:
    return f"{value:,}"
