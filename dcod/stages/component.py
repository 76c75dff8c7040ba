"""What a component calls: configuration as text and artifact paths in, a stage's outputs out."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dcod import storage
from dcod.cluster import trainjobs, webhook
from dcod.config import Config, parse_config
from dcod.config.arms import SFT
from dcod.errors import StoppedError, UserError, one_line
from dcod.objective.feasibility import Holdings, Remark
from dcod.progress import MARK
from dcod.promote.decision import read_decision
from dcod.retrain import decide, endings
from dcod.retrain.history import RECORD, SELECTED
from dcod.stages import arms, carried, headlines, more, remarks, settling, shards
from dcod.stages.catalogue import STAGES, stage_of
from dcod.stages.execute import RunContext, earlier_output, execute
from dcod.stages.pages import of_gate
from dcod.storage import room, workers
from dcod.storage.stopping import stopping
from dcod.tracking.runs import Tracker

NO_PAGE = "<!doctype html><title>No page</title><p>This run has no page of its traces.</p>"


def run(
    stage: str,
    config: str,
    pipeline: str,
    out: str,
    inputs: dict[str, str] | None = None,
    *,
    label: str = "",
    shard: str = "",
    arm: str = "",
    **options: Any,
) -> dict[str, float]:
    """Executes a stage inside a pipeline run.

    Args:
        stage: the verb.
        config: the settled configuration: its file, or its text.
        pipeline: the id of the pipeline run, the same for all of its stages.
        out: path of the output artifact.
        inputs: paths of the input artifacts by argument.
        label: tells several runs of one stage apart.
        shard: of the stage's work, such as 2/4; empty: all of it.
        arm: that a pilot tries, or a training takes in place of the chosen one.
        **options: further arguments of the stage.

    Returns:
        The figures for Kubeflow's page, which reads a Metrics artifact's metadata, never its file.
    """
    paths = {name: Path(path) for name, path in (inputs or {}).items()}
    begun, label = time.monotonic(), f"{label} {shard}".strip()
    name, parsed = f"{stage} {label}".strip(), _configuration(config)
    workers.end_with_parent(gently=True)
    try:
        with stopping(), ExitStack() as stack, carried.taken(parsed, paths, Path(out)) as given:
            parsed = _narrowed(stage, parsed, arm, given, options)
            remarks.check(stage, parsed, given)
            work: shards.Work | None = shards.Work(parsed, given, options)
            if work and shard:
                work = shards.part(stage_of(stage), shard, work, stack.enter_context(storage.scratch()))
            if work:
                made = execute(stage, work.config, Path(out), work.inputs, RunContext(pipeline, label), **work.options)
            else:
                shards.write_empty(Path(out))
                made = {}
    except StoppedError as stopped:
        print(f"{MARK}{name:<28} {stopped}", flush=True)
        sys.exit(128 + stopped.number)
    except Exception as raised:
        error: Exception = room.explained(raised, database=f"tracking.uri {parsed.tracking.uri}") or raised
        _note_failure(error, stage, label, parsed, pipeline, out)
        if isinstance(error, UserError):
            sys.exit(2)
        raise
    if told := None if shard else remarks.of(stage, parsed, Path(out), paths, made):
        made = {**made, "warnings": float(_remark(name, *told))}
    line = headlines.line(stage, parsed, Path(out), options, made)
    print(f"{MARK}{name:<28} {time.monotonic() - begun:5.1f} s  {line}", flush=True)
    return headlines.of_stage(made)


def _remark(name: str, held: Holdings, told: Sequence[Remark]) -> int:
    """Says what the traces of a stage allow; returns how many warnings that were."""
    print(f"{MARK}{name:<28} {held}", flush=True)
    for remark in told:
        print(f"{MARK}{name:<28} {remark.level}: {remark}", flush=True)
    return sum(remark.level != "note" for remark in told)


def is_there(
    stage: str, config: str, inputs: Mapping[str, str], options: dict[str, Any], *, shard: str = "", arm: str = ""
) -> bool:
    """Whether a stage would take over an earlier output, or has nothing to do, or refuses to: doubt is no.

    Where it is so, the stage gets no GPU; it says itself what is wrong.

    Args:
        stage: the verb.
        config: file of the settled configuration.
        inputs: paths of the input artifacts by argument.
        options: further arguments of the stage.
        shard: of the stage's work, such as 2/4; empty: all of it.
        arm: that a training takes.
    """
    name = f"look for {stage} {shard}".strip()
    try:
        with stopping(), ExitStack() as stack:
            paths = {key: Path(path) for key, path in inputs.items()}
            parsed = _narrowed(stage, _configuration(config), arm, paths, options)
            if remarks.refusal(stage, parsed, paths):
                print(f"{MARK}{name:<28} it will be refused, no GPU is needed", flush=True)
                return True
            if stage == "pilot":  # whether it is tried at all: its output cannot be looked for without its start
                from dcod.stages import pilot

                held = remarks.held(paths["traces"], paths.get("scores"))
                idle, _ = pilot.untried(parsed, paths["traces"], arm, held, paths.get("dropped"))
                print(f"{MARK}{name:<28} {'not tried, no GPU is needed' if idle else 'to be tried'}", flush=True)
                return bool(idle)
            if stage == "teach" and more.nothing(parsed, paths["traces"]):
                print(f"{MARK}{name:<28} no prompt lacks traces, no GPU is needed", flush=True)
                return True
            work: shards.Work | None = shards.Work(parsed, paths, options)
            if work and shard:
                work = shards.part(stage_of(stage), shard, work, stack.enter_context(storage.scratch()))
            there = work is None or bool(earlier_output(stage, work.config, work.inputs, work.options))
    except Exception as error:
        print(f"{MARK}{name:<28} {type(error).__name__}: {one_line(error)}", flush=True)
        there = False
    print(f"{MARK}{name:<28} {'there, no GPU is needed' if there else 'not there'}", flush=True)
    return there


def settle(config: str, compiled: str, pipeline: str, out: str, inputs: Mapping[str, Any]) -> None:
    """Merges the inputs of a run into its configuration, for all further tasks; refuses what cannot run here.

    Args:
        config: the configuration, JSON or YAML.
        compiled: what the pipeline was compiled with, by :func:`dcod.config.inputs.compiled_with`.
        pipeline: the id of the pipeline run.
        out: path of the settled configuration.
        inputs: by their names.
    """
    begun = time.monotonic()
    try:
        settled = settling.settled(config, inputs, compiled)
    except UserError as error:
        _note_failure(error, "settle", "", settling.roughly(config), pipeline, out)
        sys.exit(2)
    storage.write_text(Path(out), settled.to_json())
    print(f"{MARK}{'settle':<28} {time.monotonic() - begun:5.1f} s  {settling.changed(config, settled)}", flush=True)


def _narrowed(stage: str, config: Config, arm: str, inputs: dict[str, Path], options: dict[str, Any]) -> Config:
    """The configuration of a stage; a choice goes out of the inputs, and a pilot's arm into the options."""
    verb = stage_of(stage).verb
    return more.narrowed(verb, arms.narrowed(verb, config, arm, inputs, options), inputs)


