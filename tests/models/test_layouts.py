"""Which layouts are exact: leaks are planted and caught, and what is used is what each trace has alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    RwkvConfig,
    RwkvForCausalLM,
)

from dcod.errors import UserError
from dcod.models import attention, layouts, selfcheck
from dcod.models.attention import hidden_states
from dcod.models.batches import Layout, collate
from dcod.traces.scored import ScoredTrace

SMALL: dict[str, Any] = {"vocab_size": 67, "hidden_size": 32, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
HEADS: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48}
CPU = torch.device("cpu")


def tiny(kind: str) -> Any:
    torch.manual_seed(0)
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**SMALL, **HEADS, num_hidden_layers=2)).eval()
    if kind == "lfm2":
        types = ["conv", "full_attention"]
        return Lfm2ForCausalLM(Lfm2Config(**SMALL, **HEADS, num_hidden_layers=2, layer_types=types)).eval()
    if kind == "rwkv":
        return RwkvForCausalLM(RwkvConfig(**SMALL, num_hidden_layers=2, attention_hidden_size=32)).eval()
    return MambaForCausalLM(MambaConfig(**SMALL, num_hidden_layers=2, state_size=8)).eval()


class Sees(LlamaForCausalLM):
    """A Llama whose every position also sees another one of its batch."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.what, self.share = "", 0.01
        self.model.register_forward_hook(self.add)

    def add(self, module: Any, given: Any, out: Any) -> Any:
        state = out.last_hidden_state
        if self.what == "the one before":
            out.last_hidden_state = state + 0.01 * state.roll(1, dims=1).tril()
        elif self.what == "the end of the row":
            out.last_hidden_state = state + 0.01 * state[:, -1:]
        elif self.what == "the width":
            out.last_hidden_state = state * state.shape[1]
        elif self.what == "other rows under autocast" and not torch.is_autocast_enabled("cpu"):
            return out
        elif self.what.startswith("other rows"):
            out.last_hidden_state = state + self.share * (state.sum(0, keepdim=True) - state)
        return out


@pytest.mark.parametrize(
    ("kind", "packed"), [("llama", "packed"), ("lfm2", "padded"), ("mamba", "padded"), ("rwkv", "padded")]
)
def test_packed_only_where_no_trace_sees_another(kind: str, packed: Layout) -> None:
    model = tiny(kind)
    reading = selfcheck.examine(model)
    assert layouts.exact_layout(model, reading, "packed") == packed
    assert (model.config._attn_implementation == attention.NAME) == (kind == "llama")
    assert layouts.exact_layout(model, reading, "padded") == "padded"


# What these do beyond so many tokens; a trial of short traces alone sees none of it.
BEYOND: dict[str, dict[str, Any]] = {
    "afmoe": {  # its mask does not keep packed traces apart
        "sliding_window": 32, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
        "num_dense_layers": 2, "layer_types": ["sliding_attention", "full_attention"],
    },
    "mistral": {"sliding_window": 32},
    "doge": {"keep_window_size": 32},  # looks at so many keys of the whole row
    "llama4_text": {  # chunks are counted along the row
        "attention_chunk_size": 32, "num_local_experts": 2, "intermediate_size_mlp": 32,
        "layer_types": ["chunked_attention", "full_attention"], "no_rope_layers": [1, 0],
    },
}  # fmt: skip


def beyond(kind: str) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SMALL, **HEADS, head_dim=8, num_hidden_layers=2, **BEYOND[kind])
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for name, tensor in model.named_parameters():
        if tensor.dim() > 1 and "embed" not in name:
            tensor.data.mul_(8)  # else attention is nearly the same everywhere
    return model


@pytest.mark.parametrize(
    ("kind", "layout"), [("afmoe", "packed"), ("mistral", "packed"), ("doge", "apart"), ("llama4_text", "padded")]
)
def test_a_layout_is_exact_beyond_the_window_too(kind: str, layout: Layout) -> None:
    model = beyond(kind)
    config = model.config.to_dict()
    reading = selfcheck.examine(model)
    assert layouts.exact_layout(model, reading, "packed") == layout
    assert model.config.to_dict() == config
    with torch.no_grad():
        traces = [layouts._trace(model, size) for size in (40, 60, 20)]
        alone = torch.cat([hidden_states(model, collate([trace]), reading.body) for trace in traces])
        together = hidden_states(model, collate(traces, layout=layout), reading.body)
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_a_window_that_cannot_be_drawn_in_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = beyond("mistral")
    reading = selfcheck.examine(model)
    assert layouts.exact_layout(model, reading, "packed") == "packed"
    monkeypatch.setattr(layouts, "_moved", lambda *_: False)
    assert layouts.exact_layout(model, reading, "packed") == "padded"


