"""The arithmetic of the cost page, by hand; and the page against it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import Qwen2Config, Qwen2ForCausalLM

from bench import cost
from bench.cost import Assumed, Shape

ROOT = Path(__file__).resolve().parents[2]
SMALL = Shape(layers=2, hidden=8, inner=16, heads=4, kv_heads=2, head_dim=2, vocabulary=100, tied=False)
HOUR = Assumed(
    prompt=10, completion=90, epochs=3, gpu_flops=1e6, train_share=0.5, score_share=1.0, gpu_bytes=1e6, decode_share=1.0
)


def test_weights_are_those_of_a_real_model() -> None:
    """Every matrix of transformers' Qwen2, for which the shapes stand; biases and norms are left out."""
    config = Qwen2Config(
        vocab_size=100,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
    )
    matrices = {name: p.numel() for name, p in Qwen2ForCausalLM(config).named_parameters() if p.dim() == 2}
    assert sum(matrices.values()) == SMALL.parameters
    assert sum(n for name, n in matrices.items() if "layers" in name) == SMALL.body
    assert {name: round(s.parameters / 1e9, 2) for name, s in cost.STUDENTS.items()} == {"1.5B": 1.54, "7B": 7.62}


def test_hours_by_hand() -> None:
    """One trace of 100 tokens, 1152 weights in the blocks and 800 in the head."""
    assert SMALL.body == 2 * (2 * 8 * 2 * 6 + 3 * 8 * 16) == 1152
    forward = 2 * (1152 * 100 + 800 * 90) + 2 * 2 * 4 * 2 * 100**2
    assert cost.forward_flops(SMALL, 10, 90) == forward == 694_400
    assert cost.score_hours(SMALL, 1000, HOUR) == pytest.approx(1000 * 694_400 / 1e6 / 3600)
    assert cost.train_hours(SMALL, 1000, HOUR, recompute=False) == pytest.approx(
        18 * cost.score_hours(SMALL, 1000, HOUR)
    )
    assert cost.train_hours(SMALL, 1000, HOUR, recompute=True) == pytest.approx(
        24 * cost.score_hours(SMALL, 1000, HOUR)
    )


def test_generation_reads_weights_once_a_batch_and_its_own_cache() -> None:
    asked = replace(HOUR, decode_batch=4, problems=5, samples=2, models=3, answer=20)
    cache = 2 * 2 * 2 * 2 * 2 * (10 + 10)
    each = 2 * (1152 + 800) / 4 + cache
    assert cost.evaluate_hours(SMALL, asked) == pytest.approx(5 * 2 * 3 * 20 * each / 1e6 / 3600)


def test_memory_falls_with_shards_and_low_rank() -> None:
    shape = cost.STUDENTS["7B"]
    full, spread = (cost.memory_bytes(shape, "full", gpus) for gpus in (1, 8))
    assert full > 18 * shape.parameters > cost.memory_bytes(shape, "lora", 1) > 2 * shape.parameters
    assert 2 * shape.parameters < spread < full / 4
    assert cost.activation_bytes(SMALL, 10, recompute=False) == 2 * 2 * 10 * (5 * 8 + 2 * 8 + 2 * 4 + 4 * 16)
    assert cost.activation_bytes(SMALL, 10, recompute=True) == 2 * 2 * 8 * 10 + 2 * 10 * (
        5 * 8 + 2 * 8 + 2 * 4 + 4 * 16
    )


def test_storage_by_hand() -> None:
    measured = dict.fromkeys(
        ["trace_bytes_per_token", "prompt_bytes_per_token", "score_bytes_per_token", "behavior_bytes_per_token"], 2.0
    )
    sizes = cost.storage_bytes(SMALL, 10, HOUR, measured)
    assert sizes["traces"] == sizes["scores"] == 2000
    assert sizes["with teacher"] == 1800
    assert sizes["checkpoints"] == 28 * SMALL.parameters
    assert sizes["student"] == 4 * SMALL.parameters


def test_the_page_holds_what_the_script_computes() -> None:
    measured = json.loads(cost.MEASURED.read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")
    for table in cost.tables(measured).split("\n\n"):
        assert table in page
    for value in (measured["date"], str(measured["score_bytes_per_token"]), str(measured["ingested_per_core_second"])):
        assert value in page
