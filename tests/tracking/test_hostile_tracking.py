"""A tracking server that answers anything: one line, a bounded time, no traceback; what was done stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from mlflow import MlflowClient

from dcod.config import Config, TrackingConfig, parse_config
from dcod.errors import UserError
from dcod.retrain import endings
from dcod.stages.execute import RunContext, execute
from dcod.tracking import lineage, store
from dcod.tracking.registry import Registry, Version
from dcod.tracking.runs import Tracker
from tests.answering import answering
from tests.tracked import fresh_store

PASSWORD = "PLANTED-PASSWORD"
EXPERIMENT = b'{"experiment": {"experiment_id": "1", "name": "dcod", "lifecycle_stage": "active"}}'


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)


def http(body: bytes, status: str = "200 OK", size: int | None = None, head: str = "") -> bytes:
    length = len(body) if size is None else size
    kind = "Content-Type: application/json\r\nConnection: close\r\n"
    return f"HTTP/1.1 {status}\r\n{kind}{head}Content-Length: {length}\r\n\r\n".encode() + body


ANSWERS = {
    "nothing": b"",
    "half a line": b"HTT",
    "no HTTP": b"good day\r\n\r\n",
    "half a body": http(b'{"experiment"', size=90),
    "500": http(b"oh", "500 Oh"),
    "500 with a password": http(f"you are {PASSWORD}".encode(), "500 Oh"),
    "503 for years": http(b"", "503 Later", head="Retry-After: 99999999\r\n"),
    "429 for years": http(b"", "429 Later", head="Retry-After: 99999999\r\n"),
    "401": http(b"who are you", "401 Who"),
    "403": http(b"Invalid Host header", "403 No"),
    "404": http(b"<html>", "404 Not"),
    "418": http(b"{}", "418 Tea"),
    "HTML": http(b"<html><body>welcome</body></html>"),
    "no bytes": http(b""),
    "garbage": http(b"\x00\xff\xfe" * 9),
    "an empty object": http(b"{}"),
    "a list": http(b"[]"),
    "a number": http(b"7"),
    "null": http(b"null"),
    "deep": http(b"[" * 100_000),
    "another shape": http(b'{"experiment": [], "runs": 7, "run": "x", "registered_models": {}, "model_version": 1}'),
    "wrong types": http(b'{"experiment": {"experiment_id": {"a": 1}, "name": 7}, "run": {"info": 3}}'),
    "an error of no kind": http(b'{"error_code": "WHAT", "message": 7}', "400 Bad"),
    "packed nonsense": http(b"\x1f\x8b\x00", head="Content-Encoding: gzip\r\n"),
    "to another place": http(b"", "302 Moved", head="Location: http://127.0.0.1:9/else\r\n"),
}


def _stage(tracker: Tracker) -> None:
    with tracker.stage("score", None, digest="d") as log:
        log.metrics({"a": 1.0})


VERBS: dict[str, Callable[[Tracker], Any]] = {
    "stage": _stage,
    "parent": lambda tracker: tracker.parent("p", "n", Config()),
    "find an output": lambda tracker: tracker.outputs.find("score", "d"),
    "fetch an output": lambda tracker: tracker.outputs.fetch("r", Path("nowhere")),
    "finish": lambda tracker: tracker.finish("p"),
    "champion": lambda tracker: Registry(tracker).champion("m"),
    "versions": lambda tracker: Registry(tracker).versions("m"),
    "by_version": lambda tracker: Registry(tracker).by_version("m", 1),
    "version_of": lambda tracker: Registry(tracker).version_of("models:/m@champion"),
    "set_alias": lambda tracker: Registry(tracker).set_alias("m", "champion", 1),
    "note": lambda tracker: Registry(tracker).note("m", "k"),
    "download": lambda tracker: tracker.models.download("mlflow-artifacts:/1/m", Path("nowhere")),
    "lineage": lambda tracker: lineage.files(Registry(tracker), Version("m", 1, "d", "r", "models:/m/1", {})),
    "ending": lambda tracker: endings.ending(tracker, "p"),
}


def test_all_of_them_are_here() -> None:
    assert (len(ANSWERS), len(VERBS)) == (25, 14)


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_first_word_is_one_line(answer: str) -> None:
    with answering(ANSWERS[answer]) as url, pytest.raises(UserError) as caught:
        Tracker(TrackingConfig(uri=url))
    told = str(caught.value)
    assert told.startswith(f"tracking.uri {url}: ")
    assert len(told.splitlines()) == 1
    assert len(told) < 500
    assert PASSWORD not in told


@pytest.mark.parametrize("answer", ANSWERS)
def test_later_words_are_one_line_too(answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is sound when it is first asked. What it then says may make no error; it never makes another one."""
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    with answering(http(EXPERIMENT), ANSWERS[answer]) as url:
        tracker = Tracker(TrackingConfig(uri=url))
        for verb in VERBS.values():
            try:
                verb(tracker)
            except UserError as error:
                told.append(str(error))
    assert all(len(line.splitlines()) == 1 and PASSWORD not in line for line in told)
    assert len(told) >= (5 if answer == "no bytes" else 8)  # an empty registry is no error


