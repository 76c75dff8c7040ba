r"""MATH: ``problem``, and a worked ``solution``; the reference stands beside it, or in its last ``\boxed``."""

from __future__ import annotations

from typing import Any

from dcod.traces.formats._fields import (
    COMMON,
    GENERATIONS,
    GOLDS,
    MORE_GOLDS,
    RESPONSES,
    ask,
    final_answer,
    first_key,
    has_text,
    last_box,
    make,
    text,
)
from dcod.traces.schema import Trace

_PROMPTS = ("problem", "question")
READS = {"prompt": _PROMPTS, "solution": ("solution",), "gold": (*GOLDS, *MORE_GOLDS), **COMMON}


def detect(row: dict[str, Any]) -> bool:
    """A problem with a solution, and no model's response."""
    others = (*RESPONSES, *GENERATIONS, "messages", "conversations", "prompt", "completion")
    prompt = first_key(row, _PROMPTS)
    return prompt is not None and has_text(row, prompt, "solution") and not any(key in row for key in others)


def to_trace(row: dict[str, Any]) -> Trace:
    """The solution is the completion; what stands in it counts as the reference only where no other is there."""
    solution = text(row, "solution")
    beside = first_key(row, (*GOLDS, *MORE_GOLDS)) is not None
    gold = final_answer(row) if beside else last_box(solution)
    return make(ask("boxed", text(row, *_PROMPTS)), solution, gold, row, verbatim=True)
