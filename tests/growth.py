"""How the processor time of a call grows with its input, and inputs that make a regular expression work hard."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

LIMIT = 8.0  # times; n log n takes about 5 for four times the input, the square takes 16
FLOOR = 0.05  # seconds, some ticks of a coarse clock; four times the input that costs no more is not measured
CEILING = 1.0  # seconds after which a call is ended
_REPEATS = (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT)
COMMON = (" ", "\n", "(", "[", "{", "<", "$", "\\", "9")
_IN_CATEGORY = {
    op.CATEGORY_DIGIT: "7",
    op.CATEGORY_NOT_DIGIT: "a",
    op.CATEGORY_SPACE: " ",
    op.CATEGORY_NOT_SPACE: "a",
    op.CATEGORY_WORD: "a",
    op.CATEGORY_NOT_WORD: "-",
}


class _LateError(BaseException):
    pass


def seconds(call: Callable[[], object]) -> float:
    """Processor time of a call; infinity where it is ended at the ceiling."""

    def late(*_: object) -> None:
        raise _LateError

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, CEILING)
    try:
        begin = time.process_time()
        call()
        return time.process_time() - begin
    except _LateError:
        return float("inf")
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def grows(call: Callable[[str], object], make: Callable[[int], str], size: int) -> str:
    """Says how a call grows where that is faster than its input, best of three; nothing where it does not."""
    small, large = make(size), make(4 * size)
    found = (0.0, 0.0)
    for _ in range(3):
        long = seconds(lambda: call(large))
        if long < FLOOR:
            return ""
        short = seconds(lambda: call(small))
        found = (short, long)
        if long < LIMIT * max(short, FLOOR / 4):
            return ""
    return f"{found[0] * 1000:.1f} ms for {len(small)} characters, {found[1] * 1000:.1f} ms for {len(large)}"


def adversaries(pattern: str, flags: int = 0, most: int = 16) -> Iterator[tuple[str, str, str]]:
    """Texts as (head, repeated, tail) that hold much of what an expression looks for, and never all of it.

    Each single element of the expression over and over, each pair of them, each beginning of a match, and a beginning
    with some element over and over; behind them nothing, or what nothing else matches. Of pairs and beginnings about
    ``most`` each.
    """
    tree = _parser.parse(pattern, flags)
    elements = list(dict.fromkeys([*_elements(tree), *COMMON]))
    samples = dict.fromkeys("".join(parts) for parts in _samples(tree) if parts)
    starts = list(dict.fromkeys(sample[:end] for sample in samples for end in range(1, len(sample) + 1)))
    pumps = _few([a + b for a in elements for b in elements if a != b], most) + _few(starts, most)
    for pump in [*elements, *pumps]:
        yield "", pump, ""
        yield "", pump, "\0"
    heads = [(start, pump) for start in starts for pump in dict.fromkeys([*start[-2:], *elements[:8], " "])]
    for head, pump in _few(heads, 2 * most):
        yield head, pump, "\0"


def _few(items: list[Any], most: int) -> list[Any]:
    """So many of some items, evenly from all of them."""
    return items[:: max(1, len(items) // most)]


def _elements(tree: Any) -> Iterator[str]:
    """One character, or one run of literals, for each element of an expression."""
    run = ""
    for code, value in tree:
        if code is op.LITERAL:
            run += chr(value)
            yield chr(value)
            continue
        if len(run) > 1:
            yield run
        run = ""
        if code in _REPEATS:
            yield from _elements(value[2])
        elif code is op.SUBPATTERN:
            yield from _elements(value[3])
        elif code is op.ATOMIC_GROUP:
            yield from _elements(value)
        elif code in (op.ASSERT, op.ASSERT_NOT):
            yield from _elements(value[1])
        elif code is op.BRANCH:
            for branch in value[1]:
                yield from _elements(branch)
        else:
            yield from filter(None, _one(code, value))
    if len(run) > 1:
        yield run


def _one(code: Any, value: Any) -> list[str]:
    """Some characters that a single element takes."""
    if code is op.LITERAL:
        return [chr(value)]
    if code is op.NOT_LITERAL:
        return ["a" if value != ord("a") else "b"]
    if code is op.ANY:
        return ["a"]
    if code is op.IN:
        return _in(value)
    return []


def _in(items: Any) -> list[str]:
    found = []
    negated = any(code is op.NEGATE for code, _ in items)
    for code, value in items:
        if code is op.LITERAL:
            found.append(chr(value))
        elif code is op.RANGE:
            found.append(chr(value[0]))
        elif code is op.CATEGORY:
            found.append(_IN_CATEGORY[value])
    if negated:
        return [next(char for char in "a 7-\n" if char not in found)]
    return found


def _samples(tree: Any) -> list[list[str]]:
    """A few texts that an expression takes, as lists of their elements: each branch once, repeats twice."""
    found: list[list[str]] = [[]]
    for code, value in tree:
        ways: list[list[str]]
        if code in _REPEATS:
            low, high, inner = value
            ways = [way * max(low, min(2, high)) for way in _samples(inner)]
            if low == 0:
                ways.append([])
        elif code is op.SUBPATTERN:
            ways = _samples(value[3])
        elif code is op.ATOMIC_GROUP:
            ways = _samples(value)
        elif code is op.BRANCH:
            ways = [way for branch in value[1] for way in _samples(branch)]
        else:
            ways = [[char] for char in _one(code, value)[:1]] or [[]]
        most = max(len(found), len(ways))
        # Not every combination: each way of each element once.
        found = [found[i % len(found)] + ways[i % len(ways)] for i in range(most)][:24]
    return found


def text(head: str, pump: str, tail: str) -> Callable[[int], str]:
    """Makes a text of at least so many characters, and of so many repeats where they are short."""
    return lambda size: head + pump * max(1, size // min(len(pump), 6)) + tail


def ways(pattern: re.Pattern[str]) -> dict[str, Callable[[str], object]]:
    """How an expression may be used, by the name of the method."""
    scan: Callable[[str], object] = lambda text: sum(1 for _ in pattern.finditer(text))  # noqa: E731
    return {
        "match": pattern.match,
        "fullmatch": pattern.fullmatch,
        "search": pattern.search,
        "finditer": scan,
        "findall": scan,
        "sub": scan,
        "subn": scan,
        "split": scan,
    }
