"""A teacher's attempts: the rows that ``dcod teach`` writes, and the shards from which a stopped run goes on.

A shard is a part of :class:`dcod.storage.parts.Parts`: whole or not there, never changed. An attempt is known by its
question and its number, and exactly one process writes at a time, so nothing is there twice.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dcod import storage, traces
from dcod.errors import UserError
from dcod.storage import leases, room
from dcod.storage.parts import Parts

FILE = "attempts.parquet"
_SHARD = re.compile(r"shard-(\d{8,})(\.parquet)?")
_DEAD_S = 120.0  # a lock on s3:// that has not changed for so long is that of a killed run
VERSION = 1  # moves with every change after which earlier shards are of no use

_OF_TRACES = (
    "prompt", "completion", "answer", "gold", "verdict", "teacher", "temperature", "top_p", "tokenizer_digest",
    "token_ids", "behavior_logprobs", "top_ids", "top_logprobs",
)  # fmt: skip
SCHEMA = pa.schema(
    [
        ("question", pa.string()),
        ("attempt", pa.int32()),  # from 0
        *(traces.SCHEMA.field(name) for name in _OF_TRACES),
        ("finish_reason", pa.string()),  # stop, length, or error: its text cannot be stored as it is
        ("good", pa.string()),  # of an answer that counts for `teach.enough`: its digest
        ("read", pa.int64()),
        ("wrote", pa.int64()),
    ]
)
_KEYS = ["question", "attempt", "verdict", "finish_reason", "good", "read", "wrote"]


@dataclass
class Tally:
    """How a question stands.

    Attributes:
        tries: attempts that count, from 0 on without a gap.
        good: the different correct answers, those that were there before any attempt among them.
    """

    tries: int = 0
    good: set[str] = field(default_factory=set)


@dataclass
class Attempts:
    """The attempts of one teacher under one way of sampling.

    Attributes:
        parts: the shards.
        scratch: a folder of this process alone, for those of a bucket.
        limit: attempts a question.
        enough: different correct answers after which a question is done; 0 for never.
        counts: of the attempts that count: by outcome, and their tokens.
    """

    parts: Parts
    scratch: Path
    limit: int
    enough: int
    counts: Counter[str] = field(default_factory=Counter)
    tallies: dict[str, Tally] = field(default_factory=dict)
    _files: list[Path] = field(default_factory=list)  # the shards, in the order in which they were made
    _next: int = 0  # the number of the next one

    def load(self, questions: Sequence[str], known: Mapping[str, Set[str]]) -> None:
        """Takes in what earlier runs wrote to these questions, as far as this one would have asked for it."""
        for name in (*self.parts.loose(), *self.parts.names()):  # earlier versions kept a shard as one file
            if _SHARD.fullmatch(name):
                self._take(name)
        self.tallies = {name: Tally(good=set(known.get(name, ()))) for name in questions}
        rows: defaultdict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
        for shard in self._files:
            for row in pq.read_table(shard, columns=_KEYS).to_pylist():
                if row["question"] in self.tallies:
                    rows[row["question"]][row["attempt"]] = row
        for name, by_number in rows.items():
            while not self.done(name) and self.tallies[name].tries in by_number:
                self._count(by_number[self.tallies[name].tries])

    def done(self, question: str) -> bool:
        """Whether nothing more is asked."""
        tally = self.tallies[question]
        return tally.tries >= self.limit or 0 < self.enough <= len(tally.good)

    def due(self) -> list[str]:
        """The questions of the next round, in their order: those with the fewest attempts of all that are not done."""
        waiting = [name for name in self.tallies if not self.done(name)]
        least = min((self.tallies[name].tries for name in waiting), default=0)
        return [name for name in waiting if self.tallies[name].tries == least]

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Keeps attempts, all or none of them."""
        name = f"shard-{self._next:08d}"
        with (
            self.parts.put(name) as folder,
            room.writing(self.parts.uri, "set another teach.work"),
            (folder / FILE).open("wb") as file,
        ):
            pq.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA), file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())  # attempts may have been paid for
        self._take(name)
        for row in rows:
            self._count(row)

    def write(self, path: Path) -> None:
        """All attempts that count, in the order in which they were made, each with the number of its question's."""
        column = pa.field("attempts", pa.int32())
        with pq.ParquetWriter(path, SCHEMA.append(column), compression="zstd") as writer:
            for table in self._tables():
                tries = [self.tallies[name].tries for name in table["question"].to_pylist()]
                writer.write_table(table.append_column(column, pa.array(tries, pa.int32())))

    def _tables(self) -> Iterator[pa.Table]:
        for shard in self._files:
            table = pq.read_table(shard, schema=SCHEMA)
            keys = zip(table["question"].to_pylist(), table["attempt"].to_pylist(), strict=True)
            table = table.filter(pa.array([n in self.tallies and a < self.tallies[n].tries for n, a in keys]))
            if table.num_rows:
                yield table

    def _count(self, row: dict[str, Any]) -> None:
        tally = self.tallies[row["question"]]
        assert row["attempt"] == tally.tries, "an attempt is out of its turn"
        tally.tries += 1
        tally.good |= {row["good"]} if row["good"] else set()
        outcome = {"length": "truncated", "error": "error"}.get(row["finish_reason"], row["verdict"])
        self.counts.update({"attempts": 1, outcome: 1, "input_tokens": row["read"], "output_tokens": row["wrote"]})

    def _take(self, name: str) -> None:
        match = _SHARD.fullmatch(name)
        assert match, name
        self._files.append(self.parts.get(name if match[2] else f"{name}/{FILE}", self.scratch))
        self._next = int(match[1]) + 1


@contextmanager
def opened(
    place: str, questions: Sequence[str], limit: int, enough: int, known: Mapping[str, Set[str]]
) -> Iterator[Attempts]:
    """What is kept at a place, which is this process's alone meanwhile.

    Args:
        place: a folder or ``s3://bucket/prefix`` of one teacher and one way of sampling.
        questions: that are asked.
        limit: attempts a question.
        enough: different correct answers after which a question is done; 0 for never.
        known: correct answers that are there already, by question; they count for ``enough``.

    Raises:
        UserError: another process is at work there, or the place cannot be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(leases.sole(f"{place}/lock", _DEAD_S))
        except UserError as error:
            raise UserError(
                f"teach.work {place}: cannot be taken; another `dcod teach` works there, or it cannot be written "
                f"({error})"
            ) from None
        attempts = Attempts(Parts(place, mark=FILE), stack.enter_context(storage.scratch()), limit, enough)
        attempts.load(questions, known)
        yield attempts
