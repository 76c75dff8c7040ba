"""Runs on a cluster."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from dcod.cli import extras
from dcod.cli.begin import STYLES
from dcod.cli.options import CLUSTER, ConfigFile, Overrides, Preset, configured, console, result, verb
from dcod.config import Config
from dcod.errors import UserError

if TYPE_CHECKING:
    from dcod.check.checks import Check

app = typer.Typer()


@app.command(
    "compile",
    **verb(
        CLUSTER,
        "dcod compile --out distill.yaml --config mine.yaml",
        "dcod compile --out site/pipeline.yaml --objects --config mine.yaml",
    ),
)
def compile_pipeline(
    out: Annotated[Path, typer.Option("--out", help="The pipeline as YAML.")],
    image: Annotated[str, typer.Option("--image", help="The image of all stages; else cluster.image.")] = "",
    objects: Annotated[
        bool, typer.Option("--objects", help="As Pipeline and PipelineVersion of Kubernetes, to be applied from git.")
    ] = False,
    preset: Preset = "",
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Writes the pipeline for a Kubeflow cluster, as the section `cluster` describes it."""
    from dcod_pipelines.compile import compile_to

    of_image = [f"cluster.image={json.dumps(image)}"] if image else []
    read = configured(config, preset, [*(overrides or ()), *of_image])
    compile_to(out, read, objects)
    result({"out": out})
    for one in _allowed(read):
        console.print(Text.assemble((f"{one.state:<10}", STYLES[one.state]), (f"{one.name}: ", "bold"), one.text))
    console.print(f"wrote {out}")


def _allowed(config: Config) -> list[Check]:
    """What the traces allow; nothing on a laptop that only submits, which has no packages to look at them with."""
    try:
        from dcod.check.checks import allowed

        return allowed(config)
    except ModuleNotFoundError as error:
        if not extras.wanted(error.name or ""):
            raise
        return []


@app.command("preflight", **verb(CLUSTER, "dcod preflight --config mine.yaml"))
def preflight_checks(
    preset: Preset = "",
    config: ConfigFile = None,
    traces: Annotated[bool, typer.Option(help="Also load the student and read some traces.")] = True,
    overrides: Overrides = None,
) -> None:
    """What a run on the cluster needs, checked before any GPU is asked for."""
    if not _checked(configured(config, preset, overrides), traces=traces):
        raise typer.Exit(2)


@app.command(**verb(CLUSTER, "dcod submit --config mine.yaml --follow"))
def submit(
    preset: Preset = "",
    config: ConfigFile = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for the end; the exit code is the run's.")] = False,
    preflight: Annotated[bool, typer.Option(help="Check first; nothing is submitted when a check fails.")] = True,
    overrides: Overrides = None,
) -> None:
    """Starts one run on the cluster of the section `cluster`, of a version that is uploaded where it is not there."""
    from dcod.config.reach import for_cluster
    from dcod_pipelines.kubeflow import Kubeflow

    read = for_cluster(configured(config, preset, overrides))
    if preflight and not _checked(read, traces=False):
        raise typer.Exit(2)
    kubeflow = Kubeflow(read)
    run_id, version = kubeflow.submit()
    result({"run": run_id, "version": str(version), "new": version.new, "link": kubeflow.link(run_id)})
    console.print(f"{'uploaded' if version.new else 'has'} {version}")
    console.print(f"submitted {run_id}\n{kubeflow.link(run_id)}")
    if follow:
        _follow(kubeflow, run_id)


