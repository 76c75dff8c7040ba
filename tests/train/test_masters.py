"""Float32 masters: a bfloat16 student goes float32's way, goes on bit by bit, and is saved as it was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from dcod.config import TrainConfig
from dcod.models import loading
from dcod.traces.scored import ScoredTrace
from dcod.train import loop
from dcod.train.checkpoints import Checkpoints, weights_of
from dcod.train.masters import Masters
from tests.train.test_checkpoints import make_examples, same
from tests.train.test_parallel import on_two_ranks

KNOBS: dict[str, Any] = {"learning_rate": 1e-5, "epochs": 3, "traces_per_step": 4, "validations": 2}


@pytest.fixture(scope="module")
def examples(tiny_student: Path) -> list[ScoredTrace]:
    return make_examples(tiny_student)


def trained(
    student: Path, examples: list[ScoredTrace], dtype: str, out: Path, stop_at: int = 0, **knobs: Any
) -> tuple[loop.Result, Any]:
    """A run's result and the student that it saved, as it was when it was saved."""
    saved: list[Any] = []

    def save(model: Any) -> None:
        model.save_pretrained(out / "best")
        saved[:] = [{name: value.clone() for name, value in model.state_dict().items()}]

    def metrics(_: dict[str, float], step: int) -> None:
        if step == stop_at > 0:
            raise KeyboardInterrupt

    config = TrainConfig.model_validate({**KNOBS, "checkpoints": {"every": 2}, **knobs})
    model, kept = loading.load(student, dtype), Checkpoints(str(out / "kept"))
    result = loop.train(model, examples[4:], examples[:4], config, 0, save, metrics, kept)
    return result, saved[0]


def test_bfloat16_goes_the_way_of_float32(tiny_student: Path, examples: list[ScoredTrace], tmp_path: Path) -> None:
    start = loading.load(tiny_student).state_dict()
    (_, fine), (result, coarse) = (
        trained(tiny_student, examples, dtype, tmp_path / dtype) for dtype in ("float32", "bfloat16")
    )
    assert {value.dtype for value in coarse.values()} == {torch.bfloat16}
    moved = {name: (fine[name] - start[name]).flatten().double() for name in start}
    went = {name: (coarse[name].float() - start[name].bfloat16().float()).flatten().double() for name in start}
    along = sum(float(went[name] @ moved[name]) for name in start) / sum(float(v @ v) for v in moved.values())
    assert along == pytest.approx(1, abs=0.4)  # 0.81 where it was measured, 0.09 without masters
    assert json.loads((tmp_path / "bfloat16" / "best" / "config.json").read_text())["dtype"] == "bfloat16"
    again = loading.load(tmp_path / "bfloat16" / "best", "bfloat16")
    assert same(again.state_dict(), coarse)
    measured = loop.train(again, examples[4:8], examples[:4], TrainConfig(epochs=1), 0, lambda _: None, lambda *_: None)
    assert measured.start_nll == result.best_nll


@pytest.mark.parametrize("lora", [0, 2])
def test_a_stopped_run_goes_on_from_the_masters(
    tiny_student: Path, examples: list[ScoredTrace], tmp_path: Path, lora: int
) -> None:
    knobs = {"lora": {"rank": lora}, "epochs": 2}
    calm = trained(tiny_student, examples, "bfloat16", tmp_path / "calm", **knobs)
    with pytest.raises(KeyboardInterrupt):
        trained(tiny_student, examples, "bfloat16", tmp_path / "stopped", stop_at=9, **knobs)
    kept = Checkpoints(str(tmp_path / "stopped" / "kept")).latest()
    assert kept is not None
    assert {value.dtype for value in kept.model.values()} == {torch.float32}
    again = trained(tiny_student, examples, "bfloat16", tmp_path / "stopped", **knobs)
    assert again[0] == calm[0]
    assert same(again[1], calm[1])


