"""Tables of any length as a folder of Parquet shards of bounded size, written and read as a stream.

A shard is part-00000000.parquet, part-00000001.parquet, …; what reads folders (pandas, pyarrow, DuckDB, Spark) takes
them for one table. A single file in the folder's place is read as well.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SHARD_BYTES = 2**28  # before compression, unless told otherwise
_BATCH = 256  # rows that are unpacked at once


class Writer:
    """Writes a table, shard by shard; a context manager. The caller makes it atomic (storage.output_folder)."""

    def __init__(self, folder: Path, schema: pa.Schema, shard_bytes: int = SHARD_BYTES, **options: Any) -> None:
        """Begins a table.

        Args:
            folder: of the shards; what was there goes.
            schema: of the table.
            shard_bytes: a shard that holds so much gets no further row group.
            **options: of pyarrow's writer.
        """
        self.folder, self.schema, self.shard_bytes, self._options = folder, schema, shard_bytes, options
        self._shards, self._held = 0, 0

    def __enter__(self) -> Writer:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def write(self, table: pa.Table) -> None:
        """Adds rows, as one row group."""
        if self._held >= self.shard_bytes:
            self._writer.close()
            self._begin()
        self._writer.write_table(table, row_group_size=max(1, len(table)))
        self._held += table.nbytes

    def _begin(self) -> None:
        path = self.folder / f"part-{self._shards:08d}.parquet"
        self._writer = pq.ParquetWriter(path, self.schema, compression="zstd", **self._options)
        self._shards, self._held = self._shards + 1, 0


def shards(path: Path) -> list[Path]:
    """The files of a table, in their order; none where there is no table."""
    return [path] if path.is_file() else sorted(path.glob("part-*.parquet"))


def count(path: Path) -> int:
    """The rows of a table."""
    return sum(pq.read_metadata(shard).num_rows for shard in shards(path))


def read(path: Path, rows: range | None = None, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a table, or a run of them, in batches; only the row groups of the run are read."""
    begin, end = (rows.start, rows.stop) if rows is not None else (0, count(path))
    at = 0
    for shard in shards(path):
        # Without pre_buffer: with it all that is read lies in memory at once.
        with pq.ParquetFile(shard, pre_buffer=False) as file:
            first, groups = at, list[int]()
            for group in range(file.num_row_groups):
                size = file.metadata.row_group(group).num_rows
                if at < end and at + size > begin:
                    first = first if groups else at
                    groups.append(group)
                at += size
            place = first
            for batch in file.iter_batches(batch_size=_BATCH, row_groups=groups, columns=columns) if groups else ():
                low, high = max(begin - place, 0), min(end - place, len(batch))
                place += len(batch)
                if low < high:
                    yield batch.slice(low, high - low)
        if at >= end:
            return
