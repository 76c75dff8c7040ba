"""The newest run on this machine: in ``runs/latest`` are its decision and report, and its ``traces`` with the refused.

It is a link to a hidden folder beside it, which holds nothing but links: a new one takes its place in one rename.
"""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path

from dcod.errors import UserError
from dcod.storage import marks

LINK = Path("runs") / "latest"
PAGE = "report.html"
TRACES = "traces"


def mark(decision: Path, traces: Path | None = None, link: Path = LINK) -> None:
    """Makes a run the newest one, unless something of the user's has that name; without links, it does without.

    Args:
        decision: the folder of its decision and report.
        traces: its trace set.
        link: the name.
    """
    if link.exists() and not _is_ours(link):
        return
    with contextlib.suppress(OSError):
        before, folder = link.resolve(), link.with_name(f".{link.name}-{secrets.token_hex(4)}")
        fresh = folder.with_suffix(".new")
        fresh.symlink_to(folder.name, target_is_directory=True)
        folder.mkdir()
        for entry in decision.resolve().iterdir():
            (folder / entry.name).symlink_to(entry)
        if traces:
            (folder / TRACES).symlink_to(traces.resolve(), target_is_directory=True)
        fresh.replace(link)
        if before.name.startswith(f".{link.name}-") and before.parent == folder.parent.resolve():
            for entry in filter(Path.is_symlink, before.iterdir()):
                entry.unlink()
            before.rmdir()  # unless somebody has put something into it


def _is_ours(link: Path) -> bool:
    """Whether it leads to a folder of :func:`mark`, or to an output, as in earlier versions."""
    if not link.is_symlink():
        return False
    return link.readlink().name.startswith(f".{link.name}-") or any(
        (link / name).is_file() for name in (marks.MARK, marks.MANIFEST)
    )


def report_of(folder: Path | None, link: Path = LINK) -> Path:
    """The report in a folder, or anywhere below it; of the newest run where no folder is given.

    Raises:
        UserError: there is none.
    """
    if folder is None and not link.exists():
        raise UserError(f"no run has ended here yet ({link} is not there); give the folder of a run")
    place = folder or link
    pages = [place / PAGE] if (place / PAGE).is_file() else sorted(place.rglob(PAGE)) if place.is_dir() else []
    if not pages:
        raise UserError(f"{place}: no {PAGE} in it; a run writes one when its gate has decided")
    return pages[-1]
