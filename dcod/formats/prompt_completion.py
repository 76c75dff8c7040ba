"""Plain pairs: ``prompt``/``completion`` as text (or ``question``/``response``), a ``gold`` answer if known."""

from typing import Any

from dcod.formats import optional_text, text
from dcod.traces import Trace


def detect(row: dict[str, Any]) -> bool:
    pair = isinstance(row.get("prompt"), str) and "completion" in row
    return pair or ("question" in row and "response" in row)


def to_trace(row: dict[str, Any]) -> Trace:
    prompt = [{"role": "user", "content": text(row, "prompt", "question")}]
    gold = optional_text(row, "gold", "expected_answer", "answer")
    return Trace(prompt, text(row, "completion", "response"), gold=gold, teacher=optional_text(row, "model", "teacher"))
