"""What is found out about a student at load: its head, and what is refused; one of each kind, and planted faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertLMHeadModel,
    Cohere2Config,
    Cohere2ForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PhiConfig,
    PhiForCausalLM,
)

from dcod.config import LoraConfig
from dcod.errors import UserError
from dcod.models import layouts, selfcheck
from dcod.models.batches import collate
from dcod.models.fused_head import Objective
from dcod.models.heads import Head, OwnHead
from dcod.traces.scored import ScoredTrace
from dcod.train import lora
from dcod.train.learner import StudentWithLoss

SMALL: dict[str, Any] = {
    "vocab_size": 67, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
EXAMPLES = [ScoredTrace("a", "a", [5, 6, 7], [8, 9, 10, 2], [], []), ScoredTrace("b", "b", [11, 12], [13, 2], [], [])]


def tiny(kind: Any, config: Any, **settings: Any) -> Any:
    torch.manual_seed(0)
    model = kind(config(**SMALL, **settings)).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(20)
        if model.get_output_embeddings().bias is not None:
            model.get_output_embeddings().bias.normal_()
    return model


def own_loss(model: Any, weights: torch.Tensor) -> torch.Tensor:
    """By the model's own forward pass, each trace alone."""
    found = []
    for example in EXAMPLES:
        ids = torch.tensor([example.prompt_tokens + example.completion_tokens])
        logprobs = torch.log_softmax(model(input_ids=ids).logits[0, len(example.prompt_tokens) - 1 : -1], -1)
        found.append(logprobs.gather(1, torch.tensor(example.completion_tokens)[:, None])[:, 0])
    return -(weights * torch.cat(found)).sum()


def compare(model: Any, student: StudentWithLoss) -> None:
    """Loss and gradients of all that is trained, against the model's own."""
    weights = torch.rand(6, generator=torch.Generator().manual_seed(1))
    loss, _, _ = student(collate(EXAMPLES), lambda *_: weights, Objective(), False)
    trained = [p for p in model.parameters() if p.requires_grad]
    ours = torch.autograd.grad(loss, trained, allow_unused=True)
    known = own_loss(model, weights)
    theirs = torch.autograd.grad(known, trained, allow_unused=True)
    assert loss.item() == pytest.approx(known.item(), rel=1e-5)
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("kind", "config", "settings", "facts"),
    [
        (LlamaForCausalLM, LlamaConfig, {}, (1.0, 0.0, False)),
        (Gemma2ForCausalLM, Gemma2Config, {"head_dim": 8, "final_logit_softcapping": 11.0}, (1.0, 11.0, False)),
        (GraniteForCausalLM, GraniteConfig, {"logits_scaling": 7.0}, (1 / 7, 0.0, False)),
        (Cohere2ForCausalLM, Cohere2Config, {"logit_scale": 0.3}, (0.3, 0.0, False)),
        (PhiForCausalLM, PhiConfig, {}, (1.0, 0.0, True)),
    ],
)
def test_a_head_is_read_off_the_model(kind: Any, config: Any, settings: dict[str, Any], facts: Any) -> None:
    model = tiny(kind, config, **settings)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.random.get_rng_state()
    reading = selfcheck.examine(model)
    assert reading.fused
    assert (reading.scale, reading.cap, bool(reading.bias)) == pytest.approx(facts)
    assert isinstance(reading.head(model), Head)
    compare(model, StudentWithLoss(model, reading))
    assert torch.equal(random, torch.random.get_rng_state())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert "forward" not in vars(model.get_submodule(reading.body))


def test_a_wrong_number_in_the_configuration_is_not_believed() -> None:
    """What the configuration names does not count; what the forward pass does, does."""
    model = tiny(LlamaForCausalLM, LlamaConfig)
    model.config.logit_scale, model.config.final_logit_softcapping = 0.25, 5.0  # its forward pass reads neither
    reading = selfcheck.examine(model)
    assert (reading.scale, reading.cap) == (1.0, 0.0)


