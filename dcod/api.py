"""dcod from Python: the verbs of the command line as functions, with folders that either of them can go on from.

    from dcod import api

    student = "HuggingFaceTB/SmolLM2-135M-Instruct"
    traces = api.ingest("traces.jsonl", "runs/traces", student=student)
    scores = api.score(traces, "runs/scores", student=student)
    surprisal = {"train.correction.name": "surprisal"}
    for trace in api.weights(scores, settings=surprisal):
        print(trace.trace_id, max(trace.weights))
    trained = api.train(scores, "runs/student", student=student, settings={**surprisal, "train.epochs": 1})
    results = api.evaluate("runs/results", student=trained, settings={"evaluate.benchmarks": [{"name": "gsm8k"}]})

Importing it loads neither torch nor MLflow, and changes nothing. Each function writes its folder whole or not at all;
one that ended well is replaced only by another that ended well. What a user can mend is a ``dcod.errors.UserError``,
a ``ValueError`` of one line. MLflow stays out of it unless ``track=True``, by which a stage is also reused where
nothing that decides its output has changed.

A ``Place`` is a path as text or as an object, also the ``Output`` of another function. A ``Configuration`` is a file, a
mapping of sections, or a ``dcod.config.Config``; ``settings`` go on top, by the keys of
[configuration.md](configuration.md): ``{"train.epochs": 3}``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcod.config import Config, load_config, parse_config

if TYPE_CHECKING:
    from dcod.train.weights import WeightedTrace

__all__ = ["Output", "configured", "evaluate", "ingest", "score", "train", "weights", "write_weights"]

Place = str | os.PathLike[str]
Configuration = Config | Mapping[str, Any] | Place
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Output:
    """What a stage left: a folder, which may be given wherever a path may, and its figures.

    Attributes:
        folder: its output, with ``manifest.json``.
        metrics: its figures by name, as MLflow has them.
    """

    folder: Path
    metrics: Mapping[str, float]

    def __fspath__(self) -> str:
        return str(self.folder)


def configured(config: Configuration = "", settings: Settings | None = None) -> Config:
    """The configuration of a run: the defaults, then ``config``, then ``settings``.

    Args:
        config: a YAML or JSON file, a mapping of sections, or a ``Config``; the defaults alone where it is empty.
        settings: values by their keys, such as ``{"train.epochs": 3}``.

    Raises:
        UserError: a file is missing or broken, or a key or a value is not allowed.
    """
    overrides = [f"{key}={json.dumps(value)}" for key, value in (settings or {}).items()]
    if isinstance(config, Config):
        return parse_config(config.model_dump_json(), overrides)
    if isinstance(config, Mapping):
        return parse_config(json.dumps(dict(config)), overrides)
    return load_config(Path(config), overrides) if os.fspath(config) else parse_config("{}", overrides)


def ingest(
    traces: Place | Sequence[Place],
    out: Place,
    *,
    student: Place = "",
    onto: Place = "",
    config: Configuration = "",
    settings: Settings | None = None,
    track: bool = False,
) -> Output:
    """Checks raw traces: accepted ones, a quarantine with reasons, counts and a data card; `dcod ingest`.

    Args:
        traces: files, folders or ``s3://…``; one or several.
        out: the folder of the trace set; ``dcod.traces.read_traces`` reads it.
        student: a model folder, a hub id, ``s3://…`` or ``models:/name@alias``; else ``student.model``.
        onto: an earlier trace set that this one adds to.
        config: see :func:`configured`.
        settings: see :func:`configured`.
        track: whether MLflow keeps the run and its output.

    Raises:
        UserError: nothing was accepted, or a file, the student or the configuration is wrong.
    """
    sources = [os.fspath(one) for one in ([traces] if isinstance(traces, str | os.PathLike) else traces)]
    read = configured(config, {**(settings or {}), "ingest.sources": sources})
    inputs = {"student": model_of(read, os.fspath(student))}
    return _run("ingest", read, out, track, inputs | ({"onto": Path(onto)} if os.fspath(onto) else {}))


def score(
    traces: Place,
    out: Place,
    *,
    student: Place = "",
    config: Configuration = "",
    settings: Settings | None = None,
    track: bool = False,
) -> Output:
    """Records how likely the student finds every token of the traces; `dcod score`.

    Args:
        traces: a trace set, the output of :func:`ingest`.
        out: the folder of the scored set.
        student: as for :func:`ingest`.
        config: see :func:`configured`.
        settings: see :func:`configured`.
        track: whether MLflow keeps the run and its output.

    Raises:
        UserError: the traces are of another tokenizer, or the student or the configuration is wrong.
    """
    read = configured(config, settings)
    return _run("score", read, out, track, {"traces": Path(traces), "student": model_of(read, os.fspath(student))})


def weights(scores: Place, *, config: Configuration = "", settings: Settings | None = None) -> Iterator[WeightedTrace]:
    """Every trace of a scored set in the student's tokens, with the weight of each; read as they are asked for.

    Args:
        scores: a scored set, the output of :func:`score`.
        config: see :func:`configured`; ``train.correction`` decides the weights.
        settings: see :func:`configured`.

    Raises:
        UserError: no correction is named, the scores lack what it needs, or every weight would be 1; the last two are
            said when the first trace is asked for.
    """
    from dcod.score.scores import open_scores
    from dcod.train.weights import weighted

    return weighted(open_scores(Path(scores)), configured(config, settings))


def write_weights(scores: Place, out: Place, *, config: Configuration = "", settings: Settings | None = None) -> Output:
    """The same as a table: ``weights.parquet``, a row a trace, for any trainer; `dcod weights`.

    Args:
        scores: a scored set, the output of :func:`score`.
        out: the folder of the table.
        config: see :func:`configured`; ``train.correction`` decides the weights.
        settings: see :func:`configured`.

    Raises:
        UserError: as :func:`weights`, or there is a folder that dcod did not write.
    """
    from dcod import storage
    from dcod.storage import outputs
    from dcod.train.weights import write

    folder = Path(out)
    outputs.check_apart(folder, {"its input scores": Path(scores)}, {})
    with storage.output_folder(folder) as scratch:
        count = write(scratch, weights(scores, config=config, settings=settings))
    return Output(folder, {"traces": float(count)})


def train(
    scores: Place,
    out: Place,
    *,
    student: Place = "",
    config: Configuration = "",
    settings: Settings | None = None,
    track: bool = False,
) -> Output:
    """Trains a student on scored traces with the configured correction, plain fine-tuning where none is; `dcod train`.

    Args:
        scores: a scored set, the output of :func:`score` with this very student.
        out: the folder of the new student, which transformers loads.
        student: as for :func:`ingest`.
        config: see :func:`configured`.
        settings: see :func:`configured`.
        track: whether MLflow keeps the run and its output.

    Raises:
        UserError: the scores are of another student or lack what the correction needs, or memory does not suffice.
    """
    read = configured(config, settings)
    return _run("train", read, out, track, {"scores": Path(scores), "student": model_of(read, os.fspath(student))})


def evaluate(
    out: Place,
    *,
    student: Place = "",
    responses: Place = "",
    traces: Place = "",
    config: Configuration = "",
    settings: Settings | None = None,
    track: bool = False,
) -> Output:
    """Measures a model, or answers that were recorded, on the configured benchmarks; `dcod evaluate`.

    Args:
        out: the folder of the results; ``dcod.evaluate.results.load_results`` reads it.
        student: as for :func:`ingest`.
        responses: recorded answers, in the place of a student.
        traces: the trace set that was trained on, for contamination, drift and few-shot examples.
        config: see :func:`configured`; ``evaluate.benchmarks`` says what is asked.
        settings: see :func:`configured`.
        track: whether MLflow keeps the run and its output.

    Raises:
        UserError: no benchmark is configured, both student and responses are given, or one of them is wrong.
    """
    from dcod.errors import UserError

    read = configured(config, settings)
    if os.fspath(responses) and os.fspath(student):
        raise UserError("give a student or responses, not both")
    inputs = {"responses": Path(responses)} if os.fspath(responses) else {"student": model_of(read, os.fspath(student))}
    inputs |= {"traces": Path(traces)} if os.fspath(traces) else {}
    few_shot = "traces" in inputs and read.evaluate.few_shot > 0
    return _run("evaluate", read, out, track, inputs, few_shot=few_shot)


def model_of(config: Config, uri: str, revision: str = "") -> Path:
    """The folder of a model by any of its names; else of the configured student."""
    from dcod.models import loading

    def registry(name: str) -> Path:
        from dcod.tracking.registry import Registry

        return Registry(config.tracking).resolve(name)

    return loading.resolve(uri or config.student.model, revision or config.student.revision, registry)


def _run(stage: str, config: Config, out: Place, track: bool, inputs: Mapping[str, Path], **options: Any) -> Output:
    from dcod.stages.execute import RunContext, execute

    folder = Path(out)
    return Output(folder, execute(stage, config, folder, inputs, RunContext(tracked=track), **options))
