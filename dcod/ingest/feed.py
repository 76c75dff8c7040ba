"""What ingestion reads: the files of the sources, their rows block by block, and how much that is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path

from joblib import cpu_count

from dcod.config import Config
from dcod.errors import UserError
from dcod.ingest import assemble
from dcod.progress import track
from dcod.traces import sources
from dcod.traces.mapping import addresses, checking, engine, joining
from dcod.traces.mapping.addresses import Address
from dcod.traces.reading import BLOCK_ROWS
from dcod.traces.rows import Block, mapped
from dcod.traces.sources import Unit, new_files

_ALONE = 4 * 2**20  # bytes of sources below which further processes take longer to start than to work

Files = Mapping[Address, Sequence[Unit]]  # by the source that names them


def addressed(config: Config) -> list[Address]:
    """The sources, with their mappings.

    Raises:
        UserError: a mapping is none.
    """
    return [addresses.address(source, config.ingest.map) for source in config.ingest.sources]


def digests(config: Config) -> dict[str, str]:
    """What decides the content of the sources: their files, those joined to them, and mappings; by name."""
    by_name: dict[str, str] = {}
    for source in addressed(config):
        joined = [join.file for one in engine.compiled(source.map) for join in one.join]
        units = new_files([source.path, *joined], set(config.ingest.seen))
        by_name |= {unit.name: unit.digest() for unit in units}
        if source.map:
            by_name[f"map of {source.path}"] = hashlib.sha256(source.map.encode()).hexdigest()
    return by_name


def files(config: Config, onto: Path | None = None) -> Files:
    """The files to read.

    Raises:
        UserError: no source is given, one is not there, or nothing is new and there is no set to carry on.
    """
    section = config.ingest
    named = addressed(config)
    sources.expand_all(source.path for source in named)
    seen = set(section.seen) | (assemble.seen(onto) if onto else set())
    new = {source: new_files([source.path], seen) for source in named}
    if not onto and not any(new.values()):
        raise UserError("ingest: no file is new: the digests of all stand in ingest.seen; give other sources")
    return {source: units for source, units in new.items() if units}


def blocks(given: Files, row_bytes: int) -> Iterator[Block]:
    """All rows of the sources, in order.

    Raises:
        UserError: a source has none, or its mapping names what no row has.
    """
    for source, units in given.items():
        filled = (block for unit in units for block in sources.blocks(unit, row_bytes) if len(block))
        first = list(islice(filled, 1))
        if not first:
            raise UserError(
                f"source {source.path}: there is no row in it; give a file with one JSON object a line, or Parquet"
            )
        whole = chain(first, filled)
        yield from _mapped(source, first[0], whole) if source.map else whole


def _mapped(source: Address, first: Block, rows: Iterable[Block]) -> Iterator[Block]:
    """The rows of a source with their mapping, and what is joined to them."""
    maps = engine.compiled(source.map)
    joins = [join for one in maps for join in one.join]
    with ExitStack() as stack:
        if joins:
            partner = stack.enter_context(joining.joined(joins[0]))
            rows, first = map(partner.block, rows), partner.block(first)
        for one in maps:
            checking.check(f"source {source.path}", one, [row.row for row in first.rows() if row.row is not None])
        yield from (mapped(block, source.map) for block in rows)


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