def _configuration(config: str) -> Config:
    """The configuration in a file, or of a text."""
    return parse_config(config if config.lstrip().startswith("{") else Path(config).read_text(encoding="utf-8"))


def _note_failure(error: Exception, stage: str, label: str, config: Config, pipeline: str, out: str) -> None:
    """Says why a stage failed where it is looked for: the runner says only "inner task failed"."""
    verb = stage_of(stage).verb if stage in STAGES else stage
    name, run_name = (f"{each} {label}".strip() for each in (stage, verb))
    mistake = isinstance(error, UserError)
    line = one_line(error) or type(error).__name__
    if not mistake:
        line = f"{type(error).__name__}: {line}"
    print(f"{MARK}{name:<28} failed: {line}", flush=True)
    with contextlib.suppress(UserError):  # no room for it: the line above says what happened
        storage.write_json(Path(f"{out}.error.json"), {"stage": name, "error": line, "users_mistake": mistake})
    if not settling.has_store(config):
        return
    with contextlib.suppress(UserError):  # no store at all: the file above still says it
        Tracker(config.tracking).note_error(pipeline, config.name, config, f"{run_name}: {line}")


def run_gate(
    config: str, pipeline: str, decision: str, inputs: dict[str, str], pages: tuple[str, str], summary: str
) -> tuple[str, dict[str, float]]:
    """Executes the gate; writes decision, report and traces (HTML, each by itself), and answer and reasons (Markdown).

    Returns:
        ``promote`` or ``refuse``, and the figures of the comparisons and of the answer.
    """
    run("gate", config, pipeline, decision, inputs)
    for name, target in zip(("report.html", "traces.html"), pages, strict=True):
        page = Path(decision) / name
        storage.write_text(Path(target), page.read_text(encoding="utf-8") if page.is_file() else NO_PAGE)
    decided = read_decision(Path(decision))
    brought, measured = of_gate(Path(decision))
    reasons = "".join(f"- {'yes' if reason.passed else '**no**'}: {reason.text}\n" for reason in decided.reasons)
    storage.write_text(Path(summary), f"# {decided.outcome}\n\n{brought}\n\n{reasons}")
    figures = {"promoted": float(decided.promote), **decided.figures, **measured}
    return "promote" if decided.promote else "refuse", figures


