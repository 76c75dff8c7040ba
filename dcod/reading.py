"""What a file of traces holds, block by block: nothing is lost, and no file is ever held as a whole.

A :class:`Lines` or :class:`Table` is some rows that nobody has parsed yet: cheap to send to another process, which
parses them with ``rows()``. Packed files are unpacked a little at a time, so that a fault in the middle costs what is
behind it only; the fault itself is a row with the error ``broken_file``.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from dcod.errors import one_line

ROW_BYTES = 2**26  # of the longest row that is read, unless told otherwise
BLOCK_ROWS = 256
_BLOCK_BYTES = 2**20
_CHUNK = 2**18
_FEED = 1024  # packed bytes at a time: zstd may make 32,000 of one, and what is fed is all that a fault can hide
_HEAD = 1000  # bytes that are kept of a row that is too long
_BOM = b"\xef\xbb\xbf"
_MARKS = re.compile(rb'["\\{}\[\],]')
_DEPTH = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}
FAULTS = (OSError, EOFError, zlib.error, zstandard.ZstdError, pa.ArrowException)
LOST = ("broken_file", "row_too_long")  # errors of rows whose text is not whole


@dataclass(frozen=True)
class RawRow:
    """One row as it was found.

    Attributes:
        file, line, digest: where; the line (or row) counts from 1.
        row: the parsed row; None where ``error`` holds a reason code and ``message`` says more.
        raw: the row's bytes; of a Parquet row its values as JSON.
        format: the row's format where the source itself knows it.
    """

    file: str
    line: int
    digest: str
    row: dict[str, Any] | None
    error: str = ""
    message: str = ""
    raw: bytes = b""
    format: str = ""


@dataclass(frozen=True)
class Found:
    """Rows that are parsed already, or could not be read."""

    items: list[RawRow]

    def __len__(self) -> int:
        return len(self.items)

    def rows(self) -> Iterator[RawRow]:
        return iter(self.items)

    def at(self, index: int) -> RawRow:
        return self.items[index]


@dataclass(frozen=True)
class Lines:
    """Rows of JSON: their numbers and bytes."""

    file: str
    digest: str
    items: list[tuple[int, bytes]]

    def __len__(self) -> int:
        return len(self.items)

    def rows(self) -> Iterator[RawRow]:
        return (parse(self.file, line, self.digest, data) for line, data in self.items)

    def at(self, index: int) -> RawRow:
        """A row, not parsed."""
        line, data = self.items[index]
        return RawRow(self.file, line, self.digest, None, raw=data)


@dataclass(frozen=True)
class Table:
    """Rows of a Parquet file; ``first`` is the number of the first one."""

    file: str
    digest: str
    first: int
    batch: pa.RecordBatch

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    def rows(self) -> Iterator[RawRow]:
        return (self.at(index) for index in range(len(self)))

    def at(self, index: int) -> RawRow:
        line = self.first + index
        try:
            row = self.batch.slice(index, 1).to_pylist()[0]
        except UnicodeDecodeError as error:
            return RawRow(self.file, line, self.digest, None, "bad_encoding", one_line(error))
        return RawRow(self.file, line, self.digest, row, raw=json.dumps(row, default=_foreign).encode())


Block = Found | Lines | Table


def blocks(path: Path, file: str, digest: str, row_bytes: int = ROW_BYTES) -> Iterator[Block]:
    """All rows of one local file, in order; none of an empty one.

    Args:
        path: where it lies.
        file: what its rows say about their source.
        digest: of its content.
        row_bytes: a longer row is not read, but told as ``row_too_long``.
    """
    if path.suffix == ".parquet":
        yield from _parquet(path, file, digest)
        return
    items: list[tuple[int, bytes]] = []
    size = 0
    for line, data in _json(path, row_bytes):
        if isinstance(data, RawRow):
            if items:
                yield Lines(file, digest, items)
            yield Found([RawRow(file, line, digest, None, data.error, data.message, data.raw)])
            items, size = [], 0
            continue
        items.append((line, data))
        size += len(data)
        if len(items) == BLOCK_ROWS or size >= _BLOCK_BYTES:
            yield Lines(file, digest, items)
            items, size = [], 0
    if items:
        yield Lines(file, digest, items)


def parse(file: str, line: int, digest: str, data: bytes) -> RawRow:
    """One row of JSON."""
    value, error, message = loads(data)
    if not error and not isinstance(value, dict):
        value, error, message = None, "bad_row", f"expected an object, got {type(value).__name__}"
    return RawRow(file, line, digest, value, error, message, data)


def loads(data: bytes) -> tuple[Any, str, str]:
    """A JSON value, or a reason code and what is wrong."""
    if b"\x00" in data:
        return None, "bad_encoding", "NUL bytes; expected UTF-8 text"
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_object), "", ""
    except UnicodeDecodeError as error:
        return None, "bad_encoding", f"not UTF-8: byte {data[error.start]:#04x} at {error.start}"
    except _DuplicateKeyError as error:
        return None, "duplicate_key", f"the key {error} stands twice in one object"
    except RecursionError:
        return None, "bad_json", "nested too deeply"
    except ValueError as error:
        return None, "bad_json", one_line(error)


def unpacked(file: IO[bytes]) -> Iterator[bytes]:
    """The bytes of a file or stream, unpacked where it begins like gzip or zstd; several members are one.

    Raises:
        One of FAULTS, after all that could be read before it.
    """
    head = file.read(_FEED)
    if head[:2] == b"\x1f\x8b":
        yield from _inflated(file, head, lambda: zlib.decompressobj(wbits=31))
    elif head[:4] == b"\x28\xb5\x2f\xfd":
        yield from _inflated(file, head, lambda: zstandard.ZstdDecompressor().decompressobj())
    else:
        yield head
        while chunk := file.read(_CHUNK):
            yield chunk


def _inflated(file: IO[bytes], data: bytes, start: Any) -> Iterator[bytes]:
    codec = start()
    while data:
        if codec.eof:
            data = data.lstrip(b"\x00")  # gzip may be padded
            if not data:
                data = file.read(_FEED)
                continue
            codec = start()
        yield codec.decompress(data)
        data = (codec.unused_data if codec.eof else b"") or file.read(_FEED)
    if not codec.eof:
        raise EOFError("it ends before its end mark")


def _json(path: Path, limit: int) -> Iterator[tuple[int, bytes | RawRow]]:
    """The rows of a JSON file: its lines; or, of a .json file, the items of one array, or one object on many lines."""
    chosen = _lines
    if ".json" in path.suffixes[-2:]:
        begin = _begin(path, limit)
        if begin.lstrip()[:1] == b"[":
            chosen = _items
        elif loads(begin.lstrip().partition(b"\n")[0])[1] and not loads(begin)[1]:
            yield 1, begin
            return
    with open(path, "rb") as file:
        yield from chosen(_guarded(unpacked(file)), limit)


def _begin(path: Path, limit: int) -> bytes:
    """A file up to a limit, as far as it can be read; no further than an array's bracket or a first sound line."""
    begin, decided = bytearray(), False
    with open(path, "rb") as file:
        for chunk in _guarded(unpacked(file)):
            if isinstance(chunk, RawRow) or len(begin) > limit:
                break
            begin += chunk
            if decided or not (len(begin) == len(chunk) or b"\n" in chunk):
                continue
            first, ended, _ = bytes(begin).removeprefix(_BOM).lstrip().partition(b"\n")
            if first[:1] == b"[" or (ended and not loads(first)[1]):
                break
            decided = bool(ended)
    return bytes(begin).removeprefix(_BOM)


