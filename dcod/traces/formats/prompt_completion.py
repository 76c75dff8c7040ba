"""A prompt and its completion under plain names: ``prompt`` and ``completion``, both text or both lists of messages;
``question`` and ``response``, ``query`` and ``response``, ``input`` and ``output``, and Alpaca's ``instruction``,
``input`` and ``output``. Earlier turns may stand beside them as ``history``.
"""

from __future__ import annotations

from typing import Any

from dcod.traces import templates
from dcod.traces.formats._dialogs import going_on, history
from dcod.traces.formats._fields import (
    COMMON,
    GOLDS,
    MORE_GOLDS,
    REASONING,
    SYSTEMS,
    asked,
    check_prompt,
    final_answer,
    first_key,
    goes_on,
    has_text,
    has_turns,
    make,
    split_chat,
    text,
    turns,
)
from dcod.traces.formats._native import check_said, is_native
from dcod.traces.formats.openai_batch import is_response
from dcod.traces.schema import Trace

_PROMPTS = ("prompt", "question", "query", "instruction", "input", "text_input", "input_text")
_COMPLETIONS = ("completion", "response", "output", "generation", "text_output", "output_text")
READS = {
    "prompt": _PROMPTS, "completion": _COMPLETIONS, "gold": (*GOLDS, *MORE_GOLDS), "thought": REASONING,
    "system": SYSTEMS, "input": ("input",), "history": ("history",), **COMMON,
}  # fmt: skip


def detect(row: dict[str, Any]) -> bool:
    """Both, of the same kind; not a problem with a response, nor a templated input."""
    if any(isinstance(row.get(key), list) for key in _COMPLETIONS) and (is_native(row) or is_response(row)):
        return False
    if has_text(row, "prompt", "completion") or (has_turns(row.get("prompt")) and has_turns(row.get("completion"))):
        return True
    if has_turns(row.get("input")) and has_text(row, "output"):
        return True
    prompt, completion = first_key(row, _PROMPTS), first_key(row, _COMPLETIONS)
    if prompt is None or completion is None or "problem" in row or not has_text(row, prompt, completion):
        return False
    if prompt == "question" and completion == "generation":
        return False  # of nemo_skills
    return not (prompt == "input" and isinstance(row["input"], str) and templates.mark(row["input"]))


def to_trace(row: dict[str, Any]) -> Trace:
    """A text prompt becomes the user's message; nothing is added to it."""
    gold = final_answer(row)
    if has_turns(row.get("prompt")):
        messages, completion = split_chat(going_on(turns(row["prompt"]), turns(row.get("completion"))))
        return make(messages, completion, gold, row)
    if has_turns(row.get("input")) and first_key(row, _PROMPTS) == "input":
        messages = turns(row["input"])
        check_prompt(messages)
        return make(messages, text(row, *_COMPLETIONS), gold, row)
    prompt, opening = asked(_problem(row))
    prompt = [*history(row), *prompt]
    check_prompt(prompt)
    return make(prompt, goes_on(opening, check_said(text(row, *_COMPLETIONS))), gold, row)


def _problem(row: dict[str, Any]) -> str:
    """The text prompt; Alpaca's input stands behind its instruction."""
    asked_for = text(row, *_PROMPTS)
    beside = row.get("input") if first_key(row, _PROMPTS) == "instruction" else None
    beside = str(beside) if type(beside) in (str, int, float) else ""
    return f"{asked_for}\n\n{beside}".rstrip() if beside.strip() else asked_for
