"""What became of examined rows, as a file: the shards of an ingestion write it, and it is read when they are joined.

A row's own text is not in it: who joins reads the sources again, which costs little beside the examining. A shard has
every n-th block of all sources, whatever their files are; so one big file is spread over all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, cycle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dcod import traces
from dcod.errors import UserError
from dcod.ingest.examine import Examined
from dcod.traces import Trace
from dcod.traces.items import Reading
from dcod.traces.reading import BLOCK_ROWS
from dcod.traces.rows import Block

FILE = "examined.parquet"
SCHEMA = pa.schema(
    [
        ("block", pa.string()),  # of a block's first row: where it stands
        *traces.SCHEMA,  # of a row that gave no trace its prompt_id alone
        ("refused", pa.string()),
        ("code", pa.string()),
        ("message", pa.string()),
        ("key", pa.binary()),
        ("signature", pa.binary()),
        ("changes", pa.list_(pa.string())),
        ("ngram", pa.list_(pa.string())),
        ("tokens", pa.list_(pa.int64())),
        ("item", pa.int32()),
        ("first", pa.bool_()),
        ("reading", pa.dictionary(pa.int32(), pa.string())),
        ("unused", pa.dictionary(pa.int32(), pa.string())),
        ("flags", pa.list_(pa.string())),
    ]
)
_OTHERS = (
    "prompt_id",
    "refused",
    "code",
    "message",
    "key",
    "signature",
    "changes",
    "ngram",
    "tokens",
    "item",
    "first",
    "flags",
)
_BETWEEN = "\x1f"  # the names of columns that a reading leaves out


def write(path: Path, examined: Iterable[tuple[Block, list[Examined]]]) -> int:
    """Writes what became of the rows of some blocks; returns the number of rows."""
    count = 0
    rows: list[dict[str, Any]] = []
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for block, outcomes in examined:
            rows += map(_row, outcomes)
            rows[-len(outcomes)]["block"] = _begin(block)
            if len(rows) >= BLOCK_ROWS:
                count += _flush(writer, rows)
        count += _flush(writer, rows)
    return count


def joined(blocks: Iterable[Block], paths: Sequence[Path]) -> Iterator[tuple[Block, list[Examined]]]:
    """All blocks in their order, each with what its shard found out.

    Args:
        blocks: of all sources, as the shards read them.
        paths: the files of all shards, in the order of their numbers.

    Raises:
        UserError: the shards read other sources.
    """
    readers = [_blocks(_rows(path)) for path in paths]
    for block, reader in zip(blocks, cycle(readers), strict=False):
        rows = next(reader, [])
        if not rows or rows[0]["block"] != _begin(block) or sum(row["first"] for row in rows) != len(block):
            raise changed(block.at(0).file)
        yield block, [_examined(row) for row in rows]
    for rows in chain.from_iterable(readers):
        raise changed(rows[0]["block"])


def changed(file: str) -> UserError:
    """The shards of an ingestion did not read the same."""
    return UserError(
        f"source {file}: changed, or came, while the shards of this ingestion read the sources; run it again"
    )


def _begin(block: Block) -> str:
    first = block.at(0)
    return f"{first.file}:{first.line} ({first.digest})"


def _row(item: Examined) -> dict[str, Any]:
    row = {name: getattr(item, name) for name in _OTHERS}
    row["message"] = item.message.encode("utf-8", "backslashreplace").decode("utf-8")  # as the quarantine has it
    row["reading"], row["unused"] = item.reading.text, _BETWEEN.join(item.reading.unused)
    return {name: getattr(item.trace, name) for name in traces.SCHEMA.names} | row if item.trace else row


def _examined(row: dict[str, Any]) -> Examined:
    item = Examined(**{name: row[name] for name in _OTHERS})
    item.changes, item.tokens = tuple(row["changes"]), (row["tokens"][0], row["tokens"][1])
    item.flags = tuple(row["flags"])
    item.reading = Reading(row["reading"], tuple(filter(None, row["unused"].split(_BETWEEN))))
    item.ngram = (row["ngram"][0], row["ngram"][1]) if row["ngram"] else None
    if row["trace_id"] is not None:
        item.trace = Trace(**{name: row[name] for name in traces.SCHEMA.names})
    return item


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=BLOCK_ROWS):
            yield from batch.to_pylist()


def _blocks(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The rows of a file by their blocks, each of which begins with a row that names it."""
    block: list[dict[str, Any]] = []
    for row in rows:
        if row["block"] is not None and block:
            yield block
            block = []
        block.append(row)
    if block:
        yield block


def _flush(writer: pq.ParquetWriter, rows: list[dict[str, Any]]) -> int:
    written = len(rows)
    if written:
        writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
        rows.clear()
    return written
