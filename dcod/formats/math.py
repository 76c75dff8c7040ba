"""MATH: ``problem`` and a worked human ``solution``; the gold answer is the last box."""

from typing import Any

from dcod.answers import boxed
from dcod.formats import RowError, text
from dcod.prompts import prompt_for
from dcod.traces import Trace


def detect(row: dict[str, Any]) -> bool:
    return {"problem", "solution", "level"} <= set(row)


def to_trace(row: dict[str, Any]) -> Trace:
    solution = text(row, "solution")
    answers = boxed(solution)
    if not answers or not answers[-1]:
        raise RowError("no_gold", "the solution has no filled \\boxed answer")
    return Trace(prompt_for("boxed", text(row, "problem")), solution, gold=answers[-1], teacher="human")
