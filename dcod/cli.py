"""The command line: `dcod VERB --config FILE section.key=value …`. No logic; only here kfp is imported, lazily."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

import dcod
from dcod.config import Config, load_config, parse_config
from dcod.errors import PreemptedError, UserError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Distribution-corrected offline distillation of reasoning into small language models.",
)
console = Console(highlight=False, soft_wrap=True)

Overrides = Annotated[
    list[str] | None, typer.Argument(help="Overrides such as train.epochs=3.", metavar="[SECTION.KEY=VALUE]…")
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="A YAML or JSON configuration.")]
Preset = Annotated[str, typer.Option("--preset", help="A ready configuration; see `dcod presets`.")]
Student = Annotated[str, typer.Option("--student", help="Folder, owner/name, s3://… or models:/name@alias.")]
Out = Annotated[Path, typer.Option("--out", help="The output folder; replaced when the stage ended well.")]
Folder = Annotated[Path, typer.Option(exists=False, file_okay=False)]
NoTrack = Annotated[bool, typer.Option("--no-track", help="Keep MLflow out of it.")]


def main() -> None:
    """The entry point: a user's mistake is one line and exit code 2, anything else that fails 1."""
    # Threads that spin while they wait slow a shared machine down by a factor of 5; read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app(standalone_mode=True)
    except UserError as error:
        print(f"dcod: {error}", file=sys.stderr)
        sys.exit(2)
    except PreemptedError as error:
        print(f"dcod: {error}", file=sys.stderr)
        sys.exit(128 + signal.SIGTERM)
    except KeyboardInterrupt:
        print("dcod: interrupted", file=sys.stderr)
        sys.exit(1)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"dcod {dcod.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None: ...


@app.command()
def teach(
    out: Out,
    prompts: Annotated[list[str] | None, typer.Option("--prompts", help="Source; may be given several times.")] = None,
    teacher: Annotated[str, typer.Option("--teacher", help="As --student elsewhere; else teach.model.")] = "",
    config: ConfigFile = None,
    no_track: NoTrack = False,
    overrides: Overrides = None,
) -> None:
    """Prompts in; a teacher's verified attempts with their log-probs out; see docs/teach.md."""
    given = [f"teach.model={teacher}"] if teacher else []
    read = _config(config, "", [*given, *(overrides or ())])
    if prompts:
        read = read.model_copy(update={"teach": read.teach.model_copy(update={"prompts": prompts})})
    inputs = {"teacher": _model(read, read.teach.model, read.teach.revision)} if read.teach.model else {}
    _stage("teach", read, out, no_track, few_shot=None, told=False, **inputs)
    from dcod.stages.teach import table

    console.print(table(out), markup=False)


@app.command()
def ingest(
    out: Out,
    traces: Annotated[list[str] | None, typer.Option("--traces", help="Source; may be given several times.")] = None,
    student: Student = "",
    onto: Annotated[
        Path | None, typer.Option("--onto", help="An earlier set that this one adds to; its files are not read again.")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option("--replay", help="An earlier set whose quarantine is examined again after a fix.")
    ] = None,
    config: ConfigFile = None,
    no_track: NoTrack = False,
    overrides: Overrides = None,
) -> None:
    """Raw traces in; verified traces, a quarantine, counts and a data card out."""
    from dcod.stages.ingest import table

    read = _config(config, "", overrides)
    if replay and (traces or onto):
        raise UserError("give --replay alone, or --traces and --onto: a replay reads no source")
    if traces or replay:
        section = read.ingest.model_copy(update={"sources": traces or []})
        read = read.model_copy(update={"ingest": section})
    earlier = {name: path for name, path in (("onto", onto), ("replay", replay)) if path}
    _stage("ingest", read, out, no_track, few_shot=None, told=False, student=_model(read, student), **earlier)
    console.print(table(out), markup=False)


@app.command()
def score(
    traces: Folder,
    out: Out,
    student: Student = "",
    config: ConfigFile = None,
    no_track: NoTrack = False,
    overrides: Overrides = None,
) -> None:
    """Student log-probs and entropies of every trace, and the drift."""
    read = _config(config, "", overrides)
    _stage("score", read, out, no_track, traces=traces, student=_model(read, student))


@app.command()
def train(
    scores: Folder,
    out: Out,
    student: Student = "",
    config: ConfigFile = None,
    no_track: NoTrack = False,
    overrides: Overrides = None,
) -> None:
    """Corrected supervision on scored traces: a trained student."""
    read = _config(config, "", overrides)
    _stage("train", read, out, no_track, scores=scores, student=_model(read, student))


