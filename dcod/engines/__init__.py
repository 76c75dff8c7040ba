"""Engines run a model: ``generate()`` and ``score()`` behind one protocol, one file an engine, chosen by configuration.

``transformers`` is the default and the reference. ``vllm`` needs an environment of its own; ``openai`` asks a server.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dcod.packing import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from dcod.config import EngineConfig


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
        """Log-prob and entropy (nats) of every completion token of every example, in their order.

        The entropy is nan where the engine does not tell the whole distribution: never a number that is not it.
        """
        ...


def load(config: EngineConfig, folder: Path, tokenizer: PreTrainedTokenizerBase, dtype: str) -> Engine:
    """The configured engine, with a model folder.

    Args:
        config: its name, and the address of a server.
        folder: the model; of an ``openai`` server, the folder of the model that it serves.
        tokenizer: of the folder.
        dtype: ``float32`` or ``bfloat16``.

    Raises:
        UserError: the engine is not installed, or the server does not answer.
    """
    if config.name == "vllm":
        from dcod.engines.vllm import VllmEngine

        return VllmEngine(folder, tokenizer, dtype)
    if config.name == "openai":
        from dcod.engines.openai import OpenAIEngine

        return OpenAIEngine(config.endpoint, config.model, tokenizer, config.concurrency)
    from dcod.engines.transformers import TransformersEngine

    return TransformersEngine(folder, tokenizer, dtype)


def identity(config: EngineConfig) -> list[Any]:
    """What of the engine decides an answer, for the record and the fingerprint: its name and version, or address."""
    if config.name == "openai":
        return [config.name, config.endpoint, config.model]
    packages = ("torch", "transformers") if config.name == "transformers" else ("vllm",)
    return [config.name, *(f"{name} {_version(name)}" for name in packages)]


def _version(package: str) -> str:
    for name in (package, f"{package}-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "not installed"
