r"""MATH: ``problem``, and a worked ``solution`` whose answer stands in its last ``\boxed``."""

from __future__ import annotations

from typing import Any

from dcod.traces.formats._fields import GENERATIONS, RESPONSES, ask, has_text, last_box, make, text
from dcod.traces.schema import Trace


def detect(row: dict[str, Any]) -> bool:
    """A problem with a solution, and no model's response."""
    others = (*RESPONSES, *GENERATIONS, "messages", "conversations", "prompt", "completion")
    return has_text(row, "problem", "solution") and not any(key in row for key in others)


def to_trace(row: dict[str, Any]) -> Trace:
    """The human solution is the completion."""
    solution = text(row, "solution")
    return make(ask("boxed", text(row, "problem")), solution, last_box(solution), row)
