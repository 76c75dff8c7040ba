"""One trajectory: however a step is split, laid out, recomputed or sharded, and on a GPU as on a CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.gpu import curves
from dcod.config import TrainConfig
from dcod.train import loop, parallel
from tests.gpu.students import DEVICE, KNOBS, furthest, run, student, traces

BOUNDS = {torch.float32: 1e-3, torch.bfloat16: 3e-2}  # of losses and gradient norms, relative
EXAMPLES = traces(40)
VARIANTS: dict[str, dict[str, Any]] = {
    "split": {"micro_batch_tokens": 80},
    "padded": {"layout": "padded"},
    "recomputed": {"activation_checkpointing": True, "micro_batch_tokens": 200},
    "automatic": {"micro_batch_tokens": "auto"},
}


@pytest.fixture(scope="module", params=BOUNDS, ids=str)
def whole(request: pytest.FixtureRequest) -> tuple[torch.dtype, list[dict[str, float]]]:
    return request.param, run(EXAMPLES, request.param)[0]


@pytest.mark.parametrize("name", VARIANTS)
def test_one_trajectory(whole: tuple[torch.dtype, list[dict[str, float]]], name: str, record_property: Any) -> None:
    dtype, history = whole
    found = furthest(run(EXAMPLES, dtype, **VARIANTS[name])[0], history)
    record_property("apart", f"{found:.1e}")
    assert found < BOUNDS[dtype]


def test_lora_is_one_trajectory_and_the_arithmetic_in_half_precision_is_near() -> None:
    knobs = {"lora": {"rank": 4}}
    packed, _ = run(EXAMPLES, **knobs)
    padded, _ = run(EXAMPLES, layout="padded", micro_batch_tokens=100, **knobs)
    assert furthest(padded, packed) < BOUNDS[torch.float32]
    full, _ = run(EXAMPLES)
    low, _ = run(EXAMPLES, precision="bfloat16")
    assert furthest(low, full) < BOUNDS[torch.bfloat16]


def test_fsdp_on_one_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = run(EXAMPLES)
    place = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    monkeypatch.setattr(os, "environ", {**os.environ, **place})
    backend = "nccl" if DEVICE == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        config = TrainConfig.model_validate({**KNOBS, "sharding": "fsdp"})
        assert parallel.is_sharded_by(config)
        result = loop.train(student(), EXAMPLES, [], config, 0, lambda _: None, lambda *_: None)
    finally:
        torch.distributed.destroy_process_group()
    assert furthest(result.history, expected) < BOUNDS[torch.float32]


def test_the_same_steps_on_a_cpu(record_property: Any) -> None:
    size = (10, 64, 6)  # steps, hidden size, traces a step
    base = curves.run("cpu", torch.float32, "float32", *size)
    for precision, bound in (("float32", 2e-3), ("bfloat16", 3e-2)):
        found = curves.run(DEVICE, torch.float32, precision, *size)
        apart = max(abs(a - b) / b for a, b in zip(found, base, strict=True))
        record_property(f"{precision} apart", f"{apart:.1e}")
        assert apart < bound
    assert base[-1] < base[0]
