"""GSM8K: ``question``, and an ``answer`` that is a worked solution ending in ``#### 72``."""

from __future__ import annotations

import re
from typing import Any

from dcod.traces.formats._fields import COMMON, GENERATIONS, after_hashes, ask, has_text, last_box, make, text
from dcod.traces.refusals import RowError
from dcod.traces.schema import Trace

_OTHERS = ("problem", "messages", "conversations", "prompt", "completion", "input", "output", "solution", "response",
           *GENERATIONS)  # fmt: skip

_WORDS = re.compile(r"(?<![\\\w])[^\W\d_]{2,}")  # not those of LaTeX
_BARE = 60  # characters of an answer without a solution

READS = {"prompt": ("question",), "solution": ("answer",), **COMMON}


def detect(row: dict[str, Any]) -> bool:
    """Question and answer as text, and nothing that another format would read."""
    return has_text(row, "question", "answer") and not any(key in row for key in _OTHERS)


def to_trace(row: dict[str, Any]) -> Trace:
    """The human solution is the completion.

    Raises:
        RowError: ``no_completion``, the answer is a reference without any solution.
    """
    answer = text(row, "answer")
    gold = after_hashes(answer)
    if gold is None and len(answer) <= _BARE and len(_WORDS.findall(answer)) < 2:
        raise RowError("no_completion", f"answer: {answer!r} is a bare answer, no response: there is nothing to teach")
    kind = "boxed" if gold is None and last_box(answer) else "number"
    return make(ask(kind, text(row, "question")), answer, gold, row, verbatim=True)
