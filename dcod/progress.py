"""Progress bars on standard error, silent when it is not a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")


def track(items: Sequence[Item], what: str) -> Iterable[Item]:
    """Iterates with a progress bar; the plain sequence where nobody watches."""
    piped = os.environ.get("DCOD_PROGRESS") == "terminal"  # `dcod run` pipes its stages' output
    if not (sys.stderr.isatty() or piped):
        return items
    from rich.console import Console
    from rich.progress import track as rich_track

    try:
        stream = Path("/dev/tty").open("w") if piped else sys.stderr
    except OSError:
        return items
    console = Console(file=stream, force_terminal=True)
    return rich_track(items, description=f"         {what}", console=console, transient=True)