class Planted(LlamaForCausalLM):
    """A model that does something to its logits that no number of its configuration names."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.temperature = torch.nn.Parameter(torch.tensor(1.7))
        self.shape = "trained"

    def forward(self, *args: Any, **rest: Any) -> Any:
        out = super().forward(*args, **rest)
        if self.shape == "trained":
            out.logits = out.logits * self.temperature
        elif self.shape == "odd":
            out.logits = out.logits * 1.2345
        elif self.shape == "squashed":
            out.logits = out.logits.sign() * out.logits.abs().sqrt()
        elif self.shape == "shifted":
            out.logits = out.logits + 3 * out.logits.roll(1, dims=-1).relu()
        elif self.shape == "masked":
            out.logits = out.logits.index_fill(-1, torch.tensor([3, 4]), -torch.inf)
        elif self.shape == "mixed":
            out.logits = out.logits.cumsum(1)
        elif self.shape == "later":
            out.logits = out.logits + out.logits.flip(1)
        return out


@pytest.mark.parametrize("shape", ["trained", "odd", "squashed", "shifted", "masked"])
def test_any_other_head_runs_as_it_is(shape: str) -> None:
    model = tiny(Planted, LlamaConfig)
    model.shape = shape
    reading = selfcheck.examine(model)
    assert not reading.fused
    assert isinstance(reading.head(model), OwnHead)
    compare(model, StudentWithLoss(model, reading))


@pytest.mark.parametrize("shape", ["mixed", "later"])
def test_a_head_that_mixes_positions_is_refused(shape: str) -> None:
    model = tiny(Planted, LlamaConfig)
    model.shape = shape
    with pytest.raises(UserError, match="architecture llama is not supported"):
        selfcheck.examine(model)


def test_a_head_of_several_layers_runs_as_it_is() -> None:
    model = tiny(BertLMHeadModel, BertConfig, is_decoder=True)
    student = StudentWithLoss(model)
    assert not student.reading.fused
    compare(model, student)


def test_a_model_that_looks_ahead_is_refused() -> None:
    with pytest.raises(UserError, match="no causal language model"):
        selfcheck.examine(tiny(BertLMHeadModel, BertConfig, is_decoder=False))


@pytest.mark.parametrize("targets", ["all-linear", "lm_head"])
def test_adapters(targets: str) -> None:
    """An adapter at the head itself is part of it: the fused product would leave it out."""
    model = tiny(PhiForCausalLM, PhiConfig)
    student = StudentWithLoss(model)
    lora.adapt(model, LoraConfig(rank=2, targets=[targets] if targets == "lm_head" else "all-linear"))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    assert isinstance(student.reading.head(model), OwnHead if targets == "lm_head" else Head)
    compare(model, student)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "bert"])
def test_half_precision(kind: str) -> None:
    made = {
        "llama": lambda: tiny(LlamaForCausalLM, LlamaConfig),
        "gemma2": lambda: tiny(Gemma2ForCausalLM, Gemma2Config, head_dim=8, final_logit_softcapping=11.0),
        "bert": lambda: tiny(BertLMHeadModel, BertConfig, is_decoder=True),
    }[kind]()
    reading = selfcheck.examine(made.bfloat16())
    assert reading.fused == (kind != "bert")
    assert reading.cap == (11.0 if kind == "gemma2" else 0.0)


def mixture(**settings: Any) -> Any:
    return tiny(MixtralForCausalLM, MixtralConfig, num_local_experts=4, num_experts_per_tok=2, **settings)


AUTOCAST = {
    "llama": lambda: tiny(LlamaForCausalLM, LlamaConfig),
    "gemma2": lambda: tiny(Gemma2ForCausalLM, Gemma2Config, head_dim=8, final_logit_softcapping=11.0),
    "granite": lambda: tiny(GraniteForCausalLM, GraniteConfig, logits_scaling=7.0),
    "cohere2": lambda: tiny(Cohere2ForCausalLM, Cohere2Config, logit_scale=0.3),
    "phi": lambda: tiny(PhiForCausalLM, PhiConfig),
    "mixtral": mixture,
}


@pytest.mark.parametrize("kind", AUTOCAST)
def test_under_autocast_the_fused_head_is_as_exact_as_the_models_own(kind: str) -> None:
    model = AUTOCAST[kind]()
    reading = selfcheck.examine(model)
    assert reading.fused
    assert selfcheck.at_precision(model, reading, torch.bfloat16) == reading
    assert layouts.exact_layout(model, reading, "packed", torch.bfloat16) == "packed"


@pytest.mark.parametrize("kind", AUTOCAST)
def test_a_head_that_is_wrong_under_autocast_alone_is_not_used(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted fault of a tenth of the largest logit, which the check without autocast never meets."""
    model = AUTOCAST[kind]()
    reading = selfcheck.examine(model)
    right = selfcheck.logits_of

    def wrong(hidden: torch.Tensor, head: Any) -> torch.Tensor:
        logits = right(hidden, head)
        return logits + 0.1 * logits.abs().max()

    monkeypatch.setattr(selfcheck, "logits_of", wrong)
    found = selfcheck.at_precision(model, reading, torch.bfloat16)
    assert not found.fused
    assert isinstance(found.head(model), OwnHead)


def test_what_is_not_usual_is_said_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    fused = {"head": "fused", "layout": "padded"}
    selfcheck.say(fused)
    assert capsys.readouterr().err == ""
    selfcheck.say(fused, asked="packed")
    assert capsys.readouterr().err.count("\n") == 1
    selfcheck.say({"head": "the model's own, in chunks", "layout": "apart"})
    assert capsys.readouterr().err.count("slower") == 2
