"""The newest run on this machine: ``runs/latest`` is a link to the folder of its decision and report."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path

from dcod.errors import UserError
from dcod.storage import marks

LINK = Path("runs") / "latest"
PAGE = "report.html"
_OURS = (marks.MARK, marks.MANIFEST)  # one of them is in every output


def mark(decision: Path, link: Path = LINK) -> None:
    """Makes a decision the newest one, unless something of the user's has that name; without links, it does without."""
    if link.exists() and not (link.is_symlink() and any((link / name).is_file() for name in _OURS)):
        return
    with contextlib.suppress(OSError):
        fresh = link.with_name(f".{link.name}-{secrets.token_hex(4)}")
        fresh.symlink_to(decision.resolve(), target_is_directory=True)
        fresh.replace(link)


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
