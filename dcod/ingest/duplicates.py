"""Duplicates among the traces of a set, by an index on disk: a million traces need no more memory than a thousand.

Exact ones share prompt and completion, white space of the prompt folded. Near ones share most of their word triples:
MinHash signatures (datasketch) are looked up by bands, and a hit counts when the signatures themselves agree often
enough. The first of several stays.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from datasketch import MinHash, MinHashLSH

from dcod.traces import Trace

HASHES = 128  # of a signature; the similarity it tells is off by at most about 0.09
_WORDS = 3
_CACHE_KIB = 65_536
_HIGHEST = 0.95  # above it the search for bands finds none; what they let through is compared anyway


def key(trace: Trace) -> bytes:
    """What exact duplicates share."""
    return hashlib.sha256(f"{trace.prompt_id}{trace.completion}".encode()).digest()[:16]


def signature(trace: Trace) -> bytes:
    """The MinHash of a trace's word triples."""
    words = f"{trace.problem} {trace.completion}".casefold().split()
    triples = {" ".join(words[i : i + _WORDS]) for i in range(max(1, len(words) - _WORDS + 1))}
    sketch = _empty().copy()
    sketch.update_batch([triple.encode("utf-8", "surrogatepass") for triple in sorted(triples)])
    return bytes(np.asarray(sketch.hashvalues, dtype="<u8").astype("<u4").tobytes())


def similarity(left: bytes, right: bytes) -> float:
    """The estimated Jaccard similarity of two signatures."""
    return float(np.mean(np.frombuffer(left, dtype="<u4") == np.frombuffer(right, dtype="<u4")))


class Duplicate(NamedTuple):
    """The trace that was there before, and how similar it is; nothing where it is the same."""

    trace_id: str
    similarity: float | None = None


class Index:
    """The accepted traces of a set, its problems, and the parts that these are in.

    Attributes:
        problems: how many.
    """

    def __init__(self, path: Path, threshold: float = 0.0) -> None:
        """Begins an empty index.

        Args:
            path: a file that does not exist yet.
            threshold: similarity from which traces are near duplicates; 0: only exact ones are looked for.
        """
        self.threshold = threshold
        self.problems = 0
        self._bands, self._width = _bands(threshold) if threshold else (0, 0)
        self._db = sqlite3.connect(path, isolation_level=None)
        # A scratch file: after a crash it is thrown away, so nothing has to be safe on disk.
        self._db.executescript(
            f"pragma journal_mode = off; pragma synchronous = off; pragma cache_size = -{_CACHE_KIB};"
            "create table exact (key blob primary key, trace text) without rowid;"
            "create table problem (id text primary key, gold text, traces integer) without rowid;"
            "create table spelling (shared blob primary key, part integer, settled integer) without rowid;"
            "create table near (id integer primary key, trace text, signature blob);"
            "create table band (hash integer, id integer, primary key (hash, id)) without rowid;"
            "begin;"
        )

    def close(self) -> None:
        """Ends it; the file is the caller's to remove."""
        self._db.close()

    def find(self, exact: bytes, near: bytes = b"") -> Duplicate | None:
        """The trace that one with this key and signature duplicates."""
        row = self._db.execute("select trace from exact where key = ?", (exact,)).fetchone()
        if row:
            return Duplicate(row[0])
        if not self.threshold or not near:
            return None
        hashes = self._hashes(near)
        marks = ",".join("?" * len(hashes))
        rows = self._db.execute(
            f"select distinct n.id, n.trace, n.signature from band b join near n on n.id = b.id "  # noqa: S608
            f"where b.hash in ({marks}) order by n.id",
            hashes,
        )
        for _, trace, other in rows:
            likeness = similarity(near, other)
            if likeness >= self.threshold:
                return Duplicate(trace, likeness)
        return None

    def add(self, trace_id: str, prompt_id: str, exact: bytes, near: bytes = b"", gold: str | None = None) -> None:
        """Takes an accepted trace in; of a problem, the first reference is kept."""
        self._db.execute("insert or ignore into exact values (?, ?)", (exact, trace_id))
        new = self._db.execute("insert or ignore into problem values (?, ?, 1)", (prompt_id, gold)).rowcount
        self.problems += new
        if not new:
            self._db.execute("update problem set traces = traces + 1 where id = ?", (prompt_id,))
        if gold is not None and not new:
            self._db.execute("update problem set gold = ? where id = ? and gold is null", (gold, prompt_id))
        if self.threshold and near:
            row = self._db.execute("insert into near (trace, signature) values (?, ?)", (trace_id, near)).lastrowid
            self._db.executemany("insert or ignore into band values (?, ?)", [(h, row) for h in self._hashes(near)])

    def sizes(self) -> Iterator[tuple[str, int]]:
        """The problems, and how many traces of each were accepted."""
        yield from self._db.execute("select id, traces from problem")

    def knows(self, prompt_id: str) -> bool:
        """Whether a trace of this problem was accepted."""
        return self._db.execute("select 1 from problem where id = ?", (prompt_id,)).fetchone() is not None

    def gold(self, prompt_id: str) -> str | None:
        """The reference answer of a problem, where an accepted trace has one."""
        row = self._db.execute("select gold from problem where id = ?", (prompt_id,)).fetchone()
        return row[0] if row else None

    def part(self, shared: bytes) -> tuple[int, bool] | None:
        """The part that the spellings of a problem are in, and whether it is settled; None before the first."""
        row = self._db.execute("select part, settled from spelling where shared = ?", (shared,)).fetchone()
        return (row[0], bool(row[1])) if row else None

    def put(self, shared: bytes, part: int, settled: bool) -> None:
        """Notes what :meth:`part` says from now on."""
        self._db.execute("insert or replace into spelling values (?, ?, ?)", (shared, part, settled))

    def prompt_ids(self) -> frozenset[str]:
        """All problems; for the few of a limit."""
        return frozenset(row[0] for row in self._db.execute("select id from problem"))

    def _hashes(self, near: bytes) -> list[int]:
        """One number a band: two signatures that agree in a whole band share it."""
        width = 4 * self._width
        parts = (b"%d:" % band + near[band * width : (band + 1) * width] for band in range(self._bands))
        return [int.from_bytes(hashlib.blake2b(part, digest_size=8).digest(), "little", signed=True) for part in parts]


@cache
def _empty() -> MinHash:
    return MinHash(HASHES)


@cache
def _bands(threshold: float) -> tuple[int, int]:
    """How many bands of how many values find pairs of this similarity with the fewest errors."""
    table = MinHashLSH(threshold=min(threshold, _HIGHEST), num_perm=HASHES)
    return int(table.b), int(table.r)
