"""What ingestion reads: the files of the sources, their rows block by block, and how much that is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from joblib import cpu_count

from dcod.config import Config
from dcod.errors import UserError
from dcod.ingest import assemble
from dcod.progress import track
from dcod.traces import sources
from dcod.traces.reading import BLOCK_ROWS
from dcod.traces.rows import Block
from dcod.traces.sources import Unit, new_files

_ALONE = 4 * 2**20  # bytes of sources below which further processes take longer to start than to work

Files = Mapping[str, Sequence[Unit]]  # by the source that names them


def files(config: Config, onto: Path | None = None) -> Files:
    """The files to read.

    Raises:
        UserError: no source is given, one is not there, or nothing is new and there is no set to carry on.
    """
    section = config.ingest
    sources.expand_all(section.sources)
    seen = set(section.seen) | (assemble.seen(onto) if onto else set())
    new = {uri: new_files([uri], seen) for uri in section.sources}
    if not onto and not any(new.values()):
        raise UserError("ingest: no file is new: the digests of all stand in ingest.seen; give other sources")
    return {uri: units for uri, units in new.items() if units}


def blocks(given: Files, row_bytes: int) -> Iterator[Block]:
    """All rows of the sources, in order.

    Raises:
        UserError: a source has none.
    """
    for uri, units in given.items():
        empty = True
        for unit in units:
            for block in filter(len, sources.blocks(unit, row_bytes)):
                empty = False
                yield block
        if empty:
            raise UserError(f"source {uri}: there is no row in it; give a file with one JSON object a line, or Parquet")


def watched(rows: Iterable[Block], given: Files) -> Iterable[Block]:
    """Blocks, with a progress bar where somebody watches; how many there are about is counted only for it."""
    return track(rows, "ingest", lambda: sum(sources.count_rows(unit) // BLOCK_ROWS + 1 for unit in _units(given)))


def size(given: Files) -> int:
    """Bytes of the sources."""
    return sum(sources.size(unit) for unit in _units(given))


def processes(size: int) -> int:
    """How many examine so many bytes."""
    return 1 if size < _ALONE else int(cpu_count())


def _units(given: Files) -> Iterator[Unit]:
    return (unit for units in given.values() for unit in units)
