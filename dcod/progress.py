"""Progress bars on standard error, silent when it is not a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

Item = TypeVar("Item")
MARK = "[dcod] "  # `dcod run` shows the lines of a stage that carry it; the rest goes to its log


_counting = False  # a bar of `counted` is on the screen; two bars would write over each other


def track(items: Iterable[Item], what: str, total: Callable[[], float] | None = None) -> Iterable[Item]:
    """Iterates with a progress bar; the plain items where nobody watches, or inside :func:`counted`.

    Args:
        items: what is gone through.
        what: a word before the bar.
        total: how many there are about, where they have no length; asked only where somebody watches.
    """
    console = None if _counting else _console()
    if console is None:
        return items
    from rich.progress import track as rich_track

    expected = total() if total else None
    return rich_track(items, description=f"         {what}", total=expected, console=console, transient=True)


@contextmanager
def counted(total: int, what: str) -> Iterator[Callable[[int, str], None]]:
    """A progress bar that is moved by hand: yields a function of how far it is, and of a few words beside it."""
    global _counting
    console = _console()
    if console is None:
        yield lambda _done, _words: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("         {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        _counting = True
        try:
            yield lambda done, words: bar.update(task, completed=done, description=f"{what} {words}")
        finally:
            _counting = False


def _console() -> Console | None:
    """Where a bar is seen, if anywhere."""
    told = os.environ.get("DCOD_PROGRESS", "")
    piped = told == "terminal"  # `dcod run` pipes its stages' output
    if told == "none" or not (sys.stderr.isatty() or piped):
        return None
    from rich.console import Console

    try:
        stream = Path("/dev/tty").open("w") if piped else sys.stderr
    except OSError:
        return None
    return Console(file=stream, force_terminal=True)
