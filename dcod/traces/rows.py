"""Rows as they were found, and blocks of them.

A :class:`JsonRows` or :class:`ParquetRows` is some rows that nobody has parsed yet: cheap to send to another process,
which parses them with ``rows()``.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from dcod.errors import one_line

HEAD = 1000  # bytes that are kept of a row that is too long
VALUES = 4_000_000  # of a row of JSON, counted by its commas and brackets: each takes up to 120 bytes of memory
DEPTH = 200  # brackets in one another
LOST = ("broken_file", "row_too_long", "no_match", "joins_twice")  # errors of rows whose text is not whole
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


@dataclass(frozen=True)
class RawRow:
    """One row as it was found.

    Attributes:
        file, line, digest: where; the line (or row) counts from 1.
        row: the parsed row; None where ``error`` holds a reason code and ``message`` says more.
        raw: the row's bytes; of a Parquet row its values as JSON.
        format: the row's format where the source itself knows it.
        item: the only one of its traces that is asked for; 0: all.
        map: the mapping of its source, as JSON; empty for none.
    """

    file: str
    line: int
    digest: str
    row: dict[str, Any] | None
    error: str = ""
    message: str = ""
    raw: bytes = b""
    format: str = ""
    item: int = 0
    map: str = ""


@dataclass(frozen=True)
class ParsedRows:
    """Rows that are parsed already, or could not be read."""

    items: list[RawRow]

    def __len__(self) -> int:
        return len(self.items)

    def rows(self) -> Iterator[RawRow]:
        return iter(self.items)

    @property
    def size(self) -> int:
        """Bytes, about."""
        return sum(len(row.raw) for row in self.items)

    def at(self, index: int) -> RawRow:
        return self.items[index]


@dataclass(frozen=True)
class JsonRows:
    """Rows of JSON: their numbers and bytes."""

    file: str
    digest: str
    items: list[tuple[int, bytes]]
    map: str = ""

    def __len__(self) -> int:
        return len(self.items)

    def rows(self) -> Iterator[RawRow]:
        return (parse(self.file, line, self.digest, data, self.map) for line, data in self.items)

    @property
    def size(self) -> int:
        """Bytes, about."""
        return sum(len(data) for _, data in self.items)

    def at(self, index: int) -> RawRow:
        """A row, not parsed."""
        line, data = self.items[index]
        return RawRow(self.file, line, self.digest, None, raw=data, map=self.map)


@dataclass(frozen=True)
class ParquetRows:
    """Rows of a Parquet file; ``first`` is the number of the first one."""

    file: str
    digest: str
    first: int
    batch: pa.RecordBatch
    map: str = ""

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    def rows(self) -> Iterator[RawRow]:
        return (self.at(index) for index in range(len(self)))

    @property
    def size(self) -> int:
        """Bytes, about."""
        return int(self.batch.nbytes)

    def at(self, index: int) -> RawRow:
        line = self.first + index
        try:
            row = self.batch.slice(index, 1).to_pylist()[0]
        except UnicodeDecodeError as error:
            return RawRow(self.file, line, self.digest, None, "bad_encoding", one_line(error))
        except (OverflowError, ValueError, pa.ArrowException) as error:  # such as a time that no calendar has
            return RawRow(self.file, line, self.digest, None, "bad_row", f"a value out of range ({one_line(error)})")
        row = {key: f"{value:f}" if isinstance(value, Decimal) else value for key, value in row.items()}
        raw = json.dumps(row, default=_foreign).encode()
        return RawRow(self.file, line, self.digest, row, raw=raw, map=self.map)


Block = ParsedRows | JsonRows | ParquetRows


def mapped(block: Block, text: str) -> Block:
    """A block whose rows have this mapping."""
    if isinstance(block, ParsedRows):
        return ParsedRows([replace(row, map=text) for row in block.items])
    return replace(block, map=text)


def parse(file: str, line: int, digest: str, data: bytes, mapping: str = "") -> RawRow:
    """One row of JSON."""
    value, error, message = loads(data)
    if not error and not isinstance(value, dict):
        value, error, message = None, "bad_row", f"expected an object, got {type(value).__name__}"
    return RawRow(file, line, digest, value, error, message[:HEAD], data, map=mapping)


def loads(data: bytes) -> tuple[Any, str, str]:
    """A JSON value, or a reason code and what is wrong."""
    if b"\x00" in data:
        return None, "bad_encoding", "NUL bytes; expected UTF-8 text"
    opened = data.count(b"[") + data.count(b"{")
    values = opened + data.count(b",")
    if values > VALUES:
        return None, "row_too_complex", f"{values} commas and brackets, at most {VALUES} are read"
    if opened > DEPTH and (depth := _depth(data)) > DEPTH:
        return None, "row_too_complex", f"nested {depth} deep, at most {DEPTH} are read"
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_object), "", ""
    except UnicodeDecodeError as error:
        return None, "bad_encoding", f"not UTF-8: byte {data[error.start]:#04x} at {error.start}"
    except _DuplicateKeyError as error:
        return None, "duplicate_key", f"the key {error} stands twice in one object"
    except ValueError as error:
        return None, "bad_json", one_line(error)


def _depth(data: bytes) -> int:
    """How deep the brackets of a JSON text stand in one another."""
    brackets = np.frombuffer(_TEXT.sub(b"", data).translate(None, _NO_BRACKETS), np.uint8)
    return int(np.cumsum(np.where(brackets & 2, 1, -1)).max(initial=0))  # the opening ones have this bit


class _DuplicateKeyError(Exception):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; Python would silently keep the last of equal keys."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise _DuplicateKeyError(repr(Counter(key for key, _ in pairs).most_common(1)[0][0]))
    return members


def _foreign(value: Any) -> dict[str, str]:
    """What JSON has no word for, such as bytes: never as text, which it would be taken for when it is read again."""
    return {"type": type(value).__name__, "value": str(value)}
