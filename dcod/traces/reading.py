"""What a file of traces holds, block by block: nothing is lost, and no file is ever held as a whole.

Packed files are unpacked a little at a time, so that a fault in the middle costs what is behind it only; the fault
itself is a row with the error ``broken_file``. What a block is stands in :mod:`dcod.traces.rows`.
"""

from __future__ import annotations

import csv
import json
import re
import sys
import zlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import zstandard

from dcod.config import IngestConfig
from dcod.errors import one_line
from dcod.traces import bounded
from dcod.traces.rows import HEAD, Block, JsonRows, ParquetRows, ParsedRows, RawRow, loads

ROW_BYTES: int = IngestConfig.model_fields["row_bytes"].default  # of the longest row that is read
BLOCK_ROWS = 256
_BLOCK_BYTES = 2**20
_CHUNK = 2**18
_FEED = 1024  # packed bytes at a time: zstd may make 32,000 of one, and what is fed is all that a fault can hide
_BOM = b"\xef\xbb\xbf"
_HOPELESS = 100_000  # brackets in one another, after which the rest of an array is not looked at
_MARKS = re.compile(rb'["\\{}\[\],]')
_DEPTH = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}
_NO_ROWS = "which holds no rows; give JSON Lines, Parquet or CSV"
_KINDS = (
    (b"\x1f\x8b", "packed with gzip twice; unpack it once"),
    (b"\x28\xb5\x2f\xfd", "packed twice; unpack it once"),
    (b"BZh", "packed with bzip2; unpack it, or pack it with gzip or zstd"),
    (b"\xfd7zXZ\x00", "packed with xz; unpack it, or pack it with gzip or zstd"),
    (b"PK\x03\x04", "a zip archive; unpack it"),
    (b"\x89PNG\r\n", f"a PNG picture, {_NO_ROWS}"),
    (b"\xff\xd8\xff", f"a JPEG picture, {_NO_ROWS}"),
    (b"GIF87a", f"a GIF picture, {_NO_ROWS}"),
    (b"GIF89a", f"a GIF picture, {_NO_ROWS}"),
    (b"%PDF-", f"a PDF document, {_NO_ROWS}"),
    (b"PAR1", "Parquet; give its name the ending .parquet"),
    (b"\xff\xfe\x00\x00", "UTF-32; write it as UTF-8"),
    (b"\x00\x00\xfe\xff", "UTF-32; write it as UTF-8"),
    (b"\xff\xfe", "UTF-16; write it as UTF-8"),
    (b"\xfe\xff", "UTF-16; write it as UTF-8"),
)
_WIDE = re.compile(rb"(?:\x00{3}[^\x00]){2}|(?:[^\x00]\x00{3}){2}|((?:\x00[^\x00]){4}|(?:[^\x00]\x00){4})")
_DELIMITED = {".csv": ",", ".tsv": "\t"}
_OTHERWISE = ";\t|,"  # what fields stand apart by where the first line does not know the sign of the ending
csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # rows are held to ingest.row_bytes
FAULTS = (OSError, EOFError, zlib.error, zstandard.ZstdError, pa.ArrowException)


def blocks(path: Path, file: str, digest: str, row_bytes: int = ROW_BYTES) -> Iterator[Block]:
    """All rows of one local file, in order; none of an empty one.

    Args:
        path: where it lies.
        file: what its rows say about their source.
        digest: of its content.
        row_bytes: a longer row is not read, but told as ``row_too_long``.
    """
    if path.suffix in (".parquet", ".arrow"):
        yield from _table(path, file, digest, row_bytes)
        return
    if (delimiter := next((d for end, d in _DELIMITED.items() if end in path.suffixes[-2:]), "")) and not _kind(path):
        yield from _delimited(path, file, digest, row_bytes, delimiter)
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
            room = HEAD - len(self.data)
            self.data = (self.data + piece[: max(room, 0)])[:HEAD]

    def take(self) -> bytes | RawRow:
        """The row; the next one begins."""
        data, size = bytes(self.data), self.size
        self.size, self.data = 0, bytearray()
        if size > self.limit:
            message = f"{size} bytes, ingest.row_bytes is {self.limit}; only its beginning is kept"
            return RawRow("", 0, "", None, "row_too_long", message, data[:HEAD])
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
                    _broken(f"brackets {depth} deep; what is behind them is not read", bytes(row.data[:HEAD])),
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


