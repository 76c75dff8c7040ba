"""Whether the servers and the bucket of a run answer, and the bucket's traces are there."""

from __future__ import annotations

from dcod import storage
from dcod.config import Config
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
