"""Where traces come from: files, folders, globs, s3:// and reasoning-gym:// sets, read row by row.

Every row of a source comes out exactly once, with its place, broken or not; blank lines are no rows.
"""

from __future__ import annotations

import fnmatch
import glob
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import parse_qsl, urlparse

import pyarrow as pa
import pyarrow.parquet as pq

from dcod import storage, synthetic
from dcod.errors import UserError

_LINES = (".jsonl", ".ndjson", ".json")
SUFFIXES = (*_LINES, ".parquet", *(f"{name}{packed}" for packed in (".gz", ".zst") for name in _LINES))
HUB = "hub://"  # hub://owner/name?config=main&split=train&revision=…
SYNTHETIC_TEACHER = "dcod.synthetic"
_OWN = {"quarantine.parquet": "traces.parquet", "usage.json": "attempts.parquet"}  # by what stands beside them
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Unit:
    """One file, or one synthetic set: ``name`` is what a trace says about its source."""

    name: str
    path: Path | None = None

    def digest(self) -> str:
        """SHA-256 of the file; of a synthetic set its URI, which decides what is in it."""
        return storage.digest_file(self.path) if self.path else hashlib.sha256(self.name.encode()).hexdigest()


@dataclass(frozen=True)
class RawRow:
    """One row as it was found.

    Attributes:
        file, line, digest: where; the line (or row) counts from 1.
        row: the parsed row; None where ``error`` holds a reason code and ``message`` says more.
        raw: the row as text.
        format: the row's format where the source itself knows it.
    """

    file: str
    line: int
    digest: str
    row: dict[str, Any] | None
    error: str = ""
    message: str = ""
    raw: str = ""
    format: str = ""


def expand(uri: str) -> list[Unit]:
    """The files behind one source, sorted.

    Raises:
        UserError: nothing is there, or nothing that can hold traces.
    """
    if synthetic.is_synthetic(uri):
        synthetic.parse(uri)
        return [Unit(uri)]
    if storage.is_s3(uri):
        return _bucket(uri)
    if uri.startswith(HUB):
        return [Unit(uri, _from_hub(uri))]
    path = Path(uri.removeprefix("file://")).expanduser()
    if path.is_dir():
        return _folder(uri, path)
    if path.is_file():
        return [Unit(str(path), path)]
    if not glob.has_magic(str(path)):
        raise UserError(f"source {uri}: no such file or folder; set ingest.sources to a file, a folder or a glob")
    found = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
    units = [Unit(str(item), item) for item in found if item.is_file()]
    if not units:
        raise UserError(f"source {uri}: no file matches; set ingest.sources to a file, a folder or another glob")
    return units


def expand_all(uris: Iterable[str]) -> list[Unit]:
    """The files behind several sources, in their order.

    Raises:
        UserError: as :func:`expand`; or no source is given.
    """
    units = [unit for uri in uris for unit in expand(uri)]
    if not units:
        raise UserError(
            "ingest.sources is empty: give files, folders, globs, s3://bucket/prefix or reasoning-gym://TASK, "
            "for example ingest.sources='[traces.jsonl]'"
        )
    return units


def digests(uris: Iterable[str]) -> dict[str, str]:
    """What decides the content of the sources: SHA-256 by file, a synthetic set by its URI."""
    return {unit.name: unit.digest() if unit.path else unit.name for unit in expand_all(uris)}


def read_rows(uri: str) -> Iterator[RawRow]:
    """All rows of one source.

    Raises:
        UserError: nothing is there, a file cannot be read, or there is not one row.
    """
    empty = True
    for unit in expand(uri):
        for row in read_unit(unit):
            empty = False
            yield row
    if empty:
        raise UserError(f"source {uri}: there is no row in it; give a file with one JSON object a line, or Parquet")


def read_unit(unit: Unit) -> Iterator[RawRow]:
    """All rows of one file or synthetic set; none of an empty file.

    Raises:
        UserError: the file cannot be read at all.
    """
    digest = unit.digest()
    if unit.path is None:
        yield from _synthetic(unit, digest)
        return
    try:
        if unit.path.suffix == ".parquet":
            yield from _parquet(unit, digest)
        else:
            yield from _json(unit, digest)
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise UserError(f"source {unit.name}: cannot be read ({_line(error)}); is the file whole?") from None


def count_rows(unit: Unit) -> int:
    """About how many rows a unit has, for a progress bar."""
    if unit.path is None:
        name = synthetic.parse(unit.name)
        return name.problems * name.traces
    try:
        if unit.path.suffix == ".parquet":
            return int(pq.ParquetFile(unit.path).metadata.num_rows)
        with _open(unit.path) as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b"")) + 1
    except (OSError, EOFError, zlib.error, pa.ArrowException):
        return 0  # read_unit says what is wrong with it


def _from_hub(uri: str) -> Path:
    """A hub data set as one Parquet file in the cache, kept by its URI; not tried against the hub itself.

    Raises:
        UserError: the hub cannot be reached, or has no such set, configuration, split or revision.
    """
    parsed = urlparse(uri)
    options = dict(parse_qsl(parsed.query))
    unknown = sorted(set(options) - {"config", "split", "revision"})
    if unknown:
        raise UserError(f"source {uri}: unknown option {', '.join(unknown)}; known: config, split, revision")
    path = storage.cache_folder() / "hub" / f"{hashlib.sha256(uri.encode()).hexdigest()[:16]}.parquet"
    if not path.exists():
        from datasets import load_dataset

        try:
            rows = load_dataset(
                f"{parsed.netloc}{parsed.path}",
                options.get("config"),
                split=options.get("split", "train"),
                revision=options.get("revision"),
            )
        except Exception as error:  # the hub's errors have no common base
            raise UserError(f"source {uri}: the hub does not give it ({_line(error)[:200]}); give a file") from None
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        rows.to_parquet(str(part))
        part.replace(path)
    return path


