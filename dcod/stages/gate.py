"""Gate: is the student really better? The decision as data, the challenger registered, the report written.

1. the start becomes the first champion where the registry has none;
2. student and champion are compared on the gate split of the same problems (dcod.gate);
3. the student is registered once, as challenger, with decision and reasons as tags;
4. decision.json and report.html are written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from dcod import report, storage
from dcod.config import Config
from dcod.stages import output_digest, promote
from dcod.tracking import StageRun

SECTIONS = ("promote", "evaluate")


def accuracy_table(results: Mapping[str, Path]) -> str:
    """Accuracies on the report split, which the gate never looks at, as lines of text."""
    rows: list[tuple[str, ...]] = [("report split", "accuracy", "95 % interval", "n", "unparseable", "truncated")]
    for label, folder in results.items():
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        for key, entry in summary["benchmarks"].items():
            for splits in entry["prompting"].values():
                found = splits["report"]
                answers = max(sum(found["outcomes"].values()), 1)
                shares = [f"{found['outcomes'][outcome] / answers:.1%}" for outcome in ("unparseable", "truncated")]
                interval = f"{found['low']:.1%} to {found['high']:.1%}"
                rows.append((f"{label}: {key}", f"{found['accuracy']:.1%}", interval, str(found["n"]), *shares))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def run(
    config: Config,
    out: Path,
    log: StageRun,
    *,
    start: Path,
    student: Path,
    results: Path,
    start_results: Path,
    champion_results: Path,
    few_shot_results: Path | None = None,
    traces: Path | None = None,
    scores: Path | None = None,
) -> dict[str, float]:
    """Decides, registers and reports; see the module. The optional folders only feed the report."""
    decision = promote.gate(
        config,
        out,
        log,
        tracker=log.tracker,
        student=student,
        start=start,
        results=results,
        start_results=start_results,
        champion_results=champion_results,
    )
    shown = {"start": start_results, "champion": champion_results, "student": results}
    if few_shot_results is not None:
        shown = {"start": start_results, "start, few-shot": few_shot_results, **shown}
    folders = {"start": start, "student": student, "traces": traces, "scores": scores}
    lineage = folders | {f"results of {name}": path for name, path in shown.items()}
    page = report.page(
        title=config.name,
        decision=decision,
        results=shown,
        training=student,
        scores=scores,
        ingest=traces,
        lineage={name: output_digest(path) for name, path in lineage.items() if path is not None},
    )
    storage.write_text(out / "report.html", page)
    log.text("report.html", page)
    table = accuracy_table(shown)
    storage.write_text(out / "accuracy.txt", table)
    log.text("accuracy.txt", table)
    return {"promoted": float(decision.promote)}
