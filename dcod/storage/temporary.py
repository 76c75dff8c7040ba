"""Scratch folders: gone with their block, and, where their process was killed, with the next one that is made there.

A scratch folder holds a locked file as long as its process lives; the kernel lets go of the lock, whatever ended it.
The name ends in a digest of the rest, so that no folder of a user's is taken for one.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import lock_descriptor

from dcod.errors import UserError
from dcod.storage import marks, room

_LOCK = "dcod-scratch.lock"
_SCRATCH = re.compile(
    r"(?P<begin>(\.(?P<name>.{1,255})\.)?dcod-)(?P<drawn>[0-9a-f]{8})(?P<seal>[0-9a-f]{8})", re.DOTALL
)
_swept: set[Path] = set()  # temporary folders that this process has looked through


@contextmanager
def scratch(folder: Path | None = None) -> Iterator[Path]:
    """A folder that lasts as long as the block; one that a killed process left behind goes with the next.

    Args:
        folder: where; else with the temporary files of the machine.

    Raises:
        UserError: there is no room.
    """
    way = "set TMPDIR to another folder" if folder is None else ""
    with room.writing("TMPDIR", way):
        place = Path(tempfile.gettempdir() if folder is None else folder)
    with room.writing(place, way):
        if place not in _swept:
            _swept.add(place)
            sweep(place)
        with held(place, "dcod-") as holder:
            (holder / "new").mkdir()
            yield holder / "new"


@contextmanager
def held(folder: Path, begin: str) -> Iterator[Path]:
    """Yields a scratch folder; ``new``, ``old`` and ``aside`` in it go with the block.

    Args:
        folder: where it is made.
        begin: of its name, of the form of :func:`beside` or ``dcod-``.
    """
    while True:
        drawn = secrets.token_hex(4)
        holder = folder / f"{begin}{drawn}{_name_seal(begin, drawn)}"
        holder.mkdir(mode=0o700)
        try:
            lock = (holder / _LOCK).open("x")
        except FileNotFoundError:  # a sweep between the two lines took the empty folder
            continue
        try:
            locked = lock_descriptor(lock.fileno(), blocking=False)
        except OSError:  # a file system without locks: nobody takes this folder for a dead one, either
            break
        if locked and (holder / _LOCK).exists():
            break
        lock.close()  # a sweep came between again, and takes it for a dead one
    owner = os.getpid()
    with lock:
        try:
            yield holder
        finally:
            if os.getpid() == owner:  # a forked child that ends, or forgets, its copy of the block leaves it alone
                _clear(holder)


def beside(target: Path) -> str:
    """How the name of a scratch folder for a target begins; short enough for a file system."""
    return f".{os.fsdecode(os.fsencode(target.name)[:200])}.dcod-"


def sweep(folder: Path) -> None:
    """Removes the scratch folders in ``folder`` whose processes have ended; nothing else, whatever its name."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in list(entries):
            if _SCRATCH.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                with suppress(OSError):
                    _remove_dead(Path(entry.path))


def _remove_dead(holder: Path) -> None:
    """Removes a scratch folder, if it is one and its process has ended.

    Raises:
        OSError: it is not, or it cannot be removed.
    """
    name = _SCRATCH.fullmatch(holder.name)
    if name is None or name["seal"] != _name_seal(name["begin"], name["drawn"]):
        return
    try:
        lock = os.open(holder / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        holder.rmdir()  # only an empty one: the process ended before it could lock it
        return
    try:
        if lock_descriptor(lock, blocking=False):
            _clear(holder)
    finally:
        os.close(lock)


def _clear(holder: Path) -> None:
    """Removes a scratch folder; the lock goes last, so that a kill in between leaves it known.

    ``new`` is what is being made. In ``old``, and in ``aside`` where the file system cannot swap, stands what was in
    the place of an output; it goes only where it is dcod's.
    """
    name = _SCRATCH.fullmatch(holder.name)
    target = holder.parent / name["name"] if name and name["name"] else None
    with suppress(OSError):
        if target is not None and os.path.lexists(holder / "aside") and not os.path.lexists(target):
            (holder / "aside").rename(target)  # it ended between two renames
    _remove(holder / "new")
    for old in (holder / "old", holder / "aside"):
        with suppress(OSError, UserError):
            if os.path.lexists(old):
                (marks.refuse_foreign if old.is_dir() else marks.refuse_unmarked)(old, old)
                _remove(old)
    with suppress(OSError):
        if [entry.name for entry in holder.iterdir()] == [_LOCK]:
            (holder / _LOCK).unlink()
            holder.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _name_seal(begin: str, drawn: str) -> str:
    return hashlib.sha256(os.fsencode(f"dcod scratch {begin}{drawn}")).hexdigest()[:8]
