"""The engine that a configuration names."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcod.engines.base import Engine

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from dcod.config.teach import EngineConfig
    from dcod.engines.openai import OpenAIEngine


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
        return _endpoint(config, tokenizer)
    from dcod.engines.transformers import TransformersEngine

    return TransformersEngine(folder, tokenizer, dtype)


def load_chat(config: EngineConfig) -> OpenAIEngine:
    """A server of which only the name of a model is known: it can chat, and nothing else."""
    return _endpoint(config, None)


def identity(config: EngineConfig) -> list[Any]:
    """What of the engine decides an answer, for the record and the fingerprint: its name and version, or address."""
    if config.name == "openai":
        return [config.name, config.endpoint, config.model]
    packages = ("torch", "transformers") if config.name == "transformers" else ("vllm",)
    return [config.name, *(f"{name} {_version(name)}" for name in packages)]


def _endpoint(config: EngineConfig, tokenizer: PreTrainedTokenizerBase | None) -> OpenAIEngine:
    from dcod.engines.openai import OpenAIEngine

    per_minute = 0 if config.requests_per_minute == "unlimited" else config.requests_per_minute
    return OpenAIEngine(config.endpoint, config.model, tokenizer, config.concurrency, per_minute)


def _version(package: str) -> str:
    for name in (package, f"{package}-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "not installed"
