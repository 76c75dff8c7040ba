"""The places of a configuration on this machine: what is read, and where dcod keeps what must last."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from dcod import storage
from dcod.config import Config, TrackingConfig
from dcod.config.mapping import split

_SQLITE = "sqlite:///"


def kept(tracking: TrackingConfig, config: Config | None = None) -> dict[str, Path]:
    """Where dcod keeps things, by what a user calls them: no output may take their place."""
    named = {"tracking.artifacts": tracking.artifacts}
    if tracking.uri.startswith(_SQLITE):
        named["tracking.uri"] = tracking.uri.removeprefix(_SQLITE)
    if config is not None:
        named |= {
            "promote.lease": config.promote.lease,
            "teach.work": config.teach.work,
            "score.checkpoints.uri": config.score.checkpoints.uri,
            "train.checkpoints.uri": config.train.checkpoints.uri,
        }
    local = {name: Path(place.removeprefix("file://")) for name, place in named.items() if _is_local(place)}
    return local | {"the cache": storage.cache_folder()}


def sources(stage: str, config: Config) -> dict[str, Path]:
    """The files and folders that a stage reads besides its inputs; of a glob, the folder that it looks into."""
    if stage in ("ingest", "examine", "join"):
        return _named("ingest.sources", (split(source)[0] for source in config.ingest.sources))
    if stage == "teach":
        return _named("teach.prompts", config.teach.prompts)
    if stage in ("evaluate", "gate"):
        return _named("evaluate.benchmarks", (one.source for one in config.evaluate.benchmarks))
    return {}


def _named(name: str, uris: Iterable[str]) -> dict[str, Path]:
    by_place: dict[str, Path] = {}
    for uri in filter(_is_local, uris):
        path = Path(uri.removeprefix("file://")).expanduser()
        if glob.has_magic(str(path)) and not path.exists():
            first = next(number for number, part in enumerate(path.parts) if glob.has_magic(part))
            reached = [str(Path(*path.parts[:first]))] if "**" in path.parts else glob.glob(str(path))
            by_place |= {f"{name}, {place}": Path(place) for place in reached}
        else:
            by_place[f"{name}, {uri}"] = path
    return by_place


def _is_local(place: str) -> bool:
    return bool(place) and ("://" not in place or place.startswith("file://"))
