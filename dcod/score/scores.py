"""The scored trace set: ``scores.parquet``, one row a trace in the student's own tokens.

Storage is 4 bytes a token for each of token ids, log-probs and entropies, and 8 K for each recorded top-k,
before compression.

Parquet is read in large pieces, training asks for a few traces all over the file. So :func:`open_scores` unpacks it
once into Arrow files of small pieces, on local disk, and keeps 8 bytes a trace in memory; the files go with the set.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dcod import storage
from dcod.errors import UserError
from dcod.traces.scored import KIND, ScoredTrace

_COLUMNS = [(each.name, each.metadata[KIND]) for each in fields(ScoredTrace)]
SCHEMA = pa.schema([*_COLUMNS[:2], ("split", pa.string()), *_COLUMNS[2:]], metadata={"dcod.scores.version": "2"})
OPTIONAL = tuple(f.name for f in fields(ScoredTrace) if f.default is None)
SPLITS = ("train", "selection")
_KEYS = ("dcod.score.scores.student", "dcod.score.scores.tokenizer")
_PIECE = 32  # traces that are read together: one of them costs the reading of all


@dataclass(frozen=True)
class Scored:
    """Whose scores they are, in the file itself: token ids of one tokenizer say something else in another.

    Attributes:
        student: the digest of its model folder.
        tokenizer: of its tokenizer with the chat template; see :func:`dcod.traces.prompts.tokenizer_digest`.
    """

    student: str
    tokenizer: str

    def schema(self) -> pa.Schema:
        """The schema of a file that says so."""
        return SCHEMA.with_metadata({**(SCHEMA.metadata or {}), **dict(zip(_KEYS, self, strict=True))})

    def __iter__(self) -> Iterator[str]:
        return iter((self.student, self.tokenizer))

    def __str__(self) -> str:
        return f"student {self.student[:12]} with tokenizer and template {self.tokenizer[:12]}"


def scored_by(folder: Path) -> Scored:
    """Whose scores a folder holds.

    Raises:
        UserError: the folder holds no scores, or they do not say.
    """
    path = _existing(folder)
    known = pq.read_schema(path).metadata or {}
    values = [known.get(key.encode(), b"").decode() for key in _KEYS]
    if not all(values):
        raise UserError(f"{path}: does not say which student it was scored with; score the traces again")
    return Scored(*values)


def check_scored(folder: Path, student: Path, wanted: Scored) -> None:
    """Refuses scores of another student than the one that is trained.

    Raises:
        UserError: as said, or as :func:`scored_by`.
    """
    scored = scored_by(folder)
    if scored != wanted:
        raise UserError(
            f"{folder}: scored with {scored}, but {student} is {wanted}; train the student that scored them, or score "
            "the traces again with this one"
        )


def table(examples: Sequence[ScoredTrace], splits: Sequence[str]) -> pa.Table:
    """Scored traces as rows of the schema."""
    rows: list[dict[str, Any]] = [
        {name: getattr(example, name) for name in SCHEMA.names if name != "split"} | {"split": split}
        for example, split in zip(examples, splits, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def write_scores(path: Path, examples: Sequence[ScoredTrace], splits: Sequence[str]) -> None:
    """Writes the scored traces."""
    pq.write_table(table(examples, splits), path, compression="zstd")


def read_scores(folder: Path) -> dict[str, list[ScoredTrace]]:
    """The scored traces by split, all of them in memory.

    Raises:
        UserError: the folder holds no scores.
    """
    table = pq.read_table(_existing(folder))
    return {name: traces_of(table.filter(pc.equal(table["split"], name))) for name in SPLITS}


def traces_of(table: pa.Table | pa.RecordBatch) -> list[ScoredTrace]:
    """The scored traces of some rows."""
    return [ScoredTrace(**row) for row in table.drop_columns("split").to_pylist()]


def open_scores(folder: Path) -> dict[str, StoredTraces]:
    """The scored traces by split, each read when it is asked for.

    Raises:
        UserError: the folder holds no scores.
    """
    sets = {name: StoredTraces() for name in SPLITS}
    for batch in pq.ParquetFile(_existing(folder), pre_buffer=False).iter_batches(batch_size=32 * _PIECE):
        for name, traces in sets.items():
            traces.append(batch.filter(pc.equal(batch["split"], name)))
    for traces in sets.values():
        traces.close()
    return sets


class StoredTraces:
    """The scored traces of one split on disk, filled once and then read; a :class:`dcod.train.sets.TraceSet`.

    Pieces are read, not mapped into memory: what the process holds is what it uses, also in the eyes of a cluster.
    """

    prompts: NDArray[np.int32]
    sizes: NDArray[np.int32]

    def __init__(self) -> None:
        self._folder = ExitStack()
        weakref.finalize(self, self._folder.close)
        self._path = str(self._folder.enter_context(storage.scratch()) / "traces.arrow")
        self._writer = pa.ipc.new_file(self._path, SCHEMA)
        self._names, self._sizes, self._lengths = list[pa.Array](), list[NDArray[np.int32]](), list[int]()
        self._known: Counter[int] = Counter()  # traces by which optional fields they have, one bit each
        self._bits = {name: 1 << bit for bit, name in enumerate(OPTIONAL)}

    def append(self, batch: pa.RecordBatch) -> None:
        """Adds some traces; a column that an earlier version did not write is empty."""
        missing = [name for name in OPTIONAL if name not in batch.schema.names]
        for name in missing:
            batch = batch.append_column(SCHEMA.field(name), pa.nulls(len(batch), SCHEMA.field(name).type))
        batch = batch.select(SCHEMA.names)
        sizes = pc.add(*(pc.list_value_length(batch[name]) for name in ("prompt_tokens", "completion_tokens")))
        self._names.append(batch["prompt_id"])
        self._sizes.append(sizes.to_numpy(zero_copy_only=False))
        known = sum(batch[name].is_valid().to_numpy(zero_copy_only=False) * bit for name, bit in self._bits.items())
        self._known.update(np.asarray(known).tolist())
        for begin in range(0, len(batch), _PIECE):
            piece = batch.slice(begin, _PIECE)
            self._writer.write_batch(piece)
            self._lengths.append(len(piece))

    def close(self) -> None:
        """Ends the writing; from here on it is read."""
        self._writer.close()
        self._reader = pa.ipc.open_file(pa.OSFile(self._path))
        self._begins = np.cumsum([0, *self._lengths])
        self.sizes = np.concatenate([*self._sizes, np.empty(0, np.int32)])
        names = pa.chunked_array(self._names, pa.string()).combine_chunks()
        self.prompts = names.dictionary_encode().indices.to_numpy()
        del self._names, self._sizes, self._lengths

    def __len__(self) -> int:
        return len(self.sizes)

    def take(self, rows: Iterable[int]) -> list[ScoredTrace]:
        rows = list(rows)
        numbers = (np.searchsorted(self._begins, rows, side="right") - 1).tolist()
        pieces = {number: self._reader.get_batch(number) for number in set(numbers)}
        offsets = (np.asarray(rows) - self._begins[numbers]).tolist()
        rows_of = zip(numbers, offsets, strict=True)
        return [trace for number, offset in rows_of for trace in traces_of(pieces[number].slice(offset, 1))]

    def missing(self, fields: Sequence[str]) -> int:
        if any(name not in self._bits for name in fields):
            return 0
        wanted = sum(self._bits[name] for name in fields)
        return sum(count for known, count in self._known.items() if not known & wanted)


def _existing(folder: Path) -> Path:
    path = folder / "scores.parquet"
    if not path.is_file():
        raise UserError(f"{folder}: no scores.parquet in it; make it with `dcod score`")
    return path
