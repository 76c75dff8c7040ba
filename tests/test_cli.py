"""The stages through the command line on a tiny student, and what a user may get wrong: one line, exit code 2."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import dcod as package
from dcod.cli import app
from dcod.errors import UserError
from tests.pipelines.test_distill import dcod, write_inputs


def test_each_stage_by_hand(tmp_path: Path, tiny_student: Path) -> None:
    path, config = write_inputs(tmp_path, tiny_student, learning_rate=1e-8, epochs=1)
    common = ("--config", str(path), "--student", str(tiny_student))
    for arguments in (
        ("ingest", *common, "--traces", str(tmp_path / "traces.jsonl"), "--out", "traces"),
        ("score", *common, "--traces", "traces", "--out", "scores"),
        ("train", *common, "--scores", "scores", "--out", "student", "--no-track"),
        ("evaluate", *common, "--out", "start-results", "evaluate.benchmarks.0.limit=40"),
        (
            "evaluate",
            "--config",
            str(path),
            "--student",
            "student",
            "--out",
            "results",
            "evaluate.benchmarks.0.limit=40",
        ),
    ):
        done = dcod(tmp_path, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    done = dcod(
        tmp_path, "promote", "--config", str(path), "--student", "student", "--start", str(tiny_student), "--results",
        "results", "--start-results", "start-results", "--out", "decision", "promote.min_problems=5",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "decision  refuse" in done.stdout
    manifest = json.loads((tmp_path / "student" / "manifest.json").read_text())
    scores = json.loads((tmp_path / "scores" / "manifest.json").read_text())
    assert manifest["inputs"]["scores"] == scores["digest"]
    assert manifest["config"]["train"]["learning_rate"] == 1e-8
    assert manifest["seed"] == config.seed
    assert (tmp_path / "student" / "model.safetensors").is_file()
    card = (tmp_path / "scores" / "card.html").read_text()
    assert "<svg" in card
    assert "Not scored yet" not in card


def refused(tmp_path: Path, *arguments: str) -> str:
    done = dcod(tmp_path, *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert not (tmp_path / "out").exists()
    return lines[0]


def ingest(tmp_path: Path, student: Path, traces: Path, *more: str) -> str:
    return refused(
        tmp_path, "ingest", "--student", str(student), "--traces", str(traces), "--out", "out", "--no-track", *more
    )


def test_a_replay_reads_no_source(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["ingest", "--replay", "set", "--traces", "more.jsonl", "--out", "out"])
    assert isinstance(found.exception, UserError)
    assert "give --replay alone, or --traces and --onto" in str(found.exception)


def test_what_ingest_refuses(tmp_path: Path, tiny_student: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    assert "empty.jsonl" in ingest(tmp_path, tiny_student, empty)
    assert "nowhere.jsonl" in ingest(tmp_path, tiny_student, tmp_path / "nowhere.jsonl")
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps({"prompt": "p", "completion": "word " * 300 + "#### 1", "gold": "1"}) + "\n")
    assert "too_long" in ingest(tmp_path, tiny_student, long)
    bare = shutil.copytree(tiny_student, tmp_path / "bare")
    (bare / "tokenizer.json").unlink()
    assert "tokenizer" in ingest(tmp_path, bare, long)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("train.learningrate=1", "learning_rate"),
        ("train.epochs=0", "train.epochs"),
        ("nonsense", "section.key=value"),
        ("evaluate.benchmarks.3.name=x", "not an index"),
    ],
)
def test_a_wrong_override_is_one_line(tmp_path: Path, override: str, told: str) -> None:
    assert told in refused(tmp_path, "run", "--preset", "quickstart", override)


def test_other_mistakes(tmp_path: Path, tiny_student: Path) -> None:
    assert "quickstart" in refused(tmp_path, "run", "--preset", "quick")
    assert "nofile.yaml" in refused(tmp_path, "run", "--config", "nofile.yaml")
    assert "scores.parquet" in refused(
        tmp_path, "train", "--student", str(tiny_student), "--scores", str(tiny_student), "--out", "out", "--no-track"
    )
    assert "no such folder" in refused(
        tmp_path, "score", "--student", "./gone", "--traces", ".", "--out", "out", "--no-track"
    )
    file = tmp_path / "file"
    file.write_text("")
    (tmp_path / "traces").mkdir()
    done = dcod(
        tmp_path, "score", "--student", str(tiny_student), "--traces", "traces", "--out", str(file / "x"), "--no-track"
    )
    assert done.returncode == 2
    assert "cannot be written" in done.stderr


def test_version_presets_and_help(tmp_path: Path) -> None:
    assert dcod(tmp_path, "--version").stdout.strip() == f"dcod {package.__version__}"
    presets = dcod(tmp_path, "presets").stdout
    assert "quickstart" in presets
    assert "gsm8k" in presets
    for verb in ("ingest", "score", "train", "evaluate", "promote", "run", "compile"):
        done = dcod(tmp_path, verb, "--help")
        assert done.returncode == 0
        assert "--out" in done.stdout or verb == "run"


def test_imports_of_the_command_line_are_light() -> None:
    """`dcod --help` must not wait for torch, mlflow or kfp."""
    code = "import sys, dcod.cli; print(sorted({'torch', 'mlflow', 'kfp', 'transformers', 'boto3'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "[]"
