"""A client for servers that nobody here runs: no redirects, nothing packed, bounded bodies, an end to every answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dcod.errors import one_line

if TYPE_CHECKING:
    import httpx2

_CONNECT_S = 10.0
logging.getLogger("httpx2").setLevel(logging.WARNING)  # below, it writes every address: the webhook's is a secret


class AnswerError(Exception):
    """An answer that is not taken: too long, too slow, packed, or that points to another place."""


def client(within_s: float, most_bytes: int) -> httpx2.Client:
    """A client; proxies and certificates come from the environment, headers and addresses do not.

    Args:
        within_s: for the first byte of an answer, between two of its bytes, and for all of its body.
        most_bytes: of a body.
    """
    import httpx2

    class Bounded(httpx2.SyncByteStream):
        """A body that ends: in bytes and in time."""

        def __init__(self, inner: httpx2.SyncByteStream) -> None:
            self.inner = inner

        def __iter__(self) -> Iterator[bytes]:
            count, end = 0, time.monotonic() + within_s
            for piece in self.inner:
                count += len(piece)
                if count > most_bytes:
                    raise AnswerError(f"its answer is longer than {most_bytes} bytes")
                if time.monotonic() > end:
                    raise AnswerError(f"its answer did not end within {within_s:.0f} s")
                yield piece

        def close(self) -> None:
            self.inner.close()

    def bound(response: httpx2.Response) -> None:
        if response.has_redirect_location:
            place = response.headers["location"][:200]
            raise AnswerError(f"it answers {response.status_code} and points to {place}; if that is right, give it")
        if response.headers.get("content-encoding", "identity").lower() != "identity":  # it may unpack to anything
            raise AnswerError("its answer is packed, which was not asked for")
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = Bounded(response.stream)

    return httpx2.Client(
        timeout=httpx2.Timeout(within_s, connect=_CONNECT_S),
        headers={"Accept-Encoding": "identity", "User-Agent": "dcod"},
        follow_redirects=False,
        event_hooks={"response": [bound]},
    )


def reason(error: BaseException) -> str:
    """Why a request failed, in one line: the innermost cause that says something."""
    said = one_line(error) or type(error).__name__
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
        said = one_line(error) or said
    return said[:300]
