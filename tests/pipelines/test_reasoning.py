"""The preset `reasoning`: compiled, and run with few problems of each of its sets and a tiny student."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from dcod.config import Config
from dcod_pipelines import presets
from dcod_pipelines.compile import compile_to
from tests.pipelines.test_distill import GOLDEN, dcod
from tests.tracked import fresh_store

SETS = ("gsm8k", "math", "math500", "olympiadbench", "amc23", "aime24", "aime25", "ifeval")
FILES = {name: "input_data.jsonl" if name == "ifeval" else "test.jsonl" for name in SETS}
TRACES = ("gsm8k/train.jsonl", "traces/nemo_math_train/openmathinstruct2_100.jsonl")  # the first of each


def test_it_compiles_to_the_golden_one(tmp_path: Path, update_golden: bool) -> None:
    """GPU pods for the four arms, the trainings and every evaluation; nothing but the image is added."""
    values = yaml.safe_load(presets.text_of("reasoning"))
    config = Config.model_validate(values | {"cluster": values["cluster"] | {"image": "registry.example/dcod:1"}})
    compile_to(tmp_path / "p.yaml", config)
    text = (tmp_path / "p.yaml").read_text(encoding="utf-8")
    golden = GOLDEN / "reasoning.yaml"
    if update_golden:
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8"), "the preset's pipeline changed; `make golden` if it should"
    executors = next(yaml.load_all(text, Loader=yaml.CSafeLoader))["deploymentSpec"]["executors"]
    on_gpu = {name for name, made in executors.items() if "accelerator" in made["container"].get("resources", {})}
    assert {"exec-pilot", "exec-train", "exec-score", "exec-evaluate"} <= on_gpu


@pytest.mark.long
def test_it_runs_here_with_eight_problems_of_every_set(tmp_path: Path, tiny_student: Path, data_dir: Path) -> None:
    """Other than the preset are the student, the traces, the engine, the precision and the sizes alone."""
    values = yaml.safe_load(presets.text_of("reasoning"))
    sets = values["evaluate"]["benchmarks"]
    assert tuple(one["name"] for one in sets) == SETS
    for one in sets:
        one |= {"source": str(data_dir / one["name"] / FILES[one["name"]]), "limit": 8, "max_new_tokens": 16}
    values["student"] = {"model": str(tiny_student), "max_length": 2048}
    for name in TRACES:
        lines = (data_dir / name).read_text(encoding="utf-8").splitlines(keepends=True)[:50]
        (tmp_path / Path(name).name).write_text("".join(lines), encoding="utf-8")
    values["ingest"] |= {"sources": [str(tmp_path / Path(name).name) for name in TRACES]}
    values["ingest"] |= {"selection_share": 0.15, "pilot_share": 0.15}
    values["train"] |= {"precision": "float32", "traces_per_step": 8, "epochs": 1}
    values["train"]["pilot"] = {"min_problems": 5, "seeds": 1, "temperatures": [0.0], "max_new_tokens": 16}
    values["evaluate"] |= {"engine": {"name": "transformers"}}
    values |= {"tracking": fresh_store(tmp_path / "store").model_dump()}
    values["promote"] |= {"lease": str(tmp_path / "lease")}
    path = tmp_path / "dcod.yaml"
    path.write_text(yaml.safe_dump(values))
    done = dcod(tmp_path, "run", "--config", str(path))
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "runs/latest"
    report = (folder / "report.html").read_text()
    for name in SETS:
        assert name in report, name
    assert "pooled" in report
    assert "pass@16" in report or "avg@16" in report
    answer = json.loads((folder / "answer.json").read_text())
    assert answer["text"] in report
    assert {arm["arm"]["name"] for arm in answer["choice"]["arms"]} >= {"sft", "naturalness", "gce"}
