"""Train on several ranks of this machine, one a GPU: torchrun on dcod.stages.train_node, in this very pod.

1. a folder with configuration, scores and start, as the nodes of a TrainJob find it;
2. torchrun; its lines are relayed, training metrics go to MLflow; told to stop, it is told to stop;
3. take the student over, or say in its own words why there is none.

Run on two CPU ranks; not run on several GPUs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from joblib import cpu_count

from dcod import storage
from dcod.config import Config
from dcod.errors import PreemptedError, UserError
from dcod.stages import handover
from dcod.stages.handover import ERROR, OUTPUT
from dcod.storage import workers
from dcod.storage.stopping import noticing

if TYPE_CHECKING:
    from dcod.tracking import Log


def wanted(config: Config) -> int:
    """How many ranks to start here; 1 within a rank that was started already."""
    import torch

    if torch.distributed.is_torchelastic_launched():
        return 1
    asked = config.train.processes
    return max(1, torch.cuda.device_count()) if asked == "auto" else asked


def run(config: Config, out: Path, log: Log, *, scores: Path, student: Path, count: int) -> dict[str, float]:
    """Trains a student on ``count`` ranks; see the module.

    Raises:
        UserError: a mistake of the user, as a rank found it.
        PreemptedError: told to stop; the ranks have kept their state.
        RuntimeError: a rank failed.
    """
    steps: set[int] = set()
    with storage.scratch() as work:
        (work / "config.json").write_text(config.to_json(), encoding="utf-8")
        (work / "scores").symlink_to(scores.resolve())
        (work / "student").symlink_to(student.resolve())
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
        threads = max(1, cpu_count() // count)
        environment = {"OMP_NUM_THREADS": str(threads), **os.environ, workers.LIFE: workers.life()}
        with workers.unasked():
            ranks = subprocess.Popen(
                [*command, "--module", "dcod.stages.train_node", str(work)],
                env=environment, stdout=subprocess.PIPE, text=True, errors="replace",
            )  # fmt: skip
        try:
            with noticing(ranks.terminate) as asked:  # they end their step and keep their state
                assert ranks.stdout is not None
                for line in ranks.stdout:
                    handover.relay(line.rstrip("\n"), log, steps)
                status = ranks.wait()
        finally:  # an error of ours ends them too
            if ranks.poll() is None:
                ranks.terminate()
                ranks.wait()
        if status == 0:
            return handover.take_over(str(work / OUTPUT), out, log, steps)
        if asked:
            raise PreemptedError("train: asked to stop; its ranks kept their state where train.checkpoints.uri is set")
        told = handover.note(str(work / ERROR), work)
        if told and told["users_mistake"]:
            raise UserError(told["error"])
        raise RuntimeError(f"train: a rank failed: {told['error'] if told else f'exit status {status}'}")
