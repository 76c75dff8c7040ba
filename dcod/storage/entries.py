"""What lies right in a folder or below an s3:// prefix of dcod's: how old it is, how large, and its removal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dcod.storage import marks
from dcod.storage.files import is_s3
from dcod.storage.outputs import remove_folder
from dcod.storage.s3 import dated_objects, remove


@dataclass(frozen=True)
class Entry:
    """One thing that lies there.

    Attributes:
        name: within the place.
        uri: of all of it.
        when: seconds since 1970 of the last change of the newest in it.
        size: bytes.
        remove: deletes it; what is not dcod's own stays.
    """

    name: str
    uri: str
    when: float
    size: int
    remove: Callable[[], None]


def entries(uri: str) -> Iterator[Entry]:
    """What lies right below a prefix, or in a folder as far as it is dcod's; nothing of an empty name."""
    if not uri:
        return
    if not is_s3(uri):
        yield from (_folder(path) for path in sorted(Path(uri).glob("*")) if _ours(path))
        return
    under: dict[str, list[tuple[float, int]]] = {}
    root = f"{uri.rstrip('/')}/"
    for key, when, size in dated_objects(root):
        under.setdefault(key.removeprefix(root).partition("/")[0], []).append((when, size))
    for name, objects in sorted(under.items()):
        whole = f"{root}{name}"
        newest, size = max(when for when, _ in objects), sum(size for _, size in objects)
        yield Entry(name, whole, newest, size, partial(remove, whole))


def _ours(folder: Path) -> bool:
    """Whether all in a folder is dcod's: an output, or a folder of nothing but outputs."""
    if not folder.is_dir():
        return False
    inner = list(folder.iterdir())
    return not marks.foreign(folder) or (bool(inner) and all(one.is_dir() and not marks.foreign(one) for one in inner))


def _folder(folder: Path) -> Entry:
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    newest = max((one.st_mtime for one in files), default=folder.stat().st_mtime)

    def remove_it() -> None:
        for one in (folder, *(path for path in folder.glob("*") if path.is_dir())):
            remove_folder(one)
        if folder.is_dir() and not list(folder.iterdir()):
            folder.rmdir()

    return Entry(folder.name, str(folder), newest, sum(one.st_size for one in files), remove_it)
