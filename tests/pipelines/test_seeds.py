"""Pipelines with `train.seeds`: compiled, refused, and run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from dcod.config import Config
from dcod_pipelines.compile import compile_to
from tests.pipelines.test_distill import CLUSTERS, dcod, write_inputs

WANTED = ["student 1", "sft 1", "student 2", "sft 2"]


def compiled(file: Path, **values: Any) -> dict[str, Any]:
    compile_to(file, Config.model_validate(values))
    return dict(next(yaml.load_all(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)))


@pytest.mark.parametrize("pipeline", ["distill", "retrain"])
@pytest.mark.parametrize("arms", [[], [{"name": "trust", "loss": {"name": "gce"}}]])
def test_further_seeds_fan_out_over_written_names(tmp_path: Path, pipeline: str, arms: list[Any]) -> None:
    values = {"pipeline": pipeline, "train": {"twin": True, "seeds": 3, "arms": arms}}
    held = {"selection_share": 0.1, "pilot_share": 0.1}
    spec = compiled(tmp_path / "p.yaml", cluster=CLUSTERS["distill-gpu"], ingest=held, **values)
    dags = [part["dag"]["tasks"] for part in (spec["root"], *spec["components"].values()) if "dag" in part]
    loops = [task for tasks in dags for task in tasks.values() if "parameterIterator" in task]
    assert [json.loads(loop["parameterIterator"]["items"]["raw"]) for loop in loops].count(WANTED) == 1
    (tasks,) = [tasks for tasks in dags if "gate" in tasks]
    given = tasks["gate"]["inputs"]["artifacts"]
    assert given["seeds"]["taskOutputArtifact"]["producerTask"] == "seeds"
    (trainings,) = [tasks["again"] for tasks in dags if "again" in tasks]
    assert ("choice" in trainings["inputs"]["artifacts"]) == bool(arms)


def test_one_seed_adds_nothing(tmp_path: Path) -> None:
    spec = compiled(tmp_path / "p.yaml", cluster=CLUSTERS["distill"], train={"twin": True})
    assert not {"exec-again", "exec-seeds"} & spec["deploymentSpec"]["executors"].keys()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"train": {"seeds": 2}}, "set train.twin=true"),
        ({"train": {"seeds": 2, "twin": True}, "cluster": CLUSTERS["distill-multi-node"]}, "num_nodes must be 1"),
        ({"train": {"seeds": 2, "twin": True}, "evaluate": {"engine": {"name": "vllm"}}}, "must be transformers"),
        ({"train": {"seeds": 2, "twin": True}, "evaluate": {"report_share": 0.0}}, "set evaluate.report_share"),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Config.model_validate(values)


@pytest.mark.slow
def test_a_run_answers_over_problems_and_seeds(tmp_path: Path, tiny_student: Path) -> None:
    path, _ = write_inputs(tmp_path, tiny_student, epochs=4)
    values = yaml.safe_load(path.read_text())
    values["train"] |= {"twin": True, "seeds": 2}
    path.write_text(yaml.safe_dump(values))
    done = dcod(tmp_path, "run", "--config", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads((tmp_path / "runs/latest/answer.json").read_text())
    assert "at full size, 2 seeds each" in answer["text"]
    assert answer["text"] in done.stdout
    names = [student["name"] for student in answer["students"]]
    assert [name for name in names if name.endswith(", seed 1")] == [f"{name}, seed 1" for name in names[::2]]
    assert "2 trainings of each" in (tmp_path / "runs/latest/report.html").read_text()
