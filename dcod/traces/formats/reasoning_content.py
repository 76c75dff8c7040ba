"""DeepSeek-style rows: ``reasoning_content`` and ``content`` beside a prompt; the reasoning goes into think tags.

A chat whose last message has ``reasoning_content`` is of the format ``messages``.
"""

from __future__ import annotations

from typing import Any

from dcod.traces.formats._beside import with_reasoning
from dcod.traces.formats._fields import (
    COMMON,
    GOLDS,
    MORE_GOLDS,
    SYSTEMS,
    asked,
    check_prompt,
    final_answer,
    has_text,
    has_turns,
    make,
    text,
    turns,
)
from dcod.traces.schema import Message, Trace

_PROMPTS = ("prompt", "question", "problem", "instruction", "query", "input")

READS = {
    "chat": ("messages",), "prompt": _PROMPTS, "completion": ("content",), "thought": ("reasoning_content",),
    "gold": (*GOLDS, *MORE_GOLDS), "system": SYSTEMS, **COMMON,
}  # fmt: skip


def detect(row: dict[str, Any]) -> bool:
    """Reasoning and content as text."""
    return has_text(row, "reasoning_content", "content")


def to_trace(row: dict[str, Any]) -> Trace:
    """A text prompt becomes one user message; nothing is added to it."""
    chat = row.get("messages") or row.get("prompt")
    prompt: list[Message] = turns(chat) if has_turns(chat) else asked(text(row, *_PROMPTS))[0]
    check_prompt(prompt)
    return make(prompt, with_reasoning(row, text(row, "content")), final_answer(row), row)
