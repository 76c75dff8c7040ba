"""The webhook: signed, repeated with the same delivery, given up; Prometheus' text and the Pushgateway."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from dcod.cluster import webhook
from dcod.cluster.prometheus import exposition, push
from dcod.errors import AwayError, UserError
from tests.answering import answering


class Receiver:
    """Answers with the codes that it was told, the last one for ever; keeps what it got."""

    def __init__(self, *codes: int) -> None:
        self.codes, self.got = list(codes), list[tuple[str, str, dict[str, str], bytes]]()
        self.url = ""


@contextmanager
def receiving(*codes: int) -> Iterator[Receiver]:
    receiver = Receiver(*codes)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.got.append((self.command, self.path, dict(self.headers), body))
            code = receiver.codes.pop(0) if len(receiver.codes) > 1 else receiver.codes[0]
            if code:
                self.send_response(code)
                self.end_headers()
            self.close_connection = True  # 0: hangs up without a word

        do_PUT = do_POST

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()


def test_signed_and_repeated_until_it_arrives(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)  # as Kubeflow's executor sets it in a pod
    waits: list[float] = []
    with receiving(503, 0, 429, 200) as receiver:
        webhook.send(receiver.url, "promoted", {"version": 3}, "key", sleep=waits.append)
    assert waits == [1.0, 2.0, 4.0]
    assert receiver.url not in caplog.text  # a secret
    assert len(receiver.got) == 4
    for _, path, headers, body in receiver.got:
        assert path == "/hook"
        assert json.loads(body) == {"event": "promoted", "version": 3}
        assert headers["X-Dcod-Event"] == "promoted"
        signed = headers["X-Dcod-Timestamp"].encode() + b"." + body
        expected = hmac.new(b"key", signed, hashlib.sha256).hexdigest()
        assert headers["X-Dcod-Signature"] == f"sha256={expected}"
    assert len({headers["X-Dcod-Delivery"] for _, _, headers, _ in receiver.got}) == 1


def test_a_known_signature() -> None:
    """As `printf '1700000000.{"event": "failed"}' | openssl dgst -sha256 -hmac secret` says."""
    known = "beebd0439401d2a73f41cc18e3ee2493aa5195e8d695ef3ca4e1eea6ee935af3"
    assert webhook.sign("secret", "1700000000", b'{"event": "failed"}') == f"sha256={known}"


def test_given_up_and_refused() -> None:
    with receiving(500) as receiver, pytest.raises(AwayError, match=r"in 6 attempts \(500\)"):
        webhook.send(receiver.url, "failed", {}, "key", sleep=lambda _: None)
    assert len(receiver.got) == webhook.ATTEMPTS
    with receiving(401) as receiver, pytest.raises(UserError, match="refused"):
        webhook.send(receiver.url, "failed", {}, "key", sleep=lambda _: None)
    assert len(receiver.got) == 1
    with pytest.raises(AwayError):
        webhook.send("http://127.0.0.1:1/hook", "failed", {}, "key", sleep=lambda _: None)


def test_nothing_is_sent_unsigned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(webhook.SECRET, raising=False)
    with pytest.raises(UserError, match="DCOD_WEBHOOK_SECRET"):
        webhook.secret()


def test_exposition() -> None:
    text = exposition({"failed": 1.0, "teacher_style": 0.125, "odd name": 2.0}, 'a "b"\\')
    assert text == (
        "# HELP dcod_retrain_failed 1 if the newest run failed or was killed.\n"
        "# TYPE dcod_retrain_failed gauge\n"
        'dcod_retrain_failed{schedule="a \\"b\\"\\\\"} 1.0\n'
        "# HELP dcod_retrain_odd_name A monitor of the newest decision; see docs/operations.md.\n"
        "# TYPE dcod_retrain_odd_name gauge\n"
        'dcod_retrain_odd_name{schedule="a \\"b\\"\\\\"} 2.0\n'
        "# HELP dcod_retrain_teacher_style A monitor of the newest decision; see docs/operations.md.\n"
        "# TYPE dcod_retrain_teacher_style gauge\n"
        'dcod_retrain_teacher_style{schedule="a \\"b\\"\\\\"} 0.125\n'
    )


def test_pushed() -> None:
    with receiving(202) as receiver:
        push({"failed": 0.0}, receiver.url.removesuffix("/hook"), "every night")
    ((verb, path, _, body),) = receiver.got
    name = base64.urlsafe_b64encode(b"every night").decode()  # as a Pushgateway takes what a path cannot hold
    assert (verb, path) == ("PUT", f"/metrics/job/dcod/schedule@base64/{name}")
    assert body.endswith(b'dcod_retrain_failed{schedule="every night"} 0.0\n')
    for gateway in ("http://127.0.0.1:1", "", "http://[", "http://a b"):
        with pytest.raises(AwayError, match="--push"):
            push({"failed": 0.0}, gateway, "x")
    with receiving(500) as receiver, pytest.raises(AwayError, match="--push"):
        push({"failed": 0.0}, receiver.url.removesuffix("/hook"), "x")


def test_pushed_to_what_is_no_http_server() -> None:
    """One line, not a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"

        def answer() -> None:
            caller, _ = server.accept()
            with caller:
                caller.recv(65536)
                caller.sendall(b"good day\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(AwayError, match="--push"):
            push({"failed": 0.0}, address, "x")
        thread.join()


def test_the_address_is_in_the_environment_and_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("", "hooks.example.org/PLANTED"):
        monkeypatch.setenv(webhook.ADDRESS, wrong)
        with pytest.raises(UserError, match=r"notify\.url=environment, but \$DCOD_WEBHOOK_URL") as caught:
            webhook.address()
        assert "PLANTED" not in str(caught.value)
    monkeypatch.setenv(webhook.ADDRESS, "http://127.0.0.1:1/PLANTED")
    for url in (webhook.address(), "http://127.0.0.1:1/PLANTED", "http://[::1/PLANTED", "http://.:x/PLANTED"):
        with pytest.raises(UserError) as caught:
            webhook.send(url, "failed", {}, "key", sleep=lambda _: None)
        assert "PLANTED" not in str(caught.value)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_message_is_not_carried_to_another_place(code: int) -> None:
    """A client that follows 301 and 302 would ask there by GET, and the message would be lost without a word."""
    moved = f"HTTP/1.1 {code} Moved\r\nLocation: http://127.0.0.1:9/else\r\nContent-Length: 0\r\n\r\n"
    there = rf"answers {code} and points to http://127\.0\.0\.1:9/else"
    with answering(moved) as url, pytest.raises(UserError, match=there):
        webhook.send(url, "failed", {}, "key", sleep=lambda _: None)


@pytest.mark.parametrize(
    "answer",
    ["", "HTT", "garbage\r\n\r\n", "HTTP/1.1 2", "HTTP/1.1 200 OK\r\nContent-Length: 70\r\n\r\nhalf", "\x00" * 99],
)
def test_half_an_answer_is_none(answer: str) -> None:
    with answering(answer) as url, pytest.raises(AwayError, match="did not take it in 6 attempts"):
        webhook.send(url, "failed", {}, "key", sleep=lambda _: None)


def test_an_endless_answer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "_MOST_BYTES", 1000)
    with (
        answering("HTTP/1.1 200 OK\r\n\r\n", for_ever="x" * 100) as url,
        pytest.raises(UserError, match="longer than 1000 bytes"),
    ):
        webhook.send(url, "failed", {}, "key", sleep=lambda _: None)
    monkeypatch.setattr(webhook, "_TIMEOUT_S", 0.3)
    with (
        answering("HTTP/1.1 200 OK\r\n\r\n", for_ever="x", every_s=0.05) as url,
        pytest.raises(UserError, match="did not end within"),
    ):
        webhook.send(url, "failed", {}, "key", sleep=lambda _: None)
