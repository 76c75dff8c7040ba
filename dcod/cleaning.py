"""Cleaning of completions: pure functions, each names a fault or mends one known mark."""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal

from dcod.answers import THOUGHT_ENDS, extract

_CALCULATOR = re.compile(r"<<[^<>\n]*=[^<>\n]*>>")
_MARK = r"<\|(?:im_start|im_end|eot_id|end_of_text|endoftext|start_header_id)\|>|</s>|<｜end▁of▁sentence｜>"
_END_MARKS = re.compile(rf"(?:{_MARK}|\s)*(?:{_MARK})\s*\Z")
_NEXT = re.compile(rf"{_MARK}|^[ \t]*(?:Question|Problem|Q|Human|User|Instruction)\s*\d*\s*[:.](?=\s)", re.MULTILINE)
_THOUGHT_BEGINS = ("<think>", "<|begin_of_thought|>", "<thought>", "<reasoning>")
_TAIL = 6000  # characters searched for a loop
_SPAN = 300  # characters a loop covers at least
_TIMES = 5  # how often it turns at least
_LINE = 20  # characters of a line that counts as said again
_LINES = 10


def strip_calculator(text: str) -> str:
    """Text without calculator annotations such as ``<<3*4=12>>``."""
    return _CALCULATOR.sub("", text)


def cut_run_on(text: str) -> str:
    """Text without an invented next question or turn after its answer, and without end-of-turn marks.

    Only what follows a stated answer is cut, and never anything inside a thought.
    """
    begins = max((text.rfind(tag) + len(tag) for tag in THOUGHT_ENDS if tag in text), default=0)
    if thought(text) == "unclosed":
        return _without_marks(text)
    for match in _NEXT.finditer(text, begins):
        before = text[: match.start()]
        if extract(before[begins:]) is not None:
            return before.rstrip()
    return _without_marks(text)


def _without_marks(text: str) -> str:
    cut = _END_MARKS.sub("", text)
    return cut if cut.strip() else text


def thought(text: str) -> Literal["closed", "unclosed", "unopened", ""]:
    """How a completion marks its thought: not at all, closed, never closed, or closed and never opened."""
    ends = any(tag in text for tag in THOUGHT_ENDS)
    begins = any(tag in text for tag in _THOUGHT_BEGINS)
    if ends:
        return "closed" if begins else "unopened"
    return "unclosed" if begins else ""


def fault(completion: str) -> tuple[str, str] | None:
    """Why a completion must not be taught, as reason code and message; None for a sound one."""
    if not completion.strip():
        return "empty_completion", "the completion is empty"
    loop = repetition(completion)
    return ("repetition", f"the completion repeats itself: {loop!r:.120}") if loop else None


def encoding_fault(text: str) -> str | None:
    """What is wrong with the characters of a text; None where it can be stored and tokenised."""
    if "\x00" in text:
        return "a NUL character"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"half a surrogate pair at character {error.start}"
    return None


def repetition(text: str) -> str | None:
    """What a text says over and over: a loop at its end, or one long line that is half of all lines."""
    tail = text.rstrip()[-_TAIL:]
    unit = _loop(tail[::-1])
    if unit:
        return unit[::-1].strip() or unit
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) >= _LINES:
        line, count = Counter(lines).most_common(1)[0]
        if len(line) >= _LINE and count >= _LINES and 2 * count >= len(lines):
            return line
    return None


def _loop(text: str) -> str | None:
    """The unit that the start of a text repeats, by the prefix function (Knuth, Morris and Pratt)."""
    border = [0] * len(text)
    length = 0
    for index in range(1, len(text)):
        while length and text[index] != text[length]:
            length = border[length - 1]
        if text[index] == text[length]:
            length += 1
        border[index] = length
        period = index + 1 - length
        if index + 1 >= _SPAN and index + 1 >= _TIMES * period:
            return text[:period]
    return None
