"""A correction that needs a new stored field is three files: what declares it, what computes it, what weighs by it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dcod
from dcod.config import Config, CorrectionConfig, TrainConfig
from dcod.objective.corrections import CORRECTIONS, needed
from dcod.objective.step_scores import StepScores
from dcod.score import fields
from dcod.score.fields._find import ways
from dcod.traces import Trace, scored, write_traces

DECLARED = "    bar: list[float] | None = on_demand(pa.list_(pa.float32()))\n"
BAR = '''"""How far a token is behind the likeliest one, nats."""

from dcod.score.fields._types import Way

WAY = Way(("bar",), of_logits=lambda seen: {"bar": -seen.chosen[:, 0]})
'''
FOO = '''"""Traces that keep to what is likeliest."""

from dcod.objective.corrections._types import entry

CORRECTION = entry(lambda _, step: -step.mean(step.of("bar")), "prompt", "bar")
'''
SCRIPT = """
import json, sys
from pathlib import Path

from dcod import api
from dcod.config.reference import schema
from dcod.engines.transformers import TransformersEngine
from dcod.errors import UserError
from dcod.models import loading
from dcod.score import crossfit
from dcod.score.outlook import Outlook
from dcod.score.preparing import Preparation
from dcod.score.scores import open_scores, read_scores
from dcod.stages.execute import _manifest
from dcod.stages.catalogue import stage_of
from dcod.stages.score import parts_of
from dcod.traces.prompts import load_tokenizer
from dcod.train import loop

folder, student, traces = map(Path, sys.argv[1:])
told = {"offered": "foo" in json.dumps(schema())}
ways = {
    "none": {},
    "foo": {"train.correction.name": "foo"},
    "arm": {"train.arms": [{"name": "new", "correction": {"name": "foo"}}]},
    "live": {"train.correction": {"name": "foo", "weights": "live"}},
    "cross": {"train.correction": {"name": "foo", "weights": "cross"}},
}
settings = {"student.max_length": 512, "train.epochs": 1, "train.checkpoints.uri": ""}
configs = {name: api.configured("", {**settings, **way}) for name, way in ways.items()}
inputs = {"traces": traces, "student": student}
for name in ("none", "foo", "arm"):
    told[f"figures of {name}"] = dict(api.score(traces, folder / name, student=student, config=configs[name]).metrics)
told["digests"] = [_manifest(stage_of("score"), configs[name], inputs, {})["digest"] for name in ways]
told["parts"] = [parts_of(configs[name], traces, student)._parts.uri for name in ways]
told["bars"] = {name: [e.bar for e in read_scores(folder / name)["train"]] for name in ("none", "foo", "arm")}

examples = read_scores(folder / "none")["train"]
TransformersEngine(student, load_tokenizer(student)).annotate(examples, 512, top_k=1)
told["by hand"] = [
    [top[0] - own for top, own in zip(e.start_top_logprobs, e.student_logprobs)] for e in examples
]
told["weights"] = {each.trace_id: each.weights for each in api.weights(folder / "foo", config=configs["foo"])}
told["ids"] = [e.trace_id for e in examples]
try:
    list(api.weights(folder / "none", config=configs["foo"]))
except UserError as error:
    told["refusal"] = str(error)

start = lambda: loading.load(student)
for name in ("foo", "live"):
    rows = []
    held = open_scores(folder / "foo")["train"]
    loop.train(start(), held, [], configs[name].train, 0, lambda _: None, lambda row, _: rows.append(row))
    told[f"spread of {name}"] = rows[-1].get("weight_spread")
