"""Which prompts the engine writes to together, where a text's rotary positions change with its length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM

from dcod.engines import Sampling
from dcod.engines.transformers import TransformersEngine
from dcod.errors import UserError
from dcod.traces.prompts import load_tokenizer

BORDER = 40


def engine(student: Path, kind: str) -> TransformersEngine:
    tokenizer = load_tokenizer(student)
    given: dict[str, Any] = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    factors = {"short_factor": [1.0] * 4, "long_factor": [1.0, 2.0, 4.0, 8.0]}
    long = {"rope_type": "longrope", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": BORDER}
    dynamic = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    torch.manual_seed(0)
    made: dict[str, Any] = {
        "phi3": lambda: Phi3ForCausalLM(Phi3Config(**given, max_position_embeddings=160,
                                                   original_max_position_embeddings=BORDER,
                                                   rope_parameters=long | factors)),
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**given, max_position_embeddings=160,
                                                      rope_parameters=long | factors)),
        "dynamic": lambda: LlamaForCausalLM(LlamaConfig(**given, max_position_embeddings=BORDER,
                                                        rope_parameters=dynamic)),
    }  # fmt: skip
    model = made[kind]()
    for tensor in model.parameters():
        if tensor.dim() > 1:
            tensor.data.mul_(10)
    return TransformersEngine(model.eval(), tokenizer)


def asked(*sizes: int) -> list[list[int]]:
    torch.manual_seed(1)
    return [torch.randint(5, 200, (size,)).tolist() for size in sizes]


def test_answers_across_the_border_are_those_of_each_prompt_alone(
    tiny_student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    phi3, prompts = engine(tiny_student, "phi3"), asked(20, 32, 36, 36, 50)
    alone = [phi3.generate([prompt], Sampling(12), 1)[0].token_ids for prompt in prompts]
    assert [one.token_ids for one in phi3.generate(prompts, Sampling(12), 8)] == alone
    assert capsys.readouterr().err.count("(longrope)") == 1
    assert phi3._batches([5, 7, 28], 8, 12) == [[0, 1, 2]], "below it they share a batch"


@pytest.mark.parametrize("kind", ["llama", "dynamic"])
def test_what_a_cache_cannot_keep_across_the_border_is_not_written(tiny_student: Path, kind: str) -> None:
    model = engine(tiny_student, kind)
    assert len(model.generate(asked(20, 28), Sampling(12), 2)) == 2
    with pytest.raises(UserError, match="lower max_new_tokens"):
        model.generate(asked(20, 29), Sampling(12), 2)
