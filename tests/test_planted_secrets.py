"""Secrets planted wherever a user can put one, then looked for in all that a run leaves: files, MLflow, messages."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from dcod import cli
from tests.tracked import fresh_store

VARIABLES = [  # what of the environment is a secret, or an address that holds one
    "OPENAI_API_KEY",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "HF_TOKEN",
    "KUBEFLOW_TOKEN",
    "DCOD_WEBHOOK_SECRET",
    "DCOD_WEBHOOK_URL",
]
ADDRESSES = ["HTTPS_PROXY", "AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL"]
OPTIONS = ["--traces", "--student", "--replay", "--onto", "--out", "--config"]


def _left(folder: Path) -> list[str]:
    """Files below a folder that hold a planted word."""
    return [path.name for path in folder.rglob("*") if path.is_file() and b"PLANTED" in path.read_bytes()]


def _dcod(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["dcod", *words])
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for number, name in enumerate(VARIABLES):
        monkeypatch.setenv(
            name, f"https://hooks.example.org/PLANTED-{number}" if name.endswith("URL") else f"PLANTED-{number:08}"
        )
    for number, name in enumerate(ADDRESSES):
        monkeypatch.setenv(name, f"http://me:PLANTED-{number}@127.0.0.1:9")
    monkeypatch.setenv("DCOD_CACHE", str(tmp_path / "cache"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def test_all_places_are_here() -> None:
    assert (len(VARIABLES), len(ADDRESSES), len(OPTIONS)) == (9, 3, 6)


def test_nothing_of_the_environment_is_kept(
    planted: Path, tiny_student: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A tracked run by hand: its folder, MLflow's database and artifacts, and what it said."""
    (planted / "traces.jsonl").write_text('{"problem": "2 + 2?", "response": "It is \\\\boxed{4}.", "gold": "4"}\n')
    tracking = fresh_store(planted / "store")
    words = [
        "ingest",
        "--traces",
        "traces.jsonl",
        "--student",
        str(tiny_student),
        "--out",
        "out",
        "notify.url=environment",
    ]
    assert _dcod(monkeypatch, *words, f"tracking.uri={tracking.uri}", f"tracking.artifacts={tracking.artifacts}") == 0
    assert _left(planted) == []
    assert list(planted.rglob("*.parquet"))
    shown = capfd.readouterr()
    assert "PLANTED" not in shown.out + shown.err


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("address", ["s3://me:PLANTED@bucket/x", "https://me:PLANTED@host/x?token=PLANTED"])
def test_nothing_of_an_option_is_shown_or_kept(
    option: str,
    address: str,
    planted: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    given = {"--traces": "none.jsonl", "--student": "none", "--out": "out"} | {option: address}
    words = [word for pair in given.items() for word in pair]
    assert _dcod(monkeypatch, "ingest", "--no-track", *words) == 2
    shown = capfd.readouterr()
    assert "PLANTED" not in shown.out + shown.err + caplog.text
    assert _left(planted) == []


@pytest.mark.parametrize("uri", ["s3://bucket/x", "s3://bucket/x/"])
def test_a_store_that_is_away_does_not_tell_the_password_of_its_address(
    uri: str, planted: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr("botocore.retryhandler.delay_exponential", lambda *_, **__: 0)
    monkeypatch.setattr("time.sleep", lambda _: None)
    assert _dcod(monkeypatch, "ingest", "--no-track", "--traces", "none.jsonl", "--student", uri, "--out", "out") == 2
    shown = capfd.readouterr()
    assert "s3://bucket/x" in shown.err
    assert "PLANTED" not in shown.out + shown.err
