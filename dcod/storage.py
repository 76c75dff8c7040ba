"""Local paths and s3:// behind one set of functions: atomic, checksummed, retried. Alone imports boto3.

Local outputs are those of :mod:`dcod.outputs`.

Endpoint and keys come from the environment, as boto3 reads them (``AWS_ENDPOINT_URL``,
``AWS_ACCESS_KEY_ID``, …) or from ``MLFLOW_S3_ENDPOINT_URL``; never from a configuration.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dcod.downloads import download, forget
from dcod.errors import UserError
from dcod.marks import MARK as MARK
from dcod.outputs import output_folder as output_folder
from dcod.outputs import remove_folder as remove_folder
from dcod.outputs import write_json as write_json
from dcod.outputs import write_text as write_text
from dcod.scratch import scratch as scratch

_ABSENT = ("404", "NoSuchKey")


def cache_folder() -> Path:
    """Where downloads are kept: ``$DCOD_CACHE``, else ``$XDG_CACHE_HOME/dcod``, else ``~/.cache/dcod``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("DCOD_CACHE") or Path(base) / "dcod")


def digest_file(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_folder(folder: Path) -> str:
    """SHA-256 over relative names and contents of all files of a folder, hidden ones left out."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder)
        if not any(part.startswith(".") for part in name.parts):
            total.update(f"{name.as_posix()}\x1f{digest_file(path)}\x1e".encode())
    return total.hexdigest()


def is_s3(uri: str) -> bool:
    """Whether a URI is an S3 one."""
    return uri.startswith("s3://")


def list_objects(uri: str) -> list[str]:
    """All objects under an s3:// prefix (or the one object), sorted; without the empty ones that stand for folders."""
    bucket, key = _split(uri)
    with _explained(uri):
        pages = _client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    at = key.rstrip("/")
    return sorted(
        f"s3://{bucket}/{k}" for k in keys if not k.endswith("/") and (not at or k == at or k.startswith(at + "/"))
    )


def fetch(uri: str, folder: Path | None = None) -> Path:
    """A local path for a local path or an s3:// object or prefix; downloads go on where they were broken off.

    Raises:
        UserError: nothing is there, or the store refuses.
    """
    if not is_s3(uri):
        path = Path(uri.removeprefix("file://"))
        try:
            found = path.exists()
        except OSError as error:
            raise UserError(f"{uri}: cannot be read ({error.strerror}); check who may read it") from None
        if not found:
            raise UserError(f"{uri}: no such file or folder")
        return path
    objects = list_objects(uri)
    if not objects:
        raise UserError(f"{uri}: nothing there; check bucket and prefix")
    bucket, key = _split(uri)
    root = (folder or cache_folder() / "s3") / bucket
    keys = {_split(item)[1] for item in objects}
    client = _client()
    for item in sorted(keys):
        if not (root / item).resolve().is_relative_to(root.resolve()):
            raise UserError(f"s3://{bucket}/{item}: the key leaves its folder")
        with _explained(f"s3://{bucket}/{item}"):
            download(client, bucket, item, root / item)
    _forget_vanished(root, root / key, keys)
    return root / key


def upload(path: Path, uri: str) -> None:
    """Uploads a file, or a folder's files, to s3://; a checksum travels with each part.

    Raises:
        UserError: the path is missing, or the store refuses.
    """
    bucket, key = _split(uri)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; nothing to upload to {uri}")
    files = [(path, key)] if path.is_file() else []
    if path.is_dir():
        files = [(p, f"{key.rstrip('/')}/{p.relative_to(path)}") for p in sorted(path.rglob("*")) if p.is_file()]
    for file, target in files:
        with _explained(f"s3://{bucket}/{target}"):
            _client().upload_file(str(file), bucket, target, ExtraArgs={"ChecksumAlgorithm": "SHA256"})


def remove(uri: str) -> None:
    """Deletes an s3:// object, or all under a prefix; what is not there is no error.

    Raises:
        UserError: the store refuses.
    """
    bucket, _ = _split(uri)
    for item in list_objects(uri):
        with _explained(item):
            _client().delete_object(Bucket=bucket, Key=_split(item)[1])


def probe(uri: str) -> None:
    """Writes, reads and deletes a small object below an s3:// prefix, and tries what a lease relies on.

    Raises:
        UserError: one of the three is refused, or conditions of a write are not heeded.
    """
    bucket, key = _split(f"{uri.rstrip('/')}/.dcod-probe-{uuid.uuid4().hex[:12]}")
    with _explained(uri):
        client = _client()
        client.put_object(Bucket=bucket, Key=key, Body=b"probe")
        try:
            if client.get_object(Bucket=bucket, Key=key)["Body"].read() != b"probe":
                raise UserError(f"{uri}: what was written is not what is read")
        finally:
            client.delete_object(Bucket=bucket, Key=key)
        _try_conditions(client, bucket, key, uri)


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
    path = Path(uri)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise UserError(f"lease {uri}: cannot be written ({error.strerror}); set promote.lease") from None
    with file:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                _wait(uri, deadline)
        yield lambda: None  # it is held as long as this process lives


@contextmanager
def _bucket_lease(uri: str, wait_s: float, ttl_s: float) -> Iterator[Callable[[], None]]:
    bucket, key = _split(uri)
    client, holder = _client(), uuid.uuid4().hex
    deadline = time.monotonic() + wait_s
    seen, since = "", time.monotonic()

    def still() -> None:
        with _explained(uri):
            there = _look(client, bucket, key)[1]
        if not there.startswith(holder):
            raise UserError(f"lease {uri}: lost, since this process stood still for too long; nothing moved, run again")

    with _explained(uri):
        _try_conditions(client, bucket, f"{key}.{holder}", uri)
        while not _put_if(client, bucket, key, holder, IfNoneMatch="*"):
            there, _ = _look(client, bucket, key)
            if there != seen:
                seen, since = there, time.monotonic()
            elif there and time.monotonic() - since > ttl_s and _put_if(client, bucket, key, holder, IfMatch=there):
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
        with _explained(uri):
            if _look(client, bucket, key)[1].startswith(holder):  # else it was taken over, or removed by hand
                client.delete_object(Bucket=bucket, Key=key)


def _renew(client: Any, bucket: str, key: str, holder: str, every_s: float, ended: threading.Event) -> None:
    """Writes a lease anew, so that who waits for it sees that its holder lives; one that was taken over stays so."""
    from botocore.exceptions import BotoCoreError, ClientError

    number = 0
    while not ended.wait(every_s):
        number += 1
        with contextlib.suppress(ClientError, BotoCoreError):  # the next time, then
            there, text = _look(client, bucket, key)
            if text.startswith(holder):
                _put_if(client, bucket, key, f"{holder} {number}", IfMatch=there)


def _try_conditions(client: Any, bucket: str, key: str, uri: str) -> None:
    """Whether a store refuses a write whose condition does not hold; some take it, and a lease would be held twice.

    Args:
        client: of the store.
        bucket: where to try.
        key: of an object that nobody else knows.
        uri: for the message.

    Raises:
        UserError: it does not.
    """
    from botocore.exceptions import ClientError

    failed = ""
    try:
        if not _put_if(client, bucket, key, "1", IfNoneMatch="*"):
            failed = "refuses If-None-Match on a new object"
        elif _put_if(client, bucket, key, "2", IfNoneMatch="*"):
            failed = "ignores If-None-Match"
        elif _put_if(client, bucket, key, "3", IfMatch=f'"{"0" * 32}"'):
            failed = "ignores If-Match"
        elif not _put_if(client, bucket, key, "4", IfMatch=_look(client, bucket, key)[0]):
            failed = "refuses If-Match on the object that it named"
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("NotImplemented", "InvalidArgument", "501"):
            raise
        failed = "knows no conditions of writes"
    finally:
        client.delete_object(Bucket=bucket, Key=key)
    if failed:
        raise UserError(
            f"{uri}: its store {failed}, so two could hold a lease at once; take a store with conditional writes (AWS, "
            "a newer MinIO, Ceph or SeaweedFS), or a file on a shared volume (promote.lease, or cluster.storage and "
            "cluster.volume)"
        )


def _put_if(client: Any, bucket: str, key: str, text: str, **condition: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        client.put_object(Bucket=bucket, Key=key, Body=text.encode(), **condition)
    except ClientError as error:
        if error.response["Error"]["Code"] in (*_ABSENT, "PreconditionFailed", "ConditionalRequestConflict"):
            return False
        raise
    return True


def _look(client: Any, bucket: str, key: str) -> tuple[str, str]:
    """ETag and text of a lease; empty where there is none."""
    from botocore.exceptions import ClientError

    try:
        found = client.get_object(Bucket=bucket, Key=key)
        return str(found["ETag"]), found["Body"].read().decode(errors="replace")
    except ClientError as error:
        if error.response["Error"]["Code"] in _ABSENT:
            return "", ""
        raise


def _wait(uri: str, deadline: float) -> None:
    if time.monotonic() > deadline:
        raise UserError(f"lease {uri}: another promotion holds it; wait for it, and run again")
    time.sleep(0.2)


def _forget_vanished(root: Path, folder: Path, keys: set[str]) -> None:
    """Removes what an earlier download brought (it has a mark beside it) and the bucket no longer holds."""
    for mark in list(folder.rglob(".*.etag")) if folder.is_dir() else []:
        target = mark.with_name(mark.name.removeprefix(".").removesuffix(".etag"))
        if target.relative_to(root).as_posix() not in keys:
            forget(target)


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")  # a key may hold ? and #, which urlparse would cut off
    if not is_s3(uri) or not bucket or "@" in bucket:  # a bucket's name holds none, a key with a password does
        raise UserError(f"{uri}: not of the form s3://bucket/key")
    return bucket, key.lstrip("/")


def _client() -> Any:
    import boto3
    from botocore.config import Config as BotoConfig

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return boto3.client(
        "s3",
        endpoint_url=endpoint or os.environ.get("MLFLOW_S3_ENDPOINT_URL") or None,
        config=BotoConfig(retries={"mode": "adaptive", "max_attempts": 6}, connect_timeout=5, read_timeout=60),
    )


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (ClientError, BotoCoreError, Boto3Error) as error:
        raise UserError(f"{uri}: {' '.join(str(error).split())}; check endpoint, keys and bucket") from error
