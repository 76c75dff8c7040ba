"""The end-to-end workflow: readable, with what it needs, and a configuration that dcod takes."""

from __future__ import annotations

from pathlib import Path

import yaml

from dcod.config import load_config

FOLDER = Path(__file__).resolve().parents[2] / ".github"


def test_the_end_to_end_workflow_is_whole_and_says_that_nobody_ran_it() -> None:
    read = yaml.safe_load((FOLDER / "workflows" / "e2e.yaml").read_text(encoding="utf-8"))
    assert read["permissions"] == {"contents": "read"}
    assert read[True].keys() == {"workflow_dispatch", "schedule"}  # YAML 1.1 reads the key `on` so
    (job,) = read["jobs"].values()
    assert job["timeout-minutes"] <= 120
    assert "not run here" in job["name"]
    assert len(job["steps"]) == 12
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
