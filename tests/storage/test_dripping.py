"""A server that drips is given up; one that is slow, and moves, is not. Looks are made here, a quarter second apart."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dcod import storage
from dcod.errors import UserError
from dcod.storage import downloads, dripping
from tests.answering import answering

SIZE = 30_000
LISTING = f"""<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name>
<IsTruncated>false</IsTruncated><Contents><Key>file</Key><Size>{SIZE}</Size></Contents></ListBucketResult>"""


class Slow(BaseHTTPRequestHandler):
    """A bucket with one object, sent in pieces, and a tracking server with one artifact."""

    protocol_version = "HTTP/1.1"
    piece, every_s, drips = b"x", 0.02, ("file",)
    ended = threading.Event()

    def do_HEAD(self) -> None:
        self.answer(b"", SIZE)

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(b"", 100)
        self.drip(100)

    def do_GET(self) -> None:
        if "list-type" in self.path:
            self.answer(LISTING.encode(), len(LISTING))
            return
        self.answer(b"", SIZE)
        self.drip(SIZE)

    def answer(self, body: bytes, size: int) -> None:
        self.send_response(206 if "Range" in self.headers else 200)
        for name, value in {"Content-Length": size, "ETag": '"e"'}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def drip(self, size: int) -> None:
        while size > 0 and not self.ended.is_set():
            try:
                self.wfile.write(self.piece[:size])
            except OSError:
                return
            size -= len(self.piece)
            time.sleep(self.every_s)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Slow]]:
    class Handler(Slow):
        ended = threading.Event()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{running.server_address[1]}")
        monkeypatch.setenv("DCOD_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(downloads, "_TRIES", 2)
        yield Handler
        Handler.ended.set()
        running.shutdown()


@pytest.fixture(autouse=True)
def looking(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    dripping.watch()
    monkeypatch.setattr(dripping, "LEAST", 1000)
    monkeypatch.setattr(dripping, "WINDOW_S", 0.25)
    ended = threading.Event()

    def looks() -> None:
        while not ended.wait(0.25):
            dripping.look()

    thread = threading.Thread(target=looks, daemon=True)
    thread.start()
    yield
    ended.set()
    thread.join()


def test_a_download_that_drips_is_given_up(server: type[Slow], caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UserError, match="breaks off at byte"):
        storage.fetch("s3://bucket/file")
    assert caplog.text.count("a connection is cut") == 2


def test_a_download_that_is_slow_and_moves_is_whole(server: type[Slow], caplog: pytest.LogCaptureFixture) -> None:
    server.piece = b"x" * 500
    assert storage.fetch("s3://bucket/file").read_bytes() == b"x" * SIZE
    assert "a connection is cut" not in caplog.text


def test_an_upload_whose_answer_drips_is_given_up(
    server: type[Slow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("dcod.storage.s3.ATTEMPTS", 2)
    server.every_s = 0.05
    (tmp_path / "file").write_bytes(b"1")
    with pytest.raises(UserError, match="s3://bucket/file"):
        storage.upload(tmp_path / "file", "s3://bucket/file")
    assert "a connection is cut" in caplog.text


@pytest.mark.parametrize("begin", ["HTTP/1.1 200 OK\r\nX-Drip: ", f"HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"])
def test_an_artifact_that_drips_is_given_up(
    begin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    from dcod.tracking.logged_models import LoggedModels

    with answering(begin, for_ever=" ", every_s=0.02) as url:
        models = object.__new__(LoggedModels)
        models.uri = url
        with pytest.raises(UserError, match=r"tracking\.uri"):
            models.fetched("mlflow-artifacts:/1/output/file", tmp_path)
    assert "a connection is cut" in caplog.text
