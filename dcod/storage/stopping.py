"""Asked to end: SIGTERM, SIGHUP and Ctrl-C alike unwind the stack, so that all is closed and cleaned up on the way.

What must not end in the middle of a step takes notice of SIGTERM, and ends by itself.
"""

from __future__ import annotations

import contextlib
import multiprocessing.popen_spawn_posix
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from dcod.errors import StoppedError
from dcod.storage import workers

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN_S = 2.0
_SOON_S = 0.05
_STEP_S = 10.0  # for how long a step that is not cut may hold an end up
_STEPS = ("<frozen importlib", multiprocessing.popen_spawn_posix.__file__)  # where such a step's code is from


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """Within the block a signal to end raises a :class:`StoppedError` in the main thread, once its workers are told.

    What is ignored already (nohup) stays so. The second Ctrl-C ends the cleaning up; the next run does the rest.
    It waits for the end of an import: packages catch what is raised there, or are in the middle of C++, which aborts.
    And until a process that is being started has been told what to do: else it ends with a stack trace of its own.
    An error that is lost, since the signal came in a finalizer or a callback, which lets none out, is raised again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (*_SIGNALS, signal.SIGALRM)}
    for number in _SIGNALS:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, _stop)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
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


def _stop(number: int, frame: FrameType | None) -> None:
    for other in _SIGNALS:
        if other != signal.SIGINT:
            signal.signal(other, signal.SIG_IGN)
    first = signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    until = time.monotonic() + _STEP_S
    signal.signal(signal.SIGALRM, lambda _, frame: _once_more(number, frame, until))
    if first and _in_step(frame):
        signal.setitimer(signal.ITIMER_REAL, _SOON_S)
        return
    _raise(number)


def _once_more(number: int, frame: FrameType | None, until: float) -> None:
    """Raises the error anew, unless it is on its way: then this comes in the middle of what is cleaned up for it."""
    if time.monotonic() < until and _in_step(frame):
        signal.setitimer(signal.ITIMER_REAL, _SOON_S)
        return
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_S, _AGAIN_S)
    error = sys.exception()
    while error is not None:
        if isinstance(error, StoppedError):
            return
        error = error.__context__
    _raise(number)


def _raise(number: int) -> NoReturn:
    workers.let_go()
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_S, _AGAIN_S)
    raise StoppedError(number)


def _in_step(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith(_STEPS):
            return True
        frame = frame.f_back
    return False
