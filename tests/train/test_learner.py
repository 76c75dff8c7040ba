"""What a student's own dropout does to training is said once."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from dcod.config import TrainConfig
from dcod.train.learner import learner_for

SIZE: dict[str, Any] = {"vocab_size": 67, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4,
                        "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
OFF: dict[str, Any] = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (GPT2LMHeadModel(GPT2Config(**SIZE)), True),
        (GPT2LMHeadModel(GPT2Config(**SIZE, **OFF)), False),
        (LlamaForCausalLM(LlamaConfig(**SIZE, intermediate_size=48, attention_dropout=0.1)), True),
        (LlamaForCausalLM(LlamaConfig(**SIZE, intermediate_size=48)), False),
    ],
)
def test_dropout_that_stays_on_is_said(model: Any, said: bool, capsys: pytest.CaptureFixture[str]) -> None:
    learner_for(model, TrainConfig(), 0)
    assert capsys.readouterr().err.count("its dropout (0.1) is on in training") == said
