"""Small students with the heads of the real ones, scored traces, and runs on this machine's device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import torch

from bench.gpu import shapes
from dcod.config import TrainConfig
from dcod.models.batches import ScoredTrace
from dcod.traces import scored as stored
from dcod.train import loop
from dcod.train.checkpoints import Checkpoints

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
V = 320
KNOBS: dict[str, Any] = {
    "learning_rate": 1e-3, "epochs": 1, "traces_per_step": 8, "validations": 1, "micro_batch_tokens": 512,
    "correction": {"name": "trace", "ess_floor": 0.5}, "layout": "packed",
}  # fmt: skip


def student(dtype: torch.dtype = torch.float32, layers: int = 2) -> Any:
    """A Qwen2 with grouped heads of 64, as flash attention takes them; the same weights on every machine."""
    from transformers import AutoModelForCausalLM, Qwen2Config

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=V, hidden_size=128, intermediate_size=192, num_hidden_layers=layers, num_attention_heads=2,
        num_key_value_heads=1, head_dim=64, max_position_embeddings=4096, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.float32).to(dtype)


def traces(count: int, seed: int = 0, longest: int = 60) -> list[ScoredTrace]:
    """Two of each prompt, with a made-up teacher."""
    generator = torch.Generator().manual_seed(seed)

    def draw(size: int) -> list[int]:
        return torch.randint(3, V, (size,), generator=generator).tolist()

    out = []
    for index in range(count):
        size = int(torch.randint(8, longest, (1,), generator=generator))
        said = [*draw(size), 2]
        behavior = (-5 - torch.rand(len(said), generator=generator)).tolist()
        scores = (-5.5 - torch.rand(len(said), generator=generator)).tolist()
        trace = ScoredTrace(str(index), str(index // 2), draw(6), said, scores, [4.0] * len(said), behavior)
        trace.start_ranks, trace.local_logprobs, trace.given = draw(len(said)), scores, 1.0 + index % 3
        trace.success = 1 / (2 + index % 3)
        for name, kind in stored.told(stored.KIND).items():  # what a new correction needs
            if name in stored.told(stored.DEMAND):
                setattr(trace, name, scores if pa.types.is_list(kind) else scores[0])
        trace.start_mass = torch.rand(len(said), generator=generator).tolist()
        out.append(trace)
    return out


def engine(dtype: torch.dtype = torch.float32, device: str = DEVICE) -> Any:
    """The transformers engine with such a student."""
    return shapes.engine(student(dtype), device)


def run(
    examples: list[ScoredTrace],
    dtype: torch.dtype = torch.float32,
    kept: Checkpoints | None = None,
    metrics: Callable[..., None] = lambda *_: None,
    **knobs: Any,
) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    """The history of a run, and the weights that it ends with."""
    made = student(dtype)
    config = TrainConfig.model_validate({**KNOBS, **knobs})
    result = loop.train(made, examples, [], config, 0, lambda _: None, metrics, kept)
    return result.history, {name: value.detach().cpu().clone() for name, value in made.state_dict().items()}


def furthest(left: list[dict[str, float]], right: list[dict[str, float]]) -> float:
    """The largest relative difference of the losses and gradients of two runs."""
    assert len(left) == len(right) > 0
    pairs = [(a[k], b[k]) for a, b in zip(left, right, strict=True) for k in ("loss", "grad_norm")]
    return max(abs(a - b) / abs(b) for a, b in pairs)
