"""Worked solutions that dcod generates itself from reasoning-gym; see :mod:`dcod.synthetic`."""

from typing import Any

from dcod.formats import text
from dcod.prompts import prompt_for
from dcod.traces import Trace


def detect(row: dict[str, Any]) -> bool:
    return "synthetic" in row


def to_trace(row: dict[str, Any]) -> Trace:
    prompt = prompt_for("number", text(row, "synthetic"))
    return Trace(prompt, text(row, "worked"), gold=text(row, "gold"), teacher="reasoning-gym, written out")
