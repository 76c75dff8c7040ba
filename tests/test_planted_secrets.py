"""Secrets planted wherever a user can put one, then looked for in all that a run leaves: files, MLflow, messages."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from dcod import cli
from tests import planting
from tests.answering import answering
from tests.tracked import fresh_store

OPTIONS = ["--traces", "--student", "--replay", "--onto", "--out", "--config"]

WORDS = [  # {}: an address that holds a secret; of each verb, whatever takes a place or a name
    "cancel {}",
    "compile --out p.yaml --image {}",
    "compile --out {} cluster.image=x",
    "evaluate --no-track --out o --student {}",
    "evaluate --no-track --out o --responses {}",
    "evaluate --no-track --out o --student none --traces {}",
    "evaluate --no-track --out {} --student none",
    "export {} --out o",
    "export models:/a@b --out {}",
    "export models:/a@b --out o --push {}",
    "inspect {} --out p.html --no-open",
    "inspect none --out {} --no-open",
    "inspect none --out p.html --no-open --traces {}",
    "lineage {}",
    "metrics --push {}",
    "promote --results {} --start-results none --student none --out o",
    "promote --results none --start-results none --student {} --out o",
    "report {}",
    "run --config {}",
    "run --preset {}",
    "schedule {} --cron 5",
    "score --no-track --traces {} --out o --student none",
    "score --no-track --traces none --out o --student {}",
    "status {}",
    "teach --no-track --out o --prompts {} --teacher none",
    "teach --no-track --out o --teacher {}",
    "train --no-track --scores {} --out o --student none",
]


def _dcod(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["dcod", *words])
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in planting.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DCOD_CACHE", str(tmp_path / "cache"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def test_all_places_are_here() -> None:
    assert (len(planting.VARIABLES), len(planting.ADDRESSES), len(OPTIONS), len(WORDS)) == (9, 3, 6, 27)


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
    assert planting.left(planted) == []
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
    assert planting.left(planted) == []


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


@pytest.mark.parametrize("words", WORDS)
def test_no_verb_shows_or_keeps_one_of_an_address(
    words: str,
    planted: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    tracking = fresh_store(planted / "store")
    (planted / "store" / "c.yaml").write_text(f"tracking: {tracking.model_dump_json()}")
    given = words.format("https://me:PLANTED@host/x?token=PLANTED").split()
    given += [] if "--config" in given else ["--config", "store/c.yaml"]
    assert _dcod(monkeypatch, *given) == 2
    shown = capfd.readouterr()
    assert "PLANTED" not in shown.out + shown.err + caplog.text
    assert shown.err.strip()
    assert planting.left(planted) == []


def test_an_endpoint_that_says_the_key_again_is_not_quoted(
    planted: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The key that it was sent stands in its answer: in a header, a message, a code and an address."""
    key = planting.environment()["OPENAI_API_KEY"]
    body = f'{{"error": {{"message": "wrong key {key} (https://me:{key}@host/?token={key})", "code": "{key}"}}}}'
    head = f"HTTP/1.1 401 No\r\nContent-Type: application/json\r\nX-Key: {key}\r\nContent-Length: {len(body)}"
    (planted / "problems.jsonl").write_text('{"problem": "2 + 2?", "gold": "4"}\n')
    tracking, heard = fresh_store(planted / "store"), list[bytes]()
    with answering(f"{head}\r\n\r\n{body}", heard=heard) as url:
        words = f"teach --prompts problems.jsonl --out o teach.engine.name=openai teach.engine.endpoint={url}/v1"
        words += " teach.engine.model=m teach.logprobs=false"
        words += f" tracking.uri={tracking.uri} tracking.artifacts={tracking.artifacts}"
        assert _dcod(monkeypatch, *words.split()) == 2
    shown = capfd.readouterr()
    assert any(key.encode() in request for request in heard), shown.err
    assert "PLANTED" not in shown.out + shown.err
    assert planting.left(planted) == []
