"""A list or an object that was written as text and stands as a completion: what is in it was said, it was not."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from typing import Any

from dcod.grading import thoughts
from dcod.grading.extract import extract
from dcod.traces.refusals import RowError
from dcod.traces.schema import Message

_KEYS = frozenset(
    ("role", "content", "message", "text", "choices", "completion", "completions", "response", "responses", "output",
     "output_text", "generated_text", "generation", "generations", "reasoning_content", "reasoning", "thinking",
     "thought", "thoughts", "think", "cot", "rationale", "solution")
)  # fmt: skip
_JSON = "written as JSON"
_LONGEST = 2**20  # characters that are looked into
_WORDS = 4  # of a text that somebody wrote, and no label
_SENTENCE = 10  # the same of an item in a list, which may be what was asked for
_WANTED = re.compile(r"\bjson\b|\bdict|\byaml\b|\bschema\b", re.IGNORECASE)
_LISTED = re.compile(r"\b(?:list|array|python|items)\b", re.IGNORECASE)


def check(prompt: Sequence[Message], completion: str) -> None:
    """Refuses a completion that is JSON or the print of answers, unless the prompt asks for such.

    Raises:
        RowError: ``bad_field``.
    """
    said = completion.strip()
    if said[:1] + said[-1:] not in ("[]", "{}") or len(said) > _LONGEST:
        return
    asked = "\n".join(message["content"] for message in prompt)
    value, how = _read(said)
    if _holds_answers(value, bool(_LISTED.search(asked))) and not _WANTED.search(asked):
        what = "a list" if isinstance(value, list) else "an object"
        way = "a mapping takes what is in it: [*], .KEY" if how == _JSON else "record it as JSON"
        raise RowError("bad_field", f"the completion is {what} {how}: {said[:60]!r}; {way}")


def _read(said: str) -> tuple[Any, str]:
    """A value out of JSON or out of Python's print, and which; None for any other text."""
    try:
        return json.loads(said), _JSON
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(said), "that was printed as text"
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None, ""


def _holds_answers(value: Any, listed: bool) -> bool:
    """Whether a value holds the texts of a model; where a list was asked for, only those with a thought are."""
    if isinstance(value, dict):
        texts = [inner for key, inner in value.items() if str(key).lower() in _KEYS]
        return any(isinstance(one, (list, dict)) or len(str(one).split()) >= _WORDS for one in texts)
    if not isinstance(value, list) or not value:
        return False
    if all(isinstance(one, str) for one in value):
        return any(map(thoughts.marks, value)) or (not listed and any(map(_is_answer, value)))
    return all(isinstance(one, dict) for one in value) and any(_holds_answers(one, listed) for one in value)


def _is_answer(text: str) -> bool:
    return len(text.split()) >= _SENTENCE or (len(text.split()) >= _WORDS and extract(text) is not None)
