"""Local outputs: whole or not at all, and never in place of what dcod did not write itself.

An output is made in a scratch folder beside its place and takes the place in one rename. What is there is looked at
before any work (see :mod:`dcod.storage.marks`), and again at the rename, when something else may have come.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from dcod.errors import UserError
from dcod.storage import marks, room, temporary

_NOREPLACE, _EXCHANGE = 1, 2  # of Linux's renameat2


@contextmanager
def output_folder(path: Path, later: Iterable[str] = ()) -> Iterator[Path]:
    """Yields a scratch folder that becomes ``path`` only when the block ends well: the old or the new, never half.

    Args:
        path: absent, empty, or an output of dcod; a link to such a folder is followed.
        later: folders in it that dcod makes afterwards, outputs of their own.

    Raises:
        UserError: ``path`` holds what dcod did not write, or the place cannot be written.
    """
    target = check_folder(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another --out") from None
    with _replacing(target, path, "choose another --out") as new:
        new.mkdir()
        yield new
        new.chmod(0o755)
        marks.seal(new, later)
        _take_place(new, target, lambda old: marks.refuse_foreign(path, old))


def write_text(path: Path, text: str) -> None:
    """Writes a file of dcod's own, whole or not at all."""
    path = Path(path)
    _make_parent(path, path, "")
    with _replacing(path, path, "") as new:
        _write(new, text)
        os.replace(new, path)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, whole or not at all, sorted and indented."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, *, made_by: str) -> dict[str, Any]:
    """The JSON object in a file of an output folder.

    Args:
        path: the file.
        made_by: the command that writes such folders.

    Raises:
        UserError: there is none.
    """
    with suppress(OSError, ValueError, RecursionError):
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict):
            return value
    raise UserError(f"{path.parent}: no {path.name} in it; give the folder that `{made_by}` wrote")


def write_file(path: Path, text: str) -> None:
    """Writes an output file where the user wants it; ``text`` has ``marks.FILE_MARK`` near its beginning.

    Raises:
        UserError: a file or folder is there that dcod did not write, or the place cannot be written.
    """
    assert marks.FILE_MARK in text[: marks.HEAD], "an output file must be known again"
    target = check_file(path)
    _make_parent(target, path, "; choose another name")
    with _replacing(target, path, "choose another name") as new:
        _write(new, text)
        _take_place(new, target, lambda old: marks.refuse_unmarked(path, old))


def check_folder(path: Path) -> Path:
    """Where an output folder will stand, if it may; nothing is changed.

    Raises:
        UserError: it may not, with the reason.
    """
    path = Path(path)
    if path.parts[:1] == ("s3:",):
        raise UserError(f"{path}: an output folder is a folder of this machine; upload it when it is there")
    target = _resolved(path)
    with suppress(FileNotFoundError):  # the current folder may be gone
        here = Path.cwd().resolve()
        if target == here or target in here.parents:
            raise UserError(f"{path}: is the current folder or holds it; choose a folder in it, such as --out out")
    if not os.path.lexists(target):
        return target
    if not target.is_dir():
        raise UserError(f"{path}: is a file, not a folder, and stays as it is; choose another --out")
    if target.is_mount():
        raise UserError(f"{path}: a file system is mounted there; choose a folder in it, such as {path / 'out'}")
    marks.refuse_foreign(path, target)
    return target


def check_file(path: Path) -> Path:
    """As :func:`check_folder`, for a file."""
    path = Path(path)
    if path.parts[:1] == ("s3:",):
        raise UserError(f"{path}: an output file is a file of this machine; upload it when it is there")
    target = _resolved(path)
    if os.path.lexists(target):
        marks.refuse_unmarked(path, target)
    return target


