"""The stages: one file a verb, each ``run(config, out, log, **inputs) -> metrics``; and how one is executed.

:func:`execute` is the only way a stage is run, from the command line and from a component alike:
  1. the stage's digest is taken over what decides its output: its configuration sections, the seed, the
     digests of its inputs and the code that it may load (:mod:`dcod.stages.digests`);
  2. an earlier finished run with that digest is reused, byte for byte;
  3. else the stage writes into a scratch folder that becomes the output only when it ended well, with a
     page (:mod:`dcod.stages.pages`) and a manifest that says all of step 1, and what the stage found out
     (:mod:`dcod.stages.manifests`);
  4. parameters, metrics, output and any error are kept in MLflow, under the pipeline run's parent;
  5. only then the stage's ``settle``, where it has one, drops what the next attempt would have gone on from.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dcod
from dcod import storage
from dcod.config import Config
from dcod.errors import UserError
from dcod.stages import carried, headlines, manifests, pages
from dcod.stages.catalogue import Stage, stage_of, ways
from dcod.stages.digests import code_digest, output_digest
from dcod.storage import outputs, places, room
from dcod.traces import scored
from dcod.tracking import SOURCE, NullLog, machine
from dcod.tracking.runs import Tracker

_WATCHED = ("train", "pilot")  # stages whose run says how the machine fares


@dataclass(frozen=True)
class RunContext:
    """Where a stage belongs: the pipeline run, and a label when a pipeline runs the stage several times.

    ``pipeline`` is empty for a stage run by hand; ``tracked`` off keeps MLflow out of it.
    """

    pipeline: str = ""
    label: str = ""
    tracked: bool = True


def execute(
    stage: str, config: Config, out: Path, inputs: Mapping[str, Path], where: RunContext | None = None, **options: Any
) -> dict[str, float]:
    """Runs one stage, or reuses its output.

    Args:
        stage: a name of :data:`dcod.stages.catalogue.STAGES`.
        config: the whole configuration.
        out: the output folder, replaced at the end.
        inputs: folders by the names of the stage's arguments.
        where: the pipeline run it belongs to.
        **options: further arguments of the stage that are not folders; they count in the digest.

    Returns:
        The stage's metrics.

    Raises:
        UserError: a mistake of the user, wherever it shows.
    """
    where = where or RunContext()
    entry = stage_of(stage)
    outputs.check_folder(out)
    for name, path in inputs.items():
        if not path.exists():
            raise UserError(f"{stage}: its input {name} is missing: {path}")
    same = {name for name in entry.carried if name in inputs and inputs[name].resolve() == out.resolve()}
    read = {f"its input {name}": path for name, path in inputs.items() if name not in same}
    outputs.check_apart(out, read | places.sources(stage, config), places.kept(config.tracking, config))
    with room.writing(out, "choose another --out", f"tracking.uri {config.tracking.uri}"):
        return _execute(entry, config, out, inputs, where, options)


def _execute(
    stage: Stage,
    config: Config,
    out: Path,
    inputs: Mapping[str, Path],
    where: RunContext,
    options: dict[str, Any],
) -> dict[str, float]:
    manifest = _manifest(stage, config, inputs, options)
    if stage.of_pipeline:  # not in the digest: which pipeline run asks does not decide the output
        options = options | {"pipeline": f"{where.pipeline} {where.label}".strip()}
    if not where.tracked:
        with storage.output_folder(out, stage.later) as scratch:
            metrics = _run(stage, config, scratch, NullLog(), inputs, options, manifest) | _beyond(
                stage, config, scratch
            )
        _settle(stage, config, inputs)
        return metrics
    tracker, verb = Tracker(config.tracking), stage.verb
    tracker.models.weights = carried.place_of(config)
    tags = {"dcod.place": str(out), **headlines.tags(config, where.pipeline)}  # of the first stage that said so
    parent = tracker.parent(where.pipeline, config.name, config, tags) if where.pipeline else None
    with tracker.stage(verb, parent, digest=manifest["digest"], label=where.label) as log:
        log.inputs([(name, digest, str(inputs[name])) for name, digest in manifest["inputs"].items()])
        log.inputs([(name, digest, name) for name, digest in manifest.get("sources", {}).items()], SOURCE)
        tracker.models.taken(log.run_id, manifest["inputs"].values())
        log.params({name: manifest["config"][name] for name in stage.sections})
        reused = _earlier(tracker, stage, config, manifest["digest"])
        with storage.output_folder(out, stage.later) as scratch:
            if reused:
                tracker.outputs.fetch(reused, scratch)
                log.tag("dcod.reused_from", reused)
                metrics = manifests.read(scratch)["metrics"]
            else:
                with machine.watched(log) if stage.name in _WATCHED else contextlib.nullcontext():
                    metrics = _run(stage, config, scratch, log, inputs, options, manifest)
            metrics |= _beyond(stage, config, scratch)
        log.metrics(metrics)
        log.headline(headlines.of_run(verb, metrics))
        if not reused and stage.reusable:
            with room.writing(f"tracking.artifacts {config.tracking.artifacts}"):
                log.output(out)
    _settle(stage, config, inputs)
    return metrics


def earlier_output(stage: str, config: Config, inputs: Mapping[str, Path], options: Mapping[str, Any]) -> str | None:
    """The run whose output :func:`execute` would take over; None where it would work."""
    entry = stage_of(stage)
    digest = _manifest(entry, config, inputs, options)["digest"]
    return _earlier(Tracker(config.tracking), entry, config, digest)


def _earlier(tracker: Tracker, stage: Stage, config: Config, digest: str) -> str | None:
    return tracker.outputs.find(stage.verb, digest) if config.tracking.reuse and stage.reusable else None


def _manifest(stage: Stage, config: Config, inputs: Mapping[str, Path], options: Mapping[str, Any]) -> dict[str, Any]:
    resolved = config.model_dump(mode="json")
    deciding = inputs if stage.decides is None else stage.decides
    decides = {
        "stage": stage.verb,
        "config": {name: resolved[name] for name in stage.sections},
        "options": dict(options),
        "seed": config.seed,
        "inputs": {name: output_digest(path) for name, path in sorted(inputs.items()) if name in deciding},
        "code": code_digest(*ways(stage.verb)),
    }
    if stage.sources:
        decides["sources"] = stage.module.source_digests(config)
    if stage.demanded and (demanded := scored.demanded(config.train)):
        decides["demanded"] = demanded
    text = json.dumps(decides, sort_keys=True)
    return {**decides, "version": dcod.__version__, "digest": hashlib.sha256(text.encode()).hexdigest()}


def _run(
    stage: Stage,
    config: Config,
    scratch: Path,
    log: Any,
    inputs: Mapping[str, Path],
    options: Mapping[str, Any],
    manifest: dict[str, Any],
) -> dict[str, float]:
    metrics: dict[str, float] = stage.module.run(config, scratch, log, **inputs, **options)
    pages.show(stage.name, scratch, log, inputs)
    manifests.write(scratch, manifest, metrics)
    return metrics


def _beyond(stage: Stage, config: Config, out: Path) -> dict[str, float]:
    """What the output says of settings that did not decide it: not in its manifest, since others take it over."""
    return dict(stage.module.beyond(config, out)) if stage.beyond else {}


def _settle(stage: Stage, config: Config, inputs: Mapping[str, Path]) -> None:
    """What was kept for a next attempt goes, only now: until the output is kept, a kill still goes on from it."""
    if stage.settles:
        stage.module.settle(config, **inputs)
