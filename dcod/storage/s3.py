"""Buckets and local paths behind one set of functions: atomic, checksummed, retried. With ``leases`` it knows boto3.

Endpoint and keys come from the environment, as boto3 reads them (``AWS_ENDPOINT_URL``,
``AWS_ACCESS_KEY_ID``, …) or from ``MLFLOW_S3_ENDPOINT_URL``; never from a configuration.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dcod.errors import UserError, one_line
from dcod.storage import dripping
from dcod.storage.downloads import download, forget
from dcod.storage.files import cache_folder, is_s3

ATTEMPTS = 6
_ABSENT = ("404", "NoSuchKey")


def list_objects(uri: str) -> list[str]:
    """All objects under an s3:// prefix (or the one object), sorted; without the empty ones that stand for folders."""
    return [name for name, _, _ in dated_objects(uri)]


def dated_objects(uri: str) -> list[tuple[str, float, int]]:
    """The same with the seconds since 1970 of each one's last change, and its bytes."""
    bucket, key = split(uri)
    with explained(uri):
        pages = connect().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
        items = [item for page in pages for item in page.get("Contents", [])]
    at = key.rstrip("/")
    return sorted(
        (f"s3://{bucket}/{item['Key']}", _changed(item), int(item.get("Size", 0)))
        for item in items
        if not item["Key"].endswith("/") and (not at or item["Key"] == at or item["Key"].startswith(at + "/"))
    )


def _changed(item: Mapping[str, Any]) -> float:
    """When an object was written; now, where a store does not say: what is young stays."""
    return float(item["LastModified"].timestamp()) if "LastModified" in item else time.time()


def fetch(uri: str, folder: Path | None = None) -> Path:
    """A local path for a local path or an s3:// object or prefix; downloads go on where they were broken off.

    Raises:
        UserError: nothing is there, or the store refuses.
    """
    if not is_s3(uri):
        path = Path(uri.removeprefix("file://"))
        try:
            there = path.exists()
        except OSError as error:
            raise UserError(f"{uri}: cannot be read ({error.strerror}); check who may read it") from None
        if not there:
            raise UserError(f"{uri}: no such file or folder")
        return path
    objects = list_objects(uri)
    if not objects:
        raise UserError(f"{uri}: nothing there; check bucket and prefix")
    bucket, key = split(uri)
    root = (folder or cache_folder() / "s3") / bucket
    keys = {split(item)[1] for item in objects}
    client = connect()
    for item in sorted(keys):
        if not (root / item).resolve().is_relative_to(root.resolve()):
            raise UserError(f"s3://{bucket}/{item}: the key leaves its folder")
        with explained(f"s3://{bucket}/{item}"):
            download(client, bucket, item, root / item)
    _forget_vanished(root, root / key, keys)
    return root / key


def upload(path: Path, uri: str) -> None:
    """Uploads a file, or a folder's files, to s3://; a checksum travels with each part.

    Raises:
        UserError: the path is missing, or the store refuses.
    """
    bucket, key = split(uri)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; nothing to upload to {uri}")
    files = [(path, key)] if path.is_file() else []
    if path.is_dir():
        files = [(p, f"{key.rstrip('/')}/{p.relative_to(path)}") for p in sorted(path.rglob("*")) if p.is_file()]
    for file, target in files:
        with explained(f"s3://{bucket}/{target}"):
            connect().upload_file(str(file), bucket, target, ExtraArgs={"ChecksumAlgorithm": "SHA256"})


def remove(uri: str) -> None:
    """Deletes an s3:// object, or all under a prefix; what is not there is no error.

    Raises:
        UserError: the store refuses.
    """
    bucket, _ = split(uri)
    for item in list_objects(uri):
        with explained(item):
            connect().delete_object(Bucket=bucket, Key=split(item)[1])


def probe(uri: str) -> None:
    """Writes, reads and deletes a small object below an s3:// prefix, and tries what a lease relies on.

    Raises:
        UserError: one of the three is refused, or conditions of a write are not heeded.
    """
    bucket, key = split(f"{uri.rstrip('/')}/.dcod-probe-{uuid.uuid4().hex[:12]}")
    with explained(uri):
        client = connect()
        client.put_object(Bucket=bucket, Key=key, Body=b"probe")
        try:
            if client.get_object(Bucket=bucket, Key=key)["Body"].read() != b"probe":
                raise UserError(f"{uri}: what was written is not what is read")
        finally:
            client.delete_object(Bucket=bucket, Key=key)
        try_conditions(client, bucket, key, uri)


def try_conditions(client: Any, bucket: str, key: str, uri: str) -> None:
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
        if not put_if(client, bucket, key, "1", IfNoneMatch="*"):
            failed = "refuses If-None-Match on a new object"
        elif put_if(client, bucket, key, "2", IfNoneMatch="*"):
            failed = "ignores If-None-Match"
        elif put_if(client, bucket, key, "3", IfMatch=f'"{"0" * 32}"'):
            failed = "ignores If-Match"
        elif not put_if(client, bucket, key, "4", IfMatch=look(client, bucket, key)[0]):
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


def put_if(client: Any, bucket: str, key: str, text: str, **condition: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        client.put_object(Bucket=bucket, Key=key, Body=text.encode(), **condition)
    except ClientError as error:
        if error.response["Error"]["Code"] in (*_ABSENT, "PreconditionFailed", "ConditionalRequestConflict"):
            return False
        raise
    return True


def look(client: Any, bucket: str, key: str) -> tuple[str, str]:
    """ETag and text of a lease; empty where there is none."""
    from botocore.exceptions import ClientError

    try:
        held = client.get_object(Bucket=bucket, Key=key)
        return str(held["ETag"]), held["Body"].read().decode(errors="replace")
    except ClientError as error:
        if error.response["Error"]["Code"] in _ABSENT:
            return "", ""
        raise


def _forget_vanished(root: Path, folder: Path, keys: set[str]) -> None:
    """Removes what an earlier download brought (it has a mark beside it) and the bucket no longer holds."""
    for mark in list(folder.rglob(".*.etag")) if folder.is_dir() else []:
        target = mark.with_name(mark.name.removeprefix(".").removesuffix(".etag"))
        if target.relative_to(root).as_posix() not in keys:
            forget(target)


def split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")  # a key may hold ? and #, which urlparse would cut off
    if not is_s3(uri) or not bucket or "@" in bucket:  # a bucket's name holds none, a key with a password does
        raise UserError(f"{uri}: not of the form s3://bucket/key")
    return bucket, key.lstrip("/")


def connect() -> Any:
    import boto3
    from botocore.config import Config as BotoConfig

    dripping.watch()
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return boto3.client(
        "s3",
        endpoint_url=endpoint or os.environ.get("MLFLOW_S3_ENDPOINT_URL") or None,
        config=BotoConfig(retries={"mode": "adaptive", "max_attempts": ATTEMPTS}, connect_timeout=5, read_timeout=60),
    )


@contextmanager
def explained(uri: str) -> Iterator[None]:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (ClientError, BotoCoreError, Boto3Error) as error:
        raise UserError(f"{uri}: {one_line(error)}; check endpoint, keys and bucket") from error