def _delimited(path: Path, file: str, digest: str, limit: int, delimiter: str) -> Iterator[Block]:
    """The rows of a CSV or TSV file, whose first line names the columns; an empty field is null.

    The line of a row is the one that it ends on. A spreadsheet may write a CSV with semicolons: the first line tells.
    """
    items = list[RawRow]()
    with open(path, "rb") as opened:
        broken = list[RawRow]()
        lines = _text_lines(_guarded(unpacked(opened)), broken)
        reader, names = csv.reader([]), list[str]()
        try:
            first = next(lines, "")
            reader = csv.reader(chain([first], lines), delimiter=_sign(first, delimiter), strict=True)
            for values in reader:
                if not names:
                    names = values
                elif values:
                    items.append(_of_fields(names, values, RawRow(file, reader.line_num, digest, None), limit))
                if len(items) == BLOCK_ROWS:
                    yield ParsedRows(items)
                    items = []
        except (csv.Error, UnicodeDecodeError) as error:
            broken.append(_broken(f"cannot be read ({one_line(error)})"))
        items += [RawRow(file, reader.line_num + 1, digest, None, one.error, one.message) for one in broken]
    if items:
        yield ParsedRows(items)


def _sign(first: str, expected: str) -> str:
    """What the names of a first line stand apart by: the ending's sign, unless another alone makes them several."""

    def names(sign: str) -> int:
        try:
            return len(next(csv.reader([first], delimiter=sign, strict=True), []))
        except csv.Error:
            return 0

    return next((sign for sign in (expected, *_OTHERWISE) if names(sign) > 1), expected)


def _text_lines(chunks: Iterator[bytes | RawRow], broken: list[RawRow]) -> Iterator[str]:
    """The lines of a text, their ends included; what breaks it off goes into a list."""
    rest = b""
    for chunk in chunks:
        if isinstance(chunk, RawRow):
            broken.append(chunk)
            break
        *ended, rest = (rest + chunk).split(b"\n")
        yield from (f"{line.removeprefix(_BOM).decode()}\n" for line in ended)
        if len(rest) > bounded.ARCHIVE:
            broken.append(_broken(f"a line of more than {bounded.ARCHIVE} bytes"))
            return
    if rest:
        yield rest.removeprefix(_BOM).decode()


def _of_fields(names: list[str], values: list[str], place: RawRow, limit: int) -> RawRow:
    """A row from its fields, all of them text."""
    row = dict(zip(names, (value or None for value in values), strict=False))
    raw = json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace")
    if len(values) != len(names) or len(row) < len(names):
        what = "a column's name stands twice" if len(set(names)) < len(names) else f"{len(names)} columns"
        return replace(place, error="bad_row", message=f"{len(values)} fields for {what}", raw=raw[:HEAD])
    if len(raw) > limit:
        return replace(place, error="row_too_long", message=f"{len(raw)} bytes, ingest.row_bytes is {limit}")
    return replace(place, row=row, raw=raw)


def _arrow(path: Path) -> Iterator[tuple[pa.RecordBatch, list[int]]]:
    """The rows of an Arrow file or stream, as `datasets` saves them, and how many bytes each takes."""
    with pa.memory_map(str(path)) as mapped:
        try:
            file = pa.ipc.open_file(mapped)
            whole = (file.get_batch(number) for number in range(file.num_record_batches))
        except pa.ArrowInvalid:
            mapped.seek(0)
            whole = iter(pa.ipc.open_stream(mapped))
        for batch in whole:
            for begin in range(0, len(batch), BLOCK_ROWS):
                part = pa.RecordBatch.from_pylist(batch.slice(begin, BLOCK_ROWS).to_pylist(), batch.schema)
                yield part, sum(map(bounded.sizes, part.columns), np.zeros(len(part), np.int64)).tolist()


def _table(path: Path, file: str, digest: str, limit: int) -> Iterator[Block]:
    line = 1
    try:
        for batch, sizes in _arrow(path) if path.suffix == ".arrow" else bounded.batches(path, BLOCK_ROWS):
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
