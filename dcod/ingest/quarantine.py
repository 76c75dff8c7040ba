"""The quarantine: refused rows as a data set, each whole, with its reason and place; and read again for a replay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dcod.errors import UserError
from dcod.storage import parquet
from dcod.traces import rows
from dcod.traces.formats import RowError
from dcod.traces.rows import ParsedRows, RawRow

FILE = "quarantine.parquet"
VERSION = 3
_READ = ("2", "3")  # before 3 a row was one trace
_GROUP_BYTES = 2**25  # of rows that wait to be written
SCHEMA = pa.schema(
    [
        ("reason", pa.dictionary(pa.int32(), pa.string())),
        ("message", pa.string()),
        ("source_file", pa.dictionary(pa.int32(), pa.string())),
        ("source_line", pa.int64()),
        ("source_item", pa.int32()),  # of a row that gave several traces
        ("source_digest", pa.dictionary(pa.int32(), pa.string())),
        ("raw", pa.string()),
        ("raw_bytes", pa.binary()),  # only where they are not UTF-8
        ("map", pa.dictionary(pa.int32(), pa.string())),  # the mapping of its source
        ("duplicate_of", pa.string()),  # trace_id of the trace that was there before
    ],
    metadata={"dcod.quarantine.version": str(VERSION)},
)


class Quarantine:
    """Refused rows, written as they come; a context manager.

    Attributes:
        reasons: rows by reason.
        examples: the place and message of each reason's first row.
    """

    def __init__(self, folder: Path, shard_bytes: int = parquet.SHARD_BYTES) -> None:
        self._writer = parquet.Writer(folder / FILE, SCHEMA, shard_bytes)
        self.reasons: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0

    def __enter__(self) -> Quarantine:
        self._writer.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._flush()
        self._writer.__exit__(*raised)

    def add(self, row: RawRow, error: RowError, item: int = 0) -> None:
        """Refuses a row, or one of its traces."""
        self.reasons[error.code] += 1
        self.examples.setdefault(error.code, f"{row.file}:{row.line}: {error.message}")
        text = row.raw.decode("utf-8", "backslashreplace")
        lossless = text.encode() == row.raw
        self._rows.append(
            {
                "reason": error.code,
                "message": error.message.encode("utf-8", "backslashreplace").decode("utf-8"),
                "source_file": row.file,
                "source_line": row.line,
                "source_item": item or None,
                "source_digest": row.digest,
                "raw": text,
                "raw_bytes": None if lossless else row.raw,
                "map": row.map or None,
                "duplicate_of": error.duplicate_of or None,
            }
        )
        self._bytes += len(row.raw)
        if len(self._rows) >= 1024 or self._bytes >= _GROUP_BYTES:
            self._flush()

    def carry(self, folder: Path) -> None:
        """Takes the rows of an earlier quarantine over as they are.

        Raises:
            UserError: as :func:`read`.
        """
        for batch in batches(folder):
            for row in batch.to_pylist():
                self.reasons[row["reason"]] += 1
                self.examples.setdefault(row["reason"], f"{row['source_file']}:{row['source_line']}: {row['message']}")
            self._writer.write(pa.Table.from_pylist(batch.to_pylist(), schema=SCHEMA))

    def _flush(self) -> None:
        if self._rows:
            self._writer.write(pa.Table.from_pylist(self._rows, schema=SCHEMA))
            self._rows.clear()
            self._bytes = 0


def batches(folder: Path) -> Iterator[pa.RecordBatch]:
    """The rows of a trace set's quarantine, as they stand there.

    Raises:
        UserError: there is no quarantine, or one of another version.
    """
    path = folder / FILE
    shards = parquet.shards(path)
    if not shards:
        raise UserError(f"{folder}: no {FILE} in it; give the folder that `dcod ingest` wrote")
    version = (pq.read_schema(shards[0]).metadata or {}).get(b"dcod.quarantine.version", b"?").decode()
    if version not in _READ:
        raise UserError(f"{path}: version {version}, this dcod reads {VERSION}; ingest the sources again")
    yield from parquet.read(path)


def read(folder: Path) -> Iterator[ParsedRows]:
    """The rows of a trace set's quarantine, parsed anew; those that were never whole keep their error.

    Raises:
        UserError: as :func:`batches`.
    """
    for batch in batches(folder):
        yield ParsedRows([_again(row) for row in batch.to_pylist()])


def refused(folder: Path, reasons: Collection[str]) -> Iterator[RawRow]:
    """The rows that were refused for one of some reasons, parsed anew.

    Raises:
        UserError: as :func:`batches`.
    """
    for batch in batches(folder):
        yield from (_again(row) for row in batch.to_pylist() if row["reason"] in reasons)


def size(folder: Path) -> int:
    """Bytes of a trace set's quarantine."""
    return sum(shard.stat().st_size for shard in parquet.shards(folder / FILE))


def _again(row: dict[str, Any]) -> RawRow:
    place = row["source_file"], row["source_line"], row["source_digest"]
    data = row["raw_bytes"] if row["raw_bytes"] is not None else row["raw"].encode()
    if row["reason"] in rows.LOST or not data:
        return RawRow(*place, None, row["reason"], row["message"], data)
    return replace(rows.parse(*place, data, row.get("map") or ""), item=row.get("source_item") or 0)
