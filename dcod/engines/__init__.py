"""Engines run a model: ``generate()`` and ``score()`` behind the same signatures, one file an engine.

``transformers`` is here. A vLLM engine will stand beside it in ``vllm.py``: same two methods, own image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dcod.packing import Example


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn; a part of every record. Temperature 0 is greedy."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Completion:
    """What a model wrote.

    Attributes:
        text: decoded, without special tokens.
        token_ids: as sampled, the end-of-turn token included when it came.
        truncated: the limit ended it, not the model.
    """

    text: str
    token_ids: list[int]
    truncated: bool


class Engine(Protocol):
    """What the stages need of a model."""

    def generate(self, prompts: Sequence[list[int]], sampling: Sampling, batch_size: int) -> list[Completion]:
        """One completion per tokenised prompt, in the order of the prompts."""
        ...

    def score(self, examples: Sequence[Example], batch_tokens: int) -> list[tuple[list[float], list[float]]]:
        """Log-prob and entropy (nats) of every completion token of every example, in their order."""
        ...