def test_float32_weights_are_their_own_masters() -> None:
    layers = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3).bfloat16())
    masters = Masters(layers.parameters())
    assert masters.apart
    assert [a is b for a, b in zip(layers.parameters(), masters.weights, strict=True)] == [True, True, False, False]
    assert not Masters(layers[0].parameters()).apart


def test_gradients_are_added_up_in_float32() -> None:
    """256 times one is 256 in bfloat16 from there on, whatever comes."""
    weight = nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))
    masters = Masters([weight])
    for _ in range(300):
        weight.sum().backward()
        masters.collect()
    assert weight.grad is None
    (master,) = masters.weights
    assert master.grad is not None
    assert float(master.grad) == 300.0
    masters.zero_grad()
    assert master.grad is None


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture of experts whose router has a bias that is a buffer, no parameter."""
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    from tests.tiny import save_tiny_student

    folder = save_tiny_student(tmp_path_factory.mktemp("routed") / "student")
    torch.manual_seed(0)
    config = DeepseekV3Config(
        vocab_size=259, hidden_size=32, intermediate_size=64, moe_intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, n_routed_experts=4, num_experts_per_tok=2, n_group=2,
        topk_group=1, first_k_dense_replace=1, q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=8, v_head_dim=8,
        qk_nope_head_dim=8, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    model = DeepseekV3ForCausalLM(config)
    model.get_buffer(BIAS).normal_()
    model.save_pretrained(folder)
    return folder


BIAS = "model.layers.1.mlp.gate.e_score_correction_bias"


@pytest.fixture(scope="module")
def questions(routed: Path) -> list[ScoredTrace]:
    return make_examples(routed)


@pytest.fixture
def a_group() -> Any:
    """One rank that is a group of its own, so that shards are taken in this very process."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


HOW: list[dict[str, Any]] = [{}, {"lora": {"rank": 2, "targets": ["q_b_proj", "o_proj"]}}, {"sharding": "fsdp"}]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("how", HOW, ids=["full", "lora", "fsdp"])
def test_what_is_saved_is_what_was_trained_buffers_too(
    routed: Path, questions: list[ScoredTrace], tmp_path: Path, how: dict[str, Any], dtype: str, request: Any
) -> None:
    if "sharding" in how:
        request.getfixturevalue("a_group")
    ids, said = torch.arange(3, 21).reshape(2, 9), list[torch.Tensor]()

    def save(model: Any) -> None:
        model.save_pretrained(tmp_path / "out")
        said.append(model(ids).logits.detach())

    start = loading.load(routed, dtype)
    before, bias = start(ids).logits.detach(), start.get_buffer(BIAS).clone()
    config = TrainConfig.model_validate({**KNOBS, "learning_rate": 1e-2, "epochs": 1, "validations": 1, **how})
    loop.train(start, questions[4:], questions[:4], config, 0, save, lambda *_: None)
    again = loading.load(tmp_path / "out", dtype)
    assert torch.equal(again.get_buffer(BIAS), bias)
    assert torch.equal(again(ids).logits, said[-1])
    assert not torch.equal(said[-1], before)
    assert again.config.dtype == getattr(torch, dtype)


@pytest.mark.slow
def test_shards_of_two_ranks_are_saved_with_their_buffers(
    routed: Path, questions: list[ScoredTrace], tmp_path: Path
) -> None:
    start, ids = loading.load(routed), torch.arange(3, 21).reshape(2, 9)
    _, saved = on_two_ranks(routed, questions, tmp_path / "two", sharding="fsdp")
    again = loading.load(tmp_path / "two" / "best")
    assert torch.equal(saved[BIAS], start.get_buffer(BIAS))
    assert torch.equal(again(ids).logits, load_file(tmp_path / "two" / "said")["logits"])
    assert not torch.equal(again(ids).logits, start(ids).logits)


def test_buffers_are_a_part_of_checkpoints(routed: Path) -> None:
    assert BIAS in weights_of(loading.load(routed))
    assert not any("inv_freq" in name for name in weights_of(loading.load(routed)))
