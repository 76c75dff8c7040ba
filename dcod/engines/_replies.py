"""Checks what an OpenAI-compatible server said, field by field; :mod:`dcod.engines.openai` asks."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, TypeVar

from dcod.engines.base import Completion
from dcod.traces import chunks

_POSITIVE = 1e-3  # a log-prob above it is none; below it is rounding
_MOST_TOKENS = 2**31
TOKEN = "token_id:"  # how vLLM writes a token when it is asked for ids

T = TypeVar("T")


class NonsenseError(Exception):
    """An answer that is none: it is asked for again."""


def choice_of(answer: dict[str, Any]) -> dict[str, Any]:
    """The first choice of an answer."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise NonsenseError(f"its answer has no choices: {json.dumps(answer)[:200]}")
    return choices[0]


def chat_completion(answer: dict[str, Any]) -> Completion:
    """A completion of a chat: its text, and what it costs."""
    choice = choice_of(answer)
    message, usage = of_kind(choice.get("message") or {}, dict), of_kind(answer.get("usage") or {}, dict)
    for name in ("content", "reasoning_content", "reasoning"):
        if not isinstance(message.get(name), list):
            of_kind(message.get(name) or "", str)
    text, fault = chunks.said_by(message)
    read, wrote = (_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens"))
    truncated = choice.get("finish_reason") != "stop" and not fault
    return Completion(text, [], truncated, read=read, wrote=wrote, fault=fault)


def token_id(token: object) -> int:
    """A token id, from how vLLM writes it."""
    digits = str(token).removeprefix(TOKEN)
    if not digits.isascii() or not digits.isdigit() or len(digits) > 9:
        raise NonsenseError(f"names a token {str(token)[:40]!r}")
    return int(digits)


def of_kind(value: Any, kind: type[T]) -> T:
    """The value, which must be of a kind."""
    if not isinstance(value, kind):
        raise NonsenseError(f"its answer holds {type(value).__name__} where {kind.__name__} belongs")
    return value


def _count(value: object) -> int:
    """A number of tokens; 0 where it was not told."""
    if value is None:
        return 0
    if not isinstance(value, int) or not 0 <= value < _MOST_TOKENS:
        raise NonsenseError(f"counts {str(value)[:40]!r} tokens")
    return value


def logprobs_of(values: Sequence[Any], least: float = math.nan) -> list[float]:
    """Log-probs: numbers, none above 0 but by rounding, and none that is ``least``: what was drawn can be drawn."""
    for value in values:
        number = not isinstance(value, bool) and isinstance(value, (int, float))
        if not number or not value <= _POSITIVE or value == least:
            raise NonsenseError(f"gives {str(value)[:40]!r} as a log-prob")
    return [float(value) for value in values]
