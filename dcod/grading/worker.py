"""Worker processes with limits: what compares answers may hang, grow or crash, and costs one answer, not the run.

A worker is ``python -m MODULE CPU_SECONDS``, whose ``__main__`` calls :func:`serve`. Processor time is limited, not
wall time, so that a verdict does not depend on a busy machine; memory is limited as well.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import logging
import os
import queue
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from dcod.storage import workers

CPU_SECONDS = 5  # processor time for one comparison
WALL_SECONDS = 900.0  # only for a worker that is stuck; 5 s of processor time can take minutes on a busy machine
MEMORY_BYTES = 2 * 2**30


class Verifier:
    """A worker, ``python -m MODULE``: a hostile answer costs a time-out, not the run."""

    def __init__(self, module: str, cpu_seconds: int = CPU_SECONDS, wall_seconds: float = WALL_SECONDS) -> None:
        self.module = module
        self.cpu_seconds = cpu_seconds
        self.wall_seconds = wall_seconds
        self.process: subprocess.Popen[str] | None = None

    def ask(self, request: Any) -> Any:
        """Sends one JSON value; the worker's answer. One that hangs or dies is replaced, and has answered None."""
        process = self._alive()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                line = process.stdout.readline() if selector.select(self.wall_seconds) else ""
        except OSError:
            line = ""
        if not line:
            self.close()
            return None
        return json.loads(line)

    def close(self) -> None:
        """Ends the worker."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def _alive(self) -> subprocess.Popen[str]:
        if self.process is None or self.process.poll() is not None:
            self.close()
            environment = workers.environment()
            with workers.unasked(), tempfile.TemporaryFile() as said:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", self.module, str(self.cpu_seconds)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=said,
                    text=True,
                    env={**environment, "OMP_NUM_THREADS": "1"},
                )
                assert self.process.stdout is not None
                if self.process.stdout.readline().strip() != "ready":  # it has imported sympy by then
                    self.process.kill()
                    code = self.process.wait()
                    self.close()
                    said.seek(0)
                    last = said.read().decode(errors="replace").strip().rpartition("\n")[2]
                    raise RuntimeError(
                        f"the grading worker does not start (exit code {code}): "
                        f"{sys.executable} -m {self.module}{': ' * bool(last)}{last}"
                    )
        return self.process


_idle: defaultdict[str, queue.LifoQueue[Verifier]] = defaultdict(queue.LifoQueue)


def ask(module: str, request: Any) -> Any:
    """Asks a worker that no other thread uses meanwhile; there are never more than threads that ask at once."""
    try:
        worker = _idle[module].get_nowait()
    except queue.Empty:
        worker = Verifier(module)
    try:
        return worker.ask(request)
    finally:
        _idle[module].put(worker)


@atexit.register
def close_workers() -> None:
    """Ends all idle workers."""
    for idle in _idle.values():
        with contextlib.suppress(queue.Empty):
            while True:
                idle.get_nowait().close()


os.register_at_fork(after_in_child=_idle.clear)  # a forked child must not share its parent's pipes


class _LateError(BaseException):
    """The processor time of a comparison is over; no handler of sympy's or math-verify's may take it for its own."""


def serve(answer: Callable[..., Any], warm_up: str, prepare: Callable[..., object] | None = None) -> None:
    """The worker's loop: JSON lists of arguments in, JSON answers out, null for what failed; until its input ends.

    Args:
        answer: called with each list, under the limits.
        warm_up: a module that is imported first, outside the limits.
        prepare: called with each list first, outside the limit on time.
    """
    workers.end_with_parent()
    logging.disable(logging.CRITICAL)
    importlib.import_module(warm_up)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGPROF, _late)
    seconds, unlimited = int(sys.argv[1]), resource.getrlimit(resource.RLIMIT_CPU)
    print("ready", flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # what hostile answers make sympy say is nobody's
    for line in sys.stdin:
        reply = None
        try:
            request = json.loads(line)
            if prepare:
                prepare(*request)
            used = resource.getrusage(resource.RUSAGE_SELF)
            # Python code is interrupted; a call that never comes back to it ends the process two seconds later.
            limit = int(used.ru_utime + used.ru_stime) + seconds + 2
            resource.setrlimit(resource.RLIMIT_CPU, (limit, unlimited[1]))
            signal.setitimer(signal.ITIMER_PROF, seconds)
            try:
                reply = answer(*request)
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
                resource.setrlimit(resource.RLIMIT_CPU, unlimited)
        except (_LateError, Exception):
            reply = None
        print(json.dumps(reply), flush=True)


def _late(*_: object) -> None:
    raise _LateError
