"""The first rows of every source, examined as ingestion will: what they are, and what they allow."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dcod.config import Config, IngestConfig
from dcod.config.mapping import split
from dcod.ingest import feed
from dcod.ingest.assemble import side
from dcod.ingest.examine import Examined, Examiner
from dcod.objective.feasibility import Holdings
from dcod.traces import Trace, holdings, sources
from dcod.traces.items import UNREAD, offered
from dcod.traces.rows import RawRow

_FORM = re.compile(r"boxed|####|final answer", re.IGNORECASE)  # a prompt that says how to answer
ROWS = 300  # of each source at most
REMOTE = ("s3://", "hub://")


@dataclass
class Sample:
    """What the first rows gave.

    Attributes:
        digest: of the student's tokenizer.
        ingest: says which problems are held back.
        traces: those that are accepted.
        rows: that were looked at.
        total: about how many there are in all; equal to ``rows`` where all were looked at.
        refused: by reason, with how often and one example.
        changes: what cleaning changed, and by which ``ingest.answers`` a row without an answer would come in.
        formats: by name, how many rows.
        tokens: prompt and completion of every accepted trace, and of those that are only too long.
        keys: of the accepted traces, by which repeated ones are known.
        offers: of rows that no format reads and a mapping by name would, by source and that mapping: how many.
        looked: how many rows of each source were looked at.
    """

    digest: str
    ingest: IngestConfig
    traces: list[Trace] = field(default_factory=list)
    rows: int = 0
    total: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    changes: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    tokens: list[tuple[int, int]] = field(default_factory=list)
    keys: set[bytes] = field(default_factory=set)
    offers: Counter[tuple[str, str]] = field(default_factory=Counter)
    looked: Counter[str] = field(default_factory=Counter)

    @property
    def whole(self) -> bool:
        """Whether all rows were looked at."""
        return self.rows == self.total

    @property
    def prompt_tokens(self) -> float:
        """Of a prompt, in the mean."""
        return sum(prompt for prompt, _ in self.tokens) / max(len(self.tokens), 1)

    @property
    def bare(self) -> bool:
        """Whether no prompt says how to answer."""
        return bool(self.traces) and not any(_FORM.search(trace.problem) for trace in self.traces)

    def holdings(self) -> Holdings:
        """What the accepted traces hold."""
        return holdings.of(self.traces, self.digest, sampled=not self.whole)

    def add(self, source: str, row: RawRow, items: Sequence[Examined]) -> None:
        """Takes one row of a source in, with the traces that were found in it."""
        self.rows += 1
        self.looked[source] += 1
        if row.row is not None:
            self.formats[items[0].reading.text.partition(":")[0] or "unknown"] += 1
            if not row.map and items[0].code in UNREAD and (offer := offered(row.row)):
                self.offers[source, offer.preset.name] += 1
        for one in items:
            self._add(row, one)

    def _add(self, row: RawRow, one: Examined) -> None:
        if sum(one.tokens):
            self.tokens.append(one.tokens)
        self.changes.update(one.changes)
        code, message = one.code, one.message
        if one.key in self.keys and one.trace:
            code, message = "duplicate", "prompt and completion stand in an earlier row"
        if code or one.trace is None:
            self.refused[code] += 1
            self.examples.setdefault(code, f"{row.file}:{row.line}: {message}")
            return
        self.keys.add(one.key)
        self.traces.append(replace(one.trace, split=side(one.prompt_id, self.ingest)))


def check_there(config: Config) -> None:
    """Looks for the sources that need no network.

    Raises:
        UserError: one is missing, or holds nothing that could be traces.
    """
    for uri, _ in map(split, config.ingest.sources):
        if not uri.startswith(REMOTE):
            sources.expand(uri)


def take(config: Config, student: Path) -> Sample:
    """Examines the first rows of every source; contamination is not looked for.

    Raises:
        UserError: no source is given, one is missing, empty, or no file of rows, or the student's parts do not fit.
    """
    files = feed.files(config)
    alone = config.model_copy(update={"ingest": config.ingest.model_copy(update={"decontaminate": False})})
    examiner = Examiner(alone, student)
    sample = Sample(examiner.digest, config.ingest)
    for uri, units in files.items():
        looked = 0
        for block in feed.blocks({uri: units}, config.ingest.row_bytes):
            for row in block.rows():
                if looked < ROWS:
                    sample.add(uri.path, row, examiner.items(row))
                    looked += 1
            if looked >= ROWS:
                break
        count = sum(sources.count_rows(unit) for unit in units)
        sample.total += looked if looked < ROWS else max(looked, count)
    return sample
