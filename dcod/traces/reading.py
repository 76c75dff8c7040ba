"""What a file of traces holds, block by block: nothing is lost, and no file is ever held as a whole.

A :class:`JsonRows` or :class:`ParquetRows` is some rows that nobody has parsed yet: cheap to send to another process,
which parses them with ``rows()``. Packed files are unpacked a little at a time, so that a fault in the middle costs
what is behind it only; the fault itself is a row with the error ``broken_file``.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import zstandard

from dcod.errors import one_line
from dcod.traces import bounded

ROW_BYTES = 2**26  # of the longest row that is read, unless told otherwise
BLOCK_ROWS = 256
_BLOCK_BYTES = 2**20
_CHUNK = 2**18
_FEED = 1024  # packed bytes at a time: zstd may make 32,000 of one, and what is fed is all that a fault can hide
_HEAD = 1000  # bytes that are kept of a row that is too long
_BOM = b"\xef\xbb\xbf"
VALUES = 4_000_000  # of a row of JSON, counted by its commas and brackets: each takes up to 120 bytes of memory
DEPTH = 200  # brackets in one another
_HOPELESS = 100_000  # brackets in one another, after which the rest of an array is not looked at
_MARKS = re.compile(rb'["\\{}\[\],]')
_DEPTH = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_KINDS = (
    (b"\x1f\x8b", "packed with gzip twice; unpack it once"),
    (b"\x28\xb5\x2f\xfd", "packed twice; unpack it once"),
    (b"BZh", "packed with bzip2; unpack it, or pack it with gzip or zstd"),
    (b"\xfd7zXZ\x00", "packed with xz; unpack it, or pack it with gzip or zstd"),
    (b"PK\x03\x04", "a zip archive; unpack it"),
    (b"PAR1", "Parquet; give its name the ending .parquet"),
    (b"\xff\xfe\x00\x00", "UTF-32; write it as UTF-8"),
    (b"\x00\x00\xfe\xff", "UTF-32; write it as UTF-8"),
    (b"\xff\xfe", "UTF-16; write it as UTF-8"),
    (b"\xfe\xff", "UTF-16; write it as UTF-8"),
)
_WIDE = re.compile(rb"(?:\x00{3}[^\x00]){2}|(?:[^\x00]\x00{3}){2}|((?:\x00[^\x00]){4}|(?:[^\x00]\x00){4})")
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

    def __len__(self) -> int:
        return len(self.items)

    def rows(self) -> Iterator[RawRow]:
        return (parse(self.file, line, self.digest, data) for line, data in self.items)

    @property
    def size(self) -> int:
        """Bytes, about."""
        return sum(len(data) for _, data in self.items)

    def at(self, index: int) -> RawRow:
        """A row, not parsed."""
        line, data = self.items[index]
        return RawRow(self.file, line, self.digest, None, raw=data)


@dataclass(frozen=True)
class ParquetRows:
    """Rows of a Parquet file; ``first`` is the number of the first one."""

    file: str
    digest: str
    first: int
    batch: pa.RecordBatch

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
        return RawRow(self.file, line, self.digest, row, raw=json.dumps(row, default=_foreign).encode())


Block = ParsedRows | JsonRows | ParquetRows


def blocks(path: Path, file: str, digest: str, row_bytes: int = ROW_BYTES) -> Iterator[Block]:
    """All rows of one local file, in order; none of an empty one.

    Args:
        path: where it lies.
        file: what its rows say about their source.
        digest: of its content.
        row_bytes: a longer row is not read, but told as ``row_too_long``.
    """
    if path.suffix == ".parquet":
        yield from _parquet(path, file, digest, row_bytes)
        return
    items: list[tuple[int, bytes]] = []
    size = 0
    for line, data in _json(path, row_bytes):
        if isinstance(data, RawRow):
            if items:
                yield JsonRows(file, digest, items)
            yield ParsedRows([RawRow(file, line, digest, None, data.error, data.message, data.raw)])
            items, size = [], 0
            continue
        items.append((line, data))
        size += len(data)
        if len(items) == BLOCK_ROWS or size >= _BLOCK_BYTES:
            yield JsonRows(file, digest, items)
            items, size = [], 0
    if items:
        yield JsonRows(file, digest, items)


def parse(file: str, line: int, digest: str, data: bytes) -> RawRow:
    """One row of JSON."""
    value, error, message = loads(data)
    if not error and not isinstance(value, dict):
        value, error, message = None, "bad_row", f"expected an object, got {type(value).__name__}"
    return RawRow(file, line, digest, value, error, message[:_HEAD], data)


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


def unpacked(file: IO[bytes]) -> Iterator[bytes]:
    """The bytes of a file or stream, unpacked where it begins like gzip or zstd; several members are one.

    Raises:
        One of FAULTS, after all that could be read before it.
    """
    head = file.read(_FEED)
    if head[:2] == b"\x1f\x8b":
        yield from _inflated(file, head, lambda: zlib.decompressobj(wbits=31))
    elif head[:4] == b"\x28\xb5\x2f\xfd":
        yield from _inflated(file, head, lambda: zstandard.ZstdDecompressor(max_window_size=2**27).decompressobj())
    else:
        yield head
        while chunk := file.read(_CHUNK):
            yield chunk


def _inflated(file: IO[bytes], data: bytes, start: Any) -> Iterator[bytes]:
    codec, packed, plain = start(), 0, 0
    while data:
        if codec.eof:
            data = data.lstrip(b"\x00")  # gzip may be padded
            if not data:
                data = file.read(_FEED)
                continue
            codec = start()
        chunk = codec.decompress(data)
        packed, plain = packed + len(data) - len(codec.unused_data), plain + len(chunk)
        yield chunk
        if plain > bounded.ARCHIVE + bounded.EXPANSION * packed:
            raise EOFError(
                f"it unpacks to more than {bounded.EXPANSION} times its size; unpack it yourself if that is right"
            )
        data = (codec.unused_data if codec.eof else b"") or file.read(_FEED)
    if not codec.eof:
        raise EOFError("it ends before its end mark")


def _json(path: Path, limit: int) -> Iterator[tuple[int, bytes | RawRow]]:
    """The rows of a JSON file: its lines; or, of a .json file, the items of one array, or one object on many lines."""
    kind = _kind(path)
    if kind:
        yield 1, RawRow("", 0, "", None, "other_encoding", f"the file is {kind}")
        return
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


def _kind(path: Path) -> str:
    """What a file is that holds no lines of UTF-8, and what to do about it; empty for one that may."""
    with open(path, "rb") as file:
        head = b""
        for chunk in _guarded(unpacked(file)):
            if isinstance(chunk, RawRow) or len(head := head + chunk) >= 8:
                break
    wide = _WIDE.match(head)
    if wide:
        return f"UTF-{16 if wide[1] else 32}; write it as UTF-8"
    return next((kind for mark, kind in _KINDS if head.startswith(mark)), "")


def _depth(data: bytes) -> int:
    """How deep the brackets of a JSON text stand in one another."""
    brackets = np.frombuffer(_TEXT.sub(b"", data).translate(None, _NO_BRACKETS), np.uint8)
    return int(np.cumsum(np.where(brackets & 2, 1, -1)).max(initial=0))  # the opening ones have this bit


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
        if not row.size and chunk.isspace():
            line += chunk.count(b"\n")
            continue
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            if piece or row.size:
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
            if depth > _HOPELESS:
                yield (
                    number,
                    _broken(f"brackets {depth} deep; what is behind them is not read", bytes(row.data[:_HEAD])),
                )
                return
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


def _parquet(path: Path, file: str, digest: str, limit: int) -> Iterator[Block]:
    line = 1
    try:
        for batch, sizes in bounded.batches(path, BLOCK_ROWS):
            rows = ParquetRows(file, digest, line, batch)
            if max(sizes, default=0) <= limit:
                yield rows
            else:  # parsed here: a table would carry the long one along
                told = [f"about {size} bytes, ingest.row_bytes is {limit}" if size > limit else "" for size in sizes]
                yield from (
                    ParsedRows([RawRow(file, line + i, digest, None, "row_too_long", why) if why else rows.at(i)])
                    for i, why in enumerate(told)
                )
            line += len(rows)
    except FAULTS as error:
        yield ParsedRows([RawRow(file, line, digest, None, "broken_file", f"cannot be read ({one_line(error)})")])


class _DuplicateKeyError(Exception):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; Python would silently keep the last of equal keys."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _DuplicateKeyError(repr(Counter(key for key, _ in pairs).most_common(1)[0][0]))
    return found


def _foreign(value: Any) -> dict[str, str]:
    """What JSON has no word for, such as bytes: never as text, which it would be taken for when it is read again."""
    return {"type": type(value).__name__, "value": str(value)}
