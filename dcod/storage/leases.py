"""A lease: one holder at a time, by a locked file or by conditional writes to a bucket."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dcod.errors import UserError
from dcod.storage.files import is_s3
from dcod.storage.s3 import connect, explained, look, put_if, split, try_conditions

_POLL_S = 0.2


@contextmanager
def lease(uri: str, wait_s: float = 60.0, ttl_s: float = 120.0) -> Iterator[Callable[[], None]]:
    """Holds a lease: a locked file locally, a conditional put in a bucket.

    A holder renews its lease in a bucket. One that does not change for ``ttl_s`` seconds, by the clock of who waits for
    it, belongs to a dead holder and is taken over. A bucket must heed the conditions of writes, which is tried first.

    Yields:
        What to call before a step that must not be taken twice: it raises where the lease is another's by now.

    Raises:
        UserError: another holder kept it for ``wait_s`` seconds, or the store heeds no conditions.
    """
    if is_s3(uri):
        with _bucket_lease(uri, wait_s, ttl_s) as still:
            yield still
        return
    # A file system without locks refuses: a marker file in their place would outlive a killed holder.
    lock = FileLock(Path(uri).resolve(), timeout=wait_s, poll_interval=_POLL_S, fallback_to_soft=False)
    try:
        held = lock.acquire()
    except Timeout:
        raise _held_by_another(uri) from None
    except OSError as error:
        raise UserError(f"lease {uri}: cannot be written ({error.strerror}); set promote.lease") from None
    with held:
        yield lambda: None  # it is held as long as this process lives


def sole(uri: str, ttl_s: float = 120.0) -> AbstractContextManager[Callable[[], None]]:
    """As :func:`lease`, without waiting for a living holder; in a bucket only time tells a dead one from it.

    Raises:
        UserError: another holder lives, or the store heeds no conditions.
    """
    return lease(uri, ttl_s + 10 if is_s3(uri) else 0, ttl_s)


@contextmanager
def _bucket_lease(uri: str, wait_s: float, ttl_s: float) -> Iterator[Callable[[], None]]:
    bucket, key = split(uri)
    client, holder = connect(), uuid.uuid4().hex
    deadline = time.monotonic() + wait_s
    seen, since = "", time.monotonic()

    def still() -> None:
        with explained(uri):
            there = look(client, bucket, key)[1]
        if not there.startswith(holder):
            raise UserError(f"lease {uri}: lost, since this process stood still for too long; nothing moved, run again")

    with explained(uri):
        try_conditions(client, bucket, f"{key}.{holder}", uri)
        while not put_if(client, bucket, key, holder, IfNoneMatch="*"):
            there, _ = look(client, bucket, key)
            if there != seen:
                seen, since = there, time.monotonic()
            elif there and time.monotonic() - since > ttl_s and put_if(client, bucket, key, holder, IfMatch=there):
                break
            _wait(uri, deadline)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(client, bucket, key, holder, ttl_s / 6, ended), daemon=True)
    renewing.start()
    try:
        yield still
    finally:
        ended.set()
        renewing.join()
        with explained(uri):
            if look(client, bucket, key)[1].startswith(holder):  # else it was taken over, or removed by hand
                client.delete_object(Bucket=bucket, Key=key)


def _renew(client: Any, bucket: str, key: str, holder: str, every_s: float, ended: threading.Event) -> None:
    """Writes a lease anew, so that who waits for it sees that its holder lives; one that was taken over stays so."""
    from botocore.exceptions import BotoCoreError, ClientError

    number = 0
    while not ended.wait(every_s):
        number += 1
        with contextlib.suppress(ClientError, BotoCoreError):  # the next time, then
            there, text = look(client, bucket, key)
            if text.startswith(holder):
                put_if(client, bucket, key, f"{holder} {number}", IfMatch=there)


def _wait(uri: str, deadline: float) -> None:
    if time.monotonic() > deadline:
        raise _held_by_another(uri)
    time.sleep(_POLL_S)


def _held_by_another(uri: str) -> UserError:
    return UserError(f"lease {uri}: another promotion holds it; wait for it, and run again")
