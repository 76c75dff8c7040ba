"""Builds the trace set from examined rows, in order: each is accepted or refused, and counted by its file.

1. stop at ``ingest.limit`` problems: what comes after it is counted, but not examined;
2. refuse exact and near duplicates of accepted traces;
3. split by problem into train, selection (of checkpoints and knobs) and pilot (to compare arms on); all spellings of a
   problem come into one part (dcod.ingest.spellings).

All that is counted is a sum over rows, so an earlier set is carried on by its own counts.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from dcod import grading, storage
from dcod.config import IngestConfig
from dcod.errors import UserError
from dcod.ingest import duplicates, spellings
from dcod.ingest.duplicates import Index
from dcod.ingest.examine import Closed, Examined
from dcod.ingest.quarantine import Quarantine
from dcod.ingest.spellings import Spellings
from dcod.objective.feasibility import Holdings
from dcod.traces import FILE, Split, Trace, holdings, read_traces, write_traces
from dcod.traces.formats import RowError
from dcod.traces.rows import Block, RawRow

SOURCES = "sources.json"
COUNTS = "counts.json"
MADE_BY = "dcod ingest"
_HITS = 20  # n-gram hits that are shown
_ROWS = ("read", "items", "accepted")  # beside them a file's counts are reasons
_SHORTEST = 64  # tokens; lengths are counted up to this, twice this, …
_SUMS = ("changes", "tokens", "prompt_lengths", "completion_lengths", "ngram_hits", "unmarked", "flags", "own")


@dataclass
class TraceSetBuilder:
    """Counts, index and quarantine of a set that is being made.

    Attributes:
        sides: problems whose split is not that of their hash: an earlier set has them on the other side, or another
            spelling of them is there.
        spelled: those of the latter kind that are new; ``before`` counts those of an earlier set by their part.
        holding: what the set holds for training, once it is written.
    """

    ingest: IngestConfig
    index: Index
    quarantine: Quarantine
    files: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    splits: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    sums: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in _SUMS})
    ngrams: dict[str, list[str]] = field(default_factory=dict)
    sides: dict[str, Split] = field(default_factory=dict)
    spelled: dict[str, Split] = field(default_factory=dict)
    before: Counter[str] = field(default_factory=Counter)
    readings: dict[tuple[str, str], dict[str, list[Any]]] = field(default_factory=dict)
    holding: Holdings | None = None

    def __post_init__(self) -> None:
        self.spellings = Spellings(self.index)

    def write(
        self,
        out: Path,
        outcomes: Iterable[tuple[Block, list[Examined]]],
        *,
        tokenizer: str,
        earlier: Path | None = None,
        replayed: bool = False,
    ) -> None:
        """Writes the traces, and the quarantine with them, in the order of the rows.

        Args:
            out: the folder of the set.
            outcomes: the rows, and what was found out about each.
            tokenizer: the digest of the student's.
            earlier: a set that is carried on.
            replayed: the rows are those of its quarantine.

        Raises:
            UserError: ``earlier`` is no trace set of this version.
        """
        carried = self.carry(earlier, replayed=replayed) if earlier else ()
        new = self.split(self.traces(outcomes, replayed))
        counting = holdings.Count(tokenizer, by_prompt=False)
        told = _counted(chain(carried, new), counting)
        write_traces(out / FILE, told, shard_bytes=self.ingest.shard_bytes, tokenizer=tokenizer)
        if self.spellings.late:
            counting = holdings.Count(tokenizer, by_prompt=False)
            with storage.output_folder(out / "moved") as scratch:
                told = _counted(self._moved(out), counting)
                write_traces(scratch / FILE, told, shard_bytes=self.ingest.shard_bytes, tokenizer=tokenizer)
            shutil.rmtree(out / FILE)
            (out / "moved" / FILE).rename(out / FILE)
            shutil.rmtree(out / "moved")
        sizes = (size for name, size in self.index.sizes() if self._side(name) == "train")
        self.holding = counting.holdings(sizes=sizes)

    def account(self, out: Path, left_out: str) -> dict[str, Any]:
        """Writes counts.json and sources.json, when all is in; returns the counts.

        Args:
            out: the folder of the set.
            left_out: what lies among the sources and was not read, in words.

        Raises:
            UserError: no row was accepted.
        """
        counts = self.counts()
        assert counts["items"] == counts["accepted"] + sum(counts["quarantined"].values()), "a row was lost"
        if not counts["accepted"]:
            top = self.quarantine.reasons.most_common(3)
            reasons = "; ".join(f"{n} {reason} ({self.quarantine.examples[reason]})" for reason, n in top)
            several = f" ({counts['items']} items)" if counts["items"] != counts["read"] else ""
            raise UserError(f"ingest: none of {counts['read']} rows{several} was accepted: {reasons}")
        storage.write_json(out / COUNTS, counts)
        storage.write_json(out / SOURCES, {**self.sources(), "left_out": left_out})
        return counts

    def closed(self) -> Closed:
        """The only problems that may still come; None while any may."""
        full = self.ingest.limit != "all" and self.index.problems >= self.ingest.limit
        return self.index.prompt_ids() if full else None

    def carry(self, folder: Path, *, replayed: bool) -> Iterator[Trace]:
        """The traces of an earlier set, as they are, and its counts; without its quarantine where that is read again.

        Raises:
            UserError: the folder is no trace set of this version.
        """
        counts, sources = (storage.read_json(folder / name, made_by=MADE_BY) for name in (COUNTS, SOURCES))
        for name in _SUMS:
            if not (replayed and name == "unmarked"):  # those rows are examined again
                self.sums[name].update(counts.get(name, {}))
        self.before.update(counts.get("spelled", {}))
        for text in counts["ngram_examples"]:
            self.ngrams.setdefault("", []).append(text)
        for item in sources["files"]:
            count = self._file(item["file"], item["digest"])
            count["accepted"] += item["accepted"]
            count["items"] += item["accepted"]
            count["read"] += item["read"]
            if not replayed:
                count.update(item["quarantined"])
                count["items"] += sum(item["quarantined"].values())
            readings = self.readings.setdefault((item["file"], item["digest"]), {})
            for text, told in item.get("read_as", {}).items():
                readings[text] = [told["items"], set(told["unused"])]
        if not replayed:
            self.quarantine.carry(folder)
        for trace in read_traces(folder):
            near = duplicates.signature(trace) if self.ingest.near_duplicates else b""
            self.index.add(trace.trace_id, trace.prompt_id, duplicates.key(trace), near, trace.gold)
            self.verdicts[trace.verdict] += 1
            self.splits[trace.split] += 1
            if trace.split != side(trace.prompt_id, self.ingest):
                self.sides[trace.prompt_id] = trace.split
            self.spellings.place(trace, trace.split, settled=True)
            yield trace

    def traces(self, examined: Iterable[tuple[Block, list[Examined]]], replayed: bool = False) -> Iterator[Trace]:
        """The accepted traces, in source order; every other row goes into the quarantine."""
        for block, outcomes in examined:
            index, row, count = -1, None, None
            for item in outcomes:
                if item.first:
                    index += 1
                    row = block.at(index)
                    count = self._file(row.file, row.digest)
                    count["read"] += not replayed
                assert row is not None
                assert count is not None
                count["items"] += 1
                self._told(row, item, replayed)
                try:
                    trace = self._accept(item)
                except RowError as error:
                    count[error.code] += 1
                    if error.code == "no_answer":
                        self.sums["unmarked"].update(item.changes)
                    self.quarantine.add(row, error, item.item)
                    continue
                count["accepted"] += 1
                self._count(item, row)
                yield trace

    def split(self, traces: Iterable[Trace]) -> Iterator[Trace]:
        """Traces with their split, a hash of the problem; the first problem is for training if no other is."""
        waiting: list[Trace] = []
        for trace in traces:
            if self.ingest.selection_share + self.ingest.pilot_share >= 1.0 and not (waiting or self.splits["train"]):
                self.sides[trace.prompt_id] = "train"
                self.spellings.to_train(trace)
            where = self._placed(trace)
            waiting.append(replace(trace, split=where))
            if where == "train" or self.splits["train"]:
                yield from self._flush(waiting)
        if waiting:
            first = spellings.key(waiting[0])
            waiting = [replace(trace, split="train") if spellings.key(trace) == first else trace for trace in waiting]
            self.sides |= {trace.prompt_id: trace.split for trace in waiting if trace.split == "train"}
            self.spellings.to_train(waiting[0])
        yield from self._flush(waiting)

    def _placed(self, trace: Trace) -> Split:
        """The part of a problem: that of its hash, or of another spelling of it."""
        own = self._side(trace.prompt_id)
        shares = self.ingest.selection_share, self.ingest.pilot_share
        if not any((*shares, self.splits["selection"], self.splits["pilot"])):
            return own
        where = self.spellings.place(trace, own)
        if where != own:
            self.sides[trace.prompt_id] = self.spelled[trace.prompt_id] = where
        return where

    def _moved(self, out: Path) -> Iterator[Trace]:
        """The traces of the set, those that came before a spelling that is held back with it."""
        for trace in read_traces(out):
            where = self.spellings.found(trace)
            if where != trace.split:
                self.splits.update({trace.split: -1, where: 1})
                self.sides[trace.prompt_id] = self.spelled[trace.prompt_id] = where
                trace = replace(trace, split=where)
            yield trace

    def counts(self) -> dict[str, Any]:
        """Everything counted, for counts.json."""
        return {
            "read": sum(count["read"] for count in self.files.values()),
            "items": sum(count["items"] for count in self.files.values()),
            "accepted": sum(count["accepted"] for count in self.files.values()),
            "quarantined": dict(sorted(self.quarantine.reasons.items())),
            "train": self.splits["train"],
            "selection": self.splits["selection"],
            "pilot": self.splits["pilot"],
            "problems": self.index.problems,
            "verdicts": dict(sorted(self.verdicts.items())),
            **{name: dict(sorted(self.sums[name].items(), key=lambda item: (len(item[0]), item[0]))) for name in _SUMS},
            "spelled": dict(sorted((self.before + Counter(self.spelled.values())).items())),
            "ngram_examples": [text for _, texts in sorted(self.ngrams.items()) for text in texts[:_HITS]],
        }

    def sources(self) -> dict[str, Any]:
        """What became of every file, for sources.json."""
        return {
            "files": [
                {
                    "file": file,
                    "digest": digest,
                    "read": count["read"],
                    "items": count["items"],
                    "accepted": count["accepted"],
                    "quarantined": {k: n for k, n in sorted(count.items()) if n and k not in _ROWS},
                    "read_as": {
                        text: {"items": told[0], "unused": sorted(told[1])}
                        for text, told in sorted(self.readings.get((file, digest), {}).items())
                    },
                }
                for (file, digest), count in self.files.items()
            ]
        }

    def _file(self, file: str, digest: str) -> Counter[str]:
        return self.files.setdefault((file, digest), Counter())

    def _accept(self, item: Examined) -> Trace:
        if item.refused == "row":
            raise RowError(item.code, item.message)
        limit = self.ingest.limit
        if limit != "all" and self.index.problems >= limit and not self.index.knows(item.prompt_id):
            raise RowError("over_limit", f"{limit} problems were accepted before it (ingest.limit)")
        if item.refused == "verdict":
            raise RowError(item.code, item.message)
        assert item.trace is not None
        if item.trace.own and self._side(item.prompt_id) != "train":
            raise RowError("own_held_back", "the student's own answer to a problem that is held back")
        earlier = self.index.find(item.key, item.signature)
        if earlier and earlier.similarity is None:
            raise RowError("duplicate", f"trace {earlier.trace_id} has this prompt and completion", earlier.trace_id)
        if earlier:
            text = f"{earlier.similarity:.2f} of its word triples are those of trace {earlier.trace_id}"
            raise RowError("near_duplicate", text, earlier.trace_id)
        if item.refused:
            raise RowError(item.code, item.message)
        gold = item.trace.gold
        known = self.index.gold(item.prompt_id) if gold is not None else None
        if gold is not None and known not in (None, gold) and grading.equivalent(str(known), gold) is False:
            raise RowError(
                "other_gold", f"the reference is {gold!r:.60}; of this prompt {known!r:.60} was accepted before it"
            )
        self.index.add(item.trace.trace_id, item.prompt_id, item.key, item.signature, gold)
        return item.trace

    def _count(self, item: Examined, row: RawRow) -> None:
        assert item.trace is not None
        self.verdicts[item.trace.verdict] += 1
        self.sums["changes"].update(item.changes)
        if item.trace.own:
            self.sums["own"].update(("traces", item.trace.verdict))
        for name, size in zip(("prompt", "completion"), item.tokens, strict=True):
            self.sums["tokens"][name] += size
            self.sums[f"{name}_lengths"][str(_SHORTEST * 2 ** max(0, ((size - 1) // _SHORTEST).bit_length()))] += 1
        if item.ngram:
            benchmark, problem = item.ngram
            self.sums["ngram_hits"][benchmark] += 1
            examples = self.ngrams.setdefault(benchmark, [])
            if len(examples) < _HITS:
                examples.append(f"{row.file}:{row.line}: {problem:.80}")

    def _told(self, row: RawRow, item: Examined, again: bool) -> None:
        """Counts how a row was read, and what it says of itself; once, however often it is read again."""
        readings = self.readings.setdefault((row.file, row.digest), {})
        if not again:
            self.sums["flags"].update(item.flags)
        if item.reading.text and not (again and item.reading.text in readings):
            told = readings.setdefault(item.reading.text, [0, set()])
            told[0] += 1
            told[1].update(item.reading.unused)

    def _side(self, prompt_id: str) -> Split:
        return self.sides.get(prompt_id) or side(prompt_id, self.ingest)

    def _flush(self, traces: list[Trace]) -> Iterator[Trace]:
        for trace in traces:
            self.splits[trace.split] += 1
            yield trace
        traces.clear()


def _counted(traces: Iterable[Trace], counting: holdings.Count) -> Iterator[Trace]:
    for trace in traces:
        counting.take(trace)
        yield trace


def side(prompt_id: str, ingest: IngestConfig) -> Split:
    """Whether a problem is for training or held back: by its hash, so that it stays where it is when a set grows."""
    place = int(prompt_id, 16) / 16 ** len(prompt_id)
    if place < ingest.selection_share:
        return "selection"
    return "pilot" if place >= 1.0 - ingest.pilot_share else "train"


@contextmanager
def building(ingest: IngestConfig, out: Path) -> Iterator[TraceSetBuilder]:
    """A trace set that is made in ``out``; its quarantine is whole when the block ends.

    Raises:
        UserError: ``out`` cannot be written.
    """
    scratch = out / "index.sqlite"
    try:
        with closing(Index(scratch, ingest.near_duplicates)) as index, Quarantine(out, ingest.shard_bytes) as refused:
            yield TraceSetBuilder(ingest, index, refused)
    except (OSError, sqlite3.OperationalError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{out}: cannot be written ({reason}); choose another --out") from None
    scratch.unlink()


def seen(folder: Path) -> set[str]:
    """The digests of the files that a trace set was made of.

    Raises:
        UserError: the folder is no trace set.
    """
    return {item["digest"] for item in storage.read_json(folder / SOURCES, made_by=MADE_BY)["files"]}
