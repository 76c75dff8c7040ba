"""Run by test_kills.py: trains with checkpoints, and kills itself after a step."""

from __future__ import annotations

import os
import signal
import sys

import torch

from dcod.train.checkpoints import Checkpoints
from tests.gpu.students import run, traces


def main(folder: str, at: str) -> None:
    def metrics(_: dict[str, float], step: int) -> None:
        if step == int(at):
            os.kill(os.getpid(), signal.SIGKILL)

    torch.use_deterministic_algorithms(True)
    run(traces(48), kept=Checkpoints(folder), metrics=metrics, checkpoints={"every": 2})


if __name__ == "__main__":
    main(*sys.argv[1:])
