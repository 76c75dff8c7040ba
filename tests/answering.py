"""A server that says what it was told, whatever it is asked; hostile, since it need not be HTTP."""

from __future__ import annotations

import contextlib
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def answering(
    *answers: str | bytes, for_ever: str = "", every_s: float = 0.0, heard: list[bytes] | None = None
) -> Iterator[str]:
    """The address of a server.

    Args:
        answers: of the requests one after the other, the last one for all that follow; then it hangs up. What is HTTP
            says so as well: else a client that is quick asks again over a connection that ends, and is not heard.
        for_ever: sent after an answer, again and again.
        every_s: seconds between two of those.
        heard: what it was sent is put here.
    """
    told = [_last(answer if isinstance(answer, bytes) else answer.encode()) for answer in answers]
    closed = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(5)
            with contextlib.suppress(OSError):
                asked = b""
                while b"\r\n\r\n" not in asked:
                    piece = self.request.recv(65536)
                    if not piece:
                        return
                    asked += piece
                head, _, body = asked.partition(b"\r\n\r\n")
                sizes = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                left = int(sizes[0].partition(b":")[2]) - len(body) if sizes else 0
                while left > 0 and (piece := self.request.recv(65536)):
                    asked, left = asked + piece, left - len(piece)
                if heard is not None:
                    heard.append(asked)
                self.request.sendall(told.pop(0) if len(told) > 1 else told[0])
                while for_ever and not closed.is_set():
                    self.request.sendall(for_ever.encode())
                    time.sleep(every_s)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads, allow_reuse_address = True, True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            closed.set()
            server.shutdown()


def _last(answer: bytes) -> bytes:
    first, end, rest = answer.partition(b"\r\n")
    return first + b"\r\nConnection: close\r\n" + rest if end and first.startswith(b"HTTP/1.1 ") else answer
