"""Whose turn it is in a chat, by the names that data sets and APIs have for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant",
    "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "chatbot": "assistant", "bot": "assistant",
}  # fmt: skip


def role_of(turn: Mapping[str, Any], key: str, other: str = "") -> str:
    """Whose turn it is, by a key or another one, in small or capital letters; empty for nobody known."""
    said = str(turn.get(key) if key in turn or not other else turn.get(other))
    return ROLES.get(said) or ROLES.get(said.lower(), "")