def _bucket(uri: str) -> list[Unit]:
    if glob.has_magic(uri):
        base = uri[: min(uri.index(mark) for mark in "*?[" if mark in uri)].rpartition("/")[0] + "/"
        names = [name for name in storage.list_objects(base) if fnmatch.fnmatchcase(name, uri)]
    else:
        listed = storage.list_objects(uri)
        names = [uri] if uri in listed else _tables([name for name in listed if not _hidden(name[len(uri) :])])
    if not names:
        raise UserError(f"source {uri}: nothing there that can hold traces ({', '.join(SUFFIXES)})")
    return [Unit(name, storage.fetch(name)) for name in names]


def _folder(uri: str, folder: Path) -> list[Unit]:
    files = [path for path in folder.rglob("*") if path.is_file() and not _hidden(str(path.relative_to(folder)))]
    names = _tables(sorted(map(str, files)))
    if not names:
        raise UserError(f"source {uri}: no file in it that can hold traces ({', '.join(SUFFIXES)})")
    return [Unit(name, Path(name)) for name in names]


def _tables(names: list[str]) -> list[str]:
    """The files that can hold traces; of a folder that ingest or teach wrote only the traces."""
    split = [(name, *name.rpartition("/")[::2]) for name in names]
    own = {folder: _OWN[file] for _, folder, file in split if file in _OWN}
    return [name for name, folder, file in split if name.lower().endswith(SUFFIXES) and file == own.get(folder, file)]


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _open(path: Path) -> IO[bytes]:
    with open(path, "rb") as file:
        mark = file.read(4)
    if mark == b"\x28\xb5\x2f\xfd":
        return cast(IO[bytes], io.BufferedReader(cast(io.RawIOBase, pa.input_stream(str(path), compression="zstd"))))
    return cast(IO[bytes], gzip.open(path, "rb")) if mark[:2] == b"\x1f\x8b" else open(path, "rb")


def _json(unit: Unit, digest: str) -> Iterator[RawRow]:
    """JSON Lines; a .json file may also be one array, or one object over several lines."""
    assert unit.path is not None
    if ".json" in unit.path.suffixes[-2:]:
        with _open(unit.path) as file:
            whole = file.read().removeprefix(_BOM)
        if whole.lstrip()[:1] == b"[" or _pretty(whole):
            yield from _document(unit, digest, whole)
            return
    with _open(unit.path) as file:
        for line, data in enumerate(file, start=1):
            found = data.removeprefix(_BOM) if line == 1 else data
            if found.strip():
                yield _parse(unit.name, line, digest, found.rstrip(b"\r\n"))


def _pretty(whole: bytes) -> bool:
    """Whether a text is one object over several lines."""
    first = whole.lstrip().partition(b"\n")[0]
    return whole.lstrip()[:1] == b"{" and _loads(first)[1] != "" and _loads(whole)[1] == ""


def _document(unit: Unit, digest: str, whole: bytes) -> Iterator[RawRow]:
    value, error, message = _loads(whole)
    if error:
        yield RawRow(unit.name, 1, digest, None, error, f"the whole file: {message}", _text(whole))
        return
    for index, item in enumerate(value if isinstance(value, list) else [value], start=1):
        yield _checked(unit.name, index, digest, item, json.dumps(item, ensure_ascii=True))


def _parse(name: str, line: int, digest: str, data: bytes) -> RawRow:
    value, error, message = _loads(data)
    if error:
        return RawRow(name, line, digest, None, error, message, _text(data))
    return _checked(name, line, digest, value, _text(data))


def _loads(data: bytes) -> tuple[Any, str, str]:
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
        return None, "bad_json", _line(error)


class _DuplicateKeyError(Exception):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; Python would silently keep the last of equal keys."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _DuplicateKeyError(repr(next(key for key in keys if keys.count(key) > 1)))
    return found


def _checked(name: str, line: int, digest: str, value: Any, raw: str) -> RawRow:
    if isinstance(value, dict):
        return RawRow(name, line, digest, value, raw=raw)
    return RawRow(name, line, digest, None, "bad_row", f"expected an object, got {type(value).__name__}", raw)


def _text(data: bytes) -> str:
    """Bytes as text that loses nothing: what is not UTF-8 is written as \\xNN."""
    return data.decode("utf-8", "backslashreplace")


def _parquet(unit: Unit, digest: str) -> Iterator[RawRow]:
    assert unit.path is not None
    line = 0
    with pq.ParquetFile(unit.path) as file:
        for batch in file.iter_batches(batch_size=256):
            for index in range(batch.num_rows):
                line += 1
                try:
                    row = batch.slice(index, 1).to_pylist()[0]
                except UnicodeDecodeError as error:
                    yield RawRow(unit.name, line, digest, None, "bad_encoding", _line(error))
                    continue
                yield _checked(unit.name, line, digest, row, json.dumps(row, default=str))


def _synthetic(unit: Unit, digest: str) -> Iterator[RawRow]:
    """The worked solutions of a set, as rows of ours."""
    from dcod.prompts import prompt_for

    name, line = synthetic.parse(unit.name), 0
    for problem in synthetic.problems(unit.name):
        for solution in synthetic.worked(problem, name.traces, name.seed):
            line += 1
            row = {
                "prompt": prompt_for("number", problem.question),
                "completion": solution,
                "gold": problem.answer,
                "teacher": SYNTHETIC_TEACHER,
            }
            yield RawRow(unit.name, line, digest, row, raw=json.dumps(row), format="dcod_rows")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