def run_decide(
    config: str, pipeline: str, decision: str, inputs: dict[str, str], selected: str, summary: str
) -> tuple[str, dict[str, float]]:
    """Executes `decide`; writes the traces to train on and the reasons (Markdown); returns the outcome and figures."""
    run("decide", config, pipeline, decision, inputs)
    record = storage.read_json(Path(decision) / RECORD, made_by="dcod run")
    picked = Path(decision) / SELECTED
    with storage.output_folder(Path(selected)) as scratch:  # no manifest: its content alone is its digest
        if picked.is_dir():
            shutil.copytree(picked, scratch, dirs_exist_ok=True)
    storage.write_text(Path(summary), decide.RetrainDecision.from_dict(record).markdown())
    return str(record["outcome"]), dict(record["figures"])


def finish(
    config: str, pipeline: str, state: str, message: str, inputs: Mapping[str, Any] | None = None, compiled: str = ""
) -> None:
    """Closes the parent run, by what its stages recorded; ``state`` is the runner's word, see the endings of runs.

    It reads no task's output, as an exit task must; so it merges the run's inputs as :func:`settle` did.
    """
    try:
        parsed = settling.merged_there(config, inputs or {}, compiled)
    except UserError as error:  # the run ended there, too
        parsed, message = settling.roughly(config), message or str(error)
    if not settling.has_store(parsed):
        print(f"{MARK}finish: {parsed.tracking.uri} is in no pod's reach: nothing was recorded, nothing is closed")
        return
    if parsed.cluster.train.num_nodes > 1:  # a job that nobody follows any more must not keep its GPUs
        for job in (pipeline, *([f"{pipeline} {SFT}"] if parsed.train.twin else [])):
            with contextlib.suppress(UserError):
                trainjobs.delete(parsed.cluster, job)
    tracker = Tracker(parsed.tracking)
    failed = endings.failure(tracker, pipeline, state, message)
    tracker.finish(pipeline, failed=failed, cancelled=state in endings.CANCELLED)
    if parsed.notify.url:
        _tell(parsed, tracker, pipeline)


def _tell(config: Config, tracker: Tracker, pipeline: str) -> None:
    """Tells the webhook; a run is not worse for a receiver that is away."""
    ended = endings.ending(tracker, pipeline)
    if ended is None or ended[0] not in config.notify.events:
        return
    event, message = ended
    about = {"name": config.name, "model": config.promote.registered_model, "tracking": config.tracking.uri}
    try:
        webhook.send(webhook.address(), event, about | message, webhook.secret())
    except UserError as error:
        tracker.client.set_tag(message["run"], "dcod.webhook", str(error))
        print(f"{MARK}webhook: {error}", flush=True)
