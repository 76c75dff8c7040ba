"""Engines run a model: ``generate()`` and ``score()`` behind one protocol, one file an engine, chosen by configuration.

``transformers`` is the default and the reference. ``vllm`` needs an environment of its own; ``openai`` asks a server.
A new engine is a file here, a branch in ``_load`` and its name in ``dcod.config.teach``.
"""

from dcod.engines._load import identity, load, load_chat
from dcod.engines.base import Completion, Engine, Sampling, likeliest, seed_for

__all__ = ["Completion", "Engine", "Sampling", "identity", "likeliest", "load", "load_chat", "seed_for"]
