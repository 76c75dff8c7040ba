"""What dcod knows as its own: an output folder by its list, an output file by its mark. All else is the user's.

The list, ``.dcod``, names all that dcod wrote into the folder; what came there since is not dcod's, and stops any
replacement of the folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from dcod.errors import UserError

MANIFEST = "manifest.json"  # of an output: what it was made of, by whom (dcod.stages.manifests)
MARK = ".dcod"  # in an output folder: no suffix that a pattern of model files or sources would match
FILE_MARK = "made by dcod, which may replace it"  # near the beginning of an output file, as a comment
HEAD = 1024  # bytes of a file in which the mark is looked for


def seal(folder: Path, later: Iterable[str]) -> None:
    """Writes the list of a folder.

    Args:
        folder: all in it is dcod's.
        later: folders in it that dcod makes afterwards, outputs of their own.
    """
    (folder / MARK).unlink(missing_ok=True)
    known = {"made_by": "dcod", "files": sorted(_entries(folder)), "later": sorted(later)}
    (folder / MARK).write_text(json.dumps(known) + "\n", encoding="utf-8")


def foreign(folder: Path) -> list[str]:
    """What is in a folder that dcod did not put there, by its list; all of it where there is none."""
    known = _listed(folder)
    if known is None:
        return sorted(entry.name for entry in folder.iterdir())
    listed, later = set(known["files"]), [name for name in known["later"] if (folder / name).is_dir()]
    of_others = [f"{name}/{inner}" for name in later for inner in foreign(folder / name)]
    mine = (e for e in _entries(folder) if not any(e == f"{name}/" or e.startswith(f"{name}/") for name in later))
    return sorted([*of_others, *(entry for entry in mine if entry not in listed)])


def later(folder: Path) -> list[str]:
    """The folders in an output folder that are outputs of their own."""
    known = _listed(folder)
    return known["later"] if known else []


def refuse_foreign(path: Path, folder: Path) -> None:
    """Raises a UserError where a folder holds what is not dcod's; ``path`` is what the user called it."""
    try:
        if folder.is_symlink() or not folder.is_dir():
            raise UserError(f"{path}: is a file, not a folder, and stays as it is; choose another --out")
        others = foreign(folder)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); choose another --out") from None
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise UserError(
            f"{path}: holds {others[0]}{more}, which this version of dcod did not write, and stays as it is; choose "
            "another --out, or move that away"
        )


def refuse_unmarked(path: Path, file: Path) -> None:
    """As :func:`refuse_foreign`, of a file."""
    if file.is_symlink() or not file.is_file():
        kind = "a folder" if file.is_dir() else "no plain file"
        raise UserError(f"{path}: is {kind}, and stays as it is; choose another name for the output")
    try:
        with file.open("rb") as opened:
            ours = FILE_MARK.encode() in opened.read(HEAD)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); choose another name for the output") from None
    if not ours:
        raise UserError(
            f"{path}: this version of dcod did not write it, and it stays as it is; choose another name for the "
            "output, or move it away"
        )


def _listed(folder: Path) -> dict[str, list[str]] | None:
    """The list of an output folder; None where there is none of dcod's."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        if (folder / MARK).is_symlink() or not (folder / MARK).is_file():
            return None
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
        if mark["made_by"] == "dcod" and all(isinstance(name, str) for name in (*mark["files"], *mark["later"])):
            return {"files": mark["files"], "later": mark["later"]}
    return None


def _entries(folder: Path) -> Iterator[str]:
    """All that is in a folder but its mark: files and links, and folders with a slash; none where it has gone."""

    def give_up(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # another process may take it away meanwhile
            raise error

    for root, folders, files in os.walk(folder, onerror=give_up):
        inside = os.path.relpath(root, folder)
        place = "" if inside == os.curdir else f"{Path(inside).as_posix()}/"
        yield from (f"{place}{name}/" for name in folders)
        yield from (f"{place}{name}" for name in files if place or name != MARK)
