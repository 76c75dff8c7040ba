"""Whole runs on this machine, and what they left behind."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from dcod import storage
from dcod.api import model_of
from dcod.cli.options import (
    BEGIN,
    CLUSTER,
    DATA,
    JUDGE,
    REGISTRY,
    ConfigFile,
    Out,
    Overrides,
    Preset,
    Student,
    configured,
    console,
    result,
    verb,
)
from dcod.cli.stages import print_decision, said

app = typer.Typer()


@app.command(**verb(BEGIN, "dcod run --preset quickstart", "dcod run --config mine.yaml train.epochs=3"))
def run(
    preset: Preset = "",
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """The whole pipeline on this machine: from traces to a judged student and its report."""
    from dcod.check.checks import early
    from dcod.reports import latest
    from dcod_pipelines.local import run_here

    read = configured(config, preset, overrides)
    early(read)
    outcome = run_here(read, quiet=console.quiet, verbose=logging.getLogger().isEnabledFor(logging.INFO))
    if outcome.error:
        print(f"dcod: {outcome.error} (log: {outcome.log})", file=sys.stderr)
        raise typer.Exit(2 if outcome.users_mistake else 1)
    if outcome.retraining:
        console.print(_retraining(outcome.retraining), end="")
    if outcome.decision:
        print_decision(outcome.decision)
        console.print((outcome.decision / "accuracy.txt").read_text(encoding="utf-8"))
        console.print(f"report    {outcome.decision / 'report.html'}  (dcod report --open)")
        latest.mark(outcome.decision, outcome.traces)
        result({"decision": outcome.decision, "report": outcome.decision / "report.html"})
    console.print(f"runs      mlflow ui --backend-store-uri {read.tracking.uri}")


@app.command(**verb(JUDGE, "dcod report --open", "dcod report runs/pipeline/RUN"))
def report(
    run_folder: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="A folder of a run or of a decision; else the newest run.")
    ] = None,
    show: Annotated[bool, typer.Option("--open/--no-open", help="Open it in a browser.")] = False,
) -> None:
    """Says where the report of a run lies, and opens it."""
    from dcod.reports import latest

    page = latest.report_of(run_folder)
    console.print(str(page))
    result({"report": page})
    if show:
        typer.launch(str(page.resolve()))


@app.command(
    **verb(
        DATA, "dcod inspect scores --traces traces", "dcod inspect scores --results results --out traces.html --no-open"
    )
)
def inspect(
    scores: Annotated[Path, typer.Argument(help="A scored trace set: the output of `dcod score`.")],
    traces: Annotated[Path | None, typer.Option(help="The traces that were scored: verdicts and sources.")] = None,
    results: Annotated[Path | None, typer.Option(help="Results of an evaluation: answers to the same prompts.")] = None,
    answers: Annotated[int, typer.Option(min=0, help="Let the student answer so many of the prompts.")] = 0,
    limit: Annotated[int, typer.Option(min=1, help="At most so many traces.")] = 1000,
    student: Student = "",
    out: Annotated[Path, typer.Option("--out", help="The page.")] = Path("traces.html"),
    show: Annotated[bool, typer.Option("--open/--no-open", help="Open it in a browser.")] = True,
    preset: Preset = "",
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Writes a page with every trace and the weight of each token; see docs/pages.md."""
    from dcod.reports import trace_pages
    from dcod.storage import outputs

    outputs.check_file(out)
    read = configured(config, preset, overrides)
    folder = model_of(read, student)
    if not (config or preset or overrides):
        read = trace_pages.of_training(folder, read)
    page = trace_pages.page(read, scores, folder, traces=traces, results=results, answers=answers, limit=limit)
    outputs.write_file(out, page)
    result({"out": out})
    if traces:
        noted = scores / storage.MANIFEST
        metrics = storage.read_json(noted, made_by="dcod score").get("metrics", {}) if noted.is_file() else {}
        said("score", read, scores, {"traces": traces}, metrics)
    console.print(f"wrote {out}")
    if show:
        typer.launch(str(out.resolve()))


