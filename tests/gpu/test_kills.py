"""Stopped by SIGTERM or SIGKILL and started again: the same bits with deterministic algorithms, else within a bound."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dcod.errors import PreemptedError
from dcod.train.checkpoints import Checkpoints
from tests.gpu.students import furthest, run, traces

ROOT = Path(__file__).resolve().parents[2]


def stop(_: dict[str, float], step: int) -> None:
    if step == 3:
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.usefixtures("deterministic")
def test_the_same_bits_after_sigterm_and_sigkill(tmp_path: Path) -> None:
    examples, knobs = traces(48), {"checkpoints": {"every": 2}}
    child = subprocess.Popen([sys.executable, "-m", "tests.gpu.killed", str(tmp_path / "killed"), "5"], cwd=ROOT)
    history, weights = run(examples, kept=Checkpoints(str(tmp_path / "calm")), **knobs)
    assert len(history) == 6
    with pytest.raises(PreemptedError, match="kept at step 3"):
        run(examples, kept=Checkpoints(str(tmp_path / "asked")), metrics=stop, **knobs)
    assert child.wait() == -signal.SIGKILL
    for name, step in (("asked", 3), ("killed", 4)):
        kept = Checkpoints(str(tmp_path / name))
        found = kept.latest()
        assert found is not None
        assert found.state.step == step
        again, same = run(examples, kept=kept, **knobs)
        assert again == history
        assert all(torch.equal(same[key], value) for key, value in weights.items())


def test_near_without_deterministic_algorithms(tmp_path: Path) -> None:
    examples = traces(48)
    history, _ = run(examples, torch.bfloat16)
    kept = Checkpoints(str(tmp_path))
    with pytest.raises(PreemptedError):
        run(examples, torch.bfloat16, kept=kept, metrics=stop)
    again, _ = run(examples, torch.bfloat16, kept=kept)
    assert furthest(again, history) < 3e-2
