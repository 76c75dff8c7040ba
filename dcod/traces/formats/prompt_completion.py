"""``prompt`` and ``completion``, both text or both lists of messages; or ``question`` and ``response`` as text."""

from __future__ import annotations

from typing import Any

from dcod.traces.formats._fields import check_prompt, final_answer, has_text, has_turns, make, split_chat, text, turns
from dcod.traces.schema import Message, Trace


def detect(row: dict[str, Any]) -> bool:
    """Both fields, of the same kind."""
    texts = has_text(row, "prompt", "completion") or (has_text(row, "question", "response") and "problem" not in row)
    return texts or (has_turns(row.get("prompt")) and has_turns(row.get("completion")))


def to_trace(row: dict[str, Any]) -> Trace:
    """A text prompt becomes one user message; nothing is added to it."""
    gold = final_answer(row)
    if has_turns(row.get("prompt")):
        messages, completion = split_chat(turns(row["prompt"]) + turns(row.get("completion")))
        return make(messages, completion, gold, row)
    prompt: list[Message] = [{"role": "user", "content": text(row, "prompt", "question")}]
    check_prompt(prompt)
    return make(prompt, text(row, "completion", "response"), gold, row)
