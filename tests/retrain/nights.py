"""Nights of a schedule: each is `dcod run` in a process of its own, forked from one that has imported everything.

Kubeflow's local runner starts one interpreter a task, and imports are most of what it does with a tiny student. Here
its one function that starts them forks instead, from a server of :mod:`multiprocessing` that never opened a store; the
pipeline, the components and their processes are the real ones.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

NOW = "TESTS_NOW"  # in the environment of a night: the time that its decisions and its budget go by

CHOSEN = "TESTS_CHOSEN"  # likewise: the arm that is chosen, whatever its pilots say
TRAININGS = ("train", "pilot", "again")

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.retrain.preloaded"])


def dcod(folder: Path, *arguments: str, killed_in: str = "", environment: dict[str, str] | None = None) -> Night:
    """Starts `dcod ARGUMENTS` in a folder.

    Args:
        folder: the working directory.
        arguments: of the command line.
        killed_in: where the whole run is killed, as by a power cut; a point of :func:`_kill_at`.
        environment: what changes in it.
    """
    return Night(folder, arguments, killed_in, environment or {})


class Night:
    """A run of the command line; ``said`` is all that it printed."""

    def __init__(self, folder: Path, arguments: tuple[str, ...], killed_in: str, environment: dict[str, str]) -> None:
        handle, name = tempfile.mkstemp(dir=folder, prefix=".said-")
        os.close(handle)
        self._file = Path(name)
        self._process = _forks.Process(target=_night, args=(str(folder), arguments, killed_in, environment, name))
        self._process.start()

    def ended(self, within_s: float = 600.0) -> int:
        """Waits, and returns the exit code; that of a killed one is negative."""
        self._process.join(within_s)
        assert not self._process.is_alive(), f"it takes too long: {self.said}"
        code = self._process.exitcode
        assert code is not None
        return code

    @property
    def said(self) -> str:
        return self._file.read_text(encoding="utf-8", errors="replace")


def _night(folder: str, arguments: tuple[str, ...], killed_in: str, environment: dict[str, str], said: str) -> None:
    from kfp.local import subprocess_task_handler

    _surround(folder, environment, said)
    ask = _task_server(killed_in)

    def forked(full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        handle, name = tempfile.mkstemp(prefix="task-")
        os.close(handle)
        code = ask({"command": full_command, "environment": dict(os.environ) | (env_vars or {}), "said": name})
        print(Path(name).read_text(encoding="utf-8", errors="replace"))
        return code

    subprocess_task_handler.run_local_subprocess = forked
    from dcod.cli import main

    sys.argv = ["dcod", *arguments]
    main()


def _task_server(killed_in: str) -> Callable[[dict[str, Any]], int]:
    """Forks a process that forks the tasks: this one opens a store later, and connections do not survive a fork."""
    night = os.getpid()
    (their_in, our_out), (our_in, their_out) = os.pipe(), os.pipe()
    if os.fork() == 0:
        os.close(our_out)
        with os.fdopen(their_in) as requests:
            for line in requests:
                pid = os.fork()
                if pid == 0:
                    _task(killed_in, night, **json.loads(line))
                os.write(their_out, f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n".encode())
        os._exit(0)
    os.close(their_in)
    replies = os.fdopen(our_in)

    one_at_a_time = threading.Lock()  # the runner takes the turns of a loop in threads

    def ask(request: dict[str, Any]) -> int:
        with one_at_a_time:
            os.write(our_out, (json.dumps(request) + "\n").encode())
            return int(replies.readline())

    return ask


def _task(killed_in: str, night: int, command: list[str], environment: dict[str, str], said: str) -> None:
    """What the runner's shell command does: the component's source into a file, and Kubeflow's executor over it."""
    from kfp.dsl import executor_main

    code = 0
    try:
        shell, _, script, source, *arguments = command
        assert shell == "sh", command
        assert "kfp.dsl.executor_main" in script, script
        os.environ.clear()
        _surround("", environment, said)
        tempfile.tempdir = None
        path = Path(tempfile.mkdtemp()) / "ephemeral_component.py"
        path.write_text(source, encoding="utf-8")
        os.environ["_KFP_RUNTIME"] = "true"
        sys.argv = ["executor", "--component_module_path", str(path), *arguments]
        if arguments[arguments.index("--function_to_execute") + 1] == killed_in.partition(":")[0]:
            given = json.loads(arguments[arguments.index("--executor_input") + 1])
            _kill_at(killed_in, night, given.get("inputs", {}).get("parameterValues", {}).get("arm", ""))
        _simulate()
        executor_main.executor_main()
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _simulate() -> None:
    """Another clock or choice, where one is set; and no fresh process to load a registered model (half a minute)."""
    from dcod.promote import choice
    from dcod.stages import decide, gate, promote

    setattr(promote, "promote", functools.partial(promote.promote, load_check=False))  # noqa: B010
    if CHOSEN in os.environ:
        choose = choice.choose
        name = os.environ[CHOSEN]
        setattr(choice, "choose", lambda *given: replace(choose(*given), arm=name))  # noqa: B010
    if NOW in os.environ:
        at = datetime.fromisoformat(os.environ[NOW]).timestamp()
        setattr(decide, "run", functools.partial(decide.run, clock=lambda: at))  # noqa: B010
        setattr(gate, "challenge", functools.partial(gate.challenge, clock=lambda: at))  # noqa: B010


def _surround(folder: str, environment: dict[str, str], said: str) -> None:
    if folder:
        os.chdir(folder)
    os.environ.update(environment)
    file = os.open(said, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)


def _kill_at(point: str, night: int, arm: str) -> None:
    """Arms this process: at the point both it and the run's own process are gone.

    Points: ``train``, ``pilot`` and ``again`` after a few steps, with ``:NAME`` of that arm alone (``chosen``: of none
    by name); ``gate:registered`` before the challenger gets its alias; ``promote:moved`` when the champion's alias has
    moved and nothing says so yet; ``promote`` before it begins; of any other component when its work is done and
    nothing of it is stored.
    """
    from dcod.stages import execute
    from dcod.tracking import registry
    from dcod.train import loop

    def die() -> None:
        os.kill(night, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    def wrap(owner: Any, name: str, before: Callable[..., bool], after: Callable[..., bool]) -> None:
        inner = getattr(owner, name)

        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            if before(*arguments):
                die()
            found = inner(*arguments, **keywords)
            if after(*arguments):
                die()
            return found

        setattr(owner, name, wrapped)

    always, never = (lambda *_: True), (lambda *_: False)
    steps = iter(range(1_000_000))
    name, _, part = point.partition(":")
    if name in TRAININGS and part not in ("", arm or "chosen"):
        return
    if name in TRAININGS:
        wrap(loop, "forward_backward", lambda *_: next(steps) == 4, never)
    elif point == "gate:registered":
        wrap(registry.Registry, "set_alias", lambda *given: given[2] == registry.CHALLENGER, never)
    elif point == "promote:moved":
        wrap(registry.Registry, "set_alias", never, always)
    elif point == "promote":
        wrap(execute, "_run", always, never)
    else:
        wrap(execute, "_run", never, always)
