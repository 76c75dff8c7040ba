"""Arms one by one, and what runs found out about their corrections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dcod.api import model_of
from dcod.cli.options import (
    JUDGE,
    ConfigFile,
    NoTrack,
    Out,
    Overrides,
    Preset,
    Student,
    configured,
    console,
    result,
    verb,
)

app = typer.Typer()


@app.command(
    **verb(JUDGE, "dcod pilot --config mine.yaml --scores scores --traces traces --arm support --out pilots/support")
)
def pilot(
    scores: Annotated[Path, typer.Option("--scores", help="A scored set: the output of `dcod score`.")],
    traces: Annotated[
        Path, typer.Option("--traces", help="The traces that were scored: they hold the pilot problems.")
    ],
    arm: Annotated[str, typer.Option("--arm", help="A name of train.arms, or sft.")],
    out: Out,
    student: Student = "",
    preset: Preset = "",
    config: ConfigFile = None,
    no_track: NoTrack = False,
    overrides: Overrides = None,
) -> None:
    """Trains one arm on a share of the prompts, and asks it problems that were held back; `dcod run` does all arms."""
    from dcod.stages.arms import check_arm
    from dcod.stages.execute import RunContext, execute

    read = configured(config, preset, overrides)
    check_arm(read, arm)
    inputs = {"scores": scores, "traces": traces, "student": model_of(read, student)}
    metrics = execute("pilot", read, out, inputs, RunContext(label=arm, tracked=not no_track), arm=arm)
    result({"out": out, "metrics": metrics})
    for name, value in metrics.items():
        console.print(f"{name:<40} {value:.6g}")
    console.print(f"wrote {out}")


@app.command(**verb(JUDGE, "dcod choose --config mine.yaml --out choice pilots/sft pilots/support"))
def choose(
    pilots: Annotated[list[Path], typer.Argument(help="The outputs of `dcod pilot`, one an arm.")],
    out: Out,
    preset: Preset = "",
    config: ConfigFile = None,
    no_track: NoTrack = False,
) -> None:
    """Chooses the arm that trains the student, or plain fine-tuning; see docs/arms.md."""
    from dcod.promote import outcome
    from dcod.reports import arms
    from dcod.stages.execute import RunContext, execute

    read = configured(config, preset, None)
    inputs = {f"pilot{number}": folder for number, folder in enumerate(pilots)}
    execute("choose", read, out, inputs, RunContext(tracked=not no_track))
    choice = outcome.read(out)
    result({"out": out, **choice})
    for line in arms.lines({"text": f"{choice['choice']['why']}.", "choice": choice}):
        console.print(line)
    console.print(f"wrote {out}\nnext      dcod train --choice {out}")


@app.command(**verb(JUDGE, "dcod compare", "dcod compare runs/pipeline/RUN runs/pipeline/OTHER"))
def compare(
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN]…", help="Folders of runs or of decisions; else the newest.")
    ] = None,
) -> None:
    """Says what the correction brought against plain fine-tuning, and shows the arms, or several runs, side by side."""
    from dcod import storage
    from dcod.reports import arms, latest, side_by_side

    folders: list[Path | None] = [*runs] if runs else [None]
    answers = {}
    for folder in folders:
        place = latest.report_of(folder).parent
        answer = answers[str(folder)] = storage.read_json(place / arms.ANSWER, made_by="dcod run")
        result({"run": place, **answer})
        if folder is not None:
            console.print(f"{folder}: {answer['text']}" if len(folders) > 1 else f"{folder}:")
        for line in arms.lines(answer) if len(folders) == 1 else ():
            console.print(line)
    if len(folders) > 1:
        for line in arms.aligned(side_by_side.runs(answers)):
            console.print(line)