def _guarded(chunks: Iterator[bytes]) -> Iterator[bytes | RawRow]:
    """Chunks of a file; in place of an exception its last item is a broken row."""
    try:
        yield from chunks
    except FAULTS as error:
        yield _broken(f"cannot be read to its end ({one_line(error)})")


def _broken(message: str, raw: bytes = b"") -> RawRow:
    return RawRow("", 0, "", None, "broken_file", message, raw)


class _Row:
    """A row that is being read: whole up to a limit, beyond it only its beginning and its size."""

    def __init__(self, limit: int) -> None:
        self.limit, self.size, self.data = limit, 0, bytearray()

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size <= self.limit:
            self.data += piece
        else:
            room = _HEAD - len(self.data)
            self.data = (self.data + piece[: max(room, 0)])[:_HEAD]

    def take(self) -> bytes | RawRow:
        """The row; the next one begins."""
        data, size = bytes(self.data), self.size
        self.size, self.data = 0, bytearray()
        if size > self.limit:
            message = f"{size} bytes, ingest.row_bytes is {self.limit}; only its beginning is kept"
            return RawRow("", 0, "", None, "row_too_long", message, data[:_HEAD])
        return data


def _lines(chunks: Iterator[bytes | RawRow], limit: int) -> Iterator[tuple[int, bytes | RawRow]]:
    line, row = 1, _Row(limit)
    for chunk in chunks:
        if isinstance(chunk, RawRow):
            yield line, _broken(chunk.message, bytes(row.data))
            return
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            row.add(piece)
            yield from _told(line, row.take())
            line += 1
        row.add(rest)
    yield from _told(line, row.take())


