"""One object of a bucket to a file, in parts: a cut connection or a killed process goes on where it was.

1. the object's head says size, ETag and checksum; every part is asked for under that ETag;
2. parts are read several at a time, each written to its place; a part whose connection breaks is resumed at its next
   byte after a pause. It gives up after some tries in a row that bring less than a least rate (dcod.storage.dripping);
3. a finished part is noted beside the file, so that another process does not read it again;
4. the whole is compared with the checksum (or the ETag, where it is one) before it gets its name;
5. an object that changed meanwhile is begun anew, a few times.

A mark beside the file holds the ETag and the file's digest. What has no mark, or another content than the mark says, is
the user's: it is never replaced.
"""

from __future__ import annotations

import base64
import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from dcod.errors import UserError, one_line
from dcod.storage import dripping
from dcod.storage.outputs import write_text
from dcod.storage.retries import Tries

PART = 16 << 20  # bytes
_AT_ONCE = 8
_CHUNK = 1 << 16
_TRIES = 6  # in a row that get nowhere; botocore's own tries (of throttled requests, say) lie within each
_PAUSE_S = 0.5  # after the first
_ANEW = 3  # times that an object may change, or fail its checksum


class _ChangedError(Exception):
    """The object is not the one of the head any more, or what came is not what the store has."""


def download(client: Any, bucket: str, key: str, target: Path) -> None:
    """Brings a file up to date with an object; one process at a time.

    Raises:
        UserError: the object changes faster than it can be read, the connection stays broken, or the disk refuses.
        ClientError: the store refuses, or the object is gone.
    """
    mark = _mark(target)
    try:
        with FileLock(target.with_name(f".{target.name}.lock")):
            for _ in range(_ANEW):
                with suppress(_ChangedError):
                    _update(client, bucket, key, target, mark)
                    return
    except OSError as error:
        raise UserError(f"s3://{bucket}/{key}: cannot be kept in {target.parent} ({error.strerror or error})") from None
    raise UserError(
        f"s3://{bucket}/{key}: changed while it was read, {_ANEW} times over, or is not what its checksum says; "
        "wait until nothing writes to it"
    )


def forget(target: Path) -> None:
    """Removes what an earlier download brought.

    Raises:
        UserError: it is not that any more.
    """
    mark = _mark(target)
    _refuse_foreign(target, mark)
    target.unlink(missing_ok=True)
    mark.unlink(missing_ok=True)


def _mark(target: Path) -> Path:
    return target.with_name(f".{target.name}.etag")


def _refuse_foreign(target: Path, mark: Path) -> None:
    """Raises a UserError where something stands that no download brought."""
    if not os.path.lexists(target):
        return
    plain = target.is_file() and not target.is_symlink()
    _, *digests = mark.read_text().split() if plain and mark.is_file() else [""]
    if not digests or _digest(target, "sha256").hex() not in digests:
        raise UserError(
            f"{target}: stands where a download is kept, but dcod did not bring it, or it was changed since; it stays "
            "as it is: move it away, or set another DCOD_CACHE"
        )


def _update(client: Any, bucket: str, key: str, target: Path, mark: Path) -> None:
    head = client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    size, etag = head["ContentLength"], head["ETag"]
    known = mark.read_text().split() if mark.exists() else []
    plain = target.is_file() and not target.is_symlink()
    if known[:1] == [etag] and plain and target.stat().st_size == size:
        return
    _refuse_foreign(target, mark)
    part, journal = (target.with_name(f".{target.name}.{end}") for end in ("part", "parts"))
    name = f"{etag} {size} {PART}"
    lines = journal.read_text().split("\n") if part.exists() and journal.exists() else []
    if not lines or lines[0] != name:
        part.unlink(missing_ok=True)
        part.touch()
        journal.write_text(f"{name}\n")
        lines = []
    # A line that a kill cut short has no end; its part is read again.
    done = {int(line) for line in lines[1:-1]}
    with part.open("r+b") as file, journal.open("a") as notes, ThreadPoolExecutor(_AT_ONCE) as pool:
        notes.write("\n" if lines and lines[-1] else "")
        waiting = {
            number: pool.submit(
                _part, client, bucket, key, etag, file.fileno(), number * PART, min(size, (number + 1) * PART)
            )
            for number in range(-(-size // PART))
            if number not in done
        }
        try:
            for number, future in waiting.items():
                future.result()
                os.fsync(file.fileno())
                notes.write(f"{number}\n")
                notes.flush()
        except BaseException:
            for future in waiting.values():
                future.cancel()
            raise
    if not _whole(client, bucket, key, part, head):
        part.unlink()
        raise _ChangedError
    digest = _digest(part, "sha256").hex()
    write_text(mark, " ".join(["changing", *known[1:], digest]))  # a kill leaves one of the two
    _refuse_foreign(target, mark)  # it took a while
    os.replace(part, target)
    write_text(mark, f"{etag} {digest}")
    journal.unlink()


def _part(client: Any, bucket: str, key: str, etag: str, file: int, begin: int, end: int) -> None:
    """Writes the bytes from begin to end to their place."""
    from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError, ResponseStreamingError

    reason = ""
    tries = Tries(_TRIES, first_s=_PAUSE_S, spread=True)
    for _ in tries:
        before, since = begin, time.monotonic()
        try:
            answer = client.get_object(Bucket=bucket, Key=key, Range=f"bytes={begin}-{end - 1}", IfMatch=etag)
            if answer["ETag"] != etag:
                raise _ChangedError
            for data in answer["Body"].iter_chunks(_CHUNK):
                os.pwrite(file, data[: end - begin], begin)
                begin += len(data)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("PreconditionFailed", "412", "InvalidRange"):
                raise _ChangedError from None
            raise
        except (HTTPClientError, IncompleteReadError, ResponseStreamingError) as error:
            reason = one_line(error)
        if begin == end:
            return
        if begin > before and not dripping.is_slow(begin - before, time.monotonic() - since):
            tries.moved()
    raise UserError(f"s3://{bucket}/{key}: the connection breaks off at byte {begin} again and again ({reason})")


def _whole(client: Any, bucket: str, key: str, part: Path, head: dict[str, Any]) -> bool:
    """Whether a file is what the store says of the object, as far as it says anything that one can compute."""
    size, etag = head["ContentLength"], head["ETag"].strip('"')
    wanted = head.get("ChecksumSHA256", "")
    digest, _, count = etag.partition("-")
    if wanted and not count:  # of an object in parts it is a checksum of checksums
        return base64.b64encode(_digest(part, "sha256")).decode() == wanted
    sealed = head.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in head
    if sealed or len(digest) != 32:  # an ETag that is no MD5
        return part.stat().st_size == size
    if not count:
        return _digest(part, "md5").hex() == digest
    first = client.head_object(Bucket=bucket, Key=key, PartNumber=1)["ContentLength"]
    if not first or -(-size // first) != int(count):
        return part.stat().st_size == size
    with part.open("rb") as file:
        pieces = [hashlib.md5(file.read(first), usedforsecurity=False).digest() for _ in range(int(count))]
    return hashlib.md5(b"".join(pieces), usedforsecurity=False).hexdigest() == digest


def _digest(path: Path, name: str) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, name).digest()
