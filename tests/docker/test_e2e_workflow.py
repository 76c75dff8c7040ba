"""The end-to-end workflow: readable, with what it needs, and a configuration that dcod takes."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dcod.config import Config, load_config
from dcod.tracking.runs import Tracker
from tests.stages.test_finish import IN_TRAINING, PROMOTED, REFUSED, recorded
from tests.tracked import fresh_store

FOLDER = Path(__file__).resolve().parents[2] / ".github"
WORKFLOWS = sorted((FOLDER / "workflows").glob("*.yaml"))


def steps(workflow: Path) -> list[dict[str, Any]]:
    read = yaml.safe_load(workflow.read_text(encoding="utf-8"))
    return [step for job in read["jobs"].values() for step in job["steps"]]


def checked(*workflows: Path) -> subprocess.CompletedProcess[str]:
    """What check-jsonschema says of them, by the schema that it brings along."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    return subprocess.run([*command, *map(str, workflows)], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.service
def test_workflows_keep_to_their_schema(tmp_path: Path) -> None:
    assert len(WORKFLOWS) == 4
    done = checked(*WORKFLOWS)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (FOLDER / "workflows" / "e2e.yaml").read_text(encoding="utf-8")
    for right, broken in (("runs-on:", "runs_on:"), ("- run: make setup", "- run: [make, setup]")):
        assert right in text
        (tmp_path / "broken.yaml").write_text(text.replace(right, broken), encoding="utf-8")
        assert checked(tmp_path / "broken.yaml").returncode == 1, broken


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_what_a_step_runs_is_a_script_that_bash_reads(workflow: Path) -> None:
    scripts = [step["run"] for step in steps(workflow) if "run" in step]
    assert scripts
    for script in scripts:
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, timeout=10, check=False)
        assert (done.returncode, done.stderr) == (0, ""), script


def test_the_workflow_fails_where_mlflow_tells_otherwise(tmp_path: Path) -> None:
    from dcod.stages.component import finish

    config = Config.model_validate({"name": "e2e", "tracking": fresh_store(tmp_path).model_dump()})
    for pipeline, stages in (("first", PROMOTED), ("cut", IN_TRAINING), ("last", REFUSED)):
        recorded(config, pipeline, stages)
        finish(config.to_json(), pipeline, "RUNNING", "")
    script = runpy.run_path(str(FOLDER / "e2e_outcomes.py"))
    first, cut, last = script["told"](Tracker(config.tracking).client)
    wrong = script["wrong"]
    assert wrong([first, cut, last], 3).startswith("run 2 is FAILED in MLflow: train: its pod was killed")
    assert wrong([first, last, last], 3) == ""
    assert wrong([first, last, first], 3) == "the gate of the last run says promote, not refuse"
    assert wrong([first, last], 3) == "MLflow has 2 runs, 3 were submitted"


def test_the_end_to_end_workflow_is_whole_and_says_that_nobody_ran_it() -> None:
    read = yaml.safe_load((FOLDER / "workflows" / "e2e.yaml").read_text(encoding="utf-8"))
    assert read["permissions"] == {"contents": "read"}
    assert (read["env"]["PIPELINES"], read["env"]["TRAINER"]) == ("2.17.0", "v2.3.0")
    assert read[True].keys() == {"workflow_dispatch", "schedule"}  # YAML 1.1 reads the key `on` so
    (job,) = read["jobs"].values()
    assert job["timeout-minutes"] <= 120
    assert "not run here" in job["name"]
    assert len(job["steps"]) == 13
    outcomes = next(step["run"] for step in job["steps"] if "e2e_outcomes" in step.get("run", ""))
    assert [step.get("if") for step in job["steps"][-2:]] == ["always()"] * 2, "the log is kept of a failure, too"
    submitted = next(step["run"] for step in job["steps"] if "dcod submit" in step.get("run", ""))
    (ways,) = (line for line in submitted.splitlines() if line.startswith("for way in"))
    assert "cluster.shards=2" in ways
    number = ways.count('"') // 2
    assert outcomes.rstrip().endswith(f"e2e_outcomes.py {number}")
    assert all(("uses" in step) != ("run" in step) for step in job["steps"])


def test_images_are_scanned_and_signed_by_digest_in_a_workflow_that_nobody_ran() -> None:
    read = yaml.safe_load((FOLDER / "workflows" / "images.yaml").read_text(encoding="utf-8"))
    assert read["permissions"] == {"contents": "read"}
    (job,) = read["jobs"].values()
    assert "not run here" in job["name"]
    assert {each["image"] for each in job["strategy"]["matrix"]["include"]} == {"cpu", "gpu", "vllm", "mlflow"}
    *_, made, scan, _, sign = job["steps"]
    assert "@$digest" in made["run"]
    assert scan["with"]["image-ref"] == "${{ steps.made.outputs.image }}"
    assert sign["run"] == 'cosign sign --yes "${{ steps.made.outputs.image }}"'


def test_a_tag_makes_a_release_by_the_same_command_as_at_home() -> None:
    read = yaml.safe_load((FOLDER / "workflows" / "release.yaml").read_text(encoding="utf-8"))
    assert read[True] == {"push": {"tags": ["v*"]}}
    (job,) = read["jobs"].values()
    assert "not run here" in job["name"]
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands[0] == "make release"
    assert "dist/pipelines/*.yaml" in commands[1]


def test_the_run_of_the_workflow_is_one_that_dcod_takes() -> None:
    from dcod.config.reach import for_cluster

    config = load_config(FOLDER / "e2e-run.yaml")
    assert for_cluster(config).promote.lease.startswith("s3://dcod/work")
    assert f"--config .github/{'e2e-run.yaml'}" in (FOLDER / "workflows" / "e2e.yaml").read_text(encoding="utf-8")
