"""A proxy in front of an S3 server that does what networks and busy stores do: cut, spoil, throttle."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlparse

SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)


class Proxy:
    """Hands requests on as they are (the signature covers the Host header), and answers back; reads are counted.

    Attributes:
        cuts: of the next reads of an object: the bytes after which the connection ends.
        spoiled: so many of the next reads come with a wrong byte.
        throttled: so many of the next requests are answered by 503 SlowDown.
        before: called with the number of each read, before it is handed on.
        ranges: of all reads, as asked for.
        sent: bytes of objects that were sent on.
    """

    def __init__(self, target: str) -> None:
        self.target = urlparse(target).netloc
        self.cuts: list[int] = []
        self.spoiled = self.throttled = self.sent = 0
        self.before: Callable[[int], object] = lambda _number: None
        self.ranges: list[str] = []
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.handle(self)

            do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

            def log_message(self, *_: Any) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.http.server_port}"

    def handle(self, ask: BaseHTTPRequestHandler) -> None:
        asked = ask.headers.get("Range", "")
        reads = ask.command == "GET" and bool(asked)
        with self.lock:
            throttled = self.throttled > 0
            self.throttled -= throttled
            if reads and not throttled:
                self.ranges.append(asked)
                number = len(self.ranges)
            cut = self.cuts.pop(0) if reads and self.cuts and not throttled else None
            spoil = reads and self.spoiled > 0 and not throttled
            self.spoiled -= spoil
        sent_in = ask.rfile.read(int(ask.headers.get("Content-Length") or 0))
        if throttled:
            self._answer(ask, 503, [("Content-Type", "application/xml")], SLOW_DOWN)
            return
        if reads:
            self.before(number)
        connection = http.client.HTTPConnection(self.target, timeout=60)
        connection.putrequest(ask.command, ask.path, skip_host=True, skip_accept_encoding=True)
        for name, value in ask.headers.items():
            connection.putheader(name, value)
        connection.endheaders(sent_in)
        answer = connection.getresponse()
        data = bytearray(answer.read())
        status, headers = answer.status, answer.getheaders()
        connection.close()
        if spoil and data:
            data[len(data) // 2] ^= 1
        body = bytes(data[:cut]) if cut is not None else bytes(data)
        with self.lock:
            self.sent += len(body) if reads and status == 206 else 0
        self._answer(ask, status, headers, body, announced=len(data))

    def _answer(
        self, ask: BaseHTTPRequestHandler, status: int, headers: list[Any], body: bytes, announced: int | None = None
    ) -> None:
        ask.send_response_only(status)
        hop = {"connection", "transfer-encoding"} | (set() if ask.command == "HEAD" else {"content-length"})
        for name, value in headers:
            if name.lower() not in hop:
                ask.send_header(name, value)
        size = len(body) if announced is None else announced
        if ask.command != "HEAD":
            ask.send_header("Content-Length", str(size))
        with suppress(OSError):
            ask.end_headers()
            ask.wfile.write(body)
            ask.wfile.flush()
        ask.close_connection = ask.close_connection or size != len(body)


@contextmanager
def proxied(target: str) -> Iterator[Proxy]:
    """A running proxy."""
    proxy = Proxy(target)
    threading.Thread(target=proxy.http.serve_forever, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.http.shutdown()
        proxy.http.server_close()
