"""Chats that are no list of turns: pairs of question and answer, the history beside a prompt, JSON as text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from dcod.traces.formats._fields import has_text, has_turns, turns
from dcod.traces.formats._roles import role_of
from dcod.traces.refusals import RowError
from dcod.traces.schema import Message

CHATS = ("conversations", "conversation", "dialogue", "dialog")
ANSWERS = ("completion", "response", "output", "generation")  # a text of one of these names answers a chat beside it
_ANSWERS = frozenset(ANSWERS)
_HELD = frozenset((*CHATS, "messages", "prompt", "completion", "chosen", "rejected", "history"))  # in a table of texts
_PAIRS = (
    ("input", "output"), ("human", "assistant"), ("user", "assistant"), ("instruction", "output"),
    ("question", "answer"), ("prompt", "response"), ("query", "response"),
)  # fmt: skip
_SAID = ("user", "assistant")
_PRINTED = re.compile(r"\[\s*\{\s*'(?:role|from|content|value)'\s*:")
_LONGEST = 2**23  # characters of a chat that is written as JSON


def is_asked(value: Any) -> bool:
    """Whether a value is a chat that ends with what is asked."""
    return has_turns(value) and bool(value) and role_of(value[-1], "role", "from") == "user"


def answered_beside(row: dict[str, Any], chat: str) -> bool:
    """Whether a chat's answer stands beside it, as text."""
    return not _ANSWERS.isdisjoint(row) and is_asked(row.get(chat)) and any(has_text(row, key) for key in ANSWERS)


def parsed(filled: dict[str, Any]) -> dict[str, Any]:
    """A row in which chats that are written as JSON are lists.

    Raises:
        RowError: one is the print of a list.
    """
    opened = dict[str, Any]()
    if _HELD.isdisjoint(filled):
        return filled
    for key, value in filled.items():
        if type(value) is not str or value[:1] != "[" or key not in _HELD or len(value) > _LONGEST:
            continue
        if _PRINTED.match(value):
            raise RowError("bad_messages", f"{key}: a chat that was printed as text: {value[:40]!r}; write it as JSON")
        if '"role"' in value or '"from"' in value:
            try:
                inner = json.loads(value)
            except (ValueError, RecursionError):
                continue
            if has_turns(inner) and inner and all("role" in turn or "from" in turn for turn in inner):
                opened[key] = inner
    return {**filled, **opened} if opened else filled


def unpaired(value: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The turns of a chat whose items are pairs, as XTuner and ms-swift write them; any other as it is.

    Raises:
        RowError: a pair holds something else.
    """
    pair = next((pair for pair in _PAIRS if value and all(key in value[0] for key in pair)), None)
    if pair is None or "role" in value[0] or "from" in value[0]:
        return value
    messages = list[dict[str, Any]]()
    for index, item in enumerate(value):
        if other := [key for key in item if key not in (*pair, "system") and item[key] not in (None, "", [])]:
            raise RowError("bad_messages", f"turn {index}: {', '.join(other)}: not known beside {' and '.join(pair)}")
        if item.get("system"):
            messages.append({"role": "system", "content": item["system"]})
        messages += [{"role": role, "content": item.get(key)} for role, key in zip(_SAID, pair, strict=True)]
    return messages


def history(row: Mapping[str, Any]) -> list[Message]:
    """The turns before the prompt, in pairs or as a chat.

    Raises:
        RowError: it is neither.
    """
    value = row.get("history")
    if not value:
        return []
    if isinstance(value, list) and all(isinstance(one, (list, tuple)) and len(one) == 2 for one in value):
        value = [{"role": role, "content": said} for one in value for role, said in zip(_SAID, one, strict=True)]
    if not has_turns(value):
        raise RowError("ambiguous_format", f"history: expected pairs of question and answer, got {value!r:.60}")
    return turns(value, *(("role", "content") if "role" in value[0] else ("from", "value")))


def going_on(prompt: list[Message], turns: list[Message]) -> list[Message]:
    """A chat out of its prompt and the turns that go on with it, or repeat its end."""
    most = min(len(prompt), len(turns) - 1)
    again = next((size for size in range(most, 0, -1) if prompt[-size:] == turns[:size]), 0)
    return [*prompt, *turns[again:]]
