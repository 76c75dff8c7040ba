"""Raw rows from where traces lie: files, folders, globs, s3:// prefixes, generated sets. Every row has a place."""

from __future__ import annotations

import glob
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcod import storage, synthetic
from dcod.errors import UserError

ENDINGS = (".jsonl", ".jsonl.gz", ".ndjson", ".parquet")


@dataclass(frozen=True)
class RawRow:
    """One row as it stands in a source: either ``row``, or ``code`` and ``message`` of what is wrong with it."""

    file: str
    line: int
    digest: str
    raw: str
    row: dict[str, Any] | None = None
    code: str = ""
    message: str = ""


def files(sources: Sequence[str]) -> list[tuple[str, Path]]:
    """The files behind some sources: (name to show, local path), generated sets left out.

    Raises:
        UserError: a source is missing, or holds no file that can be read.
    """
    found: list[tuple[str, Path]] = []
    for source in sources:
        if synthetic.is_synthetic(source):
            continue
        if any(mark in source for mark in "*?[") and not storage.is_s3(source):
            matches = [Path(name) for name in sorted(glob.glob(source, recursive=True))]
            if not matches:
                raise UserError(f"ingest.sources: {source} matches no file")
        else:
            path = storage.fetch(source)
            matches = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        usable = [path for path in matches if path.name.endswith(ENDINGS)]
        if not usable:
            raise UserError(f"ingest.sources: {source} holds no file that ends in {', '.join(ENDINGS)}")
        found += [(source if storage.is_s3(source) and len(usable) == 1 else str(path), path) for path in usable]
    return found


def digests(sources: Sequence[str]) -> dict[str, str]:
    """What the content of the sources is known by: SHA-256 of each file, a generated set by its URI."""
    generated = {source: "generated" for source in sources if synthetic.is_synthetic(source)}
    return generated | {name: storage.digest_file(path) for name, path in files(sources)}


def read_rows(sources: Sequence[str], seed: int) -> Iterator[RawRow]:
    """Every row of every source, in order; broken ones come with a reason code instead of a row."""
    for source in sources:
        if synthetic.is_synthetic(source):
            yield from _generated(source, seed)
    for name, path in files(sources):
        digest = storage.digest_file(path)
        yield from _parquet(name, path, digest) if path.name.endswith(".parquet") else _lines(name, path, digest)


def _generated(uri: str, seed: int) -> Iterator[RawRow]:
    line = 0
    for problem in synthetic.problems(uri):
        for text in synthetic.worked(problem, synthetic.parse(uri).traces, seed):
            line += 1
            row = {"synthetic": problem.question, "worked": text, "gold": problem.answer}
            yield RawRow(uri, line, "generated", json.dumps(row), row)


def _parquet(name: str, path: Path, digest: str) -> Iterator[RawRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    line = 0
    try:
        for batch in pq.ParquetFile(path).iter_batches():
            for row in batch.to_pylist():
                line += 1
                kept = {key: value for key, value in row.items() if value is not None}
                yield RawRow(name, line, digest, json.dumps(kept, default=str), kept)
    except (pa.ArrowInvalid, OSError) as error:
        yield RawRow(name, line + 1, digest, "", code="bad_file", message=f"Parquet cannot be read: {error}")


def _lines(name: str, path: Path, digest: str) -> Iterator[RawRow]:
    line = 0
    opened = gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb")
    with opened as file:
        try:
            for data in file:
                line += 1
                if data.strip():
                    yield _line(name, line, digest, data)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            yield RawRow(name, line + 1, digest, "", code="bad_file", message=f"gzip ends or breaks here: {error}")


def _line(name: str, line: int, digest: str, data: bytes) -> RawRow:
    try:
        raw = data.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        shown = data.decode("utf-8", "backslashreplace").strip()
        return RawRow(name, line, digest, shown, code="bad_encoding", message=f"not UTF-8: {error.reason}")
    if "\x00" in raw or "\\u0000" in raw:
        return RawRow(name, line, digest, raw, code="bad_encoding", message="a NUL character")
    try:
        row = json.loads(raw, object_pairs_hook=_no_duplicates)
    except _DuplicateKeyError as error:
        return RawRow(name, line, digest, raw, code="duplicate_key", message=f"key {error} stands twice")
    except (ValueError, RecursionError) as error:
        return RawRow(name, line, digest, raw, code="bad_json", message=" ".join(str(error).split()))
    if not isinstance(row, dict):
        return RawRow(name, line, digest, raw, code="bad_row", message=f"a {type(row).__name__}, not an object")
    return RawRow(name, line, digest, raw, row)


class _DuplicateKeyError(Exception):
    pass


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in pairs:
        if key in out:
            raise _DuplicateKeyError(repr(key))
        out[key] = value
    return out
