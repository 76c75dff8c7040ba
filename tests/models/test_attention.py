"""Packed traces whose attention is cut where they end: the same as each trace alone, and as transformers' own mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2MoeConfig,
)

from dcod.models import attention
from dcod.models.attention import hidden_states
from dcod.models.batches import collate
from dcod.traces.scored import ScoredTrace

SIZES = (7, 3, 19, 12)
SMALL: dict[str, Any] = {
    "vocab_size": 61, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
KINDS: dict[str, PreTrainedConfig] = {
    "full": LlamaConfig(**SMALL),
    "a window that no trace reaches": MistralConfig(**SMALL, sliding_window=30),
    "a window shorter than a trace": MistralConfig(**SMALL, sliding_window=8),
    "some layers with a window": Qwen2Config(**SMALL, use_sliding_window=True, sliding_window=8, max_window_layers=1),
    "a window that layers are not told of": Qwen2MoeConfig(
        **SMALL, use_sliding_window=True, sliding_window=8, max_window_layers=0, num_experts=4, num_experts_per_tok=2,
        moe_intermediate_size=16, shared_expert_intermediate_size=16,
    ),
}  # fmt: skip


def examples() -> list[ScoredTrace]:
    generator = torch.Generator().manual_seed(3)
    made = []
    for index, size in enumerate(SIZES):
        tokens = torch.randint(1, 61, (size + 2,), generator=generator).tolist()
        made.append(ScoredTrace(str(index), str(index), tokens[:2], tokens[2:], [], []))
    return made


def tiny(config: PreTrainedConfig) -> PreTrainedModel:
    torch.manual_seed(5)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_trace_is_what_it_is_alone(kind: str) -> None:
    traces = examples()
    alone, packed = tiny(KINDS[kind]), tiny(KINDS[kind])
    assert attention.separate(packed)
    assert attention.separate(packed)  # once more changes nothing
    found = hidden_states(packed, collate(traces, layout="packed"))
    reference = torch.cat([hidden_states(alone, collate([trace])) for trace in traces])
    torch.testing.assert_close(found, reference, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found, hidden_states(alone, collate(traces, layout="packed")), atol=1e-5, rtol=1e-5)
    for model, hidden in ((packed, found), (alone, reference)):
        (hidden * torch.arange(hidden.numel()).reshape(hidden.shape).sin()).sum().backward()
        assert model.get_input_embeddings().weight.grad is not None
    for one, other in zip(packed.parameters(), alone.parameters(), strict=True):
        if other.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4)


def test_no_mask_is_asked_for_within_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the cut would bring nothing: attention runs once a trace and layer, as long as the trace."""
    model, seen = tiny(KINDS["full"]), list[int]()
    attention.separate(model)
    own = torch.nn.functional.scaled_dot_product_attention

    def counted(query: torch.Tensor, *rest: Any, attn_mask: Any = None, **named: Any) -> torch.Tensor:
        assert attn_mask is None
        seen.append(query.shape[2])
        return own(query, *rest, attn_mask=attn_mask, **named)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    hidden_states(model, collate(examples(), layout="packed"))
    assert seen == [size + 2 for size in SIZES] * 2


def test_what_is_not_packed_stays_as_it_was() -> None:
    """Padding on either side, and generation."""
    separated, plain = tiny(KINDS["full"]), tiny(KINDS["full"])
    attention.separate(separated)
    ids = torch.randint(1, 61, (3, 9))
    mask = torch.ones_like(ids)
    mask[0, :4] = mask[1, :1] = 0
    for given in ({"input_ids": ids}, {"input_ids": ids, "attention_mask": mask}):
        torch.testing.assert_close(separated(**given).logits[mask == 1], plain(**given).logits[mask == 1])
        answers = [m.generate(**given, max_new_tokens=5, do_sample=False, pad_token_id=0) for m in (separated, plain)]
        assert torch.equal(*answers)


def test_other_attention_is_left_alone() -> None:
    eager = LlamaForCausalLM(LlamaConfig(**SMALL, attn_implementation="eager"))
    assert not attention.separate(eager)
    assert eager.config._attn_implementation == "eager"
    chunked = tiny(LlamaConfig(**SMALL))
    chunked.config.layer_types = ["chunked_attention", "full_attention"]
    assert not attention.separate(chunked)


def test_a_saved_student_does_not_name_it(tmp_path: Path) -> None:
    model = tiny(KINDS["full"])
    attention.separate(model)
    model.save_pretrained(tmp_path)
    assert attention.NAME not in (tmp_path / "config.json").read_text(encoding="utf-8")
