"""Limits of what somebody else wrote, and Parquet read in bounded memory: a small file may unpack to a large table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

EXPANSION = 200  # times: what a packed file may unpack to, beside FREE; real traces pack to a tenth
FREE = 2**28  # bytes that may come out of any Parquet file
ARCHIVE = 2**26  # and out of any that is packed whole: each byte may be one that a reader of JSON looks at alone
LONGEST = 2**20  # characters of a text that anything looks at every part of
COLUMNS = 10_000  # those inside of others counted
_BATCH_BYTES = 2**26  # that are decoded at once, where a value does not have more
_ROWS = 10_000_000  # that a file may have, however small it is
_VALUE = 8  # bytes that any value counts for
_STRUCT = 64
_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
_HEADER = b"\x15\x04\x15"  # of a dictionary page: its type, and what begins its size (Thrift's compact protocol)


def batches(path: Path, most: int) -> Iterator[tuple[pa.RecordBatch, list[int]]]:
    """The rows of a file, at most so many at once, and how many bytes each takes.

    Raises:
        pyarrow.ArrowInvalid: the file has too many columns, or unpacks to far more than its size.
    """
    with pq.ParquetFile(path, buffer_size=2**20) as table:
        meta = table.metadata
        if meta.num_columns > COLUMNS:
            raise pa.ArrowInvalid(f"{meta.num_columns} columns, at most {COLUMNS} are read")
        if meta.num_rows > _ROWS + EXPANSION * path.stat().st_size:
            raise pa.ArrowInvalid(f"{meta.num_rows} rows in a file of {path.stat().st_size} bytes")
        size, limit = 0, FREE + EXPANSION * path.stat().st_size
        for group in range(meta.num_row_groups):
            rows = _at_once(path, meta.row_group(group), most)
            for batch in table.iter_batches(batch_size=rows, row_groups=[group]):
                if not len(batch):
                    continue
                each: list[int] = sum(map(sizes, batch.columns), np.zeros(len(batch), np.int64)).tolist()
                size += sum(each)
                if size > limit:  # one page of values that stand in many rows
                    raise pa.ArrowInvalid(f"it unpacks to more than {EXPANSION} times its size")
                yield batch, each


def sizes(column: pa.Array) -> np.ndarray:
    """About how many bytes each value of a column takes, those inside of it counted."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        indices = column.indices.fill_null(0).to_numpy(zero_copy_only=False)
        return sizes(column.dictionary)[indices] if len(column.dictionary) else np.zeros(len(column), np.int64)
    if pa.types.is_struct(kind):
        return np.sum([sizes(inner) for inner in column.flatten()], axis=0, dtype=np.int64) + np.full(
            len(column), _STRUCT
        )
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind):
        inner = sizes(column.keys) + sizes(column.items) if pa.types.is_map(kind) else sizes(column.values)
        ends = np.concatenate([[0], np.cumsum(inner)])[column.offsets.to_numpy()]
        return np.diff(ends) + _VALUE
    if any(known(kind) for known in _TEXTS):
        return pc.binary_length(column).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64) + _VALUE
    return np.full(len(column), max(_VALUE, column.nbytes // max(1, len(column))), np.int64)


def _at_once(path: Path, group: pq.RowGroupMetaData, most: int) -> int:
    """How many rows of a group are decoded at once: as few as bound what its longest values may take together."""
    longest, total = 1, 0
    for index in range(group.num_columns):
        column = group.column(index)
        size = column.total_uncompressed_size
        total += size
        if size > FREE and size > EXPANSION * column.total_compressed_size:
            raise pa.ArrowInvalid(
                f"column {column.path_in_schema} unpacks to more than {EXPANSION} times its size ({size} bytes)"
            )
        if column.has_dictionary_page:  # each value may be as long as all of the page
            longest += _dictionary_bytes(path, column.dictionary_page_offset)
        if "DELTA_BYTE_ARRAY" in column.encodings:  # values share their beginnings
            longest += size
    longest = max(longest, total // max(1, group.num_rows))
    return max(1, min(most, _BATCH_BYTES // longest))


def _dictionary_bytes(path: Path, offset: int) -> int:
    """The unpacked size of a dictionary page, out of its header: the footer does not tell it."""
    with open(path, "rb") as file:
        file.seek(offset)
        head = file.read(len(_HEADER) + 5)
    if not head.startswith(_HEADER):
        return FREE
    value = 0
    for place, byte in enumerate(head[len(_HEADER) :]):
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value >> 1  # zigzag
    return FREE
