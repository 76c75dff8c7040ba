"""Gate: is the student really better? The decision as data, the challenger registered, the report written.

1. the start becomes the first champion where the registry has none;
2. a champion whose results are missing or were made by another evaluator is evaluated again;
3. student and champion are compared on the gate split of the same problems (dcod.promote.gate), the student with its
   SFT twin where there is one, and the training traces are searched for problems of the benchmarks;
4. the student is registered once, as challenger, with decision and reasons as tags;
5. student and start get their model cards (dcod.reports.model_card), with the files behind the student
   (dcod.tracking.lineage);
6. decision.json and report.html are written, and traces.html, the traces with their weights, beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dcod
from dcod import storage
from dcod.config import Config
from dcod.errors import UserError
from dcod.evaluate.results import Results, load_results
from dcod.models import loading
from dcod.promote.gate import Decision, Reason
from dcod.reports import model_card, report, sections, trace_pages
from dcod.retrain import history
from dcod.stages import evaluate, promote
from dcod.stages.digests import code_digest, output_digest
from dcod.tracking import NullLog, StageRun, Tracker, lineage
from dcod.tracking.lineage import Origin
from dcod.tracking.registry import Registry

_TRACES = 300  # on the page beside the report; `dcod inspect` shows more


def accuracy_table(results: Mapping[str, Results]) -> str:
    """Accuracies on the report split, which the gate never looks at, as lines of text.

    ``detectable`` is the difference to another model that a paired test on so many problems would find; see
    :func:`dcod.evaluate.summaries.detectable`.
    """
    rows: list[tuple[str, ...]] = [
        ("report split", "accuracy", "95 % interval", "n", "detectable", "unparseable", "truncated")
    ]
    for label, one in results.items():
        for row in one.rows:
            if row.split != "report":
                continue
            answers = max(sum(row.outcomes.values()), 1)
            shares = [f"{row.outcomes[outcome] / answers:.1%}" for outcome in ("unparseable", "truncated")]
            interval = f"{row.low:.1%} to {row.high:.1%}"
            size = (str(row.n), f"{row.detectable * 100:.1f} points")
            rows.append((f"{label}: {row.benchmark}", f"{row.accuracy:.1%}", interval, *size, *shares))
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
    twin: Path | None = None,
    twin_results: Path | None = None,
) -> dict[str, float]:
    """Decides, registers and reports; see the module.

    ``few_shot_results`` and ``scores`` only feed the report; ``traces`` are those of the training. ``twin`` is a
    student trained like this one, without correction, and ``twin_results`` are its results.
    """
    if (twin is None) != (twin_results is None):
        raise UserError("gate: a twin needs its model folder and its results")
    if twin is not None and twin_results is not None:
        equal_compute(student, twin)
        if load_results(twin_results).model.digest != loading.digest(twin):
            raise UserError(f"{twin_results}: results of another model than the twin {twin}")
    if traces is not None:
        storage.write_json(out / history.TRAINED_ON, lineage.sources_of(traces))
    champion_results = comparable(config, out, log.tracker, results, [champion_results, start_results])
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
        twin_results=twin_results,
        further=[] if traces is None else _clean(config, traces),
        beside=[out / history.TRAINED_ON],
    )
    shown = {"start": start_results, "champion": champion_results, "student": results}
    if twin_results is not None:
        shown["SFT twin"] = twin_results
    if few_shot_results is not None:
        shown = {"start": start_results, "start, few-shot": few_shot_results, **shown}
    folders = {"start": start, "student": student, "traces": traces, "scores": scores}
    folders |= {f"results of {name}": path for name, path in shown.items()}
    loaded = {name: load_results(path) for name, path in shown.items()}
    registry = Registry(log.tracker)
    version = registry.by_version(decision.registered_model, decision.challenger.version)
    origin = lineage.origin(registry, version, traces)
    describe(config, registry, decision, loaded, student, start, traces, origin)
    viewer = ""
    if scores is not None and traces is not None:
        viewer = "traces.html"
        own = trace_pages.of_training(student, config)
        text = trace_pages.page(own, scores, student, traces=traces, limit=_TRACES)
        storage.write_text(out / viewer, text)
        log.text(viewer, text)
    page = report.page(
        title=config.name,
        decision=decision,
        results=loaded,
        training=student,
        scores=scores,
        ingest=traces,
        lineage={name: output_digest(path) for name, path in folders.items() if path is not None}
        | {"seed": str(config.seed), "dcod": f"{dcod.__version__}, code {code_digest('gate')}"},
        origin=origin,
        costs=sections.costs(log),
        viewer=viewer,
    )
    storage.write_text(out / "report.html", page)
    log.text("report.html", page)
    table = accuracy_table(loaded)
    storage.write_text(out / "accuracy.txt", table)
    log.text("accuracy.txt", table)
    return {"promoted": float(decision.promote)}


def describe(
    config: Config,
    registry: Registry,
    decision: Decision,
    results: Mapping[str, Results],
    student: Path,
    start: Path,
    traces: Path | None,
    origin: Origin,
) -> None:
    """Gives the registered student its model card, and the first champion, the start, where it has none yet."""
    name, licence = decision.registered_model, config.promote.base_licence
    version = registry.by_version(name, decision.challenger.version)
    if decision.outcome != "already_champion" and version is not None:
        registry.describe(version, model_card.student(decision, results, student, traces, licence, origin))
    first = registry.find(name, loading.digest(start))
    if first is not None and not registry.card(first.uri):
        registry.describe(first, model_card.start(name, first.version, config.student.model, licence))


def comparable(config: Config, out: Path, tracker: Tracker, results: Path, candidates: list[Path]) -> Path:
    """Results of the champion that were made as the student's were; else the champion is evaluated again.

    Args:
        config: its ``evaluate`` section must be that of the student's results, or the gate refuses.
        out: the new results go below it.
        tracker: of the registry.
        results: of the student.
        candidates: results that may be the champion's; the first is returned where there is no champion.
    """
    registry = Registry(tracker)
    champion = registry.champion(config.promote.registered_model)
    wanted = load_results(results)
    if champion is None or not config.promote.reevaluate or champion.digest == wanted.model.digest:
        return candidates[0]
    for folder in candidates:
        found = load_results(folder)
        if found.model.digest == champion.digest and found.fingerprints == wanted.fingerprints:
            return folder
    folder = out / "champion"
    folder.mkdir()
    evaluate.run(config, folder, NullLog(), student=registry.resolve(champion.uri))
    return folder


def equal_compute(student: Path, twin: Path) -> None:
    """Checks that a twin was trained on the same traces and start, with the same seed and settings, uncorrected.

    Raises:
        UserError: it was not, or it cannot be told.
    """
    ours, theirs = _trained(student), _trained(twin)
    if theirs["config"]["train"]["correction"]["name"] != "none":
        raise UserError(f"twin {twin}: trained with correction {theirs['config']['train']['correction']['name']!r}")
    for manifest in (ours, theirs):
        del manifest["config"]["train"]["correction"]
    different = [name for name in ("config", "seed", "inputs", "code") if ours[name] != theirs[name]]
    if different:
        raise UserError(f"twin {twin}: not at equal compute, another {', '.join(different)} than {student}")


def _trained(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if manifest["stage"] != "train":
            raise ValueError(f"made by {manifest['stage']}")  # noqa: TRY301
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}: no manifest of a training ({error}); a twin is made with `dcod train`") from None
    return manifest


def _clean(config: Config, traces: Path) -> list[Reason]:
    found = evaluate.contamination(config, traces)
    dirty = found["exact"] + found["inside"]
    text = (
        f"{dirty} of {found['traces']} training traces hold a problem of a benchmark ({found['ngram']} more share much "
        "of their wording with one)"
    )
    if dirty:
        text += f": {'; '.join(found['named'][:3])}; leave ingest.decontaminate on"
    return [Reason("uncontaminated", text, not dirty)]