@app.command(
    **verb(
        CLUSTER,
        "dcod schedule nightly --cron '30 2 * * *' --preset retrain",
        "dcod schedule nightly --cron '30 2 * * *' --preset retrain --newest",
        "dcod schedule nightly --remove",
    )
)
def schedule(
    name: Annotated[str, typer.Argument(help="Of the schedule; one of the same name is stopped.")],
    cron: Annotated[str, typer.Option("--cron", help="minute hour day month weekday, such as '30 2 * * 1-5'.")] = "",
    newest: Annotated[
        bool, typer.Option("--newest", help="Each run takes the newest version then; else this one.")
    ] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Remove it, and end its run.")] = False,
    preflight: Annotated[bool, typer.Option(help="Check first; nothing is scheduled when a check fails.")] = True,
    preset: Preset = "",
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Starts a recurring run on the cluster: one at a time, missed ones are not made up for."""
    from dcod.config.reach import for_cluster
    from dcod_pipelines.cron import parse
    from dcod_pipelines.kubeflow import Kubeflow

    if bool(cron) == remove:
        raise UserError("schedule: give --cron or --remove")
    read = configured(config, preset, overrides)
    if remove:
        removed = Kubeflow(read).unschedule(name)
        result({"name": name, "removed": removed})
        console.print(f"removed {removed} of the name {name}")
        return
    parsed, read = parse(cron), for_cluster(read)
    if preflight and not _checked(read, traces=False):
        raise typer.Exit(2)
    made = Kubeflow(read).schedule(name, cron, newest=newest)
    result({"name": name, "id": made.id, "cron": parsed.kubeflow, "stopped": made.stopped})
    console.print(f"{name}: {made.text} (UTC, unless the cluster says otherwise)")
    for at in parsed.following(datetime.now(UTC), 3):
        console.print(f"  {at:%a %Y-%m-%d %H:%M}")
    instead = f"; {made.stopped} earlier stopped, with its runs still listed" if made.stopped else ""
    console.print(f"Kubeflow's cron: {parsed.kubeflow}; id {made.id}{instead}")


@app.command(**verb(CLUSTER, "dcod status --config mine.yaml", "dcod status RUN --config mine.yaml --follow"))
def status(
    run_id: Annotated[str, typer.Argument(metavar="[RUN]", help="Its id; else the newest runs.")] = "",
    follow: Annotated[bool, typer.Option("--follow", help="Wait for the end; the exit code is the run's.")] = False,
    preset: Preset = "",
    config: ConfigFile = None,
) -> None:
    """Shows how runs on the cluster stand, and which schedules there are."""
    from dcod_pipelines.kubeflow import Kubeflow, running, stages

    kubeflow = Kubeflow(configured(config, preset, None))
    if not run_id:
        schedules, runs = [*filter(running, kubeflow.schedules())], kubeflow.latest()
        listed = [{"name": one.display_name, "description": one.description} for one in schedules]
        newest = [{"run": one.run_id, "state": one.state, "name": one.display_name} for one in runs]
        result({"schedules": listed, "runs": newest})
        for each in schedules:
            console.print(f"schedule {each.display_name}: {each.description}")
        for one in runs:
            console.print(f"{one.run_id}  {one.state.lower():<10} {one.created_at:%Y-%m-%d %H:%M}  {one.display_name}")
        return
    if follow:
        _follow(kubeflow, run_id)
        return
    run = kubeflow.run(run_id)
    told = {"run": run_id, "state": run.state, "name": run.display_name, "link": kubeflow.link(run_id)}
    result(told | {"stages": [{"name": name, "state": state} for name, state in stages(run)]})
    console.print(f"{run.display_name}: {run.state.lower()}\n{kubeflow.link(run_id)}")
    for name, state in stages(run):
        console.print(f"  {name:<32} {state.lower()}")


@app.command(**verb(CLUSTER, "dcod cancel RUN --config mine.yaml"))
def cancel(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="Its id; `dcod status` lists them.")],
    preset: Preset = "",
    config: ConfigFile = None,
) -> None:
    """Ends a run on the cluster; its TrainJob is deleted with it."""
    from dcod_pipelines.kubeflow import ENDED, Kubeflow

    state = Kubeflow(configured(config, preset, None)).cancel(run_id)
    result({"run": run_id, "was": state, "cancelled": state not in ENDED})
    console.print(f"{run_id}: was {state.lower()}" + ("" if state in ENDED else "; is being cancelled"))


def _checked(config: Config, *, traces: bool) -> bool:
    from dcod_pipelines.preflight import checks

    good = True
    for check in checks(config, traces=traces):
        good &= check.state != "failed"
        result({"name": check.name, "state": check.state, "text": check.text})
        console.print(f"{check.state:<10} {check.name}: {check.text}")
    return good


def _follow(kubeflow: Any, run_id: str) -> None:
    state = kubeflow.follow(run_id, lambda line: console.print(line))
    result({"run": run_id, "state": state, "link": kubeflow.link(run_id)})
    console.print(f"{state.lower()}: {kubeflow.link(run_id)}")
    if state != "SUCCEEDED":
        raise typer.Exit(1)
