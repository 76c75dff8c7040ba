"""Prompts already run through Llama 3's template: ``input`` with header marks, ``output`` ending in ``<|eot_id|>``."""

import re
from typing import Any

from dcod.formats import RowError, messages, optional_text, text
from dcod.traces import Trace

TURN = re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n(.*?)(?:<\|eot_id\|>|\Z)", re.DOTALL)


def detect(row: dict[str, Any]) -> bool:
    return "input" in row and "output" in row


def to_trace(row: dict[str, Any]) -> Trace:
    turns = [{"role": role, "content": content.strip()} for role, content in TURN.findall(text(row, "input"))]
    prompt = messages([turn for turn in turns if turn["content"]])
    if prompt[-1]["role"] != "user":
        raise RowError("bad_messages", "the templated input does not end with a user's turn")
    completion = text(row, "output").removesuffix("<|eot_id|>")
    return Trace(prompt, completion, gold=optional_text(row, "expected_answer"))
