r"""Models' responses to benchmark problems: ``problem``, ``response`` or ``full_response``, and a reference.

The reference is ``gold`` or ``ground_truth`` (an answer), or ``gold_solution`` (a worked one). Where that ends
in ``#### 18`` the prompt asks for such a line, else for a ``\boxed`` answer.
"""

from __future__ import annotations

from typing import Any

from dcod.formats._fields import (
    RESPONSES,
    after_hashes,
    ask,
    final_answer,
    first_key,
    has_text,
    last_box,
    make,
    optional_text,
    text,
)
from dcod.traces import Trace


def detect(row: dict[str, Any]) -> bool:
    """A problem and a response."""
    others = ("messages", "conversations", "completion", "generation", "generated_solution")
    return has_text(row, "problem") and first_key(row, RESPONSES) is not None and not any(key in row for key in others)


def to_trace(row: dict[str, Any]) -> Trace:
    """The response answers the problem; other people's verdicts are not read."""
    solution = optional_text(row, "gold_solution") or ""
    hashes = after_hashes(solution)
    gold = final_answer(row, ("gold", "ground_truth", "expected_answer")) or hashes or last_box(solution)
    kind = "number" if hashes else "boxed"
    return make(ask(kind, text(row, "problem")), text(row, *RESPONSES), gold, row)
