"""NeMo-Skills and OpenMathInstruct: ``problem``, ``generation`` (or ``generated_solution``), ``expected_answer``."""

from __future__ import annotations

from typing import Any

from dcod.traces.formats._fields import (
    COMMON,
    GENERATIONS,
    MORE_GOLDS,
    REASONING,
    SYSTEMS,
    ask,
    final_answer,
    first_key,
    has_text,
    make,
    text,
)
from dcod.traces.schema import Trace

_WHOLE = ("_full_generation", "full_generation")  # with its thought, where NeMo-Skills took that off the generation
_GOLDS = ("expected_answer", "gold", "ground_truth", "answer")
_PROMPTS = ("problem", "question")
READS = {
    "prompt": _PROMPTS, "completion": (*_WHOLE, *GENERATIONS), "gold": (*_GOLDS, *MORE_GOLDS),
    "thought": REASONING, "system": SYSTEMS, **COMMON,
}  # fmt: skip


def detect(row: dict[str, Any]) -> bool:
    """A problem and a generation."""
    prompt = first_key(row, _PROMPTS)
    return prompt is not None and has_text(row, prompt) and first_key(row, GENERATIONS) is not None


def to_trace(row: dict[str, Any]) -> Trace:
    """The generation answers the problem."""
    gold = final_answer(row, _GOLDS)
    return make(ask("boxed", text(row, *_PROMPTS)), text(row, *_WHOLE, *GENERATIONS), gold, row)
