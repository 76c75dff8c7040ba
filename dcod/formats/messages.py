"""Chat messages, the last one the assistant's: ``{"messages": [...]}``; a gold answer may stand beside them."""

from typing import Any

from dcod.formats import conversation, optional_text
from dcod.traces import Trace


def detect(row: dict[str, Any]) -> bool:
    return "messages" in row


def to_trace(row: dict[str, Any]) -> Trace:
    prompt, completion = conversation(row["messages"])
    gold = optional_text(row, "gold", "expected_answer", "answer")
    return Trace(prompt, completion, gold=gold, teacher=optional_text(row, "model", "teacher"))
