"""Ingest: raw traces become verified training traces; every row is accepted or quarantined with a reason.

1. carry an earlier set on, where one is given: its traces stay as they are;
2. read the rows of all sources, broken ones too (dcod.traces.sources, dcod.traces.reading); or of the earlier set's
   quarantine;
3. examine each row alone, on all processors: format, cleaning, verdict, contamination, length (dcod.ingest.examine);
4. in order: the limit, duplicates, the split (dcod.ingest.assemble);
5. write traces.parquet, quarantine.parquet, counts.json, where read = accepted + quarantined, sources.json, where that
   holds for every file; the data card comes behind it (dcod.stages.pages).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dcod import storage
from dcod.config import Config
from dcod.ingest import assemble, feed, quarantine
from dcod.ingest.assemble import TraceSetBuilder
from dcod.ingest.examine import Examiner, examined
from dcod.stages.manifests import note
from dcod.traces import check_tokenizer, sources, turns
from dcod.traces.sources import new_files

if TYPE_CHECKING:
    from dcod.tracking import Log


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
    files = {} if replay else feed.files(config, onto)
    rows = quarantine.read(replay) if replay else feed.blocks(files, config.ingest.row_bytes)
    size = quarantine.size(replay) if replay else feed.size(files)
    earlier = onto or replay
    if earlier:
        check_tokenizer(earlier, examiner.digest, config.student.model)
    with assemble.building(config.ingest, out) as builder:
        outcomes = examined(feed.watched(rows, files), examiner, builder.closed, workers or feed.processes(size))
        builder.write(out, outcomes, tokenizer=examiner.digest, earlier=earlier, replayed=replay is not None)
    return finished(out, log, builder, [] if replay else config.ingest.sources)


def finished(out: Path, log: Log, builder: TraceSetBuilder, uris: Sequence[str]) -> dict[str, float]:
    """The accounts of a set that is written; its metrics.

    Args:
        out: its folder.
        log: the counts by reason go there.
        builder: what it was made with.
        uris: its sources.

    Raises:
        UserError: no row was accepted.
    """
    counts = builder.account(out, sources.told(sources.left_out(uris)))
    reasons = "".join(f"{n} {reason}\n" for reason, n in builder.quarantine.reasons.most_common())
    log.text("quarantine.txt", reasons + "".join(f"{line}\n" for line in _unmarked(counts["unmarked"])))
    figures = {name: float(counts[name]) for name in ("read", "accepted", "problems", "train", "selection")}
    return figures | {"quarantined": float(sum(counts["quarantined"].values()))}


def table(folder: Path) -> str:
    """What became of each file of a trace set, for the command line."""
    read, counts = (
        storage.read_json(folder / name, made_by=assemble.MADE_BY) for name in (assemble.SOURCES, assemble.COUNTS)
    )
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
    return "\n".join([*lines, *_unmarked(counts.get("unmarked", {})), *filter(None, [read.get("left_out", "")])])


def _unmarked(counts: Mapping[str, int]) -> list[str]:
    """How many rows without a marked answer would come in if their last number or formula were taken for it."""
    return [f"{n} of no_answer would come in by ingest.answers={way}" for way, n in sorted(counts.items())]


def _short(name: str) -> str:
    return name if len(name) <= 48 else f"…{name[-47:]}"