def check_apart(path: Path, inputs: Mapping[str, Path], places: Mapping[str, Path]) -> None:
    """Refuses an output folder that would take an input away or change it, or a place where dcod keeps things.

    Args:
        path: the output folder.
        inputs: read by the same command: none may be, hold, or lie in the output.
        places: where things are kept that last: none may be, or lie in the output.

    Raises:
        UserError: one is.
    """
    target = _resolved(path)
    for name, place in (*inputs.items(), *places.items()):
        given = Path(os.path.realpath(place))
        if given == target or target in given.parents:
            how = "is" if given == target else "holds"
            raise UserError(f"{path}: {how} {name} ({place}), which would be gone; choose another --out")
        inside = name in inputs and given in target.parents
        if inside and not any(given / name in (target, *target.parents) for name in marks.later(given)):
            raise UserError(f"{path}: lies in {name} ({place}), which it would change; choose another --out")


def remove_folder(path: Path) -> None:
    """Removes an output folder; what is not dcod's own stays."""
    path = Path(path)
    with suppress(OSError):  # another process removes it as well, or the place is not to be written
        if path.is_dir() and not marks.foreign(path):
            with temporary.held(path.parent, temporary.beside(path)) as holder:
                path.rename(holder / "new")


@contextmanager
def _replacing(target: Path, path: Path, way: str) -> Iterator[Path]:
    """A place beside the target for what is to become it."""
    with room.writing(path, way):
        temporary.sweep(target.parent)
        with temporary.held(target.parent, temporary.beside(target)) as holder:
            yield holder / "new"


def _make_parent(target: Path, path: Path, way_out: str) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}){way_out}") from None


def _write(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    path.chmod(0o644)


def _resolved(path: Path) -> Path:
    """A path without links; a link in its place must lead somewhere."""
    try:
        if path.is_symlink():
            return path.resolve(strict=True)
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # loops are RuntimeErrors, NULs ValueErrors
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be an output ({reason}); choose another --out") from None


def _take_place(new: Path, target: Path, check: Callable[[Path], None]) -> None:
    """Moves an output to its place; what stood there goes into the scratch folder, if ``check`` allows it.

    Raises:
        UserError: something came there meanwhile; the output is kept beside it. Or the system refuses.
    """
    try:
        try:
            _move(new, target)
        except (FileExistsError, NotADirectoryError):
            new = new.rename(new.with_name("old"))
        else:
            return
        aside = new.with_name("aside")
        old = _swap(new, target, aside)
        try:
            check(old)
        except UserError as refused:
            _swap(old, target, aside if old == new else new)
            beside = target.with_name(f"{target.name}.new-{secrets.token_hex(4)}")
            new.rename(beside)
            raise UserError(f"{refused}; it came while dcod worked, so the output is {beside}") from None
    except OSError as error:
        if room.explained(error):
            raise
        raise UserError(f"{target}: cannot be replaced ({error.strerror}); choose another --out") from error


def _move(new: Path, target: Path) -> None:
    """Renames, where nothing is in the way; an empty folder may be.

    Raises:
        FileExistsError: something is.
    """
    if _renameat2(new, target, _NOREPLACE):
        return
    if new.is_dir():
        try:
            new.rename(target)
        except OSError as error:
            if error.errno == errno.ENOTEMPTY:
                raise FileExistsError(*error.args) from None
            raise
        return
    os.link(new, target)
    new.unlink()


def _swap(new: Path, target: Path, other: Path) -> Path:
    """Puts ``new`` in the place of ``target``, at once where the file system can; returns where that is now."""
    if _renameat2(new, target, _EXCHANGE):
        return new
    target.rename(other)
    try:
        new.rename(target)
    except BaseException:
        other.rename(target)
        raise
    return other


def _renameat2(source: Path, target: Path, flag: int) -> bool:
    """Linux's rename with a flag; False where the system or the file system has none.

    Raises:
        OSError: it has, and refuses.
    """
    function = _libc_renameat2()
    if function is None:
        return False
    here = -100  # AT_FDCWD
    if function(here, os.fsencode(source), here, os.fsencode(target), flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(source), None, str(target))


@cache
def _libc_renameat2() -> Any:
    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
