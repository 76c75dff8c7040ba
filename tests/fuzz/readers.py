"""Any bytes as a file of traces: each row is accepted or has a reason, and nothing else happens.

The first byte of an input says what the file is called, the rest is its content.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

if TYPE_CHECKING:
    from dcod.traces import Trace
    from dcod.traces.formats import RowError

NAMES = ("a.jsonl", "a.json", "a.jsonl.gz", "a.json.zst", "a.parquet", "a.txt")
ROW_BYTES = 2000


def check(data: bytes, folder: Path) -> None:
    """Reads a file with this content, and makes traces of its rows by every format."""
    from dcod.traces import formats, reading, write_traces
    from dcod.traces.formats import RowError

    path = folder / NAMES[data[0] % len(NAMES)]
    path.write_bytes(data[1:])
    made, lines, codes = [], [], set[str]()
    for block in reading.blocks(path, "f", "d", ROW_BYTES):
        for index, row in enumerate(block.rows()):
            assert (block.at(index).line, block.at(index).file) == (row.line, "f")
            lines.append(row.line)
            if row.row is None:
                codes.add(row.error)
                assert row.message
                continue
            for name in formats.names():
                for found in _read(name, row.row):
                    if isinstance(found, RowError):
                        codes.add(found.code)
                    else:
                        made.append(found)
    path.unlink()
    assert all(code.isidentifier() for code in codes)
    assert lines == sorted(set(lines)), "a place twice, or out of order"
    assert not made or write_traces(folder / "traces.parquet", made) == len(made)


def _read(name: str, row: dict[str, Any]) -> Iterator[Trace | RowError]:
    """What a format makes of a row: one trace or several, each of them cleaned or refused for itself."""
    from dcod.config import IngestConfig
    from dcod.ingest.examine import clean
    from dcod.traces import formats
    from dcod.traces.formats import RowError

    try:
        made: Any = formats.get(name).to_trace(row)
    except RowError as error:
        made = error
    for one in made if isinstance(made, list) else [made]:
        try:
            yield one if isinstance(one, RowError) else clean(one, IngestConfig())
        except RowError as error:
            yield error


def seeds(folder: Path) -> None:
    """Rows of every format, in every kind of file."""
    from tests.traces.formats.test_fuzz import SEEDS

    folder.mkdir(parents=True, exist_ok=True)
    rows = [row for _, row in SEEDS]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    table = io.BytesIO()
    pq.write_table(pa.table({"question": ["1 + 1?"], "answer": ["#### 2"]}), table)
    contents = [lines, json.dumps(rows).encode(), gzip.compress(lines), zstandard.compress(lines), table.getvalue()]
    contents.append(json.dumps(rows[0], indent=1).encode())
    for number, content in enumerate(contents):
        (folder / f"seed-{number}").write_bytes(bytes([number]) + content)
    for number, row in enumerate(rows):
        (folder / f"row-{number}").write_bytes(b"\0" + json.dumps(row).encode())
