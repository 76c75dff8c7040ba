"""The configuration as a run on the cluster gets it: buckets, servers, and the volume that all pods mount."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dcod.config.cluster import MOUNT
from dcod.config.mapping import SourceConfig, split
from dcod.config.schema import Config
from dcod.errors import UserError


def for_cluster(config: Config) -> Config:
    """As :func:`moved`, where a cluster can run it.

    Raises:
        UserError: something in it exists on this machine only; all such things at once.
    """
    there = moved(config)
    if wrong := _only_here(there):
        raise UserError("not for a cluster: " + "; ".join(wrong))
    return there


def moved(config: Config) -> Config:
    """The same configuration with the cluster's tracking server, lease and place for checkpoints."""
    storage = config.cluster.storage.rstrip("/")
    update: dict[str, Any] = {}
    for section in ("score", "train"):
        checkpoints = getattr(config, section).checkpoints
        if checkpoints.uri and not _reached(checkpoints.uri):
            checkpoints = checkpoints.model_copy(update={"uri": f"{storage}/checkpoints" if storage else ""})
        update[section] = getattr(config, section).model_copy(update={"checkpoints": checkpoints})
    if config.cluster.tracking:
        update["tracking"] = config.tracking.model_copy(update={"uri": config.cluster.tracking})
    if storage and not _reached(config.teach.work):
        update["teach"] = config.teach.model_copy(update={"work": f"{storage}/teach"})
    if storage and not _reached(config.promote.lease):
        update["promote"] = config.promote.model_copy(update={"lease": f"{storage}/promotion.lease"})
    return config.model_copy(update=update)


def _only_here(config: Config) -> list[str]:
    """What no pod reaches, each with the way out."""
    wrong = []
    uri = config.tracking.uri
    if not uri.startswith(("http://", "https://")):
        wrong.append(f"cluster.tracking: no MLflow server ({uri} is a file here); such as http://mlflow.dcod:5000")
    if not _reached(config.promote.lease):
        wrong.append("cluster.storage: set an s3:// prefix, for the lease that serialises promotions")
    named = [split(source)[0] for source in config.ingest.sources]
    maps = [config.ingest.map, *(source.map for source in config.ingest.sources if isinstance(source, SourceConfig))]
    joins = [join for some in maps if not isinstance(some, str) for one in some for join in one.join]
    joins += [join for one in config.evaluate.benchmarks for join in one.map.join]
    named += [one.source for one in config.evaluate.benchmarks if one.source]
    for source in [*named, *(join.file for join in joins)]:
        if _is_local(source):
            wrong.append(f"{source}: a file of this machine; upload it and name it as s3://…")
    models = {"student.model": config.student.model}
    if config.asks == "teacher" or config.promote.exposure_traces:
        models["teach.model"] = config.teach.model
    for key, model in models.items():
        if _is_local(model) and (model.startswith((".", "/", "~", "file:")) or Path(model).is_dir()):  # else owner/name
            wrong.append(f"{key} {model}: a folder of this machine; name it s3://… or models:/…")
    if config.asks and not _reached(config.teach.work):
        wrong.append("cluster.storage: set an s3:// prefix, where a teacher's attempts are kept (teach.work)")
    if config.notify.url and not config.cluster.secrets.webhook:
        wrong.append("notify.url is set: name the secret with the webhook's address and key in cluster.secrets.webhook")
    return wrong


def _reached(place: str) -> bool:
    """Whether every pod reaches a place: in a bucket, or on the volume that all mount."""
    return place.startswith(("s3://", f"{MOUNT}/"))


def _is_local(place: str) -> bool:
    """Whether a place is a path, and no pod reaches it."""
    path = place.removeprefix("file://")
    return "://" not in path and not _reached(path)
