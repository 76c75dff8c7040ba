"""A chat that ends with what is asked, the answer beside it as text: ``messages`` or ``prompt``, and ``response``."""

from __future__ import annotations

from typing import Any

from dcod.traces.formats._dialogs import ANSWERS, CHATS, answered_beside
from dcod.traces.formats._fields import (
    COMMON,
    GOLDS,
    MORE_GOLDS,
    REASONING,
    SYSTEMS,
    check_prompt,
    final_answer,
    first_key,
    has_turns,
    make,
    text,
    turns,
)
from dcod.traces.formats._native import check_said, is_native
from dcod.traces.schema import Trace

_ANSWERS = frozenset(ANSWERS)
_CHATS = ("messages", "prompt", *CHATS)
READS = {
    "chat": _CHATS, "completion": ANSWERS, "gold": (*GOLDS, *MORE_GOLDS), "thought": REASONING, "system": SYSTEMS,
    **COMMON,
}  # fmt: skip


def detect(row: dict[str, Any]) -> bool:
    """A chat without its answer, and the answer; with ``prompt`` and ``completion`` it is one of our own rows."""
    if _ANSWERS.isdisjoint(row):
        return False
    key = first_key(row, _CHATS)
    if key is None or "problem" in row or (key == "prompt" and "completion" in row):
        return False
    return answered_beside(row, key) and "reasoning_content" not in row and not is_native(row)


def to_trace(row: dict[str, Any]) -> Trace:
    """The text answers the chat."""
    chat: Any = row.get(first_key(row, _CHATS) or "messages")
    named = not has_turns(chat) or all("role" in turn for turn in chat)
    prompt = turns(chat) if named else turns(chat, "from", "value")
    check_prompt(prompt)
    return make(prompt, check_said(text(row, *ANSWERS)), final_answer(row), row)
