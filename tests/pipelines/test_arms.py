"""Pipelines with arms and a twin: compiled, at home, on single GPUs and with TrainJobs; and run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from dcod.config import Config
from dcod.tracking.runs import Tracker
from dcod_pipelines.compile import compile_to
from tests.pipelines.test_distill import CLUSTERS, GOLDEN, dcod, write_inputs

COMPARED = {
    "ingest": {"selection_share": 0.1, "pilot_share": 0.1},
    "train": {"twin": True, "arms": [{"name": "trust", "loss": {"name": "gce"}}, {"name": "near", "learning_rate": 5e-5,
              "correction": {"name": "naturalness"}}]},
}  # fmt: skip
NAMES = ["sft", "sft-5e-05", "trust", "near"]


def compiled(file: Path, cluster: str) -> tuple[str, dict[str, Any]]:
    compile_to(file, Config.model_validate({"cluster": CLUSTERS[cluster], **COMPARED}))
    text = file.read_text(encoding="utf-8")
    return text, next(yaml.load_all(text, Loader=yaml.CSafeLoader))


@pytest.mark.parametrize("cluster", ["distill", "distill-gpu", "distill-multi-node"])
def test_arms_fan_out_over_written_names(tmp_path: Path, update_golden: bool, cluster: str) -> None:
    text, spec = compiled(tmp_path / "p.yaml", cluster)
    golden = GOLDEN / f"arms{cluster.removeprefix('distill')}.yaml"
    if update_golden:
        golden.write_text(text)
    assert text == golden.read_text(), "the compiled pipeline changed; if it should, `make golden` and say why"
    dags = [part["dag"] for part in (spec["root"], *spec["components"].values()) if "dag" in part]
    tasks = [task for dag in dags for task in dag["tasks"].items()]
    loops = [json.loads(task["parameterIterator"]["items"]["raw"]) for _, task in tasks if "parameterIterator" in task]
    assert loops.count(NAMES) == 1
    trainings = [task for name, task in tasks if task["componentRef"]["name"].startswith("comp-train")]
    assert len(trainings) == 2  # the chosen arm, and the twin
    named = [task["inputs"]["parameters"].get("arm", {}).get("runtimeValue", {}).get("constant") for task in trainings]
    assert sorted(map(str, named)) == ["None", "sft"]
    assert all("choice" in task["inputs"]["artifacts"] for task in trainings)  # the twin takes SFT's best rate of it


def test_a_twin_of_one_rate_alone_waits_for_no_pilot(tmp_path: Path) -> None:
    train = {"twin": True, "arms": [{"name": "trust", "loss": {"name": "gce"}}]}
    compile_to(tmp_path / "p.yaml", Config.model_validate({**COMPARED, "train": train}))
    spec = next(yaml.load_all((tmp_path / "p.yaml").read_text(), Loader=yaml.CSafeLoader))
    dags = [part["dag"]["tasks"] for part in (spec["root"], *spec["components"].values()) if "dag" in part]
    (tasks,) = [tasks for tasks in dags if "gate" in tasks]
    given = {name: "choice" in task["inputs"]["artifacts"] for name, task in tasks.items() if name.startswith("train")}
    assert sorted(given.values()) == [False, True]


def test_many_arms_are_tried_in_two_rounds(tmp_path: Path) -> None:
    """Both over names that are written out; the second knows what the first dropped, and the choice takes both."""
    many = [{"name": f"a{n}", "focus": 0.1 * n} for n in range(1, 5)]
    cluster = CLUSTERS["distill-gpu"]
    values = {"cluster": cluster, "ingest": COMPARED["ingest"], "train": {"arms": many}}
    compile_to(tmp_path / "p.yaml", Config.model_validate(values))
    spec = next(yaml.load_all((tmp_path / "p.yaml").read_text(), Loader=yaml.CSafeLoader))
    dags = [part["dag"]["tasks"] for part in (spec["root"], *spec["components"].values()) if "dag" in part]
    names = ["sft", "a1", "a2", "a3", "a4"]
    loops = [task for tasks in dags for task in tasks.values() if "parameterIterator" in task]
    assert [json.loads(loop["parameterIterator"]["items"]["raw"]) for loop in loops] == [names, names]
    (tasks,) = [tasks for tasks in dags if "halve" in tasks]
    assert "choose" not in tasks
    first = tasks["halve"]["inputs"]["artifacts"]["pilots"]["taskOutputArtifact"]["producerTask"]
    given = tasks["choose-halved"]["inputs"]["artifacts"]
    assert given["pilots"]["taskOutputArtifact"]["producerTask"] == first
    second = given["further"]["taskOutputArtifact"]["producerTask"]
    assert second != first
    carried = [each["taskOutputArtifact"]["producerTask"] for each in tasks[second]["inputs"]["artifacts"].values()
               if "taskOutputArtifact" in each]  # fmt: skip
    assert "halve" in carried
    rounds = [tasks for tasks in dags if any(name.startswith("pilot") for name in tasks)]
    looked = [{name: task for name, task in tasks.items() if name.startswith("look")} for tasks in rounds]
    told = [
        task["inputs"]["parameters"]["inputs"]["runtimeValue"]["constant"] for one in looked for task in one.values()
    ]
    assert sorted(told) == ["traces,dropped", "traces,scores"]


def test_without_arms_and_twin_nothing_of_them_is_compiled(tmp_path: Path) -> None:
    compile_to(tmp_path / "p.yaml", Config.model_validate({"cluster": CLUSTERS["distill"]}))
    spec = next(yaml.load_all((tmp_path / "p.yaml").read_text(), Loader=yaml.CSafeLoader))
    assert not {"exec-pilot", "exec-choose"} & spec["deploymentSpec"]["executors"].keys()
    assert sum(name.startswith("exec-train") for name in spec["deploymentSpec"]["executors"]) == 1


@pytest.mark.slow
def test_a_run_compares_chooses_and_tells(tmp_path: Path, tiny_student: Path) -> None:
    """Arms, twin and a further seed on this machine, from the traces to the answer."""
    path, config = write_inputs(tmp_path, tiny_student)
    values = yaml.safe_load(path.read_text())
    values["train"] |= {"twin": True, "seeds": 2, "arms": [{"name": "trust", "loss": {"name": "gce"}}],
                        "pilot": {"min_problems": 5, "share": 0.5, "seeds": 1, "temperatures": [0.0]}}  # fmt: skip
    values["ingest"] |= {"selection_share": 0.2, "pilot_share": 0.2}
    path.write_text(yaml.safe_dump(values))
    done = dcod(tmp_path, "run", "--config", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    further = [json.loads(file.read_text()) for file in tmp_path.glob("runs/pipeline/*/*/seeds/gathered/*/again.json")]
    chosen = json.loads((tmp_path / "runs/latest/answer.json").read_text())["choice"]["choice"]["arm"]
    assert {(one["arm"], one["seed"]) for one in further} == {("student", 1), ("sft", 1)}
    assert {one["compared"] for one in further} == {chosen != "sft"}  # nothing is trained beside plain fine-tuning
    decision = next(tmp_path.glob("runs/latest"))
    answer = json.loads((decision / "answer.json").read_text())
    assert done.stdout.count(answer["text"]) == 1
    assert {arm["arm"]["name"] for arm in answer["choice"]["arms"]} == {"sft", "trust"}
    assert answer["text"] in (decision / "report.html").read_text()
    shown = dcod(tmp_path, "compare")
    assert shown.stdout.splitlines()[0] == answer["text"]
    tracker = Tracker(config.tracking)
    runs = tracker.client.search_runs([tracker.experiment_id])
    names = [run.data.tags.get("mlflow.runName", "") for run in runs]
    assert sum(name.startswith("pilot") for name in names) >= 2


# As `sitecustomize` of every process of a run: the second pilot that has written what it is dies there.
KILLER = """
import os, signal, sys

