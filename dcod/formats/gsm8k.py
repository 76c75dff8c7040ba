"""GSM8K: ``question`` and a worked human ``answer`` that ends in ``#### number``."""

from typing import Any

from dcod.formats import RowError, text
from dcod.prompts import prompt_for
from dcod.traces import Trace


def detect(row: dict[str, Any]) -> bool:
    return set(row) == {"question", "answer"}


def to_trace(row: dict[str, Any]) -> Trace:
    answer = text(row, "answer")
    gold = answer.rpartition("####")[2].strip() if "####" in answer else ""
    if not gold:
        raise RowError("no_gold", "the answer has no `#### number`")
    return Trace(prompt_for("number", text(row, "question")), answer, gold=gold, teacher="human")
