"""Chat ``messages`` with ``role`` and ``content``: the last one, the assistant's, is the completion.

A reference answer may stand beside them as ``gold``, ``expected_answer``, ``ground_truth`` or ``answer``.
"""

from __future__ import annotations

from typing import Any

from dcod.traces.formats._dialogs import ANSWERS, answered_beside, is_asked
from dcod.traces.formats._fields import (
    COMMON,
    GOLDS,
    MORE_GOLDS,
    REASONING,
    SAMPLED,
    SYSTEMS,
    final_answer,
    has_turns,
    make,
    split_chat,
    turns,
)
from dcod.traces.formats._native import is_llama_cpp, is_sglang, is_tgi
from dcod.traces.formats.openai_batch import has_choices, has_failed
from dcod.traces.schema import Trace

READS = {
    "chat": ("messages",), "gold": (*GOLDS, *MORE_GOLDS), "thought": REASONING, "system": SYSTEMS, **COMMON,
}  # fmt: skip


def detect(row: dict[str, Any]) -> bool:
    """Messages, and no conversation, answer or engine's output beside them; a prompt as text only repeats theirs."""
    others = ("completion", "conversations", *SAMPLED)
    if not has_turns(row.get("messages")) or any(key in row for key in others) or has_failed(row):
        return False
    if "prompt" in row and not (isinstance(row["prompt"], str) and not any(key in row for key in ANSWERS)):
        return False
    if answered_beside(row, "messages") or has_choices(row.get("response")):
        return False
    return not (is_asked(row["messages"]) and any(known(row) for known in (is_sglang, is_tgi, is_llama_cpp)))


def to_trace(row: dict[str, Any]) -> Trace:
    """Keeps the chat's own prompt."""
    prompt, completion = split_chat(turns(row.get("messages")))
    return make(prompt, completion, final_answer(row), row)
