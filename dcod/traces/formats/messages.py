"""Chat ``messages`` with ``role`` and ``content``: the last one, the assistant's, is the completion.

A reference answer may stand beside them as ``gold``, ``expected_answer``, ``ground_truth`` or ``answer``.
"""

from __future__ import annotations

from typing import Any

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
from dcod.traces.formats.openai_batch import has_failed
from dcod.traces.schema import Trace

READS = {
    "chat": ("messages",), "gold": (*GOLDS, *MORE_GOLDS), "thought": REASONING, "system": SYSTEMS, **COMMON,
}  # fmt: skip


def detect(row: dict[str, Any]) -> bool:
    """Messages, and no prompt, conversation or engine's output beside them."""
    others = ("prompt", "completion", "conversations", *SAMPLED)
    return has_turns(row.get("messages")) and not any(key in row for key in others) and not has_failed(row)


def to_trace(row: dict[str, Any]) -> Trace:
    """Keeps the chat's own prompt."""
    prompt, completion = split_chat(turns(row.get("messages")))
    return make(prompt, completion, final_answer(row), row)
