"""Engines run a model: ``generate()`` and ``score()`` behind one protocol, one file an engine, chosen by configuration.

``transformers`` is the default and the reference. ``vllm`` needs an environment of its own; ``openai`` asks a server.
``by_name`` loads the one that a configuration names. A new engine is a file here, a branch there and its name in
``dcod.config.teach``. This door imports ``base`` alone: what runs one engine has no other's code in its digest.
"""

from dcod.engines.base import Completion, Engine, Sampling, likeliest, seed_for

__all__ = ["Completion", "Engine", "Sampling", "likeliest", "seed_for"]
