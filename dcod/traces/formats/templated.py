"""Llama-3 templated text: ``input`` with its header marks, ``output``, perhaps ``expected_answer``."""

from __future__ import annotations

from typing import Any

from dcod.traces.formats._fields import ROLES, check_prompt, final_answer, has_text, make, text
from dcod.traces.formats._find import RowError
from dcod.traces.schema import Message, Trace

_HEADER = "<|start_header_id|>"
_HEADER_END = "<|end_header_id|>"
_ENDS = ("<|eot_id|>", "<|end_of_text|>", "<|eom_id|>")


def detect(row: dict[str, Any]) -> bool:
    """Input with header marks, and output."""
    return has_text(row, "input", "output") and _HEADER in row["input"]


def to_trace(row: dict[str, Any]) -> Trace:
    """Takes the template apart into messages; a turn that is empty was only the template's."""
    prompt: list[Message] = []
    for turn in text(row, "input").split(_HEADER)[1:]:
        role, ended, content = turn.partition(_HEADER_END)
        if not ended:
            raise RowError("bad_messages", f"a header without its end mark: {role[:40]!r}")
        if role not in ROLES:
            raise RowError("bad_messages", f"role {role!r} is unknown; known: {', '.join(ROLES)}")
        content = _without_end(content).strip()
        if content:
            prompt.append({"role": ROLES[role], "content": content})
    check_prompt(prompt)
    gold = final_answer(row, ("expected_answer", "gold"))
    return make(prompt, _without_end(text(row, "output")), gold, row)


def _without_end(content: str) -> str:
    for mark in _ENDS:
        content = content.removesuffix(mark)
    return content
