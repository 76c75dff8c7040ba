"""Models of known shapes with random weights, traces of random tokens, and a place for what a step finds."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from random import Random
from typing import Any

import torch

from dcod.models.batches import ScoredTrace

ROW = 4096  # tokens of a packed sequence
QWEN = {"vocab_size": 151936, "max_position_embeddings": 32768, "tie_word_embeddings": True, "rope_theta": 1e6}
SHAPES: dict[str, dict[str, Any]] = {
    "qwen2.5-1.5b": {
        "model_type": "qwen2", **QWEN, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
        "num_attention_heads": 12, "num_key_value_heads": 2,
    },
    "qwen2.5-0.5b": {
        "model_type": "qwen2", **QWEN, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2,
    },
    "smollm2-135m": {
        "model_type": "llama", "vocab_size": 49152, "max_position_embeddings": 8192, "tie_word_embeddings": True,
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
}  # fmt: skip
QUICK = {"vocab_size": 320, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}  # fmt: skip


class Step:
    """What a step is told by the environment, and where it puts what it finds: at once, so that a cut leaves it."""

    def __init__(self) -> None:
        self.device = os.environ["GPU_BENCH_DEVICE"]
        self.quick = os.environ.get("GPU_BENCH_QUICK") == "1"
        self.out = Path(os.environ["GPU_BENCH_OUT"])
        self.found: dict[str, Any] = {}

    def put(self, name: str, value: Any) -> None:
        """Adds a finding to the step's file."""
        self.found[name] = value
        scratch = self.out.with_suffix(".part")
        scratch.write_text(json.dumps(self.found), encoding="utf-8")
        scratch.replace(self.out)
        print(f"{name}: {json.dumps(value)[:600]}", file=sys.stderr, flush=True)


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def configuration(name: str, quick: bool) -> Any:
    """The configuration of a shape; ``quick``: two layers of the same kind."""
    from transformers import AutoConfig

    shape = {**SHAPES[name], **(QUICK if quick else {})}
    return AutoConfig.for_model(**shape, bos_token_id=1, eos_token_id=2, pad_token_id=0)


def model(name: str, device: str, dtype: torch.dtype, quick: bool) -> Any:
    """A network with random weights, made on the device."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    with torch.device(device):
        made = AutoModelForCausalLM.from_config(configuration(name, quick), attn_implementation="sdpa", dtype=dtype)
    return made.to(device)


def traces(count: int, vocabulary: int, quick: bool, seed: int = 0) -> list[ScoredTrace]:
    """Traces of random tokens: prompts of 60 to 200, answers of some 200 to 3800, about 1000 together."""
    random, most = Random(seed), ROW // 32 if quick else ROW
    out = []
    for index in range(count):
        prompt = random.randint(60, 200) // (32 if quick else 1) + 1
        answer = min(most - prompt, max(4, int(random.lognormvariate(6.6, 0.6)) // (32 if quick else 1)))
        drawn = [[random.randrange(3, vocabulary) for _ in range(size)] for size in (prompt, answer)]
        out.append(ScoredTrace(str(index), str(index), *drawn, [-8.0] * answer, [5.0] * answer))
    return out


def tokenizer(vocabulary: int) -> Any:
    """A word a token, and the three special ones."""
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<|im_start|>", "<|im_end|>", *(f"w{i}" for i in range(3, vocabulary))]
    made = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="<pad>"))  # noqa: S106
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    marks = {"pad_token": "<pad>", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=made, **marks)
    fast.chat_template = "{% for m in messages %}<|im_start|> {{ m.content }} <|im_end|> {% endfor %}"
    return fast


def engine(made: Any, device: str) -> Any:
    """The transformers engine around a model that is in memory, and in no folder."""
    from transformers import GenerationConfig

    from dcod.engines.transformers import TransformersEngine

    found: Any = TransformersEngine.__new__(TransformersEngine)
    found.device, found.model = torch.device(device), made.to(device).eval()
    found.model.generation_config = GenerationConfig()
    found.tokenizer = tokenizer(made.config.vocab_size)
    return found
