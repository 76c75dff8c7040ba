"""Cuts connections that drip: of a server that sends a byte now and then no time-out ever ends, and the run would wait.

A time-out begins anew with every byte. One policy for all that comes from a bucket or a tracking server, of any size:
an answer must bring at least ``LEAST`` bytes within ``WINDOW_S``, twice in a row, or end. One that brings none at all
runs into the time-out of its client; one that brings fewer is cut, which its client takes for a broken connection and
tries again, as often as it does for those. What is slow and moves is left alone. What is sent needs no such watch:
clients send in blocks, and each has a time-out.

What a connection has brought is what the kernel counts (TCP_INFO), so nothing stands between it and its reader.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

WINDOW_S = 30.0
LEAST = 16 << 10  # bytes; about half a kilobyte a second

_log = logging.getLogger(__name__)
_RECEIVED = 128  # where tcpi_bytes_received stands, since Linux 4.1


@dataclass
class _Seen:
    """What is known of a connection.

    Attributes:
        answers: that it has begun.
        then: the answers and bytes of the last look.
        slow: looks in a row at which it had dripped.
    """

    answers: int = 0
    then: tuple[int, int] = (0, 0)
    slow: int = 0


_connections: WeakKeyDictionary[socket.socket, _Seen] = WeakKeyDictionary()
_lock = threading.Lock()


@functools.cache
def watch() -> None:
    """From now on, in this process; where the kernel does not count, nothing is cut."""
    from urllib3.connection import HTTPConnection  # boto3 and mlflow both build on it, and take no other class

    own = HTTPConnection.getresponse

    @functools.wraps(own)
    def getresponse(self: Any, *args: Any, **named: Any) -> Any:
        if isinstance(self.sock, socket.socket):
            with _lock:
                _connections.setdefault(self.sock, _Seen()).answers += 1
        return own(self, *args, **named)

    HTTPConnection.getresponse = getresponse  # type: ignore[method-assign]
    threading.Thread(target=_look_around, name="dripping", daemon=True).start()


def is_slow(received: int, seconds: float) -> bool:
    """Whether so many bytes are too few for a time, which is a window at least."""
    return seconds > WINDOW_S and received < LEAST * seconds / WINDOW_S


def _look_around() -> None:
    while True:
        time.sleep(WINDOW_S)
        look()


def look() -> None:
    """Cuts what has dripped at this look and the one before."""
    with _lock:
        connections = list(_connections.items())
    for sock, seen in connections:
        received = _received(sock)
        if received is None:
            continue
        answers, before = seen.then
        seen.then = seen.answers, received
        drips = answers == seen.answers and 0 < received - before < LEAST
        seen.slow = seen.slow + 1 if drips else 0
        if seen.slow == 2:
            _log.warning("a connection is cut that brought %d bytes in %.0f s", received - before, WINDOW_S)
            with contextlib.suppress(OSError):  # it has ended by itself
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not ssl's, over which its reader would stumble


def _received(sock: socket.socket) -> int | None:
    """Bytes that came through a socket; None where it is closed, or nobody counts."""
    try:
        facts = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED + 8)
    except (OSError, AttributeError):
        return None
    return int(struct.unpack_from("=Q", facts, _RECEIVED)[0]) if len(facts) == _RECEIVED + 8 else None
