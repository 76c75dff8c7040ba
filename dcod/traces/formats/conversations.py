"""ShareGPT and OpenThoughts: ``conversations`` with ``from`` and ``value``, often with ``system`` beside them."""

from __future__ import annotations

from typing import Any

from dcod.traces.formats._fields import (
    COMMON,
    GOLDS,
    MORE_GOLDS,
    REASONING,
    SYSTEMS,
    final_answer,
    has_turns,
    make,
    optional_text,
    split_chat,
    turns,
)
from dcod.traces.schema import Trace

READS = {
    "chat": ("conversations",), "gold": (*GOLDS, *MORE_GOLDS), "thought": REASONING, "system": SYSTEMS, **COMMON,
}  # fmt: skip


def detect(row: dict[str, Any]) -> bool:
    """A list of turns under this name."""
    return has_turns(row.get("conversations")) and not any(key in row for key in ("prompt", "completion"))


def to_trace(row: dict[str, Any]) -> Trace:
    """Keeps the conversation's own prompt; the last turn is the completion."""
    value = row.get("conversations")
    named = isinstance(value, list) and all(isinstance(turn, dict) and "role" in turn for turn in value)
    messages = turns(value) if named else turns(value, "from", "value")
    system = optional_text(row, "system")
    if system and not any(message["role"] == "system" for message in messages):
        messages = [{"role": "system", "content": system}, *messages]
    prompt, completion = split_chat(messages)
    return make(prompt, completion, final_answer(row), row)
