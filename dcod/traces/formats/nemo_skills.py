"""NeMo-Skills and OpenMathInstruct: ``problem``, ``generation`` (or ``generated_solution``), ``expected_answer``."""

from __future__ import annotations

from typing import Any

from dcod.traces.formats._fields import GENERATIONS, ask, final_answer, first_key, has_text, make, text
from dcod.traces.schema import Trace


def detect(row: dict[str, Any]) -> bool:
    """A problem and a generation."""
    return has_text(row, "problem") and first_key(row, GENERATIONS) is not None


def to_trace(row: dict[str, Any]) -> Trace:
    """The generation answers the problem; other people's verdicts are not read."""
    gold = final_answer(row, ("expected_answer",))
    return make(ask("boxed", text(row, "problem")), text(row, *GENERATIONS), gold, row)
