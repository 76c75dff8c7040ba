"""The machine's float32 matmul rate, and what a training step needs; `python -m bench.training.machine THREADS`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dcod.traces.scored import ScoredTrace

# Square and large; the first is a chunk of the head of SmolLM2, the second an up projection of 1024 tokens.
SHAPES = ((1024, 1024, 1024), (2048, 2048, 2048), (336, 576, 49152), (1024, 576, 1536))


def matmul_rate(threads: int, seconds: float = 6.0) -> dict[str, float]:
    """FLOP/s of the best of some shapes (multiply and add are two), by the clock and by processor time.

    ``flops`` and ``cpu_flops`` are the machine's, by torch's own product or by oneDNN's, whichever is faster; with
    ``mm_`` in front, by torch's own.
    """
    import torch

    from dcod.models import matmul

    torch.set_num_threads(threads)
    found = {"mm_flops": 0.0, "mm_cpu_flops": 0.0, "flops": 0.0, "cpu_flops": 0.0}
    ways = {"mm_": torch.mm, "": lambda left, right: matmul.product(left, right.T)}
    for m, k, n in SHAPES:
        left, right = torch.randn(m, k), torch.randn(k, n)
        for name, multiply in ways.items():
            multiply(left, right)
            began, spent, runs = time.perf_counter(), time.process_time(), 0
            while time.perf_counter() - began < seconds / len(SHAPES) / len(ways):
                multiply(left, right)
                runs += 1
            took = {"flops": time.perf_counter() - began, "cpu_flops": time.process_time() - spent}
            for key, value in took.items():
                found[name + key] = max(found[name + key], 2.0 * m * k * n * runs / value)
    return found | {key: max(found[key], found[f"mm_{key}"]) for key in ("flops", "cpu_flops")}


def step_flops(config: Any, parameters: int, examples: Sequence[ScoredTrace]) -> dict[str, float]:
    """FLOPs of forward and backward over some traces, without padding.

    Returns:
        ``six_n``: 6 FLOPs a parameter and token, the usual convention, which counts the head at every token;
        ``needed``: the head at completion tokens alone, and causal attention.
    """
    tokens, counted = sum(map(len, examples)), sum(len(e.completion_tokens) for e in examples)
    head = config.vocab_size * config.hidden_size
    body = parameters - head * (1 if config.tie_word_embeddings else 2)
    width = config.num_attention_heads * (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    # forward: S^2 / 2 positions, 2 products of 2 FLOPs each; backward twice that
    attention = 6.0 * config.num_hidden_layers * width * sum(len(e) ** 2 for e in examples)
    return {"six_n": 6.0 * (body + head) * tokens, "needed": 6.0 * (body * tokens + head * counted) + attention}


def busy_seconds() -> float:
    """CPU seconds that all processes of the machine have used since it started."""
    user, nice, system, *_ = map(int, Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:])
    return (user + nice + system) / 100.0


if __name__ == "__main__":
    print(json.dumps(matmul_rate(int(sys.argv[1]))))