by = Preparation(configs["cross"].train, 0, start, load_tokenizer(student), None)
told["bars"]["cross"] = [e.bar for e in crossfit.crossed(open_scores(folder / "foo")["train"], by).take(range(8))]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, tiny_student: Path) -> dict[str, Any]:
    """What a dcod with one more field and one more correction says, from scoring to weights."""
    place = tmp_path_factory.mktemp("field")
    ours, theirs = Path(dcod.__file__).parent, place / "site" / "dcod"
    shutil.copytree(ours, theirs, ignore=shutil.ignore_patterns("__pycache__"))
    declared = theirs / "traces" / "scored.py"
    head, mark, rest = declared.read_text().partition("\n    def __len__(self)")
    declared.write_text(f"{head}{DECLARED}{mark}{rest}")
    (theirs / "score" / "fields" / "bar.py").write_text(BAR)
    (theirs / "objective" / "corrections" / "foo.py").write_text(FOO)
    (place / "traces").mkdir()
    texts = ("four", "4!", "it is four", "2+2=4")
    asked = ("2+2?", "1+3?")
    made = [Trace([{"role": "user", "content": prompt}], text) for prompt in asked for text in texts]
    write_traces(place / "traces" / "traces.parquet", made)
    command = [sys.executable, "-c", SCRIPT, *map(str, (place, tiny_student, place / "traces"))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(place / "site")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=place, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_it_is_recorded_where_a_correction_or_an_arm_needs_it_and_nowhere_else(told: dict[str, Any]) -> None:
    bars = told["bars"]
    assert bars["none"] == [None] * 8
    assert bars["foo"] == bars["arm"]
    for found, expected in zip(bars["foo"], told["by hand"], strict=True):
        assert found == pytest.approx(expected, abs=1e-5)
    assert any(value > 0.1 for found in bars["foo"] for value in found)


def test_students_of_the_other_half_record_it_anew(told: dict[str, Any]) -> None:
    for own, crossed in zip(told["bars"]["foo"], told["bars"]["cross"], strict=True):
        assert len(own) == len(crossed)
        assert own != crossed


def test_it_decides_the_weights(told: dict[str, Any]) -> None:
    means = {name: sum(bar) / len(bar) for name, bar in zip(told["ids"], told["bars"]["foo"], strict=True)}
    for some in (told["ids"][:4], told["ids"][4:]):  # of a prompt: the further behind, the less
        weights = [max(told["weights"][name]) for name in sorted(some, key=means.__getitem__)]
        assert weights == sorted(weights, reverse=True)
        assert weights[0] > weights[-1]
    assert told["spread of foo"] > 0.0
    assert told["spread of live"] is not None


def test_it_is_offered_foretold_and_named_where_it_lacks(told: dict[str, Any]) -> None:
    assert told["offered"]
    assert told["figures of foo"]["log_weight_spread"] > 0.0
    assert "log_weight_spread" not in told["figures of none"]
    assert told["refusal"] == (
        "train.correction.name=foo needs bar, which 8 of 8 traces lack; score the traces again with this correction, "
        "or with an arm of it: only then is that recorded"
    )


def test_scores_with_it_are_another_output(told: dict[str, Any]) -> None:
    """And the parts of a killed scoring other parts; what trains with them decides nothing else."""
    for found in (told["digests"], told["parts"]):
        none, foo, arm, live, cross = found
        assert none != foo
        assert foo == arm == live == cross


def test_what_has_a_key_of_its_own_is_recorded_by_it_alone() -> None:
    config = Config.model_validate({"train": {"correction": {"name": "rsr"}}})
    assert needed(config.train) == {"start_ranks", "start_logprobs"}
    assert scored.demanded(config.train) == []
    assert fields.asked(config) == []
    both = Config.model_validate({"score": {"ranks": True, "local_window": 4}})
    assert {name for way in fields.asked(both) for name in way.fields} == {
        "start_ranks",
        "start_mass",
        "local_logprobs",
    }


def test_a_formula_can_have_whatever_its_correction_needs() -> None:
    there = {each.name for each in dataclasses.fields(StepScores)} | scored.told(scored.DEMAND).keys()
    for name, correction in CORRECTIONS.items():
        needs = correction.needs(CorrectionConfig(name=name))
        assert {each for any_of in needs for each in any_of} <= there, name


def test_every_field_of_a_way_is_declared_and_every_field_on_demand_has_a_way() -> None:
    made = [name for way in ways() for name in way.fields]
    assert len(made) == len(set(made)) >= 3
    assert set(made) <= scored.told(scored.KIND).keys()
    on_demand = {name for way in ways() if not way.key for name in way.fields}
    assert on_demand == scored.told(scored.DEMAND).keys()
    assert all((way.of_logits is None) != (way.by_itself is None) for way in ways())
    assert scored.demanded(TrainConfig()) == []