@app.command(
    **verb(
        DATA,
        "dcod weights scores --out weighted train.correction.name=surprisal",
        "dcod weights scores --out weighted --config mine.yaml",
    )
)
def weights(
    scores: Annotated[Path, typer.Argument(help="A scored trace set: the output of `dcod score`.")],
    out: Out,
    preset: Preset = "",
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Writes the weight of every token as a table, for a trainer of your own; see docs/weights.md."""
    from dcod import api

    written = api.write_weights(scores, out, config=configured(config, preset, overrides))
    result({"out": out, "metrics": written.metrics})
    console.print(f"wrote {out}: {written.metrics['traces']:.0f} traces")


@app.command(
    **verb(
        REGISTRY,
        "dcod export models:/dcod-student@champion --out student",
        "dcod export models:/dcod-student/3 --out student --push me/my-student",
        "dcod export traces --out data-set --push me/my-traces --dry-run",
    )
)
def export(
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help="models:/name@alias, models:/name/version, or a trace set's folder.")
    ],
    out: Annotated[
        Path, typer.Option("--out", help="The folder: absent, empty, or dcod's; replaced when all is there.")
    ],
    push: Annotated[str, typer.Option(metavar="OWNER/NAME", help="Also upload it to a hub, private at first.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what --push would upload.")] = False,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """A registered student, or a trace set, as a folder that others load, with its card; perhaps to a hub."""
    from dcod.reports import data_card
    from dcod.tracking import export as exporting

    if Path(what).is_dir():
        data_card.export(Path(what), out)
        console.print(f"wrote {out}")
    else:
        carded = exporting.export(configured(config, "", overrides).tracking, what, out)
        console.print(f"wrote {out}" + ("" if carded else " (without a model card: none was registered)"))
    told = exporting.push(out, push, "dataset" if Path(what).is_dir() else "model", dry=dry_run) if push else ""
    result({"out": out, **({"push": told} if push else {})})
    if push:
        console.print(told)


@app.command(**verb(REGISTRY, "dcod lineage models:/dcod-student@champion"))
def lineage(
    model: Annotated[str, typer.Argument(help="models:/name@alias or models:/name/version.")],
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """The files behind a registered student, by MLflow, each with its SHA-256 in front, as sha256sum prints it."""
    from dcod.tracking.lineage import files
    from dcod.tracking.registry import Registry

    registry = Registry(configured(config, "", overrides).tracking)
    found = files(registry, registry.version_of(model))
    result({"files": [{"sha256": digest, "name": name} for digest, name in found.items()]})
    for digest, name in () if console.machine else found.items():
        print(f"{digest}  {name}")


@app.command(**verb(CLUSTER, "dcod metrics --preset retrain --push http://pushgateway:9091"))
def metrics(
    preset: Preset = "",
    config: ConfigFile = None,
    push: Annotated[str, typer.Option("--push", help="Address of a Pushgateway; else they are printed.")] = "",
    overrides: Overrides = None,
) -> None:
    """Figures of a schedule's newest run, for Prometheus; docs/operations.md."""
    from dcod.cluster import prometheus
    from dcod.retrain import history
    from dcod.tracking.runs import Tracker

    read = configured(config, preset, overrides)
    figures = history.status(Tracker(read.tracking), read)
    if push:
        prometheus.push(figures, push, read.name)
    result({"name": read.name, "figures": figures, "pushed": bool(push)})
    if not (push or console.machine):
        print(prometheus.exposition(figures, read.name), end="")


@app.command(**verb(REGISTRY, "dcod rollback --config mine.yaml"))
def rollback(config: ConfigFile = None, overrides: Overrides = None) -> None:
    """Makes the previous champion the champion again."""
    from dcod.promote.promote import rollback as roll
    from dcod.tracking.runs import Tracker

    read = configured(config, "", overrides)
    version = roll(read, tracker=Tracker(read.tracking))
    result({"champion": version.uri, "version": version.version})
    console.print(f"champion is version {version.version} again")


@app.command(**verb(REGISTRY, "dcod gc --config mine.yaml", "dcod gc --config mine.yaml --days 14 --delete"))
def gc(
    days: Annotated[float, typer.Option(min=0, help="Nothing younger goes.")] = 30.0,
    delete: Annotated[bool, typer.Option("--delete", help="Do it; else it is only listed.")] = False,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Lists, or deletes, weights and outputs that nothing needs any more; runs, figures and versions stay."""
    from dcod.promote.promote import held
    from dcod.tracking import retention
    from dcod.tracking.runs import Tracker

    read = configured(config, "", overrides)
    with held(read):  # no promotion and no rollback meanwhile
        now = time.time()
        items = retention.removable(Tracker(read.tracking), read, days, now)
        for item in items:
            size = f"{item.size / 1e9:8.2f} GB" if item.size >= 0 else "       ? GB"
            console.print(f"{retention.age(item, now):5} days {size}  {item.kind:8} {item.name}")
            if delete:
                item.remove()
    told = [{"kind": item.kind, "name": item.name, "bytes": item.size if item.size >= 0 else None} for item in items]
    result({"items": told, "deleted": delete})
    total = sum(max(item.size, 0) for item in items) / 1e9
    done = "deleted" if delete else "listed; --delete deletes them"
    console.print(f"{len(items)} older than {days:g} days, {total:.2f} GB and what has no size, {done}")


def _retraining(folder: Path) -> str:
    from dcod import storage
    from dcod.retrain.decide import RetrainDecision
    from dcod.retrain.history import RECORD

    return RetrainDecision.from_dict(storage.read_json(folder / RECORD, made_by="dcod run")).text()
