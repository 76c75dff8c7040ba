"""Asked to end: SIGTERM, SIGHUP and Ctrl-C alike unwind the stack, so that all is closed and cleaned up on the way.

What must not end in the middle of a step takes notice of SIGTERM, and ends by itself.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from dcod.errors import StoppedError
from dcod.storage import workers

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """Within the block a signal to end raises a :class:`StoppedError` in the main thread, once its workers are told.

    What is ignored already (nohup) stays so. The second Ctrl-C ends the cleaning up; the next run does the rest.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def noticing(then: Callable[[], object] = lambda: None) -> Iterator[list[int]]:
    """A list that SIGTERM fills, instead of ending the process in the middle of a step; ``then`` is called with it."""
    asked: list[int] = []

    def notice(number: int, _: object) -> None:
        asked.append(number)
        then()

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGTERM, notice)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(number: int, _: object) -> None:
    for other in _SIGNALS:
        if other != signal.SIGINT:
            signal.signal(other, signal.SIG_IGN)
    workers.let_go()
    raise StoppedError(number)
