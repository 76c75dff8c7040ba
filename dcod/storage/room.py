"""Where nothing can be written: full, over a quota, read-only, forbidden. A user's mistake with a way out, in one line.

Such an error has many faces: an OSError of Python's or Arrow's, one of safetensors, of SQLite below MLflow. All are
told by their number or their words, and the place is that of the error, else of whoever was writing.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dcod.errors import UserError, one_line

_WORDS = {
    errno.ENOSPC: "there is no space left",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "a file would be larger than the file system or `ulimit -f` allows",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
}
# As dcod.storage.temporary names them: a user knows nothing of them.
_SCRATCH = re.compile(r"/(\.(?P<name>[^/]+)\.)?dcod-[0-9a-f]{16}/new")
_ROOM = 1e6  # bytes; with less a file system is full
_ENDS = "what was there before is intact"
_DATABASE = re.compile(r"sqlite3\.\w+Error")
_SAID = {  # by libraries that do not keep the number
    errno.ENOSPC: r"no space left on device|os error 28\b|errno 28\b|database or disk is full|no usable temporary dir",
    errno.EDQUOT: r"disk quota exceeded|os error 122\b|errno 122\b",
    errno.EFBIG: r"file too large|os error 27\b|errno 27\b|disk i/o error",  # so SQLite at a limit
    errno.EROFS: r"read-only file system|os error 30\b|errno 30\b|attempt to write a readonly database",
    errno.EACCES: r"os error 13\b|errno 13\b|unable to open database file",
}


@contextmanager
def writing(place: Path | str, way: str = "", database: str | None = None) -> Iterator[None]:
    """What is written within the block goes to ``place``; where it cannot, that is said in one line.

    Args:
        place: a path, or a setting and its value.
        way: another way out than to make room, such as ``choose another --out``.
        database: the tracking store: an error of SQLite is of that place. None leaves such an error to who knows it.

    Raises:
        UserError: there is no room, or no leave to write.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        told = explained(error, place, way, database)
        if told is None:
            raise
        raise told from error


def explained(
    error: BaseException, place: Path | str = "", way: str = "", database: str | None = None
) -> UserError | None:
    """The one line about an error that says that something cannot be written; None for any other."""
    for cause in _chain(error):
        number = _number(cause)
        if number is None:
            continue
        in_database = bool(_DATABASE.search(str(cause)))
        if in_database and database is None:
            return None
        full = number in (errno.ENOSPC, errno.EDQUOT)
        where, way = (database or "", "") if in_database else (_where(cause, str(place), full), way)
        free = _free(where)
        text = _WORDS[number] + (f" ({free / 1e6:,.1f} MB are free)" if full and free < 1e9 and not in_database else "")
        ways = ["make room" if full else "raise the limit" if number == errno.EFBIG else "give leave to write there"]
        ways += [way] if way else []
        where = _SCRATCH.sub(lambda match: f"/{match['name']}" if match["name"] else "", where)
        return UserError(f"{where or 'a file'}: {text}; {' or '.join(ways)}, and run it again: {_ENDS}")
    return None


def is_told(text: str) -> bool:
    """Whether a line is one of :func:`explained`."""
    return _ENDS in text


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno in _WORDS:
        return error.errno
    text = one_line(error)[:4000]
    return next((number for number, said in _SAID.items() if re.search(said, text, re.IGNORECASE)), None)


def _where(error: BaseException, place: str, full: bool) -> str:
    """The file of an error; the place that was written to where there is none, or where it is scratch of that place."""
    named = _text(getattr(error, "filename2", None)) or _text(getattr(error, "filename", None))
    if named and not (place and ".dcod-" in named):
        return named
    with contextlib.suppress(OSError):  # where there is no temporary folder at all
        temporary = tempfile.gettempdir()
        if full and not named and _free(place) > _ROOM > _free(temporary):
            return temporary
    return place


def _text(name: object) -> str:
    """Of a file in an error, which may be bytes, or the number of an open file."""
    return os.fsdecode(name) if isinstance(name, (str, bytes, os.PathLike)) else ""


def _free(place: str) -> float:
    """Bytes free at a place; infinity where it cannot be told, or where files or a quota must be used up instead."""
    path = Path(place)
    while not path.exists() and path != path.parent:
        path = path.parent
    with contextlib.suppress(OSError, ValueError):
        return shutil.disk_usage(path).free
    return math.inf
