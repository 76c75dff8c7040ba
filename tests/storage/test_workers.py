"""The pipe that workers hang on: one for all threads of a process, and a fork takes nothing from its parent."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcod.grading import worker
from dcod.storage import workers
from dcod.storage.temporary import scratch


@pytest.fixture(autouse=True)
def _pipe_of_its_own() -> Iterator[None]:
    worker.close_workers()
    workers.let_go()
    yield
    workers.let_go()


def forked(code: int = 0) -> None:
    """A child that does nothing and ends without Python's own clean-up."""
    child = os.fork()
    if child == 0:
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def test_threads_that_ask_at_once_are_told_of_one_pipe_that_stays() -> None:
    together, told = threading.Barrier(16), []

    def ask() -> None:
        together.wait()
        told.append(workers.life())

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 16
    assert len(set(told)) == 1
    assert Path(told[0]).is_fifo()


def test_the_pipe_survives_a_forked_child() -> None:
    path = Path(workers.life())
    forked()
    assert path.is_fifo()
    assert workers.life() == str(path)


def test_a_scratch_folder_survives_a_forked_child_that_leaves_its_block() -> None:
    script = (
        "import os\n"
        "from dcod.storage.temporary import scratch\n"
        "with scratch() as folder:\n"
        "    child = os.fork()\n"
        "    if child: os.waitpid(child, 0); print(folder.is_dir())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
    with scratch() as folder:
        forked()
        assert folder.is_dir()
    assert not folder.exists()


def test_a_worker_that_does_not_start_says_why() -> None:
    with pytest.raises(RuntimeError, match=r"does not start \(exit code 1\): .*dcod\.nowhere"):
        worker.Verifier("dcod.nowhere").ask([])