@pytest.mark.parametrize(("what", "layout"), [("the width", "apart"), ("other rows", "apart"), ("", "padded")])
def test_a_planted_leak_is_found(what: str, layout: Layout) -> None:
    model = Sees(LlamaConfig(**SMALL, **HEADS, num_hidden_layers=1)).eval()
    reading = selfcheck.examine(model)
    model.what = what
    assert layouts.exact_layout(model, reading, "padded") == layout


@pytest.mark.parametrize(("low", "layout"), [(None, "padded"), (torch.bfloat16, "apart")])
def test_a_leak_under_autocast_alone_is_found_where_it_is_used(low: torch.dtype | None, layout: Layout) -> None:
    model = Sees(LlamaConfig(**SMALL, **HEADS, num_hidden_layers=1)).eval()
    reading = selfcheck.examine(model)
    model.what, model.share = "other rows under autocast", 0.1
    assert layouts.exact_layout(model, reading, "padded", low) == layout


def test_every_layout_that_is_called_exact_gives_the_states_of_each_trace_alone() -> None:
    model = tiny("llama")
    traces = [ScoredTrace("", "", list(range(5, 5 + n)), list(range(9, 9 + n)), [], []) for n in (3, 8, 5)]
    alone = torch.cat([hidden_states(model, collate([trace])) for trace in traces])
    ways: tuple[Layout, ...] = ("padded", "masked", "packed", "apart")
    for way in ways:
        torch.testing.assert_close(hidden_states(model, collate(traces, layout=way)), alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("kind", "padding"), [("llama", "left"), ("mamba", "left"), ("rwkv", "none")])
def test_prompts_are_written_to_together_only_where_that_changes_nothing(kind: str, padding: str) -> None:
    found = layouts.exact_padding(tiny(kind), 0)
    assert found == padding if kind != "rwkv" else found != "left"


def longrope(kind: str) -> Any:
    """Its rotary positions have other frequencies in texts of more than 32 tokens."""
    torch.manual_seed(0)
    factors = {"short_factor": [1.0] * 4, "long_factor": [1.0, 2.0, 4.0, 8.0]}
    rope = {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "factor": 4.0,
        "original_max_position_embeddings": 32,
        **factors,
    }
    given: dict[str, Any] = {**SMALL, **HEADS, "num_hidden_layers": 2, "max_position_embeddings": 128}
    if kind == "phi3":
        model: Any = Phi3ForCausalLM(Phi3Config(**given, original_max_position_embeddings=32, rope_parameters=rope))
    else:
        model = LlamaForCausalLM(LlamaConfig(**given, rope_parameters=rope))
    for tensor in model.parameters():
        if tensor.dim() > 1:
            tensor.data.mul_(10)
    return model.eval()


@pytest.mark.parametrize("layout", ["padded", "packed", "masked", "apart"])
def test_a_long_trace_does_not_change_the_positions_of_a_short_one(layout: Layout) -> None:
    model = longrope("phi3")
    with torch.no_grad():
        traces = [layouts._trace(model, size) for size in (20, 50, 30)]
        alone = torch.cat([hidden_states(model, collate([trace])) for trace in traces])
        together = hidden_states(model, collate(traces, layout=layout))
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_what_is_written_across_the_border_is_held_against_the_forward_pass() -> None:
    for kind, able in (("phi3", True), ("llama", False)):  # phi3 begins its cache anew there
        model = longrope(kind)
        config = model.config.to_dict()
        assert layouts.writes_across(model, 0) == able
        assert model.config.to_dict() == config


@pytest.mark.parametrize("kind", ["roberta", "camembert", "xlm-roberta", "data2vec-text", "bert", "llama"])
def test_a_model_that_writes_otherwise_than_it_scores_is_refused(kind: str) -> None:
    torch.manual_seed(0)
    given: dict[str, Any] = {} if kind == "llama" else {"is_decoder": True}
    heads = {"num_attention_heads": 4, "intermediate_size": 48, "num_hidden_layers": 2}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SMALL, **heads, **given))
    for tensor in model.parameters():
        if tensor.dim() > 1:
            tensor.data.mul_(10)
    if kind in ("bert", "llama"):
        layouts.check_writing(model.eval(), 0)
        return
    with pytest.raises(UserError, match=f"{kind} is not supported: its generation numbers"):
        layouts.check_writing(model.eval(), 0)