@app.command()
def evaluate(
    out: Out,
    student: Student = "",
    responses: Annotated[
        Path | None, typer.Option("--responses", help="Recorded answers (JSON Lines or Parquet): graded, no model.")
    ] = None,
    traces: Annotated[
        Path | None, typer.Option("--traces", help="Training traces: contamination, drift, few-shot examples.")
    ] = None,
    config: ConfigFile = None,
    no_track: NoTrack = False,
    overrides: Overrides = None,
) -> None:
    """Accuracy of a model, or of recorded responses, on the configured benchmarks; see docs/evaluation.md."""
    read = _config(config, "", overrides)
    if responses and student:
        raise UserError("give --student or --responses, not both")
    inputs = {"responses": responses} if responses else {"student": _model(read, student)}
    if traces:
        inputs["traces"] = traces
    few_shot = traces is not None and read.evaluate.few_shot > 0
    _stage("evaluate", read, out, no_track, few_shot=few_shot, told=False, **inputs)
    _print_results(out)


@app.command()
def promote(
    results: Folder,
    start_results: Folder,
    student: Annotated[str, typer.Option("--student", help="The trained student.")],
    out: Out,
    start: Annotated[str, typer.Option("--start", help="The start; else student.model.")] = "",
    champion_results: Annotated[Path | None, typer.Option(help="Of the champion, where there is one.")] = None,
    twin: Annotated[Path | None, typer.Option(help="A student trained alike, with train.correction.name=none.")] = None,
    twin_results: Annotated[Path | None, typer.Option(help="Its results.")] = None,
    traces: Annotated[Path | None, typer.Option(help="The training traces, for the check of contamination.")] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """The gate, and the champion alias if the student is really better. A refusal is a normal outcome."""
    from dcod.stages import Where, execute

    read = _config(config, "", overrides)
    inputs = {
        "student": _model(read, student),
        "start": _model(read, start),
        "results": results,
        "start_results": start_results,
        "champion_results": champion_results or start_results,
    }
    optional = {"twin": twin, "twin_results": twin_results, "traces": traces}
    inputs |= {name: path for name, path in optional.items() if path is not None}
    execute("gate", read, out, inputs, Where())
    execute("promote", read, out / "promotion", {"decision": out}, Where())
    _print_decision(out)
    console.print((out / "promotion" / "outcome.json").read_text(encoding="utf-8").strip(), markup=False)


@app.command()
def run(
    preset: Preset = "",
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """The whole pipeline, here: the object that `dcod compile` writes for a cluster."""
    from pipelines.local import run_here

    read = _config(config, preset, overrides)
    outcome = run_here(read)
    if outcome.error:
        print(f"dcod: {outcome.error} (log: {outcome.log})", file=sys.stderr)
        raise typer.Exit(2 if outcome.users_mistake else 1)
    if outcome.retraining:
        console.print(_retraining(outcome.retraining), markup=False, end="")
    if outcome.decision:
        _print_decision(outcome.decision)
        console.print((outcome.decision / "accuracy.txt").read_text(encoding="utf-8"), markup=False)
        console.print(f"report    {outcome.decision / 'report.html'}")
    console.print(f"runs      mlflow ui --backend-store-uri {read.tracking.uri}")


@app.command()
def inspect(
    scores: Annotated[Path, typer.Argument(help="A scored trace set: the output of `dcod score`.")],
    traces: Annotated[Path | None, typer.Option(help="The traces that were scored: verdicts and sources.")] = None,
    results: Annotated[Path | None, typer.Option(help="Results of an evaluation: answers to the same prompts.")] = None,
    answers: Annotated[int, typer.Option(min=0, help="Let the student answer so many of the prompts.")] = 0,
    limit: Annotated[int, typer.Option(min=1, help="At most so many traces.")] = 1000,
    student: Student = "",
    output: Annotated[Path, typer.Option(help="The page.")] = Path("traces.html"),
    show: Annotated[bool, typer.Option("--open/--no-open", help="Open it in a browser.")] = True,
    preset: Preset = "",
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Every trace of a scored set as a page: weights, surprisal and gaps of its tokens. See docs/pages.md."""
    from dcod import inspecting, storage

    read = _config(config, preset, overrides)
    folder = _model(read, student)
    if not (config or preset or overrides):
        read = inspecting.of_training(folder, read)
    page = inspecting.page(read, scores, folder, traces=traces, results=results, answers=answers, limit=limit)
    storage.write_text(output, page)
    console.print(f"wrote {output}", markup=False)
    if show:
        typer.launch(str(output.resolve()))


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="models:/name@alias or models:/name/version.")],
    output: Annotated[Path, typer.Option(help="The folder; replaced when all of it is there.")],
    push: Annotated[str, typer.Option(metavar="OWNER/NAME", help="Also upload it to a hub, private at first.")] = "",
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """A registered student as a folder that transformers and vLLM load, with its model card."""
    from dcod import exporting

    carded = exporting.export(_config(config, "", overrides).tracking, model, output)
    console.print(f"wrote {output}" + ("" if carded else " (without a model card: none was registered)"), markup=False)
    if push:
        console.print(exporting.push(output, push), markup=False)


@app.command("compile")
def compile_pipeline(
    out: Annotated[Path, typer.Option("--out", help="The pipeline as YAML.")],
    image: Annotated[str, typer.Option("--image", help="The image of all stages; else cluster.image.")] = "",
    preset: Preset = "",
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Writes the pipeline for a Kubeflow cluster, as the section `cluster` describes it."""
    from pipelines.compiling import compile_to

    read = _config(config, preset, overrides)
    if image:
        read = read.model_copy(update={"cluster": read.cluster.model_copy(update={"image": image})})
    compile_to(out, read)
    console.print(f"wrote {out}")


@app.command()
def submit(
    preset: Preset = "",
    config: ConfigFile = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for the end; the exit code is the run's.")] = False,
    preflight: Annotated[bool, typer.Option(help="Check first; nothing is submitted when a check fails.")] = True,
    overrides: Overrides = None,
) -> None:
    """One run on the cluster of the section `cluster`."""
    from pipelines.submitting import Kubeflow, for_cluster

    read = for_cluster(_config(config, preset, overrides))
    if preflight and not _checked(read, traces=False):
        raise typer.Exit(2)
    kubeflow = Kubeflow(read)
    run_id = kubeflow.submit()
    console.print(f"submitted {run_id}\n{kubeflow.link(run_id)}", markup=False)
    if follow:
        _follow(kubeflow, run_id)


@app.command()
def schedule(
    name: Annotated[str, typer.Argument(help="Of the schedule; one of the same name is replaced.")],
    cron: Annotated[str, typer.Option("--cron", help="minute hour day month weekday, such as '30 2 * * 1-5'.")] = "",
    remove: Annotated[bool, typer.Option("--remove", help="Remove it.")] = False,
    preset: Preset = "",
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """A recurring run on the cluster: one at a time, missed ones are not made up for."""
    from datetime import UTC, datetime

    from pipelines.cron import parse
    from pipelines.submitting import Kubeflow, for_cluster

    if bool(cron) == remove:
        raise UserError("schedule: give --cron or --remove")
    read = _config(config, preset, overrides)
    if remove:
        console.print(f"removed {Kubeflow(read).unschedule(name)} of the name {name}", markup=False)
        return
    parsed = parse(cron)
    schedule_id, replaced = Kubeflow(for_cluster(read)).schedule(name, cron)
    console.print(f"{name}: {parsed.words} (UTC, unless the cluster says otherwise)", markup=False)
    for at in parsed.following(datetime.now(UTC), 3):
        console.print(f"  {at:%a %Y-%m-%d %H:%M}", markup=False)
    instead = f", in place of {replaced} earlier" if replaced else ""
    console.print(f"Kubeflow's cron: {parsed.kubeflow}; id {schedule_id}{instead}", markup=False)


@app.command()
def status(
    run_id: Annotated[str, typer.Argument(metavar="[RUN]", help="Its id; else the newest runs.")] = "",
    follow: Annotated[bool, typer.Option("--follow", help="Wait for the end; the exit code is the run's.")] = False,
    preset: Preset = "",
    config: ConfigFile = None,
) -> None:
    """How runs on the cluster stand."""
    from pipelines.submitting import Kubeflow, stages

    kubeflow = Kubeflow(_config(config, preset, None))
    if not run_id:
        for one in kubeflow.latest():
            console.print(f"{one.run_id}  {one.state.lower():<10} {one.created_at:%Y-%m-%d %H:%M}  {one.display_name}")
        return
    if follow:
        _follow(kubeflow, run_id)
        return
    found = kubeflow.run(run_id)
    console.print(f"{found.display_name}: {found.state.lower()}\n{kubeflow.link(run_id)}", markup=False)
    for name, state in stages(found):
        console.print(f"  {name:<32} {state.lower()}", markup=False)


@app.command()
def cancel(
    run_id: Annotated[str, typer.Argument(metavar="RUN")], preset: Preset = "", config: ConfigFile = None
) -> None:
    """Ends a run on the cluster; its TrainJob is deleted with it."""
    from pipelines.submitting import ENDED, Kubeflow

    state = Kubeflow(_config(config, preset, None)).cancel(run_id)
    console.print(f"{run_id}: was {state.lower()}" + ("" if state in ENDED else "; is being cancelled"), markup=False)


@app.command("preflight")
def preflight_checks(
    preset: Preset = "",
    config: ConfigFile = None,
    traces: Annotated[bool, typer.Option(help="Also load the student and read some traces.")] = True,
    overrides: Overrides = None,
) -> None:
    """What a run on the cluster needs, checked before any GPU is asked for."""
    if not _checked(_config(config, preset, overrides), traces=traces):
        raise typer.Exit(2)


@app.command()
def presets() -> None:
    """The ready configurations, each with its first comment line."""
    from pipelines.presets import descriptions

    for name, text in descriptions().items():
        console.print(f"{name:<12}{text}")


@app.command()
def metrics(
    preset: Preset = "",
    config: ConfigFile = None,
    push: Annotated[str, typer.Option("--push", help="Address of a Pushgateway; else they are printed.")] = "",
    overrides: Overrides = None,
) -> None:
    """Figures of a schedule's newest run, for Prometheus; docs/operations.md."""
    from dcod import exposition, history
    from dcod.tracking import Tracker

    read = _config(config, preset, overrides)
    text = exposition.exposition(history.status(Tracker(read.tracking), read), read.name)
    if push:
        exposition.push(text, push, read.name)
    else:
        print(text, end="")


@app.command()
def rollback(config: ConfigFile = None, overrides: Overrides = None) -> None:
    """Makes the previous champion the champion again."""
    from dcod.stages.promote import rollback as roll
    from dcod.tracking import Tracker

    read = _config(config, "", overrides)
    version = roll(read, tracker=Tracker(read.tracking))
    console.print(f"champion is version {version.version} again")


def _checked(config: Config, *, traces: bool) -> bool:
    from pipelines.preflight import checks

    good = True
    for check in checks(config, traces=traces):
        good &= check.state != "failed"
        console.print(f"{check.state:<10} {check.name}: {check.text}", markup=False)
    return good


def _follow(kubeflow: Any, run_id: str) -> None:
    state = kubeflow.follow(run_id, lambda line: console.print(line, markup=False))
    console.print(f"{state.lower()}: {kubeflow.link(run_id)}", markup=False)
    if state != "SUCCEEDED":
        raise typer.Exit(1)


def _config(file: Path | None, preset: str, overrides: list[str] | None) -> Config:
    if file and preset:
        raise UserError("give --preset or --config, not both")
    if preset:
        from pipelines.presets import text_of

        return parse_config(text_of(preset), overrides or (), origin=f"preset {preset}")
    return load_config(file, overrides or ()) if file else parse_config("{}", overrides or ())


def _model(config: Config, uri: str, revision: str = "") -> Path:
    from dcod import models

    def registry(name: str) -> Path:
        from dcod.registry import Registry

        return Registry(config.tracking).resolve(name)

    return models.resolve(uri or config.student.model, revision or config.student.revision, registry)


def _stage(
    stage: str,
    config: Config,
    out: Path,
    no_track: bool,
    *,
    few_shot: bool | None = None,
    told: bool = True,
    **inputs: Path,
) -> None:
    from dcod.stages import Where, execute

    options = {} if few_shot is None else {"few_shot": few_shot}
    metrics = execute(stage, config, out, inputs, Where(tracked=not no_track), **options)
    for name, value in metrics.items() if told else ():
        console.print(f"{name:<40} {value:.6g}")
    console.print(f"wrote {out}")


def _print_results(folder: Path) -> None:
    from dcod.stages.evaluate import table

    console.print(table(folder), markup=False)


def _retraining(folder: Path) -> str:
    import json

    from dcod.history import RECORD
    from dcod.retraining import Decision

    return Decision.from_dict(json.loads((folder / RECORD).read_text(encoding="utf-8"))).text()


def _print_decision(folder: Path) -> None:
    from dcod.gate import Decision

    decision = Decision.from_json((folder / "decision.json").read_text(encoding="utf-8"))
    console.print(f"decision  {decision.outcome}", markup=False)
    for reason in decision.reasons:
        console.print(f"  {'yes' if reason.passed else 'NO '}  {reason.text}", markup=False)


if __name__ == "__main__":
    main()
