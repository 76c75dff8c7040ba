"""Pure text steps of ingestion. A step either leaves a text as it is, changes it in a named way, or refuses it."""

from __future__ import annotations

import re

CALCULATOR = re.compile(r"<<[^<>\n]*>>")
LOOP_REPEATS = 8


def strip_calculator(text: str) -> str:
    """Removes GSM8K's calculator annotations, ``<<16-3=13>>``."""
    return CALCULATOR.sub("", text)


def loops(text: str) -> bool:
    """Whether the text ends in one line or phrase said over and over: a degenerate sample.

    True when its last 20 to 200 characters repeat at least eight times without a gap.
    """
    tail = text.rstrip()
    for period in range(20, 201):
        if len(tail) < period * LOOP_REPEATS:
            return False
        if tail.endswith(tail[-period:] * LOOP_REPEATS):
            return True
    return False
