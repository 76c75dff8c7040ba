"""Templated text: ``input`` with the marks of a chat template, ``output``, perhaps ``expected_answer``."""

from __future__ import annotations

from typing import Any

from dcod.traces import templates
from dcod.traces.formats._fields import (
    COMMON,
    MORE_GOLDS,
    REASONING,
    asked,
    check_prompt,
    final_answer,
    goes_on,
    has_text,
    make,
    text,
)
from dcod.traces.schema import Trace

_ENDS = ("<|eot_id|>", "<|end_of_text|>", "<|eom_id|>")
_GOLDS = ("expected_answer", "gold", "ground_truth", "answer")
READS = {
    "prompt": ("input",), "completion": ("output",), "gold": (*_GOLDS, *MORE_GOLDS), "thought": REASONING, **COMMON,
}  # fmt: skip


def detect(row: dict[str, Any]) -> bool:
    """Input with a template's marks, and output."""
    return has_text(row, "input", "output") and isinstance(row["input"], str) and bool(templates.mark(row["input"]))


def to_trace(row: dict[str, Any]) -> Trace:
    """Takes the template apart into messages; a turn that is empty was only the template's."""
    prompt, opening = asked(text(row, "input"))
    check_prompt(prompt)
    gold = final_answer(row, _GOLDS)
    return make(prompt, goes_on(opening, _without_end(text(row, "output"))), gold, row)


def _without_end(content: str) -> str:
    for mark in _ENDS:
        content = content.removesuffix(mark)
    return content
