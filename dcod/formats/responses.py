"""A model's responses to known problems: ``problem``, a response, and the gold answer where it is known.

Covers NeMo-Skills output (``generation``, ``generated_solution``), evaluation dumps (``response`` and
``gold``) and reasoning pilots (``full_response`` and ``ground_truth``). Other graders' verdicts are not taken.
"""

from typing import Any

from dcod.formats import RowError, optional_text, text
from dcod.prompts import prompt_for
from dcod.traces import Trace

RESPONSES = ("response", "generation", "generated_solution", "full_response")


def detect(row: dict[str, Any]) -> bool:
    return "problem" in row and any(key in row for key in RESPONSES)


def to_trace(row: dict[str, Any]) -> Trace:
    gold = optional_text(row, "gold", "expected_answer", "ground_truth")
    if gold is None and "gold_solution" in row:
        gold = str(row["gold_solution"]).rpartition("####")[2].strip()
    response = next((row[key] for key in RESPONSES if key in row), None)
    if response == "":
        raise RowError("empty_completion", "the response is empty")
    temperature = row.get("temperature")
    return Trace(
        prompt_for("boxed", text(row, "problem")),
        text(row, *RESPONSES),
        gold=gold,
        teacher=optional_text(row, "model", "model_name"),
        temperature=float(temperature) if isinstance(temperature, int | float) else None,
    )
