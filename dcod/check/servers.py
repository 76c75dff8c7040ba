"""Whether the servers and the bucket of a run answer, and the bucket's traces are there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from dcod import storage
from dcod.config import Config
from dcod.config.cluster import MOUNT
from dcod.config.mapping import split
from dcod.errors import UserError
from dcod.tracking.registry import Registry


def tracking(config: Config) -> str:
    """MLflow answers, the experiment can be used, the registry be read.

    Raises:
        UserError: not so.
    """
    if not config.tracking.uri.startswith("http"):
        raise UserError("cluster.tracking: set the address of the MLflow server")
    champion = Registry(config.tracking).champion(config.promote.registered_model)
    standing = f"champion is version {champion.version}" if champion else "no champion yet: the start becomes it"
    return f"{config.tracking.uri}; {config.promote.registered_model}: {standing}"


def place(config: Config) -> str:
    """Where the run keeps what outlives its pods."""
    return config.cluster.storage or config.promote.lease.rpartition("/")[0]


def bucket(config: Config) -> str:
    """An object can be written, read and deleted, and conditions of writes are heeded.

    Raises:
        UserError: not so.
    """
    if not storage.is_s3(place(config)):
        return f"{place(config)}: a volume"
    storage.probe(place(config))
    return f"{place(config)}: written, read, deleted; conditions heeded"


def volume(config: Config) -> str:
    """In a pod: the claim that all pods mount can be written, where there is one.

    Raises:
        UserError: not so.
    """
    folders = [MOUNT] if config.cluster.volume else []
    if folders and not storage.is_s3(place(config)):
        folders.append(place(config))
    for folder in folders:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise UserError(
                f"cluster.volume {config.cluster.volume}, {folder}: user {os.geteuid()} cannot write there "
                f"({error.strerror}); see docs/cluster.md, fsGroup"
            ) from None
    return f"{', '.join(folders)}: written" if folders else "none"


def traces(config: Config) -> str:
    """Each s3:// source holds something.

    Raises:
        UserError: not so.
    """
    if not config.ingest.sources:
        raise UserError("ingest.sources is empty: name the traces")
    buckets = [path for path, _ in map(split, config.ingest.sources) if storage.is_s3(path)]
    empty = [source for source in buckets if not storage.list_objects(source)]
    if empty:
        raise UserError(f"nothing at {', '.join(empty)}; upload the traces, or mend ingest.sources")
    return f"{len(buckets)} of {len(config.ingest.sources)} sources are in buckets, all with objects"
