"""The stages one by one: folders in, a folder out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from dcod.api import model_of
from dcod.cli.options import (
    DATA,
    JUDGE,
    ConfigFile,
    NoTrack,
    Out,
    OutUnlessLook,
    Overrides,
    Preset,
    Student,
    configured,
    console,
    result,
    verb,
)
from dcod.config import Config
from dcod.errors import UserError

app = typer.Typer()


@app.command(
    **verb(
        DATA,
        "dcod teach --prompts prompts.jsonl --teacher Qwen/Qwen3-8B --out attempts",
        "dcod teach --config mine.yaml --out attempts teach.attempts=4",
        "dcod teach --prompts traces.jsonl --out own teach.source=student",
    )
)
def teach(
    out: Out,
    prompts: Annotated[list[str] | None, typer.Option("--prompts", help="Source; may be given several times.")] = None,
    teacher: Annotated[str, typer.Option("--teacher", help="As --student elsewhere; else teach.model.")] = "",
    preset: Preset = "",
    config: ConfigFile = None,
    no_track: NoTrack = False,
    overrides: Overrides = None,
) -> None:
    """Asks a teacher your prompts and keeps its verified attempts, with their log-probs; see docs/teach.md."""
    given = [f"teach.model={teacher}"] if teacher else []
    read = configured(config, preset, [*given, *(overrides or ())])
    if prompts:
        read = read.model_copy(update={"teach": read.teach.model_copy(update={"prompts": prompts})})
    from dcod.stages.teach import settled, table

    read = settled(read)
    inputs = {"teacher": model_of(read, read.teach.model, read.teach.revision)} if read.teach.model else {}
    _stage("teach", read, out, no_track, few_shot=None, told=False, **inputs)
    console.print(table(out))
    _next(f"dcod ingest --traces {out} --out traces")


@app.command(
    **verb(
        DATA,
        "dcod ingest --traces traces.jsonl --out traces",
        "dcod ingest --look traces.jsonl",
        "dcod ingest --traces more.jsonl --onto traces --out traces2 ingest.keep=answered",
    )
)
def ingest(
    out: OutUnlessLook = None,
    traces: Annotated[list[str] | None, typer.Option("--traces", help="Source; may be given several times.")] = None,
    student: Student = "",
    onto: Annotated[
        Path | None, typer.Option("--onto", help="An earlier set that this one adds to; its files are not read again.")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option("--replay", help="An earlier set whose quarantine is examined again after a fix.")
    ] = None,
    look: Annotated[
        list[str] | None, typer.Option("--look", help="Only shows how the first rows of this source would be taught.")
    ] = None,
    preset: Preset = "",
    config: ConfigFile = None,
    no_track: NoTrack = False,
    overrides: Overrides = None,
) -> None:
    """Checks raw traces: accepted ones, a quarantine with reasons, counts and a data card."""
    from dcod.stages.ingest import look as shown
    from dcod.stages.ingest import readings, table

    read = configured(config, preset, overrides)
    if look:
        read = read.model_copy(update={"ingest": read.ingest.model_copy(update={"sources": look})})
        seen = list(shown(read, model_of(read, student)))
        result({"look": seen})
        for line in seen:
            console.print(line)
        return
    if out is None:
        raise UserError("give --out, a folder for the trace set; or --look SOURCE, which writes nothing")
    if replay and (traces or onto):
        raise UserError("give --replay alone, or --traces and --onto: a replay reads no source")
    if traces or replay:
        section = read.ingest.model_copy(update={"sources": traces or []})
        read = read.model_copy(update={"ingest": section})
    earlier = {name: path for name, path in (("onto", onto), ("replay", replay)) if path}
    inputs = {"student": model_of(read, student), **earlier}
    metrics = _stage("ingest", read, out, no_track, few_shot=None, told=False, **inputs)
    console.print(table(out))
    said("ingest", read, out, inputs, metrics)
    _next(f"dcod score --traces {out} --out scores")
    for line in readings(out):
        console.print(line)


@app.command(
    **verb(
        DATA,
        "dcod score --traces traces --out scores",
        "dcod score --traces traces --out scores --student s3://bucket/student",
    )
)
def score(
    traces: Annotated[Path, typer.Option("--traces", help="A trace set: the output of `dcod ingest`.")],
    out: Out,
    student: Student = "",
    preset: Preset = "",
    config: ConfigFile = None,
    no_track: NoTrack = False,
    overrides: Overrides = None,
) -> None:
    """Records how likely the student finds every token of the traces, and how far the teacher is from it."""
    read = configured(config, preset, overrides)
    inputs = {"traces": traces, "student": model_of(read, student)}
    metrics = _stage("score", read, out, no_track, few_shot=None, told=True, **inputs)
    said("score", read, out, inputs, metrics)
    _next(f"dcod train --scores {out} --out student")


@app.command(
    **verb(
        JUDGE,
        "dcod train --scores scores --out student train.epochs=3",
        "dcod train --scores scores --out student train.correction.name=surprisal",
    )
)
def train(
    scores: Annotated[Path, typer.Option("--scores", help="A scored set: the output of `dcod score`.")],
    out: Out,
    student: Student = "",
    arm: Annotated[str, typer.Option("--arm", help="A name of train.arms, or sft: plain fine-tuning.")] = "",
    choice: Annotated[
        Path | None, typer.Option("--choice", help="An output of `dcod choose`: its arm; with --arm sft the twin.")
    ] = None,
    preset: Preset = "",
    config: ConfigFile = None,
    no_track: NoTrack = False,
    overrides: Overrides = None,
) -> None:
    """Trains a student on scored traces, with the configured correction, or as an arm of several."""
    from dcod.config.arms import SFT
    from dcod.stages.arms import of_training

    if choice and arm not in ("", SFT):
        raise UserError("give --arm or --choice, not both; --arm sft --choice DIR trains the twin of what was chosen")
    read = configured(config, preset, overrides)
    read = of_training(read, arm, choice)
    _stage("train", read, out, no_track, scores=scores, student=model_of(read, student))
    _next(f"dcod evaluate --student {out} --out results")


@app.command(
    **verb(
        JUDGE,
        'dcod evaluate --student ./student --out results \'evaluate.benchmarks=[{"name": "gsm8k"}]\'',
        "dcod evaluate --responses answers.jsonl --config mine.yaml --out results",
    )
)
def evaluate(
    out: Out,
    student: Student = "",
    responses: Annotated[
        Path | None, typer.Option("--responses", help="Recorded answers (JSON Lines or Parquet): graded, no model.")
    ] = None,
    traces: Annotated[
        Path | None, typer.Option("--traces", help="Training traces: contamination, drift, few-shot examples.")
    ] = None,
    preset: Preset = "",
    config: ConfigFile = None,
    no_track: NoTrack = False,
    overrides: Overrides = None,
) -> None:
    """Measures a model, or recorded answers, on the configured benchmarks; see docs/evaluation.md."""
    read = configured(config, preset, overrides)
    if responses and student:
        raise UserError("give --student or --responses, not both")
    inputs = {"responses": responses} if responses else {"student": model_of(read, student)}
    if traces:
        inputs["traces"] = traces
    few_shot = traces is not None and read.evaluate.few_shot > 0
    _stage("evaluate", read, out, no_track, few_shot=few_shot, told=False, **inputs)
    _print_results(out)


@app.command(
    **verb(
        JUDGE,
        "dcod promote --student ./student --results results --start-results start-results --out decision",
        "dcod rollback",
    )
)
def promote(
    results: Annotated[Path, typer.Option("--results", help="Of the student: an output of `dcod evaluate`.")],
    start_results: Annotated[Path, typer.Option("--start-results", help="Of the start, on the same benchmarks.")],
    student: Annotated[str, typer.Option("--student", help="The trained student.")],
    out: Out,
    start: Annotated[str, typer.Option("--start", help="The start; else student.model.")] = "",
    champion_results: Annotated[Path | None, typer.Option(help="Of the champion, where there is one.")] = None,
    twin: Annotated[Path | None, typer.Option(help="A student trained alike, with --arm sft.")] = None,
    twin_results: Annotated[Path | None, typer.Option(help="Its results.")] = None,
    choice: Annotated[Path | None, typer.Option(help="What the pilot chose, for the report.")] = None,
    traces: Annotated[Path | None, typer.Option(help="The training traces, for the check of contamination.")] = None,
    teacher: Annotated[Path | None, typer.Option(help="Its folder, for promote.exposure_traces.")] = None,
    preset: Preset = "",
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Decides whether the student becomes the champion, and says why. A refusal is a normal outcome."""
    from dcod.stages.execute import RunContext, execute

    read = configured(config, preset, overrides)
    inputs = {
        "student": model_of(read, student),
        "start": model_of(read, start),
        "results": results,
        "start_results": start_results,
        "champion_results": champion_results or start_results,
    }
    optional = {"twin": twin, "twin_results": twin_results, "choice": choice, "traces": traces}
    optional |= {"teacher": teacher}
    inputs |= {name: path for name, path in optional.items() if path is not None}
    execute("gate", read, out, inputs, RunContext())
    execute("promote", read, out / "promotion", {"decision": out}, RunContext())
    print_decision(out)
    outcome = (out / "promotion" / "outcome.json").read_text(encoding="utf-8").strip()
    console.print(outcome)
    result({"out": out, **json.loads(outcome)})


