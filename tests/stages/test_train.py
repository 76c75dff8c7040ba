"""What the stage `train` writes beside what the training itself does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dcod.config import Config
from dcod.models import loading
from dcod.stages import score, train, train_rank
from dcod.traces import FILE, Trace, write_traces
from dcod.tracking import NullLog


def test_weights_lie_in_files_of_a_bounded_size(
    tmp_path: Path, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tracking server that spools an upload whole has room for 2 GB; transformers would write one file of 50."""
    assert train_rank._SHARD == "2GB"
    monkeypatch.setattr(train_rank, "_SHARD", "100KB")
    config = Config.model_validate({"train": {"epochs": 1, "correction": {"name": "none"}, "checkpoints": {"uri": ""}}})
    traces, scores, out = (tmp_path / name for name in ("traces", "scores", "student"))
    for folder in (traces, scores, out):
        folder.mkdir()
    asked = ([{"role": "user", "content": f"What is {n} + 1?"}] for n in range(4))
    write_traces(traces / FILE, [Trace(prompt, f"#### {n + 1}") for n, prompt in enumerate(asked)])
    score.run(config, scores, NullLog(), traces=traces, student=tiny_student)
    train.run(config, out, NullLog(), scores=scores, student=tiny_student)
    assert len(list(out.glob("model-*.safetensors"))) > 1
    assert (out / "model.safetensors.index.json").is_file()
    model = loading.load(out)
    assert all(torch.isfinite(weights).all() for weights in model.parameters())
