"""What a run is given beside its configuration: merged by one function, and refused where it cannot be."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest

from dcod.config import Config, parse_config
from dcod.config.inputs import INPUTS, compiled_with, merged, values_of
from dcod.errors import UserError

SAYS: dict[str, Any] = {
    "data_benchmarks": "gsm8k,math500",
    "data_traces": "s3://b/one.jsonl, s3://b/two/",
    "model_registered": "pupil",
    "model_start": "s3://b/student",
    "run_experiment": "tries",
    "run_name": "mine",
    "train_correction": "surprisal",
    "train_epochs": 3.0,  # numbers of a form may come as floats
    "train_learning_rate": 2e-05,
    "train_max_length": 512,
    "train_traces_per_step": 8,
}
CONFIG = Config.model_validate({"evaluate": {"benchmarks": [{"name": "gsm8k", "max_new_tokens": 7}]}}).to_json()


def test_every_input_says_something() -> None:
    assert SAYS.keys() == {each.name for each in INPUTS}
    config = merged(CONFIG, SAYS)
    assert (config.name, config.student.model, config.student.max_length) == ("mine", "s3://b/student", 512)
    assert config.ingest.sources == ["s3://b/one.jsonl", "s3://b/two/"]
    assert [(one.name, one.max_new_tokens) for one in config.evaluate.benchmarks] == [("gsm8k", 7), ("math500", "auto")]
    train = config.train
    assert (train.correction.name, train.epochs, train.learning_rate) == ("surprisal", 3, 2e-5)
    assert train.traces_per_step == 8
    assert (config.promote.registered_model, config.tracking.experiment) == ("pupil", "tries")


def test_the_form_shows_them_by_what_they_are_about() -> None:
    """Kubeflow's page sorts by name."""
    names = [each.name for each in INPUTS]
    assert names == sorted(names)
    assert list(dict.fromkeys(name.partition("_")[0] for name in names)) == ["data", "model", "run", "train"]


def test_an_empty_form_leaves_the_configuration_as_it_is() -> None:
    empty = {each.name: each.kind() for each in INPUTS}
    assert merged(CONFIG, empty) == merged(CONFIG, {}) == parse_config(CONFIG)


LISTS: dict[str, Any] = {
    "ingest": {"sources": ["s3://b/one.jsonl", {"path": "s3://b/two.jsonl", "map": {"prompt": "q"}}]},
    "evaluate": {
        "benchmarks": [
            {"name": "custom", "source": "s3://b/one.jsonl"},
            {"name": "custom", "source": "s3://b/two.jsonl", "role": "guard"},
        ]
    },
}


@pytest.mark.parametrize(
    "values",
    [{}, LISTS, {"ingest": {"sources": ["s3://b/a,b.jsonl", "s3://b/c.jsonl?prompt=q&completion=a"]}}],
)
def test_a_form_that_nobody_touched_leaves_the_configuration_as_it_is(values: dict[str, Any]) -> None:
    config = Config.model_validate(values)
    text, form = config.to_json(), values_of(config)
    assert merged(text, form) == merged(text, form, compiled_with(config)) == config
    assert merged("{}", {name: form[name] for name in ("data_traces", "data_benchmarks")}) == config


def test_what_was_changed_counts_in_the_form_or_in_the_configuration() -> None:
    compiled = compiled_with(Config())
    form = values_of(Config())
    pasted = json.dumps({"train": {"epochs": 5}, "name": "pasted"})
    config = merged(pasted, form, compiled)
    assert (config.name, config.train.epochs) == ("pasted", 5)
    config = merged(pasted, form | {"train_epochs": 7, "run_name": "typed"}, compiled)
    assert (config.name, config.train.epochs) == ("typed", 7)
    sent = values_of(parse_config(pasted))  # as `dcod submit` sends it
    assert merged(pasted, sent, compiled).train.epochs == 5
    assert merged(pasted, {"train_epochs": 7}).train.epochs == 7


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"train_epochs": -1}, "epochs"),
        ({"train_epochs": 1.5}, r"train\.epochs: 1\.5 is no whole number"),
        ({"train_correction": "none such"}, "correction"),
        ({"train_learning_rate": -0.1}, "learning_rate"),
        ({"train_max_length": -5}, "max_length"),
        ({"data_benchmarks": "[{"}, "benchmarks"),
    ],
)
def test_what_cannot_be_is_one_line(inputs: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        merged(CONFIG, inputs)
    assert len(str(caught.value).splitlines()) == 1


def test_what_shapes_the_pipeline_is_compiled_in() -> None:
    compiled = compiled_with(Config())
    assert merged(CONFIG, {"train_epochs": 3}, compiled).train.epochs == 3
    other = json.dumps({"cluster": {"shards": 4}})
    with pytest.raises(UserError, match=r"cluster\.shards=4 \(compiled with 1\): shapes the pipeline; upload"):
        merged(other, {}, compiled)
    assert merged(other, {}).cluster.shards == 4


def test_the_components_and_the_form_have_the_same_inputs() -> None:
    from dcod_components.finish import finish
    from dcod_components.settle import settle

    for component in (finish, settle):
        parameters = inspect.signature(component.python_func).parameters
        for each in INPUTS:
            assert (parameters[each.name].annotation, parameters[each.name].default) == (each.kind, each.kind())
