"""The stages: one file a verb, each ``run(config, out, log, **inputs) -> metrics``; and how one is executed.

:func:`execute` is the only way a stage is run, from the command line and from a component alike:
  1. the stage's digest is taken over what decides its output: its configuration sections, the seed, the
     digests of its inputs and dcod's own code;
  2. an earlier finished run with that digest is reused, byte for byte;
  3. else the stage writes into a scratch folder that becomes the output only when it ended well, with a
     ``manifest.json`` that says all of step 1, and what the stage found out (:func:`note`);
  4. parameters, metrics, output and any error are kept in MLflow, under the pipeline run's parent;
  5. only then the stage's ``settle``, where it has one, drops what the next attempt would have gone on from.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dcod
from dcod import storage
from dcod.config import Config
from dcod.errors import UserError
from dcod.models import loading
from dcod.storage import outputs, places, room
from dcod.tracking import SOURCE, NullLog, Tracker

FACTS = "facts.json"
REUSABLE = ("teach", "examine", "ingest", "score", "train", "evaluate", "merge")


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
        stage: a module of this package; it names the configuration SECTIONS that decide its output.
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
    module = importlib.import_module(f"dcod.stages.{stage}")
    outputs.check_folder(out)
    for name, path in inputs.items():
        if not path.exists():
            raise UserError(f"{stage}: its input {name} is missing: {path}")
    carried = getattr(module, "CARRIED", ())  # inputs that the output goes on with, whole
    same = {name for name in carried if name in inputs and inputs[name].resolve() == out.resolve()}
    read = {f"its input {name}": path for name, path in inputs.items() if name not in same}
    outputs.check_apart(out, read | places.sources(stage, config), places.kept(config.tracking, config))
    with room.writing(out, "choose another --out", f"tracking.uri {config.tracking.uri}"):
        return _execute(stage, module, config, out, inputs, where, options)


def _execute(
    stage: str,
    module: Any,
    config: Config,
    out: Path,
    inputs: Mapping[str, Path],
    where: RunContext,
    options: dict[str, Any],
) -> dict[str, float]:
    verb = getattr(module, "VERB", stage)  # `trainjob` is another way to train
    manifest = _manifest(module, verb, config, inputs, options)
    # Not in the digest: which pipeline run asks does not decide the output.
    known = {"pipeline": where.pipeline} if getattr(module, "OF_PIPELINE", False) else {}
    if not where.tracked:
        with storage.output_folder(out, getattr(module, "LATER", ())) as scratch:
            metrics = _run(module, config, scratch, NullLog(), inputs, options | known, manifest)
        _settle(module, config, inputs)
        return metrics
    tracker = Tracker(config.tracking)
    place = {"dcod.place": str(out)}  # of the first stage that said so
    parent = tracker.parent(where.pipeline, config.name, config, place) if where.pipeline else None
    with tracker.stage(verb, parent, digest=manifest["digest"], label=where.label) as log:
        log.inputs([(name, digest, str(inputs[name])) for name, digest in manifest["inputs"].items()])
        log.inputs([(name, digest, name) for name, digest in manifest.get("sources", {}).items()], SOURCE)
        found = tracker.find_output(verb, manifest["digest"]) if config.tracking.reuse and verb in REUSABLE else None
        with storage.output_folder(out, getattr(module, "LATER", ())) as scratch:
            if found:
                tracker.fetch_output(found, scratch)
                log.tag("dcod.reused_from", found)
                metrics = _read_manifest(scratch)["metrics"]
            else:
                metrics = _run(module, config, scratch, log, inputs, options | known, manifest)
        log.metrics(metrics)
        if not found and verb in REUSABLE:
            with room.writing(f"tracking.artifacts {config.tracking.artifacts}"):
                log.output(out)
    _settle(module, config, inputs)
    return metrics


def output_digest(path: Path) -> str:
    """The digest that stands for an input: of the weights, of a stage's output, or of a file."""
    if path.is_file():
        return storage.digest_file(path)
    if (path / "config.json").is_file():
        return loading.digest(path)
    if (path / "manifest.json").is_file():
        return str(_read_manifest(path)["digest"])
    return storage.digest_folder(path)


def note(out: Path, **facts: Any) -> None:
    """Keeps what a stage found out by itself; it stands under ``facts`` in the manifest of its output."""
    storage.write_json(out / FACTS, {**_facts(out), **facts})


def _facts(out: Path) -> dict[str, Any]:
    path = out / FACTS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def attempt_digest(config: Config, sections: Mapping[str, Any], *inputs: Path) -> str:
    """Identity of a run whose attempts go on from one another: of ``sections``, seed, inputs and code."""
    decides = [sections, config.seed, *(output_digest(path) for path in inputs), code_digest()]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def code_digest() -> str:
    """SHA-256 over dcod's own source files: other code may give another output."""
    root = Path(dcod.__file__).parent
    total = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        total.update(f"{path.relative_to(root).as_posix()}\x1f".encode() + path.read_bytes())
    return total.hexdigest()


def _manifest(
    module: Any, verb: str, config: Config, inputs: Mapping[str, Path], options: Mapping[str, Any]
) -> dict[str, Any]:
    resolved = config.model_dump(mode="json")
    deciding = getattr(module, "DECIDES", inputs)  # `join` has inputs that only spare work
    decides = {
        "stage": verb,
        "config": {name: resolved[name] for name in module.SECTIONS},
        "options": dict(options),
        "seed": config.seed,
        "inputs": {name: output_digest(path) for name, path in sorted(inputs.items()) if name in deciding},
        "code": code_digest(),
    }
    if hasattr(module, "source_digests"):
        decides["sources"] = module.source_digests(config)
    text = json.dumps(decides, sort_keys=True)
    return {**decides, "version": dcod.__version__, "digest": hashlib.sha256(text.encode()).hexdigest()}


def _run(
    module: Any,
    config: Config,
    scratch: Path,
    log: Any,
    inputs: Mapping[str, Path],
    options: Mapping[str, Any],
    manifest: dict[str, Any],
) -> dict[str, float]:
    metrics: dict[str, float] = module.run(config, scratch, log, **inputs, **options)
    facts = _facts(scratch)
    (scratch / FACTS).unlink(missing_ok=True)
    storage.write_json(scratch / "manifest.json", {**manifest, "metrics": metrics, "facts": facts})
    return metrics


def _settle(module: Any, config: Config, inputs: Mapping[str, Path]) -> None:
    """What was kept for a next attempt goes, only now: until the output is kept, a kill still goes on from it."""
    if hasattr(module, "settle"):
        module.settle(config, **inputs)


def _read_manifest(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return manifest
