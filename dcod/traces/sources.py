"""Where traces come from: files, folders, globs, s3:// and reasoning-gym:// sets; ``reading`` reads them.

Every row of a source comes out exactly once, with its place, broken or not; blank lines are no rows.
"""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import json
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlparse

import pyarrow.parquet as pq

from dcod import storage
from dcod.errors import UserError, one_line
from dcod.storage import parquet
from dcod.traces import reading, synthetic
from dcod.traces.rows import Block, ParsedRows, RawRow

_LINES = (".jsonl", ".ndjson", ".json")
SUFFIXES = (
    *_LINES,
    ".parquet",
    ".arrow",
    *(f"{name}{packed}" for packed in (".gz", ".zst") for name in _LINES),
)
HUB = "hub://"  # hub://owner/name?config=main&split=train&revision=…
SYNTHETIC_TEACHER = "dcod.synthetic"
_OF_DATASETS = ("dataset_info.json", "state.json", "dataset_dict.json")  # beside the tables of `save_to_disk`
_OWN = {"quarantine.parquet": "traces.parquet", "usage.json": "attempts.parquet"}  # by what stands beside them


_PSEUDO = ("/proc", "/sys")  # file systems whose files are questions to the kernel
_TYPES = (
    (stat.S_ISFIFO, "a pipe, which can be read only once; write it to a file"),
    (stat.S_ISSOCK, "a socket; write what it says to a file"),
    (stat.S_ISCHR, "a device; give a file"),
    (stat.S_ISBLK, "a device; give a file"),
)


@dataclass(frozen=True)
class Unit:
    """One file, or one synthetic set: ``name`` is what a trace says about its source."""

    name: str
    path: Path | None = None

    def digest(self) -> str:
        """SHA-256 of the file; of a synthetic set its URI, which decides what is in it.

        Raises:
            UserError: the file cannot be read.
        """
        if self.path is None:
            return hashlib.sha256(self.name.encode()).hexdigest()
        if why := odd(self.path):
            raise UserError(f"source {self.name}: {why}")
        try:
            return storage.digest_file(self.path)
        except OSError as error:
            raise UserError(f"source {self.name}: cannot be read ({error.strerror}); check who may read it") from None


def odd(path: Path) -> str:
    """Why something cannot be read like a file, although it is there; empty for a file or folder."""
    try:
        state = path.stat()
    except ValueError:
        return "no name that a file can have"
    except OSError as error:
        if path.is_symlink():
            return "a link that leads nowhere" if isinstance(error, FileNotFoundError) else "a link in a circle"
        return "" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
    pseudo = [root for root in _PSEUDO if Path(root).exists() and Path(root).stat().st_dev == state.st_dev]
    if pseudo and not stat.S_ISDIR(state.st_mode):
        return f"no ordinary file: it lies in {pseudo[0]}; copy it"
    return next((why for kind, why in _TYPES if kind(state.st_mode)), "")


