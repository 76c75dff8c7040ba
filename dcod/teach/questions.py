"""What a teacher is asked: prompts with their references, from the same sources as traces.

A row of a known trace format gives its prompt and its reference; what was once answered to it is left. Any other row
has ``messages``, ``prompt`` (messages or text), ``problem`` or ``question``, and perhaps ``gold`` (or another name that
the chat formats know for it) or a ``solution`` with a box. A prompt that stands there twice is asked once.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dcod.errors import UserError
from dcod.traces import Message, formats, prompt_digest, sources
from dcod.traces.formats import RowError
from dcod.traces.formats._fields import ask, check_prompt, final_answer, first_key, has_turns, last_box, text, turns
from dcod.traces.rows import RawRow

_TEXTS = ("problem", "question", "prompt")


@dataclass(frozen=True)
class Question:
    """A prompt and its reference answer, if there is one; ``id`` is the identity of both."""

    prompt: list[Message]
    gold: str | None

    @property
    def id(self) -> str:
        return hashlib.sha256(f"{prompt_digest(self.prompt)}\x1f{self.gold}".encode()).hexdigest()[:16]


def read(uris: Sequence[str], kind: str) -> tuple[list[Question], Counter[str]]:
    """The questions of all sources, in their order, and how many rows were passed over, by reason.

    Args:
        uris: sources, as :func:`dcod.traces.sources.expand` knows them.
        kind: the instruction below a bare problem, a key of :data:`dcod.traces.prompts.INSTRUCTIONS`.

    Raises:
        UserError: a source is missing or empty, or no row of them is a question.
    """
    questions: dict[str, Question] = {}
    passed: Counter[str] = Counter()
    first = ""
    for uri in uris:
        for row in sources.read_rows(uri):
            try:
                question = _question(row, kind)
            except RowError as error:
                passed[error.code] += 1
                first = first or f"{row.file}:{row.line}: {error.message}"
                continue
            name = prompt_digest(question.prompt)
            passed["duplicate"] += name in questions
            questions.setdefault(name, question)
    if not questions:
        raise UserError(f"teach.prompts: none of {passed.total()} rows is a question ({first or 'no source is given'})")
    return list(questions.values()), +passed


def _question(row: RawRow, kind: str) -> Question:
    if row.row is None:
        raise RowError(row.error, row.message)
    try:
        trace = formats.get(row.format or formats.detect(row.row)).to_trace(row.row)
    except RowError as error:
        if error.code not in ("unknown_format", "no_completion"):
            raise
        return _bare(row.row, kind)
    return Question(trace.prompt, trace.gold)


def _bare(row: dict[str, Any], kind: str) -> Question:
    gold = final_answer(row)
    if gold is None and isinstance(row.get("solution"), str):
        gold = last_box(row["solution"])
    chat = next((row[key] for key in ("messages", "prompt") if has_turns(row.get(key))), None)
    if chat is not None:
        prompt = turns(chat)
        check_prompt(prompt)
        return Question(prompt, gold)
    if first_key(row, _TEXTS) is None:
        raise RowError("no_prompt", f"expected messages, or one of {', '.join(_TEXTS)}; got {', '.join(row)[:80]}")
    return Question(ask(kind, text(row, *_TEXTS)), gold)