def hook(event, arguments):
    if event == "os.rename" and os.path.basename(str(arguments[1])) == "arm.json":
        with open(os.environ["DCOD_TEST_COUNT"], "a") as file:
            file.write(".")
        if os.path.getsize(os.environ["DCOD_TEST_COUNT"]) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
"""


@pytest.mark.long
def test_a_run_whose_pilot_is_killed_fails_and_the_next_takes_the_finished_arm(
    tmp_path: Path, tiny_student: Path
) -> None:
    """As the kernel kills one for its memory: nothing is caught. The first arm's output is found by its digest."""
    path, config = write_inputs(tmp_path, tiny_student, epochs=2)
    values = yaml.safe_load(path.read_text())
    values["train"] |= {"arms": [{"name": "trust", "loss": {"name": "gce"}}],
                        "pilot": {"min_problems": 5, "share": 0.5, "seeds": 1, "temperatures": [0.0]}}  # fmt: skip
    values["ingest"] |= {"selection_share": 0.2, "pilot_share": 0.2}
    path.write_text(yaml.safe_dump(values))
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(KILLER)
    search = f"{tmp_path / 'site'}:{os.environ.get('PYTHONPATH', '')}"
    killed = dcod(tmp_path, "run", "--config", str(path), PYTHONPATH=search, DCOD_TEST_COUNT=str(tmp_path / "count"))
    print(killed.stdout)
    assert (tmp_path / "count").stat().st_size == 2
    assert killed.returncode != 0
    tracker = Tracker(config.tracking)

    def pilots() -> dict[str, Any]:
        found = tracker.client.search_runs([tracker.experiment_id], order_by=["attributes.start_time"])
        return {str(run.data.tags.get("mlflow.runName")): run for run in found
                if str(run.data.tags.get("mlflow.runName", "")).startswith("pilot")}  # fmt: skip

    finished = {name for name, run in pilots().items() if run.info.status == "FINISHED"}
    assert finished == {"pilot sft"}  # one after the other
    done = dcod(tmp_path, "run", "--config", str(path))
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    taken = {name: "dcod.reused_from" in run.data.tags for name, run in pilots().items()}
    assert taken == {name: name in finished for name in ("pilot sft", "pilot trust")}


