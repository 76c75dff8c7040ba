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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcod import storage
from dcod.config import Config
from dcod.ingest import assemble, feed, quarantine
from dcod.ingest.assemble import TraceSetBuilder
from dcod.ingest.examine import Examiner, examined
from dcod.stages.manifests import note
from dcod.teach.attempts import FILE
from dcod.traces import check_tokenizer, said, sources, turns

if TYPE_CHECKING:
    from dcod.tracking import Log


def source_digests(config: Config) -> dict[str, str]:
    """What decides the content of the sources; part of the stage's digest."""
    return feed.digests(config)


def run(
    config: Config,
    out: Path,
    log: Log,
    *,
    student: Path,
    onto: Path | None = None,
    replay: Path | None = None,
    taught: Path | None = None,
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
        taught: a teacher's attempts, read in place of any source; without one the set is carried on as it is.
        workers: processes; 0 for as many as there are processors. The outcome does not depend on it.

    Raises:
        UserError: a source is missing or empty, nothing is new, the student has no tokenizer, or no row was accepted.
    """
    examiner = Examiner(config, student)  # a mistake of the user shows here, before anything is read
    note(out, turns=turns.of(examiner.tokenizer).table())
    if taught is not None:
        config = of_attempts(config, taught)
    nothing = taught is not None and not config.ingest.sources
    files = {} if replay or nothing else feed.files(config, onto)
    rows = quarantine.read(replay) if replay else feed.blocks(files, config.ingest.row_bytes)
    size = quarantine.size(replay) if replay else feed.size(files)
    earlier = onto or replay
    if earlier:
        check_tokenizer(earlier, examiner.digest, config.student.model)
    with assemble.building(config.ingest, out) as builder:
        outcomes = examined(feed.watched(rows, files), examiner, builder.closed, workers or feed.processes(size))
        builder.write(out, outcomes, tokenizer=examiner.digest, earlier=earlier, replayed=replay is not None)
    return finished(out, log, builder, [] if replay else [source.path for source in feed.addressed(config)])


def of_attempts(config: Config, taught: Path | None = None) -> Config:
    """The configuration of an ingestion that reads a teacher's attempts alone, as far as there are any.

    Args:
        config: the whole configuration.
        taught: the output of `teach`; None: where it lies is not to be told.
    """
    there = [str(taught)] if taught is not None and (taught / FILE).is_file() else []
    own = {"map": "", "format": "auto", "sources": there}  # attempts are rows of ours, however others are read
    return config.model_copy(update={"ingest": config.ingest.model_copy(update=own)})


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
    told = [*_unmarked(counts["unmarked"]), *_spelled(counts["spelled"]), *_cut(counts["changes"])]
    log.text("quarantine.txt", reasons + "".join(f"{line}\n" for line in told))
    if builder.holding:
        note(out, holdings=asdict(builder.holding))
    figures = {name: float(counts[name]) for name in ("read", "accepted", "problems", "train", "selection", "pilot")}
    if counts["own"]:
        figures["own_answers"] = float(counts["own"]["traces"])
    if counts["spelled"]:
        figures["spelled_otherwise"] = float(sum(counts["spelled"].values()))
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
        why = ", ".join(f"{n} {reason}" for reason, n in sorted(quarantined.items(), key=lambda pair: -pair[1]))
        lines.append(f"{name:<48} {count:>9} {accepted:>9} {sum(quarantined.values()):>9}  {why}".rstrip())
    lines += [*_unmarked(counts.get("unmarked", {})), *_spelled(counts.get("spelled", {}))]
    lines += _cut(counts.get("changes", {}))
    return "\n".join([*lines, *filter(None, [read.get("left_out", "")])])


def readings(folder: Path) -> list[str]:
    """How each file of a trace set was read, for the command line: once for all files that were read alike."""
    files = storage.read_json(folder / assemble.SOURCES, made_by=assemble.MADE_BY)["files"]
    first = dict[str, str]()
    for item in files:
        for text in _readings(item):
            first.setdefault(text, _short(item["file"]))
    return [f"{name} read as {text}" for text, name in first.items()]


def _readings(item: Mapping[str, Any]) -> list[str]:
    """How a file was read, and which columns were left out; where it gave several traces a row, how many in all."""
    several = (
        f" ({item['items']} items of {item['read']} rows)" if item.get("items", item["read"]) > item["read"] else ""
    )
    lines = []
    for text, told in item.get("read_as", {}).items():
        unused = f"; unused: {', '.join(told['unused'])}" if told["unused"] else ""
        lines.append(f"{text}{unused}{several}")
    return lines


def look(config: Config, student: Path, rows: int = 3) -> Iterator[str]:
    """How the first rows of the sources would be read and taught; nothing is written.

    Args:
        config: with the sources.
        student: the model folder, for its tokenizer and template.
        rows: of each source.

    Raises:
        UserError: as :func:`run`.
    """
    examiner = Examiner(config, student)
    known = turns.of(examiner.tokenizer)
    given = feed.files(config)
    for source, units in given.items():
        first = (row for block in feed.blocks({source: units}, config.ingest.row_bytes) for row in block.rows())
        for row in islice(first, rows):
            for item in examiner.items(row):
                name = f"{row.file}:{row.line}" + (f", item {item.item}" if item.item else "")
                unused = f"; unused: {', '.join(item.reading.unused)}" if item.reading.unused else ""
                yield f"{name}: {'read as ' + item.reading.text + unused if item.reading.text else 'not read'}"
                if item.code:
                    yield f"  refused: {item.code}: {item.message}"
                if item.trace:
                    yield from (f"  {turn['role']}: {turn['content']}" for turn in item.trace.prompt)
                    yield f"  taught: {known.written(item.trace.completion)}{known.end}{known.names[known.last]}"
                    facts = {"gold": item.trace.gold, "verdict": item.trace.verdict, "teacher": item.trace.teacher}
                    yield "  " + ", ".join(f"{key} {value}" for key, value in facts.items() if value)


def _unmarked(counts: Mapping[str, int]) -> list[str]:
    """How many rows without a marked answer would come in if their last number or formula were taken for it."""
    return [f"{n} of no_answer would come in by ingest.answers={way}" for way, n in sorted(counts.items())]


def _spelled(counts: Mapping[str, int]) -> list[str]:
    """How many prompts are in another part than their hash says."""
    return [
        f"{n} {'prompt is' if n == 1 else 'prompts are'} in the part {part}, as another spelling of the same problem is"
        for part, n in sorted(counts.items())
    ]


def _cut(counts: Mapping[str, int]) -> list[str]:
    """How many traces are taught behind a part of their prompt."""
    return [
        f"{n} {'trace has' if n == 1 else 'traces have'} a turn of which the student's chat template leaves a part out"
        for name, n in counts.items()
        if name == said.CUT
    ]


def _short(name: str) -> str:
    return name if len(name) <= 48 else f"…{name[-47:]}"
