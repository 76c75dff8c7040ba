"""The same pipeline object on this machine: Kubeflow's local runner, one subprocess a task."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

    from dcod.config import Config

ALIVE = "alive"
TRACE_SETS = ("more", "traces")  # outputs that are one, the later first: it carries the other's refused rows on
AT_ONCE = 1  # trainings: two beside each other take twice the memory, and share the cores


@dataclass(frozen=True)
class Outcome:
    """How a local run ended.

    Attributes:
        log: everything that the tasks printed.
        decision: the folder of the gate's decision and the report; None when the run failed or did not train.
        traces: the trace set, with what was refused; None when there is none.
        retraining: the folder of the decision whether to train; None of a pipeline that does not ask.
        error: one line; empty when nothing failed.
        users_mistake: the error is one that the user can mend.
    """

    log: Path
    decision: Path | None = None
    traces: Path | None = None
    retraining: Path | None = None
    error: str = ""
    users_mistake: bool = False


class _Echo:
    """A text stream that keeps everything in the log and shows the lines that a stage marked."""

    def __init__(self, log: TextIO, console: Console, begun: float, everything: bool) -> None:
        self.log, self.console, self.begun, self.rest, self.everything = log, console, begun, "", everything
        self.failed = ""  # what the last stage said that failed

    def write(self, text: str) -> int:
        from dcod.progress import MARK

        self.log.write(text)
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            _, mark, shown = line.partition(MARK)
            if mark:
                self.failed = shown if " failed: " in shown else self.failed
                self.console.print(f"{time.monotonic() - self.begun:6.0f} s  {shown}")
            elif self.everything:
                self.console.print(line)
        return len(text)

    def flush(self) -> None:
        self.log.flush()

    def isatty(self) -> bool:
        return False


def run_here(config: Config, root: Path = Path("runs"), *, quiet: bool = False, verbose: bool = False) -> Outcome:
    """Runs the pipeline to its end; returns where to look, never raises for a failed stage.

    Args:
        config: the resolved configuration.
        root: pipeline outputs and logs go below it.
        quiet: nothing is shown.
        verbose: all that the tasks print is shown, not only their own lines.

    Raises:
        UserError: ``root`` cannot be written.
    """
    from filelock import FileLock
    from kfp import local
    from rich.console import Console

    from dcod.cluster import webhook
    from dcod.config.cluster import GpuConfig
    from dcod.errors import UserError, one_line
    from dcod.storage import room
    from dcod.storage import temporary as scratch
    from dcod.tracking.runs import Tracker
    from dcod_pipelines.compile import build

    if "python3" in config.to_json() or "python3" in str(root.resolve()):
        raise UserError("the local runner rewrites the word `python3` in values and paths; keep it out of them")
    if config.notify.url:
        webhook.address(), webhook.secret()  # fails early
    # The local runner would wait minutes between tries, and knows no pods that another task sizes (`look`).
    here = config.cluster.model_copy(update={"retries": 0, "gpu": GpuConfig()})
    Tracker(config.tracking)  # creates the database once, and fails early
    try:
        (root / "pipeline").mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=root / "pipeline")).resolve()
    except OSError as error:
        raise UserError(f"{root}: cannot be written ({error.strerror})") from None
    for earlier in (root / "pipeline").iterdir():
        scratch.sweep(earlier)
    _close_dead(config, root / "pipeline")
    log = work / "pipeline.log"
    shown = Console(  # before standard output is redirected
        file=sys.stdout, highlight=False, soft_wrap=True, markup=False, emoji=False, quiet=quiet
    )
    alive = FileLock(work / ALIVE)  # the kernel lets go of it, whatever kills the run
    with (
        alive,
        room.writing(work),
        log.open("w", encoding="utf-8") as file,
        _surroundings(work, shown.is_terminal and not quiet),
    ):
        echo = _Echo(file, shown, time.monotonic(), verbose)
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(work), raise_on_error=True)
        try:
            with contextlib.redirect_stdout(echo):
                build(config.model_copy(update={"cluster": here}), AT_ONCE)(config=config.to_json())
        except RuntimeError as error:  # "Inner task failed": what and why is with the stage's run
            return _failure(work, log, echo.failed or one_line(error)[:300])
    return _success(work, log)


def _close_dead(config: Config, pipelines: Path) -> None:
    """Ends the runs in MLflow that were killed here, which nobody else does; their finished stages are reused."""
    from filelock import lock_descriptor

    from dcod.retrain.history import unfinished
    from dcod.tracking.runs import Tracker

    tracker = Tracker(config.tracking)
    for name, place in unfinished(tracker):
        work = next((folder for folder in place.parents if folder.parent == pipelines.resolve()), None)
        with contextlib.suppress(OSError):  # it is alive, or of another place
            if work is not None:
                with (work / ALIVE).open() as file:
                    dead = lock_descriptor(file.fileno(), blocking=False)
                if dead:
                    tracker.finish(name, failed="the run was killed")


@contextlib.contextmanager
def _surroundings(work: Path, terminal: bool) -> Iterator[None]:
    """Temporary files of the tasks go into the run (the runner leaks one folder a task), bars to the terminal."""
    keep = dict(os.environ)
    from dcod import storage
    from dcod.storage import workers

    life = workers.life()
    with storage.scratch(work) as scratch:
        os.environ["TMPDIR"] = str(scratch)
        os.environ[workers.LIFE] = life  # a task is the grandchild of this process: it ends with it
        if terminal:
            os.environ["DCOD_PROGRESS"] = "terminal"
        tempfile.tempdir = None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            os.environ.clear()
            os.environ.update(keep)
            tempfile.tempdir = None


def _success(work: Path, log: Path) -> Outcome:
    """Where the outputs of a run lie: below a branch the runner keeps more folders, named as it likes."""
    decisions = {file.parent.parent.name: file.parent for file in work.rglob("*/decision/manifest.json")}
    sets = [next(work.rglob(f"*/{name}/manifest.json"), None) for name in TRACE_SETS]
    traces = next((file.parent for file in sets if file), None)
    return Outcome(log, decision=decisions.get("gate"), traces=traces, retraining=decisions.get("decide"))


def _failure(work: Path, log: Path, line: str) -> Outcome:
    from dcod import storage
    from dcod.storage.room import is_told

    note = next(work.rglob("*.error.json"), None)
    if note is None:  # there was no room for it, perhaps
        return Outcome(log, error=f"the pipeline failed: {line}", users_mistake=is_told(line))
    failure = storage.read_json(note, made_by="dcod run")
    return Outcome(log, error=f"{failure['stage']}: {failure['error']}", users_mistake=failure["users_mistake"])