def _told(line: int, data: bytes | RawRow) -> Iterator[tuple[int, bytes | RawRow]]:
    """A line, unless it is blank."""
    if isinstance(data, RawRow):
        yield line, data
        return
    data = (data.removeprefix(_BOM) if line == 1 else data).rstrip(b"\r\n")
    if data.strip():
        yield line, data


def _items(chunks: Iterator[bytes | RawRow], limit: int) -> Iterator[tuple[int, bytes | RawRow]]:
    """The items of one JSON array, by its brackets alone: a broken item does not hide the others."""
    number, row, depth, begun, over = 1, _Row(limit), 0, False, False
    quoted, escaped, offset = False, -1, 0
    for chunk in chunks:
        if isinstance(chunk, RawRow):
            yield number, _broken(chunk.message, bytes(row.data))
            return
        begin = 0
        for match in () if over else _MARKS.finditer(chunk):
            mark, place = match.group(), offset + match.start()
            if quoted:
                if place != escaped:
                    escaped = place + 1 if mark == b"\\" else escaped
                    quoted = mark != b'"'
                continue
            quoted = mark == b'"'
            depth += _DEPTH.get(mark, 0)
            if not begun:
                begun, begin = True, match.end()
            elif depth == 0 or (depth == 1 and mark == b","):
                row.add(chunk[begin : match.start()])
                begin = match.end()
                data = row.take()
                if isinstance(data, RawRow) or data.strip() or mark == b",":
                    yield number, data if isinstance(data, RawRow) else data.strip()
                    number += 1
                if depth == 0:
                    over = True
                    break
        row.add(chunk[begin:])
        offset += len(chunk)
    rest = row.take()
    if not over:
        yield number, _broken("the array does not end", rest if isinstance(rest, bytes) else rest.raw)
    elif isinstance(rest, RawRow) or rest.strip():
        yield number, rest


def _parquet(path: Path, file: str, digest: str) -> Iterator[Block]:
    line = 1
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=BLOCK_ROWS):
                yield Table(file, digest, line, batch)
                line += batch.num_rows
    except FAULTS as error:
        yield Found([RawRow(file, line, digest, None, "broken_file", f"cannot be read ({one_line(error)})")])


class _DuplicateKeyError(Exception):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; Python would silently keep the last of equal keys."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _DuplicateKeyError(repr(next(key for key in keys if keys.count(key) > 1)))
    return found


def _foreign(value: Any) -> dict[str, str]:
    """What JSON has no word for, such as bytes: never as text, which it would be taken for when it is read again."""
    return {"type": type(value).__name__, "value": str(value)}
