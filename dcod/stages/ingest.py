"""Ingest: raw traces become verified training traces; every row is accepted or quarantined with a reason.

1. carry an earlier set on, where one is given: its traces stay as they are;
2. read the rows of all sources, broken ones too (dcod.traces.sources, dcod.traces.reading); or of the earlier set's
   quarantine;
3. examine each row alone, on all processors: format, cleaning, verdict, contamination, length (dcod.ingest.examine);
4. in order: the limit, duplicates, the split (dcod.ingest.assemble);
5. write traces.parquet, quarantine.parquet, counts.json, where read = accepted + quarantined, sources.json, where that
   holds for every file, and the data card (dcod.reports.data_card).
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, cast

from joblib import cpu_count

from dcod import storage
from dcod.config import Config
from dcod.errors import UserError
from dcod.ingest import assemble, quarantine
from dcod.ingest.assemble import TraceSetBuilder
from dcod.ingest.duplicates import Index
from dcod.ingest.examine import Examined, Examiner, examined
from dcod.ingest.quarantine import Quarantine
from dcod.progress import track
from dcod.reports import data_card
from dcod.stages.manifests import note
from dcod.storage import parquet
from dcod.traces import FILE, check_tokenizer, sources, turns, write_traces
from dcod.traces.newness import new_files
from dcod.traces.reading import BLOCK_ROWS, Block
from dcod.traces.sources import Unit

if TYPE_CHECKING:
    from dcod.tracking import Log

_ALONE = 4 * 2**20  # bytes of sources below which further processes take longer to start than to work


def source_digests(config: Config) -> dict[str, str]:
    """What decides the content of the sources; part of the stage's digest."""
    return {unit.name: unit.digest() for unit in new_files(config.ingest.sources, set(config.ingest.seen))}


def run(
    config: Config,
    out: Path,
    log: Log,
    *,
    student: Path,
    onto: Path | None = None,
    replay: Path | None = None,
    workers: int = 0,
) -> dict[str, float]:
    """Makes a trace set; see the module.

    Args:
        config: the whole configuration.
        out: an empty folder.
        log: the counts by reason go there.
        student: the model folder, for its tokenizer.
        onto: an earlier set that this one adds to: files that it was made of are not read again.
        replay: an earlier set whose quarantine is examined again, in place of any source.
        workers: processes; 0 for as many as there are processors. The outcome does not depend on it.

    Raises:
        UserError: a source is missing or empty, nothing is new, the student has no tokenizer, or no row was accepted.
    """
    examiner = Examiner(config, student)  # a mistake of the user shows here, before anything is read
    note(out, turns=turns.of(examiner.tokenizer).table())
    given = {} if replay else units(config, onto)
    rows = quarantine.read(replay) if replay else blocks(given, config.ingest.row_bytes)
    size = _quarantined(replay) if replay else size_of(given)
    return write(
        config,
        out,
        log,
        lambda found: examined(watched(rows, given), examiner, found.closed, workers or processes(size)),
        onto or replay,
        replayed=replay is not None,
        tokenizer=examiner.digest,
    )


