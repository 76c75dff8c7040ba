"""What a run may be given beside its configuration, as in Kubeflow's form; one function merges both for every task.

The form begins with the values of the configuration that the pipeline was compiled with: Kubeflow's page starts no run
with an empty field (kubeflow/pipelines#11515), and sorts by name. So the names begin with what they are about: data,
model, run, train. What shapes the pipeline (:func:`shape_of`) is no input: it is compiled in, and a configuration that
says otherwise is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dcod.config.load import parse_config
from dcod.config.schema import Config
from dcod.errors import UserError


@dataclass(frozen=True)
class Input:
    """One input of a pipeline.

    Attributes:
        name: of the input.
        key: of the configuration.
        kind: its type.
        text: one sentence, for the form.
    """

    name: str
    key: str
    kind: type
    text: str


INPUTS = (
    Input("data_benchmarks", "evaluate.benchmarks", str, "Benchmarks by name, with commas between them, or as JSON."),
    Input("data_traces", "ingest.sources", str, "The teacher's traces: s3:// or hub:// addresses, commas between."),
    Input("model_registered", "promote.registered_model", str, "Name of the student in MLflow's registry."),
    Input("model_start", "student.model", str, "The model to begin with: a hub's id, s3://… or models:/name@alias."),
    Input("run_experiment", "tracking.experiment", str, "The experiment in MLflow."),
    Input("run_name", "name", str, "Name of the run, in MLflow and on its pages."),
    Input("train_correction", "train.correction.name", str, "Correction of the traces, such as surprisal or prefix."),
    Input("train_epochs", "train.epochs", int, "How often each trace is trained on."),
    Input("train_learning_rate", "train.learning_rate", float, "The learning rate at its highest."),
    Input(
        "train_max_length", "student.max_length", int, "Tokens of prompt and completion; longer traces are left out."
    ),
    Input("train_traces_per_step", "train.traces_per_step", int, "Traces a step, over all GPUs."),
)


def merged(text: str, inputs: Mapping[str, Any], compiled: str = "") -> Config:
    """The configuration with the inputs of a run.

    An input counts where somebody changed it: it differs from the configuration, and from what the form began with (or
    the configuration is still the one that the form began with).

    Args:
        text: the configuration, JSON or YAML.
        inputs: by their names; empty ones leave the configuration as it is.
        compiled: what the pipeline was compiled with, by :func:`compiled_with`; empty: not known.

    Raises:
        UserError: an input or the configuration cannot be, or it shapes another pipeline than this one.
    """
    config = parse_config(text)
    own, begun = values_of(config), json.loads(compiled)["inputs"] if compiled else {}
    overrides = []
    for each in INPUTS:
        value = _plain(each, inputs.get(each.name))
        if value and value not in (own[each.name], begun.get(each.name)):
            overrides.append(f"{each.key}={_written(each, value, config)}")
    config = parse_config(text, overrides, origin="inputs") if overrides else config
    if compiled:
        _check_shape(shape_of(config), json.loads(compiled)["shape"])
    return config


def compiled_with(config: Config) -> str:
    """What a pipeline says of the configuration that it is compiled with: shape, and the form's first values; JSON."""
    return json.dumps({"inputs": values_of(config), "shape": shape_of(config)}, sort_keys=True)


def shape_of(config: Config) -> dict[str, Any]:
    """The settings that shape the pipeline."""
    return {
        "pipeline": config.pipeline,
        "cluster.shards": config.cluster.shards,
        "cluster.train.num_nodes": config.cluster.train.num_nodes,
        "retrain.rounds": config.retrain.rounds if config.pipeline == "retrain" else 1,
        "train.arms": [arm.name for arm in config.train.compared],
        "train.pilot.halve": config.train.halves,
        "train.twin": config.train.twin,
        "train.seeds": config.train.seeds,
        "teach.enough": config.asks or "never",
        "promote.exposure_traces": "asked for" if config.promote.exposure_traces else 0,
    }


def values_of(config: Config) -> dict[str, Any]:
    """The inputs by name, as the configuration has them."""
    held = config.model_dump(mode="json")
    values = {}
    for each in INPUTS:
        value: Any = held
        for part in each.key.split("."):
            value = value[part]
        values[each.name] = _listed(value) if isinstance(value, list) else each.kind(value)
    return values


def _listed(entries: list[Any]) -> str:
    """A list in one field: texts and bare names with commas between them where that says all, else JSON."""
    bare = [entry["name"] if isinstance(entry, dict) and entry.get("name") else entry for entry in entries]
    plain = all(isinstance(entry, str) and entry and "," not in entry for entry in bare) and len(set(bare)) == len(bare)
    return ", ".join(bare) if plain else json.dumps(entries, sort_keys=True)


def _plain(each: Input, value: Any) -> Any:
    """An input as :func:`values_of` has it; numbers of a form may come as floats."""
    if value is None or value == "":
        return ""
    if each.kind is str:
        text = str(value).strip()
        one_text = each.key not in ("ingest.sources", "evaluate.benchmarks") or text.startswith("[")
        return text if one_text else ", ".join(part.strip() for part in text.split(",") if part.strip())
    if each.kind is int and float(value) != int(value):
        raise UserError(f"inputs: {each.key}: {value} is no whole number")
    return each.kind(value)


def _written(each: Input, value: Any, config: Config) -> str:
    """An input as an override writes it."""
    if each.kind is not str:
        return str(value)
    if value.startswith("["):
        return str(value)
    if each.key == "evaluate.benchmarks":  # those that the configuration has keep their settings
        named = {one.name: one.model_dump(mode="json") for one in config.evaluate.benchmarks}
        return json.dumps([named.get(name, {"name": name}) for name in value.split(", ")])
    return json.dumps(value.split(", ") if each.key == "ingest.sources" else value)


def _check_shape(shape: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    wrong = [f"{key}={shape[key]} (compiled with {own[key]})" for key in own if own[key] != shape[key]]
    if wrong:
        raise UserError(
            f"{', '.join(wrong)}: shapes the pipeline; upload it anew, with `dcod submit` or `dcod compile`"
        )
