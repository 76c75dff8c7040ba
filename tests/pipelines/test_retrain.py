"""The retrain pipeline as it is compiled: golden, valid, its branches; and which pipeline a configuration names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dcod.config import Config, parse_config
from dcod_pipelines.compile import build, compile_to
from tests.pipelines.test_distill import CLUSTERS, GOLDEN

SETTINGS: dict[str, dict[str, Any]] = {
    "retrain": {"cluster": CLUSTERS["distill"]},
    "retrain-two-rounds": {
        "cluster": CLUSTERS["distill-gpu"] | {"shards": 2, "secrets": {"webhook": "dcod-webhook"}},
        "retrain": {"rounds": 2},
    },
}


def compiled(file: Path, name: str) -> list[dict[str, Any]]:
    compile_to(file, Config.model_validate({"pipeline": "retrain", **SETTINGS[name]}))
    return list(yaml.safe_load_all(file.read_text()))


@pytest.mark.parametrize("name", SETTINGS)
def test_compiled_pipeline_is_the_golden_one(tmp_path: Path, update_golden: bool, name: str) -> None:
    compiled(tmp_path / "a.yaml", name)
    text, golden = (tmp_path / "a.yaml").read_text(), GOLDEN / f"{name}.yaml"
    if update_golden:
        golden.write_text(text)
    assert text == golden.read_text(), "the compiled pipeline changed; if it should, `make golden` and say why"


@pytest.mark.parametrize("name", SETTINGS)
def test_compiled_pipeline_is_valid_and_branches_on_the_decision(tmp_path: Path, name: str) -> None:
    from google.protobuf import json_format
    from kfp.kubernetes import kubernetes_executor_config_pb2
    from kfp.pipeline_spec import pipeline_spec_pb2

    spec, platform = compiled(tmp_path / "p.yaml", name)
    parsed = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    assert parsed.pipeline_info.name == "dcod-retrain"
    for pod in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        json_format.ParseDict(pod, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
    dags = [spec["root"], *(c for c in spec["components"].values() if "dag" in c)]
    tasks = {name: task for dag in dags for name, task in dag["dag"]["tasks"].items()}
    assert not any(task.get("cachingOptions", {}).get("enableCache") for task in tasks.values())
    conditions = [task.get("triggerPolicy", {}).get("condition", "") for task in tasks.values()]
    branches = [re.findall(r"== '(\w+)'", condition) for condition in conditions if "==" in condition]
    assert sorted(branches) == [["go"], ["promote"], ["waiting"]]
    # nothing that costs a GPU stands outside of its branch, but the decision
    outer = next(c for name, c in spec["components"].items() if name.startswith("comp-exit-handler"))
    names = {re.sub(r"-\d+$", "", name) for name in outer["dag"]["tasks"]}
    ingesting = {"for-loop", "join"} if "shards" in SETTINGS[name]["cluster"] else {"ingest"}
    assert names == {"settle", "fetch", "decide", "condition", *ingesting}


def test_each_round_scores_with_its_own_student(tmp_path: Path) -> None:
    compile_to(tmp_path / "p.yaml", Config.model_validate({"pipeline": "retrain", "retrain": {"rounds": 3}}))
    spec, _ = yaml.safe_load_all((tmp_path / "p.yaml").read_text())
    branch = next(c for c in spec["components"].values() if "train-3" in c.get("dag", {}).get("tasks", {}))
    tasks = branch["dag"]["tasks"]

    def source(task: str, artifact: str) -> str:
        given = tasks[task]["inputs"]["artifacts"][artifact]
        return given["taskOutputArtifact"]["producerTask"] if "taskOutputArtifact" in given else "outside"

    for number, before in ((1, "outside"), (2, "train"), (3, "train-2")):
        ending = f"-{number}" if number > 1 else ""
        assert source(f"score{ending}", "student") == before
        assert source(f"train{ending}", "start") == before
        assert source(f"train{ending}", "scores") == f"score{ending}"
    assert source("gate", "student") == "train-3"
    assert source("gate", "start") == "outside"


def test_the_configuration_names_the_pipeline() -> None:
    assert build(Config()).pipeline_spec.pipeline_info.name == "dcod-distill"
    assert build(Config(pipeline="retrain")).pipeline_spec.pipeline_info.name == "dcod-retrain"
    with pytest.raises(ValueError, match=r"rounds > 1 trains in one pod"):
        parse_config("{retrain: {rounds: 2}, cluster: {storage: s3://a/b, train: {num_nodes: 2}}}")


def test_nightly_presets_share_the_level_of_their_gates() -> None:
    from dcod_pipelines.presets import names, text_of

    found = [config for name in names() if (config := parse_config(text_of(name))).pipeline == "retrain"]
    assert found
    assert {config.promote.schedule for config in found} == {"repeated"}


@pytest.mark.parametrize("rounds", [1, 2])
def test_with_arms_one_pilot_chooses_for_every_round(tmp_path: Path, rounds: int) -> None:
    """Over names that are written out; a task that looks first, so that an arm that is not tried takes no GPU."""
    settings = {
        "pipeline": "retrain",
        "cluster": CLUSTERS["distill-gpu"],
        "ingest": {"pilot_share": 0.1},
        "train": {"arms": [{"name": "trust", "loss": {"name": "gce"}}]},
        "retrain": {"rounds": rounds},
    }
    compile_to(tmp_path / "p.yaml", Config.model_validate(settings))
    spec, _ = yaml.safe_load_all((tmp_path / "p.yaml").read_text())
    dags = [part["dag"]["tasks"] for part in (spec["root"], *spec["components"].values()) if "dag" in part]
    loops = [task for tasks in dags for task in tasks.values() if "parameterIterator" in task]
    assert [yaml.safe_load(loop["parameterIterator"]["items"]["raw"]) for loop in loops] == [["sft", "trust"]]
    (tried,) = [tasks for tasks in dags if "pilot" in tasks]
    (looked,) = tried["pilot"]["dependentTasks"]
    assert tried[looked]["inputs"]["parameters"]["stage"]["runtimeValue"]["constant"] == "pilot"
    (branch,) = [tasks for tasks in dags if "choose" in tasks]
    trainings = [task for name, task in branch.items() if name.startswith("train")]
    chosen = [task["inputs"]["artifacts"]["choice"]["taskOutputArtifact"]["producerTask"] for task in trainings]
    assert chosen == ["choose"] * rounds
    assert "choice" in branch["gate"]["inputs"]["artifacts"]


def test_a_twin_trains_beside_the_student_from_where_it_began(tmp_path: Path) -> None:
    """On the same scores, in the branch that trains; the gate gets it, whether a pilot or the run chose the setting."""
    settings = {"pipeline": "retrain", "ingest": {"pilot_share": 0.1}, "train": {"twin": True, "arms": "auto"}}
    compile_to(tmp_path / "p.yaml", Config.model_validate(settings))
    spec, _ = yaml.safe_load_all((tmp_path / "p.yaml").read_text())
    dags = [part["dag"]["tasks"] for part in (spec["root"], *spec["components"].values()) if "dag" in part]
    (branch,) = [tasks for tasks in dags if "choose" in tasks]
    trainings = {name: task for name, task in branch.items() if name.startswith("train")}
    arms = {name: task["inputs"]["parameters"].get("arm", {}) for name, task in trainings.items()}
    (twin,) = [name for name, arm in arms.items() if arm.get("runtimeValue", {}).get("constant") == "sft"]
    (student,) = trainings.keys() - {twin}
    for name in ("scores", "start"):
        assert trainings[twin]["inputs"]["artifacts"][name] == trainings[student]["inputs"]["artifacts"][name]
    given = branch["gate"]["inputs"]["artifacts"]
    assert given["twin"]["taskOutputArtifact"]["producerTask"] == twin
    assert given["twin_results"]["taskOutputArtifact"]["producerTask"].startswith("evaluate")
