"""ShareGPT and OpenThoughts: ``conversations`` with ``from`` and ``value``, often with ``system`` beside them.

``conversation`` and ``dialogue`` are names of the same; a turn may be a pair of question and answer.
"""

from __future__ import annotations

from typing import Any

from dcod.traces.formats._dialogs import CHATS, answered_beside, unpaired
from dcod.traces.formats._fields import (
    COMMON,
    GOLDS,
    MORE_GOLDS,
    REASONING,
    SYSTEMS,
    final_answer,
    first_key,
    has_turns,
    make,
    optional_text,
    split_chat,
    turns,
)
from dcod.traces.schema import Trace

READS = {
    "chat": CHATS, "gold": (*GOLDS, *MORE_GOLDS), "thought": REASONING, "system": SYSTEMS, **COMMON,
}  # fmt: skip


def detect(row: dict[str, Any]) -> bool:
    """A list of turns under this name."""
    key = "conversations" if "conversations" in row else first_key(row, CHATS)
    if key is None or not has_turns(row[key]) or any(key in row for key in ("prompt", "completion")):
        return False
    return not answered_beside(row, key) and (key == "conversations" or "messages" not in row)


def to_trace(row: dict[str, Any]) -> Trace:
    """Keeps the conversation's own prompt; the last turn is the completion."""
    value: Any = row.get(first_key(row, CHATS) or "conversations")
    value = unpaired(value) if has_turns(value) else value
    named = isinstance(value, list) and all(isinstance(turn, dict) and "role" in turn for turn in value)
    messages = turns(value) if named else turns(value, "from", "value")
    system = optional_text(row, "system")
    if system and not any(message["role"] == "system" for message in messages):
        messages = [{"role": "system", "content": system}, *messages]
    prompt, completion = split_chat(messages)
    return make(prompt, completion, final_answer(row), row)