def write(
    config: Config,
    out: Path,
    log: Log,
    examine: Callable[[TraceSetBuilder], Iterable[tuple[Block, list[Examined]]]],
    earlier: Path | None = None,
    *,
    tokenizer: str,
    replayed: bool = False,
) -> dict[str, float]:
    """Makes a trace set of examined rows, in their order: all but the examining.

    Args:
        config: the whole configuration.
        out: an empty folder.
        log: the counts by reason go there.
        examine: gives the rows, and what was found out about each.
        earlier: a set that is carried on.
        tokenizer: the digest of the student's.
        replayed: the rows are those of its quarantine.

    Raises:
        UserError: no row was accepted, or ``out`` cannot be written, or the earlier set has token ids of another
            student.
    """
    if earlier:
        check_tokenizer(earlier, tokenizer, config.student.model)
    scratch, bound = out / "index.sqlite", config.ingest.shard_bytes
    try:
        with closing(Index(scratch, config.ingest.near_duplicates)) as index, Quarantine(out, bound) as kept:
            found = TraceSetBuilder(config.ingest, index, kept)
            carried = found.carry(earlier, replayed=replayed) if earlier else ()
            new = found.split(found.traces(examine(found)))
            write_traces(out / FILE, chain(carried, new), shard_bytes=bound, tokenizer=tokenizer)
            counts = found.counts()
    except (OSError, sqlite3.OperationalError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{out}: cannot be written ({reason}); choose another --out") from None
    scratch.unlink()
    assert counts["read"] == counts["accepted"] + sum(counts["quarantined"].values()), "a row was lost"
    if not counts["accepted"]:
        raise UserError(_nothing(kept, counts["read"]))
    storage.write_json(out / assemble.COUNTS, counts)
    left = [] if replayed else sources.left_out(config.ingest.sources)
    storage.write_json(out / assemble.SOURCES, {**found.sources(), "left_out": sources.told(left)})
    data_card.write(out)
    reasons = "".join(f"{n} {reason}\n" for reason, n in kept.reasons.most_common())
    log.text("quarantine.txt", reasons + "".join(f"{line}\n" for line in _unmarked(counts["unmarked"])))
    return {
        "read": float(counts["read"]),
        "accepted": float(counts["accepted"]),
        "quarantined": float(sum(counts["quarantined"].values())),
        "problems": float(counts["problems"]),
        "train": float(counts["train"]),
        "selection": float(counts["selection"]),
    }


def table(folder: Path) -> str:
    """What became of each file of a trace set, for the command line."""
    read = json.loads((folder / assemble.SOURCES).read_text(encoding="utf-8"))
    files = read["files"]
    whole: Counter[str] = Counter()
    rows = []
    for item in files:
        whole.update({"read": item["read"], "accepted": item["accepted"], **item["quarantined"]})
        rows.append((_short(item["file"]), item["read"], item["accepted"], item["quarantined"]))
    reasons = {name: n for name, n in sorted(whole.items()) if name not in ("read", "accepted")}
    if len(rows) > 1:
        rows.append(("together", whole["read"], whole["accepted"], reasons))
    lines = [f"{'source':<48} {'read':>9} {'accepted':>9} {'refused':>9}  by reason"]
    for name, count, accepted, quarantined in rows:
        told = ", ".join(f"{n} {reason}" for reason, n in sorted(quarantined.items(), key=lambda pair: -pair[1]))
        lines.append(f"{name:<48} {count:>9} {accepted:>9} {sum(quarantined.values()):>9}  {told}".rstrip())
    counts = json.loads((folder / assemble.COUNTS).read_text(encoding="utf-8"))
    return "\n".join([*lines, *_unmarked(counts.get("unmarked", {})), *filter(None, [read.get("left_out", "")])])


def _unmarked(counts: Mapping[str, int]) -> list[str]:
    """How many rows without a marked answer would come in if their last number or formula were taken for it."""
    return [f"{n} of no_answer would come in by ingest.answers={way}" for way, n in sorted(counts.items())]


def _short(name: str) -> str:
    return name if len(name) <= 48 else f"…{name[-47:]}"


def units(config: Config, onto: Path | None = None) -> dict[str, list[Unit]]:
    """The files to read, by the source that names them.

    Raises:
        UserError: no source is given, one is not there, or nothing is new and there is no set to carry on.
    """
    section = config.ingest
    sources.expand_all(section.sources)
    known = set(section.seen) | (assemble.seen(onto) if onto else set())
    found = {uri: new_files([uri], known) for uri in section.sources}
    if not onto and not any(found.values()):
        raise UserError("ingest: no file is new: the digests of all stand in ingest.seen; give other sources")
    return {uri: some for uri, some in found.items() if some}


def blocks(given: dict[str, list[Unit]], row_bytes: int) -> Iterator[Block]:
    """All rows of the sources, in order.

    Raises:
        UserError: a source has none.
    """
    for uri, some in given.items():
        empty = True
        for unit in some:
            for block in filter(len, sources.blocks(unit, row_bytes)):
                empty = False
                yield block
        if empty:
            raise UserError(f"source {uri}: there is no row in it; give a file with one JSON object a line, or Parquet")


def watched(rows: Iterable[Block], given: dict[str, list[Unit]]) -> Iterable[Block]:
    """Blocks, with a progress bar where somebody watches."""
    return track(cast(Sequence[Block], _Watched(rows, given)), "ingest")


def size_of(given: dict[str, list[Unit]]) -> int:
    """Bytes of the sources."""
    return sum(sources.size(unit) for some in given.values() for unit in some)


def processes(size: int) -> int:
    """How many examine so many bytes."""
    return 1 if size < _ALONE else int(cpu_count())


def _quarantined(folder: Path) -> int:
    return sum(shard.stat().st_size for shard in parquet.shards(folder / quarantine.FILE))


class _Watched:
    """Blocks with about their number, which is all that a progress bar asks for, and only where somebody watches."""

    def __init__(self, blocks: Iterable[Block], units: dict[str, list[Unit]]) -> None:
        self.blocks, self.units = blocks, units

    def __len__(self) -> int:
        return sum(sources.count_rows(unit) // BLOCK_ROWS + 1 for some in self.units.values() for unit in some)

    def __iter__(self) -> Iterator[Block]:
        return iter(self.blocks)


def _nothing(kept: Quarantine, size: int) -> str:
    top = kept.reasons.most_common(3)
    reasons = "; ".join(f"{n} {reason} ({kept.examples[reason]})" for reason, n in top)
    return f"ingest: none of {size} rows was accepted: {reasons}"
