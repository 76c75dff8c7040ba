r"""Models' responses to benchmark problems: ``problem``, ``response`` or ``full_response``, and a reference.

The reference is ``gold`` or ``ground_truth`` (an answer), or ``gold_solution`` (a worked one). Where that ends
in ``#### 18`` or ``A: 18`` the prompt asks for a number, else for a ``\boxed`` answer.
"""

from __future__ import annotations

from typing import Any

from dcod.grading.extract import extract
from dcod.traces.formats._fields import (
    COMMON,
    MORE_GOLDS,
    REASONING,
    RESPONSES,
    SYSTEMS,
    ask,
    final_answer,
    first_key,
    has_text,
    last_box,
    make,
    optional_text,
    text,
)
from dcod.traces.formats._native import check_said, is_native
from dcod.traces.schema import Trace

_GOLDS = ("gold", "ground_truth", "expected_answer", "answer")
READS = {
    "prompt": ("problem",), "completion": RESPONSES, "gold": (*_GOLDS, *MORE_GOLDS), "worked": ("gold_solution",),
    "thought": REASONING, "system": SYSTEMS, **COMMON,
}  # fmt: skip


def detect(row: dict[str, Any]) -> bool:
    """A problem and a response."""
    others = ("messages", "conversations", "completion", "generation", "generated_solution")
    said = first_key(row, RESPONSES)
    if said is None or not has_text(row, "problem") or any(key in row for key in others):
        return False
    return isinstance(row[said], str) or not is_native(row)


def to_trace(row: dict[str, Any]) -> Trace:
    """The response answers the problem."""
    gold = final_answer(row, _GOLDS)
    kind = "boxed"
    solution = optional_text(row, "gold_solution")
    if gold is None and solution is not None:
        gold = extract(solution)
        kind = "boxed" if last_box(solution) else "number"
    return make(ask(kind, text(row, "problem")), check_said(text(row, *RESPONSES)), gold, row)