def expand(uri: str, left: list[tuple[str, str]] | None = None) -> list[Unit]:
    """The files behind one source, sorted.

    Args:
        uri: the source.
        left: gets what a folder or glob holds beside them, each with why it is left out.

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
    left = [] if left is None else left
    path = Path(uri.removeprefix("file://")).expanduser()
    if why := odd(path):
        raise UserError(f"source {uri}: {why}")
    if path.is_dir():
        return _folder(uri, path, left)
    if path.is_file():
        return [_unit(path)]
    if not glob.has_magic(str(path)):
        raise UserError(f"source {uri}: no such file or folder; set ingest.sources to a file, a folder or a glob")
    matches = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
    left += [(str(item), why) for item in matches if (why := odd(item))]
    tables = [item for item in matches if item.is_file() or item.suffix == ".parquet"]
    shards = dict.fromkeys(shard for table in tables for shard in parquet.shards(table))
    units = [_unit(shard) for shard in shards]
    if not units:
        raise UserError(f"source {uri}: no file matches; set ingest.sources to a file, a folder or another glob")
    return units


def would_read(uri: str, file: Path) -> bool:
    """Whether a source, a folder or a glob, would take a file of such a place for its own, were it there.

    A glob's ``*`` is taken to reach into folders as well.
    """
    if not _is_path(uri):
        return False
    path, place = Path(uri.removeprefix("file://")).expanduser(), file.resolve()
    if path.is_dir():
        return place.is_relative_to(path.resolve()) and not _hidden(str(place.relative_to(path.resolve())))
    pattern = str(path.absolute()).replace("**/", "")
    return any(fnmatch.fnmatchcase(str(one), pattern) for one in (place, file.absolute()))


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


def new_files(uris: Iterable[str], seen: Set[str]) -> list[Unit]:
    """The files behind some sources whose digests nobody has seen, in their order: known by content, not by name.

    A file that was renamed or copied is not new; one that grew is, as a whole: what it had before comes out as
    duplicates.

    Args:
        uris: as in ``ingest.sources``.
        seen: SHA-256 digests, as ``sources.json`` of a trace set names them.

    Raises:
        UserError: a source is not there.
    """
    return [unit for uri in uris for unit in expand(uri) if unit.digest() not in seen]


def left_out(uris: Iterable[str]) -> list[tuple[str, str]]:
    """What local folders and globs hold that is not read, each with why."""
    left: list[tuple[str, str]] = []
    for uri in uris:
        if _is_path(uri):
            expand(uri, left)
    return left


def _is_path(uri: str) -> bool:
    return not (storage.is_s3(uri) or uri.startswith(HUB) or synthetic.is_synthetic(uri))


def digests(uris: Iterable[str]) -> dict[str, str]:
    """What decides the content of the sources: the digest of each :class:`Unit` by its name."""
    return {unit.name: unit.digest() for unit in expand_all(uris)}


def blocks(unit: Unit, row_bytes: int = reading.ROW_BYTES) -> Iterator[Block]:
    """All rows of one file or synthetic set, in order, broken ones too; none of an empty file."""
    return _steady(unit, unit.path, row_bytes) if unit.path else _synthetic(unit)


def _steady(unit: Unit, path: Path, row_bytes: int) -> Iterator[Block]:
    """The blocks of a file that stays as it is.

    Raises:
        UserError: it changed while it was read, or cannot be opened any more.
    """
    before, digest = _state(path), unit.digest()
    try:
        for block in reading.blocks(path, unit.name, digest, row_bytes):
            if _state(path) != before:
                break
            yield block
    except OSError as error:  # else it would be taken for one of the output
        if _state(path) == before:
            raise UserError(f"source {unit.name}: cannot be read ({error.strerror}); check who may read it") from None
    if _state(path) != before:
        raise UserError(f"source {unit.name}: changed while it was read; run again when nobody writes to it")


def _state(path: Path) -> tuple[int, int, int]:
    try:
        state = path.stat()
    except OSError:
        return 0, 0, 0
    return state.st_ino, state.st_size, state.st_mtime_ns


def _unit(path: Path) -> Unit:
    """The unit of one file; bytes of its name that are no UTF-8 are written out."""
    return Unit(os.fsencode(path).decode("utf-8", "backslashreplace"), path)


def read_rows(uri: str) -> Iterator[RawRow]:
    """All rows of one source, one by one.

    Raises:
        UserError: as :func:`expand`.
    """
    return (row for unit in expand(uri) for block in blocks(unit) for row in block.rows())


def size(unit: Unit) -> int:
    """Bytes of a file; of a synthetic set about so many."""
    return unit.path.stat().st_size if unit.path else 500 * count_rows(unit)


def count_rows(unit: Unit) -> int:
    """About how many rows a unit has, for a progress bar."""
    if unit.path is None:
        name = synthetic.parse(unit.name)
        return name.problems * name.traces
    try:
        if unit.path.suffix == ".parquet":
            return int(pq.ParquetFile(unit.path).metadata.num_rows)
        with open(unit.path, "rb") as file:
            return sum(chunk.count(b"\n") for chunk in reading.unpacked(file)) + 1
    except reading.FAULTS:
        return 0  # the row of the fault says what is wrong with it


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
    name = f"{parsed.netloc}{parsed.path}"
    if Path(name).exists():  # datasets would read that
        raise UserError(f"source {uri}: ./{name} is here, and would be read in its place; run in another folder")
    path = storage.cache_folder() / "hub" / f"{hashlib.sha256(uri.encode()).hexdigest()[:16]}.parquet"
    if not path.exists():
        from datasets import load_dataset

        try:
            rows = load_dataset(
                name,
                options.get("config"),
                split=options.get("split", "train"),
                revision=options.get("revision"),
            )
        except Exception as error:  # the hub's errors have no common base
            raise UserError(f"source {uri}: the hub does not give it ({one_line(error)[:200]}); give a file") from None
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        rows.to_parquet(str(part))
        part.replace(path)
    return path


def _bucket(uri: str) -> list[Unit]:
    if glob.has_magic(uri):
        base = uri[: min(uri.index(mark) for mark in "*?[" if mark in uri)].rpartition("/")[0] + "/"
        listed = storage.list_objects(base)
        names = [name for name in listed if any(fnmatch.fnmatchcase(of, uri) for of in (name, _of_shard(name)))]
    else:
        listed = storage.list_objects(uri)
        names = [uri] if uri in listed else _tables([name for name in listed if not _hidden(name[len(uri) :])])
    if not names:
        raise UserError(f"source {uri}: nothing there that can hold traces ({', '.join(SUFFIXES)})")
    return [Unit(name, storage.fetch(name)) for name in names]


def _folder(uri: str, folder: Path, left: list[tuple[str, str]]) -> list[Unit]:
    files = []
    for path in _walk(folder, left):
        if why := odd(path):
            left.append((str(path), why))
        elif path.is_dir():
            left.append((str(path), "a link to a folder; name it as a source"))
        elif not path.name.lower().endswith(SUFFIXES):
            left.append((str(path), "another ending; name the file to read it"))
        else:
            files.append(str(path))
    names = _tables(sorted(files))
    if not names:
        raise UserError(
            f"source {uri}: no file in it that can hold traces ({', '.join(SUFFIXES)}); {told(left)}".removesuffix("; ")
        )
    return [_unit(Path(name)) for name in names]


def _walk(folder: Path, left: list[tuple[str, str]]) -> Iterator[Path]:
    """All that lies in a folder but hidden entries: what is no folder, and links to folders, which are not entered."""

    def failed(error: OSError) -> None:
        left.append((str(error.filename), f"cannot be read ({error.strerror})"))

    for base, folders, files in os.walk(folder, onerror=failed):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        links = [name for name in folders if Path(base, name).is_symlink()]
        yield from (Path(base, name) for name in sorted([*files, *links]) if not name.startswith("."))


def told(left: Sequence[tuple[str, str]]) -> str:
    """What was left out, counted by why, with an example each; empty for nothing."""
    why = Counter(reason for _, reason in left)
    examples = {reason: path for path, reason in reversed(left)}
    parts = [f"{count} x {reason} (such as {Path(examples[reason]).name!r})" for reason, count in why.most_common()]
    return f"left out: {'; '.join(parts)}" if parts else ""


def _tables(names: list[str]) -> list[str]:
    """The files that can hold traces; of a folder that ingest or teach wrote only the traces."""
    split = [(name, *_of_shard(name).rpartition("/")[::2]) for name in names]
    own = {folder: _OWN[file] for _, folder, file in split if file in _OWN}
    tables = [name for name, folder, file in split if name.lower().endswith(SUFFIXES) and file == own.get(folder, file)]
    if any(name.endswith(".arrow") for name in tables):
        tables = [name for name in tables if not name.endswith(_OF_DATASETS)]
    return tables


def _of_shard(name: str) -> str:
    """The table that a shard is of; the name of another file."""
    folder, _, file = name.rpartition("/")
    return folder if folder.endswith(".parquet") and file.startswith("part-") else name


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _synthetic(unit: Unit) -> Iterator[Block]:
    """The worked solutions of a set, as rows of ours."""
    from dcod.traces.prompts import prompt_for

    name, line, digest = synthetic.parse(unit.name), 0, unit.digest()
    for problem in synthetic.problems(unit.name):
        items = []
        for solution in synthetic.worked(problem, name.traces, name.seed):
            line += 1
            row = {
                "prompt": prompt_for("number", problem.question),
                "completion": solution,
                "gold": problem.answer,
                "teacher": SYNTHETIC_TEACHER,
            }
            items.append(RawRow(unit.name, line, digest, row, raw=json.dumps(row).encode(), format="dcod_rows"))
        yield ParsedRows(items)
