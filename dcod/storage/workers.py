"""Worker processes that end with their parent, whatever ends it and whatever they are at.

A parent holds a named pipe open for writing as long as it lives. A worker opens it for reading and asks for a signal
when the last writer is gone: the kernel sends it, so that a worker in the middle of a long call into C ends as well,
which no thread of its own could see to.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from dcod.storage.temporary import scratch

LIFE = "DCOD_LIFE"  # in the environment of a worker: the pipe of its parent; nobody sets it by hand

Given = TypeVar("Given")
Made = TypeVar("Made")

_held: tuple[ExitStack, Path, int] | None = None
_making = threading.Lock()  # threads that start workers at once share one pipe
_inherited = ""  # of a worker: it starts further ones on its parent's pipe
_made: Any = None  # of a worker in a pool


def life() -> str:
    """The pipe that this process holds open, or its parent's, for the environment of a worker."""
    global _held
    if _inherited:
        return _inherited
    with _making:
        if _held is None:
            stack = ExitStack()
            path = stack.enter_context(scratch()) / "life"
            os.mkfifo(path, 0o600)
            _held = stack, path, os.open(path, os.O_RDWR | os.O_NONBLOCK)
        return str(_held[1])


def environment() -> dict[str, str]:
    """Of a child process that imports this very dcod, and ends with this process (:func:`end_with_parent`)."""
    places = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places), LIFE: life()}


@atexit.register
def let_go() -> None:
    """Ends all workers of this process."""
    global _held
    held, _held = _held, None
    if held is not None:
        os.close(held[2])
        held[0].close()


def end_with_parent(path: str = "", *, gently: bool = False) -> None:
    """Ends this process with the one that holds a pipe.

    Args:
        path: of the pipe; else that of the environment, and nothing is done where there is none.
        gently: by SIGTERM, so that it can keep what it did; else at once.
    """
    global _inherited
    path = path or os.environ.get(LIFE, "")
    if not path:
        return
    if not gently:
        _inherited = path
    try:
        pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        if gently:
            signal.signal(signal.SIGIO, lambda *_: signal.raise_signal(signal.SIGTERM))
        fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
        gone = os.read(pipe, 1) == b""
    except BlockingIOError:  # nothing to read, but somebody might write
        return
    except OSError:
        gone = True
    if gone:
        os._exit(1)


@contextmanager
def unasked() -> Iterator[None]:
    """What is started within the block does not see Ctrl-C at a terminal: its parent does, and ends it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Pool:
    """Processes that each made one thing, and answer with it."""

    def __init__(self, executor: ProcessPoolExecutor) -> None:
        self._executor = executor

    def submit(self, work: Callable[..., Any], *given: Any) -> Future[Any]:
        """Calls ``work`` with what a process made and with ``given``."""
        with unasked():  # the first call starts the processes
            return self._executor.submit(_work, work, given)


@contextmanager
def pool(count: int, make: Callable[..., Any], *given: Any) -> Iterator[Pool]:
    """A pool of processes; whatever leaves the block early ends them at once, in the middle of their work.

    Args:
        count: of processes.
        make: called once in each, with its number, from 0, and ``given``; a function of a module.
        *given: the same for all.
    """
    context = multiprocessing.get_context("spawn")  # not forked: this process has threads, and CUDA perhaps
    turns = context.Queue()
    for turn in range(count):
        turns.put(turn)
    before = set(multiprocessing.active_children())
    begin: Callable[..., object] = _begin  # else the stubs take the pool for one whose processes begin with nothing
    executor = ProcessPoolExecutor(count, context, begin, (_Tie(life()), turns, make, given))
    try:
        yield Pool(executor)
    except BaseException:
        for process in set(multiprocessing.active_children()) - before:
            process.kill()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


class _Tie:
    """Ties a process to its parent as soon as it is told what to do, before it imports what that needs."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return end_with_parent, (self.path,)


def _begin(_: None, turns: Any, make: Callable[..., Any], given: tuple[Any, ...]) -> None:
    global _made
    _made = make(turns.get(), *given)


def _work(work: Callable[..., Any], given: tuple[Any, ...]) -> Any:
    return work(_made, *given)


def _forked() -> None:
    """A forked child must not keep its parent's workers alive; the scratch folder stays the parent's."""
    global _held, _making
    _making = threading.Lock()  # another thread of the parent may have held it
    if _held is not None:
        with contextlib.suppress(OSError):
            os.close(_held[2])
        _held = None


os.register_at_fork(after_in_child=_forked)