def test_one_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(b"", for_ever=" ", every_s=5.0) as url, pytest.raises(UserError, match=r"tracking\.uri"):
        Tracker(TrackingConfig(uri=url))


def test_the_password_goes_to_no_other_host() -> None:
    elsewhere: list[bytes] = []
    with answering(http(EXPERIMENT), heard=elsewhere) as other:
        moved = http(b"", "307 Moved", head=f"Location: {other}/api\r\n")
        with answering(moved) as url, pytest.raises(UserError):
            Tracker(TrackingConfig(uri=url))
    assert elsewhere == []


def test_what_a_stage_wrote_outlives_the_server(
    tmp_path: Path, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output cannot be stored in the end: one line, and the folder is there."""
    rows = '{"problem": "2 + 2?", "response": "It is \\\\boxed{4}.", "gold": "4"}\n'
    (tmp_path / "traces.jsonl").write_text(rows)
    tracking = fresh_store(tmp_path / "store").model_dump()
    config = parse_config("{}", [f"ingest.sources=[{tmp_path / 'traces.jsonl'}]"]).model_dump()
    whole = Config.model_validate(config | {"tracking": tracking})

    def away(*_: Any, **__: Any) -> None:
        raise ConnectionError("the server is away")

    monkeypatch.setattr("mlflow.MlflowClient.log_artifacts", away)
    with pytest.raises(UserError, match="the server is away"):
        execute("ingest", whole, tmp_path / "out", {"student": tiny_student}, RunContext())
    assert (tmp_path / "out" / "manifest.json").is_file()


@pytest.mark.parametrize("begin", [b"HTTP/1.1 200 OK\r\nX-Drip: ", http(b'{"experiment": ', size=10**6)])
def test_one_that_drips_is_given_up(begin: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then begins the time-out anew; the call as a whole has an end too."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    with answering(begin, for_ever=" ", every_s=0.1) as url, pytest.raises(UserError) as caught:
        Tracker(TrackingConfig(uri=url))
    assert "no whole answer within 2 s" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_call_has_time_for_all_of_its_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in store.ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    assert 7 * 30 + 2 * (2**7 - 2) / 2 < store._limit() < 600
    with store.hurried():
        assert store._limit() < 60


class Away:
    """A tracking server that is away for some artifacts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls, self.away = 0, False
        for name in ("log_text", "log_figure"):
            plain = getattr(MlflowClient, name)

            def send(*given: Any, plain: Any = plain, **named: Any) -> None:
                self.calls += 1
                if self.away:
                    raise ConnectionError("the server is away")
                plain(*given, **named)

            monkeypatch.setattr(MlflowClient, name, send)


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Away:
    return Away(monkeypatch)


def test_a_stage_goes_on_while_the_server_is_away(tmp_path: Path, away: Away, caplog: pytest.LogCaptureFixture) -> None:
    tracker = Tracker(fresh_store(tmp_path))
    with tracker.stage("score", None, digest="d") as run:
        away.away = True
        run.text("a.txt", "1")
        run.figure("b", Figure())
        run.text("c.txt", "2")
        assert away.calls == 1, "one that is away is not waited for at every word"
        away.away = False
    assert {item.path for item in tracker.client.list_artifacts(run.run_id)} == {"a.txt", "b.svg", "c.txt"}
    assert tracker.client.get_run(run.run_id).info.status == "FINISHED"
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"a.txt of run {run.run_id} is held back: tracking.uri")


def test_a_figure_that_cannot_be_kept_is_lost_in_one_line(
    tmp_path: Path, away: Away, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = Tracker(fresh_store(tmp_path))
    with tracker.stage("score", None, digest="d") as run:
        away.away = True
        run.figure("b", Figure())
        run.figure("c.png", Figure())
    assert tracker.client.get_run(run.run_id).info.status == "FINISHED"
    told = [record.getMessage() for record in caplog.records]
    assert [line.partition(": ")[0].partition(" of run ")[0] for line in told] == ["b.svg", "b.svg", "c.png"]
    assert "is lost: tracking.uri" in told[-1]


def test_a_text_that_cannot_be_kept_ends_the_stage_in_one_line(tmp_path: Path, away: Away) -> None:
    tracker = Tracker(fresh_store(tmp_path))
    runs = []

    def work() -> None:
        with tracker.stage("gate", None, digest="d") as run:
            away.away = True
            run.text("decision.txt", "yes")
            runs.append(run.run_id)  # the work goes on

    with pytest.raises(UserError, match="the server is away") as caught:
        work()
    assert len(str(caught.value).splitlines()) == 1
    assert tracker.client.get_run(runs[0]).info.status == "FAILED"
