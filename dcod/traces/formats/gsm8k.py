"""GSM8K: ``question``, and an ``answer`` that is a worked solution ending in ``#### 72``."""

from __future__ import annotations

from typing import Any

from dcod.traces.formats._fields import COMMON, GENERATIONS, after_hashes, ask, has_text, make, text
from dcod.traces.schema import Trace

_OTHERS = ("problem", "messages", "conversations", "prompt", "completion", "input", "output", "solution", "response",
           *GENERATIONS)  # fmt: skip

READS = {"prompt": ("question",), "solution": ("answer",), **COMMON}


def detect(row: dict[str, Any]) -> bool:
    """Question and answer as text, and nothing that another format would read."""
    return has_text(row, "question", "answer") and not any(key in row for key in _OTHERS)


def to_trace(row: dict[str, Any]) -> Trace:
    """The human solution is the completion."""
    answer = text(row, "answer")
    return make(ask("number", text(row, "question")), answer, after_hashes(answer), row, verbatim=True)
