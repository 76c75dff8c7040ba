"""Gate: is the student really better? The decision as data, the challenger registered, the report written.

1. the start becomes the first champion where the registry has none;
2. student and champion are compared on the gate split of the same problems (dcod.gate);
3. the student is registered once, as challenger, with decision and reasons as tags;
4. decision.json and report.html are written.
"""

from __future__ import annotations

from pathlib import Path

from dcod import report, storage
from dcod.config import Config
from dcod.stages import output_digest, promote
from dcod.tracking import StageRun

SECTIONS = ("promote", "evaluate")


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
    return {"promoted": float(decision.promote)}
