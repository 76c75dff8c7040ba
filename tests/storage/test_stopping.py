"""Ended at any moment: the old output or the new, nobody left behind, no scratch that the next run does not remove."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing import util
from pathlib import Path

import pytest

from dcod import storage
from dcod.config import parse_config
from dcod.errors import StoppedError
from dcod.stages.execute import RunContext, execute
from dcod.storage import marks, stopping, temporary, workers

HOW = {
    "ctrl_c": (signal.SIGINT, True),  # the whole group, as a terminal does
    "term": (signal.SIGTERM, False),
    "kill": (signal.SIGKILL, True),
    "parent": (signal.SIGKILL, False),  # only the first process
}
VERBS = {
    "ingest": ("ingest", "--traces", "raw.jsonl"),
    "score": ("score", "--traces", "traces", "score.checkpoints.every=1"),
    "score in two": ("score", "--traces", "traces", "score.checkpoints.every=1", "score.workers=2"),
    "train": ("train", "--scores", "scores", "train.epochs=50", "train.correction.name=support_text"),
    "teach": (
        "teach",
        "--prompts",
        "raw.jsonl",
        "--teacher",
        "student",
        "teach.attempts=50",
        "teach.max_new_tokens=50",
    ),
    "evaluate": ("evaluate", "evaluate.benchmarks=[{name: custom, source: raw.jsonl}]"),
}


def living(trial: str) -> list[str]:
    """The processes of a trial, by a mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            ended = (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            if f"DCOD_TRIAL={trial}".encode() in (folder / "environ").read_bytes().split(b"\0") and not ended:
                found.append((folder / "cmdline").read_text())
        except OSError:  # it has ended meanwhile
            continue
    return found


def eventually(true: object, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
def test_every_stage_and_every_end(tmp_path: Path, tiny_student: Path) -> None:
    rows = [{"prompt": f"{n} + 1?", "question": f"{n} + 1?", "answer": f"{n + 1}", "completion": f"#### {n + 1}",
             "gold": f"{n + 1}"} for n in range(40)]  # fmt: skip
    (tmp_path / "raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "student").symlink_to(tiny_student)
    config = parse_config(json.dumps({"ingest": {"sources": [str(tmp_path / "raw.jsonl")], "keep": "all"}}))
    given = {"student": tiny_student}
    quiet = RunContext(tracked=False)
    execute("ingest", config, tmp_path / "traces", given, quiet)
    execute("score", config, tmp_path / "scores", {**given, "traces": tmp_path / "traces"}, quiet)
    trials = 0
    for verb, arguments in VERBS.items():
        begun = {}
        for how in HOW:
            trial = f"{os.getpid()}-{verb}-{how}".replace(" ", "-")
            folder = tmp_path / trial
            (folder / "tmp").mkdir(parents=True)
            for name in ("raw.jsonl", "student", "traces", "scores"):  # apart: what one keeps, another would drop
                (folder / name).symlink_to(tmp_path / name)
            with storage.output_folder(folder / "out") as out:
                (out / "old.txt").write_text("old")
            student = () if verb == "teach" else ("--student", "student")
            begun[how] = folder, subprocess.Popen(
                [sys.executable, "-m", "dcod", *arguments, *student, "--out", "out", "--no-track", "teach.work=work"],
                cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
                env={**os.environ, "DCOD_TRIAL": trial, "TMPDIR": str(folder / "tmp")},
            )  # fmt: skip
        for how, (folder, process) in begun.items():
            at_work = lambda folder=folder, process=process: (  # noqa: E731
                list(folder.glob(".out.dcod-*/new")) or process.poll() is not None
            )
            assert eventually(at_work, 300)
            time.sleep(0.3)
            number, group = HOW[how]
            if process.poll() is None:
                (os.killpg if group else os.kill)(process.pid, number)
            said = process.communicate(timeout=120)[0]
            assert eventually(lambda folder=folder: not living(folder.name), 60), (verb, how, living(folder.name))
            assert "Traceback" not in said, (verb, how, said)
            out = folder / "out"
            assert (out / "old.txt").is_file() or (out / "manifest.json").is_file(), (verb, how)
            assert marks.foreign(out) == []
            if number != signal.SIGKILL:
                assert not list(folder.glob(".out.dcod-*")), (verb, how, said)
            temporary.sweep(folder)
            temporary.sweep(folder / "tmp")
            assert not list(folder.glob(".*")), (verb, how)
            assert not list((folder / "tmp").glob("dcod-*")), (verb, how)
            trials += 1
    assert trials >= 22, trials


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_stop_that_a_finalizer_loses_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "_AGAIN_S", 0.05)
    began = time.monotonic()

    class Finalized:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)  # its error does not get out of here

    @stopping.stopping()
    def work() -> None:
        Finalized()
        while time.monotonic() < began + 60:
            time.sleep(0.01)

    with pytest.raises(StoppedError):
        work()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


IMPORTED = """
import signal, time
cut = False
try:
    signal.raise_signal(signal.SIGTERM)
    time.sleep(0.3)
except BaseException:  # as packages do that try for what is not there
    cut = True
"""


def test_a_stop_waits_for_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "swallows_all.py").write_text(IMPORTED)
    began = time.monotonic()

    @stopping.stopping()
    def work() -> None:
        import swallows_all

        assert not swallows_all.cut
        while time.monotonic() < began + 60:
            time.sleep(0.01)

    with pytest.raises(StoppedError):
        work()
    assert time.monotonic() < began + 10


def test_a_stop_waits_until_a_worker_that_starts_is_told(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    started, start = [], util.spawnv_passfds

    def stopped_at_start(*given: object) -> int:
        started.append(start(*given))
        signal.raise_signal(signal.SIGTERM)
        return started[-1]

    @stopping.stopping()
    def work() -> None:
        with workers.pool(1, int) as pool:
            monkeypatch.setattr(util, "spawnv_passfds", stopped_at_start)
            pool.submit(int).result(60)

    began = time.monotonic()
    with pytest.raises(StoppedError):
        work()
    assert time.monotonic() < began + 30
    assert started
    for pid in started:
        with contextlib.suppress(ChildProcessError):  # the pool has waited for it
            os.waitpid(pid, 0)
    assert "Traceback" not in capfd.readouterr().err


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C is not ignored, as it is in what a script starts in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_second_ctrl_c_ends_the_cleaning_up() -> None:
    cleaned = []

    @stopping.stopping()
    def work() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            for number in range(20):
                cleaned.append(number)
                if number == 3:
                    signal.raise_signal(signal.SIGINT)

    with pytest.raises(StoppedError):
        work()
    assert cleaned == [0, 1, 2, 3]


def test_what_is_cleaned_up_for_a_stop_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "_AGAIN_S", 0.05)
    cleaned = []

    @stopping.stopping()
    def work() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            for number in range(20):  # longer than several of its pauses
                time.sleep(0.02)
                cleaned.append(number)

    with pytest.raises(StoppedError):
        work()
    assert len(cleaned) == 20