def _stage(
    stage: str,
    config: Config,
    out: Path,
    no_track: bool,
    *,
    few_shot: bool | None = None,
    told: bool = True,
    **inputs: Path,
) -> dict[str, float]:
    from dcod.stages import headlines
    from dcod.stages.execute import RunContext, execute

    options = {} if few_shot is None else {"few_shot": few_shot}
    metrics = execute(stage, config, out, inputs, RunContext(tracked=not no_track), **options)
    if told:
        console.print(headlines.glance(metrics))
    console.print(f"wrote {out}")
    result({"out": out, "metrics": metrics})
    return metrics


def said(stage: str, config: Config, out: Path, inputs: dict[str, Path], metrics: Mapping[str, float]) -> None:
    """Prints what the traces allow, before anybody trains on them; the arguments as dcod.stages.remarks takes them."""
    from dcod.stages import remarks

    told = remarks.of(stage, config, out, inputs, metrics)
    assert told is not None, "these stages have traces"
    console.print(Text(str(told[0])))
    for remark in told[1]:
        style = {"warning": "yellow", "note": ""}.get(remark.level, "bold red")
        console.print(Text(f"{remark.level}: {remark}", style=style))


def _next(command: str) -> None:
    """What one would do now."""
    console.print(Text.assemble("next: ", (command, "bold")))


def _print_results(folder: Path) -> None:
    from dcod.stages.evaluate import table

    console.print(table(folder))


def print_decision(folder: Path) -> None:
    """What the correction brought, and what the gate said."""
    from dcod import storage
    from dcod.promote.decision import read_decision
    from dcod.reports.arms import ANSWER

    console.print(storage.read_json(folder / ANSWER, made_by="dcod promote")["text"])
    decision = read_decision(folder)
    console.print(f"decision  {decision.outcome}")
    for reason in decision.reasons:
        mark = ("yes", "green") if reason.passed else ("NO ", "bold red")
        console.print(Text.assemble("  ", mark, f"  {reason.text}"))
    if decision.advice:
        console.print(f"next      {decision.advice}")