@pytest.mark.long
def test_a_run_of_many_arms_drops_the_worse_half(tmp_path: Path, tiny_student: Path) -> None:
    """Both rounds on this machine: all begin, half of the arms get no second seed, and the choice knows all of them."""
    path, _ = write_inputs(tmp_path, tiny_student, epochs=2)
    values = yaml.safe_load(path.read_text())
    many = [{"name": f"a{n}", "focus": 0.4 * n} for n in range(1, 4)] + [{"name": "trust", "loss": {"name": "gce"}}]
    values["train"] |= {"arms": many, "pilot": {"min_problems": 5, "share": 0.5, "temperatures": [0.0]}}
    values["ingest"] |= {"selection_share": 0.2, "pilot_share": 0.2}
    path.write_text(yaml.safe_dump(values))
    done = dcod(tmp_path, "run", "--config", str(path))
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads((tmp_path / "runs/latest/answer.json").read_text())
    arms = {arm["arm"]["name"]: arm for arm in answer["choice"]["arms"]}
    states = [arms[f"a{n}"]["state"] for n in range(1, 4)] + [arms["trust"]["state"]]
    assert sorted(states) == ["dropped", "dropped", "trained", "trained"]
    assert arms["sft"]["state"] == "trained"
    assert {name: arm["seeds"] for name, arm in arms.items() if arm["state"] == "trained"} == {
        name: [0, 1] for name, arm in arms.items() if arm["state"] == "trained"
    }
    report = (tmp_path / "runs/latest/report.html").read_text()
    for name, arm in arms.items():
        assert name in report
        assert arm["state"] != "dropped" or "worse half" in arm["why"]
