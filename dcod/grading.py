r"""Is an answer right? Cheap exact comparison first, then math-verify in a worker that may be killed.

Outcomes are exhaustive: correct, wrong, unparseable (no answer found), truncated (the limit came before an
answer), error (the comparison itself failed or took too long).

1. :mod:`dcod.answers` finds the final answer and reads it.
2. Equal texts, equal numbers (exact fractions), equal quantities in known units, and lists, tuples and intervals
   whose members are decided that way are decided here.
3. What is left goes to math-verify (sympy underneath) in a worker process, ``python -m dcod.grading``, with a limit
   on memory and on processor time: not on wall time, so that a verdict does not depend on a busy machine.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, TypeVar

from dcod import answers
from dcod.answers import Quantity, extract, normalise
from dcod.verifying import ask, serve

VERSION = 5  # moves with every change that can change a verdict
LONGEST = 4000  # characters of an answer that is still compared
Outcome = Literal["correct", "wrong", "unparseable", "truncated", "error"]
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Grade:
    """The verdict on one response; ``answer`` is what was found in it, ``figures`` what else its benchmark counts."""

    outcome: Outcome
    answer: str | None = None
    figures: tuple[tuple[str, float], ...] = ()


def find(response: str, *, truncated: bool = False, last_number: bool = False) -> str | None:
    """The answer of a response that may have been cut; see :func:`grade` for what a cut one can still say."""
    if truncated and answers.thinking(response):
        return None
    return extract(response, last_number=last_number and not truncated)


def grade(
    response: str,
    gold: str | Sequence[str],
    *,
    truncated: bool = False,
    last_number: bool = False,
    tolerance: float = 0.0,
    several: bool = False,
) -> Grade:
    """Grades one response.

    Args:
        response: what the model wrote.
        gold: the reference answer; or several, all of which are required, in any order, and no others.
        truncated: the limit ended the response. Where it had stated an answer before, that one is graded; neither
            a bare last number of a cut text nor anything inside a thought that was cut is an answer.
        last_number: the benchmark allows a bare last number as an answer.
        tolerance: how far a number may lie from the reference, absolutely.
        several: the one reference is a list of required answers, such as ``1, 3``.

    Raises:
        ValueError: the gold answer is empty.
    """
    golds = [gold] if isinstance(gold, str) else list(gold)
    if not golds or not all(one.strip() for one in golds):
        raise ValueError("the gold answer is empty")
    answer = find(response, truncated=truncated, last_number=last_number)
    if answer is None:
        return Grade("truncated" if truncated else "unparseable")
    same = all_given(golds, answer, tolerance=tolerance) if several or len(golds) > 1 else False
    if same is False:  # or the list as a whole: (1, 3)
        whole = golds[0] if len(golds) == 1 and not several else ", ".join(answers.tidy(one) for one in golds)
        same = equivalent(whole, answer, tolerance=tolerance)
    if same is None:
        return Grade("error", answer)
    return Grade("correct" if same else "wrong", answer)


def grade_many(
    items: Iterable[tuple[str, str | Sequence[str], bool]], *, last_number: bool = False, workers: int = 0
) -> list[Grade]:
    """Grades (response, gold, truncated) triples, in order; see :func:`grade` and :func:`in_parallel`."""
    return in_parallel(lambda i: grade(i[0], i[1], truncated=i[2], last_number=last_number), list(items), workers)


def in_parallel(function: Callable[[T], R], items: Sequence[T], workers: int = 0) -> list[R]:
    """Applies a function that grades to items, in order.

    Args:
        function: called in threads, each with a worker process of its own once it needs one.
        items: its arguments.
        workers: threads; 0 for as many as there are processors, at most 8.
    """
    workers = workers or min(8, len(os.sched_getaffinity(0)))
    if workers == 1 or len(items) < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, items))


def equivalent(gold: str, answer: str, *, tolerance: float = 0.0) -> bool | None:
    """Whether two answers mean the same; None when that could not be found out in time.

    Either may be a whole response: its final answer is compared then.

    Raises:
        ValueError: the gold answer is empty.
    """
    if not gold.strip():
        raise ValueError("the gold answer is empty")
    gold, answer = _final(gold), _final(answer)
    if len(answer) > LONGEST or not answer.strip():
        return False
    ours, theirs = answers.tidy(gold), answers.tidy(answer)
    if ("\\pm" in ours) != ("\\pm" in theirs):  # both roots, or a list of the two
        return all_given([ours], theirs, tolerance=tolerance)
    same = _cheap(ours, theirs, Fraction(tolerance))
    if same is None and (_interval(ours) is None) != (_interval(theirs) is None):  # x > 3, or (3, infinity)
        said = [_interval(text) or text for text in (ours, theirs)]
        same = _cheap(said[0], said[1], Fraction(tolerance)) or None
    return _verified(gold, answer, tolerance) if same is None else same


def all_given(golds: Sequence[str], answer: str, *, tolerance: float = 0.0) -> bool | None:
    """Whether an answer names all required answers, in any order, and nothing else; None as :func:`equivalent`."""
    text = answers.tidy(_final(answer))
    found = _several(text)
    required = [member for one in golds for member in _several(answers.tidy(one))]
    if len(text) > LONGEST or len(found) != len(required):
        return False
    unsure = False
    for one in required:
        verdicts = [equivalent(one, other, tolerance=tolerance) for other in found]
        if True in verdicts:
            found.pop(verdicts.index(True))
        elif None in verdicts:
            unsure = True
        else:
            return False
    return None if unsure else True


_RESPONSE = re.compile(r"\\boxed|\\fbox|####|<answer>|</think>|<\|im_|\banswers?\b\s*(?:is|are|:|\*\*)", re.IGNORECASE)
_LEFT = re.compile(
    r"(?:\\?[A-Za-z]+(?:_\{?\w+\}?)?'?(?:\([a-z](?:,[a-z])*\))?|\([A-Za-z](?:,[A-Za-z])+\))(?:=|\\in(?![a-z]))"
)
_CHOICE = re.compile(r"\(?([A-Z])\)?")
_BASED = re.compile(r"(\d\w*?)_\{?(\d+)\}?")
_RATIO = re.compile(r"(?:[A-Za-z_{}\d]+:[A-Za-z_{}\d]+=)?(\d+(?:\.\d+)?(?::\d+(?:\.\d+)?)+)")
_PROSE = re.compile(r"\$|\\[(\[]|\\boxed|(?:(?<![\\A-Za-z{])[A-Za-z][A-Za-z']+[^A-Za-z\\]+){3}")
_FRACTION = re.compile(r"\\frac\s*(\\[a-zA-Z]+|\w)\s*(\\[a-zA-Z]+|\w)")
_WORDS = re.compile(r"[A-Za-z][A-Za-z' -]*[A-Za-z]")


def _final(text: str) -> str:
    """The final answer of a text that is a whole response; an answer stays as it is."""
    return (extract(text) or text) if _RESPONSE.search(text) else text


def _several(text: str) -> list[str]:
    r"""The members of a tidied answer that may name several; ``\pm`` stands for two."""
    found = answers.enclosed(text)
    left = _LEFT.match(normalise(text))
    if found is None and left and "=" in text:  # (x, y) = (1, 2), (3, 4)
        found = answers.enclosed(text.partition("=")[2].strip())
    members = [text] if found is None or found[0] in ("(", "[") else found[1]
    return [member.replace("\\pm", sign) for member in members for sign in ("+-" if "\\pm" in member else "+")]


_SIDE = r"\s?([^<>=\\\s]*(?:\\(?!le|ge|lt|gt)[a-z][^<>=\\\s]*)*)\s?"
_LESS, _MORE = r"(<|\\le(?![a-z])|\\lt(?![a-z]))", r"(>|\\ge(?![a-z])|\\gt(?![a-z]))"
_BETWEEN = re.compile(rf"{_SIDE}{_LESS}\s?[A-Za-z]\s?{_LESS}{_SIDE}")
_BELOW = re.compile(rf"[A-Za-z]\s?{_LESS}{_SIDE}|{_SIDE}{_MORE}\s?[A-Za-z]")
_ABOVE = re.compile(rf"[A-Za-z]\s?{_MORE}{_SIDE}|{_SIDE}{_LESS}\s?[A-Za-z]")


def _interval(text: str) -> str | None:
    """A tidied inequality of one variable as the interval that it means; None where it is none."""
    if len(text) > 200:
        return None
    found = _BETWEEN.fullmatch(text)
    if found:
        low, left, right, high = found.groups()
        return f"{_bracket(left, '([')}{low},{high}{_bracket(right, ')]')}"
    for pattern, below in ((_BELOW, True), (_ABOVE, False)):
        found = pattern.fullmatch(text)
        if found:
            mark, end = (found[1], found[2]) if found[1] else (found[4], found[3])
            if end:
                return f"(-\\infty,{end}{_bracket(mark, ')]')}" if below else f"{_bracket(mark, '([')}{end},\\infty)"
    return None


def _bracket(mark: str, kinds: str) -> str:
    return kinds["e" in mark]


def _cheap(gold: str, answer: str, tolerance: Fraction) -> bool | None:
    """Compares tidied answers without algebra; None where that decides nothing."""
    left, right = normalise(gold), normalise(answer)
    if left == right:
        return True
    for pattern in (_CHOICE, _RATIO):
        ours, theirs = pattern.fullmatch(left), pattern.fullmatch(right)
        if ours and theirs:
            return ours.group(1) == theirs.group(1) or _proportional(ours.group(1), theirs.group(1))
    bases = _BASED.fullmatch(left), _BASED.fullmatch(right)
    if bases[0] and (bases[1] or right.isdigit()):  # 4343_6; the base goes without saying
        return bases[1].groups() == bases[0].groups() if bases[1] else bases[0].group(1) == right
    numbers = answers.quantity(gold), answers.quantity(answer)
    if numbers[0] and numbers[1]:
        return _same_quantity(numbers[0], numbers[1], tolerance)
    if _WORDS.fullmatch(gold) and _WORDS.fullmatch(answer):
        if gold.casefold() == answer.casefold():
            return True
        if sorted(left.casefold()) != sorted(right.casefold()):
            return False if max(len(left), len(right)) > 3 else None
        return None
    members = _same_members(gold, answer, tolerance)
    if members is not None:
        return members
    single = [found[1][0] if found and len(found[1]) == 1 else "" for found in map(answers.enclosed, (gold, answer))]
    if any(single):  # the set of one thing, or the thing
        return _cheap(single[0] or gold, single[1] or answer, tolerance)
    sides = _LEFT.match(left), _LEFT.match(right)
    if any(sides) and not (sides[0] and sides[1] and sides[0].group() != sides[1].group()):
        rests = [text[side.end() :] if side else text for side, text in zip(sides, (left, right), strict=True)]
        if _cheap(rests[0], rests[1], tolerance):
            return True
    return _only_number(numbers[0], answer, tolerance)


def _proportional(left: str, right: str) -> bool:
    """Whether 2:4 and 1:2 are one ratio; letters are none, and with a zero in it it is a time, such as 12:00."""
    ours, theirs = left.split(":"), right.split(":")
    if len(ours) != len(theirs) or len(ours) < 2 or not all(float(part) for part in ours + theirs):
        return False
    return len({Fraction(a) / Fraction(b) for a, b in zip(ours, theirs, strict=True)}) == 1


def _same_quantity(gold: Quantity, answer: Quantity, tolerance: Fraction) -> bool:
    if not gold.unit or not answer.unit:
        percent = ("%1", Fraction(1)) in (answers.unit_of(gold.unit), answers.unit_of(answer.unit))
        scales = (Fraction(1), Fraction(100), Fraction(1, 100)) if percent else (Fraction(1),)
        return any(_close(gold, answer, gold.value, answer.value * scale, tolerance) for scale in scales)
    units = answers.unit_of(gold.unit), answers.unit_of(answer.unit)
    if units[0] is None or units[1] is None:  # words that count things: 5 apples
        return _close(gold, answer, gold.value, answer.value, tolerance)
    if units[0][0] != units[1][0]:
        return False
    return _close(gold, answer, gold.value, answer.value * units[1][1] / units[0][1], tolerance)


def _close(gold: Quantity, answer: Quantity, left: Fraction, right: Fraction, tolerance: Fraction) -> bool:
    """Equal, or within the tolerance, or equal to the six decimals that one of them is written with at least."""
    difference = abs(left - right)
    if difference <= tolerance:
        return True
    rounded = max(gold.places, answer.places) >= 6
    return rounded and difference <= Fraction(1, 2_000_000) and difference <= abs(left) / 100_000


def _same_members(gold: str, answer: str, tolerance: Fraction) -> bool | None:
    """Compares lists, tuples, intervals and sets whose members are decided cheaply."""
    ours, theirs = answers.enclosed(gold), answers.enclosed(answer)
    if ours is None or theirs is None or "\\pm" in gold + answer:
        return None
    kinds = {ours[0] + ours[2], theirs[0] + theirs[2]}
    if len(kinds) == 2 and not kinds & {"", "{}"} and len(ours[1]) == len(theirs[1]) == 2:
        ends = [_cheap(*pair, tolerance) for pair in zip(ours[1], theirs[1], strict=True)]
        return False if all(ends) else None  # the same ends, open and closed
    if len(kinds) == 2 and not (kinds == {"", "{}"} or kinds == {"", "()"}):
        return None
    if len(ours[1]) != len(theirs[1]):
        return False if kinds <= {"", "{}"} else None
    if kinds & {"()", "[]", "(]", "[)"}:
        return _conclude([_cheap(*pair, tolerance) for pair in zip(ours[1], theirs[1], strict=True)], len(kinds) == 1)
    rest = list(theirs[1])
    verdicts: list[bool | None] = []
    for member in ours[1]:
        found = [_cheap(member, other, tolerance) for other in rest]
        verdicts.append(True if True in found else None if None in found else False)
        if True in found:
            rest.pop(found.index(True))
    return _conclude(verdicts, True)


def _conclude(verdicts: Sequence[bool | None], decides: bool) -> bool | None:
    if all(verdicts):
        return True
    return False if decides and False in verdicts and None not in verdicts else None


def _only_number(gold: Quantity | None, answer: str, tolerance: Fraction) -> bool | None:
    """A sentence with a single number in it says that number, where a number is asked for."""
    if gold is None or len(re.findall(r"[A-Za-z]{2,}", answer)) < 3 or "\\" in answer or "=" in answer:
        return None
    numbers = [m.group() for m in answers.NUMBER.finditer(answer) if any(c.isdigit() for c in m.group())]
    if len(numbers) != 1:
        return None
    found = answers.quantity(answers.tidy(numbers[0]))
    return None if found is None else _same_quantity(gold, found, tolerance)


# --- what the worker does ----------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=50_000)
def _verified(gold: str, answer: str, tolerance: float) -> bool | None:
    found: bool | None = ask("dcod.grading", [gold, answer, tolerance])
    return found


def compare(gold: str, answer: str, tolerance: float = 0.0) -> bool | None:
    """Whether math-verify holds two answers for the same; None where it failed. Runs in the worker."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    options: dict[str, Any] = {"fallback_mode": "no_fallback", "parsing_timeout": None, "raise_on_error": True}
    sides = []
    for text in (gold, answer):
        if _PROSE.search(text):  # formulas, else numbers, are looked for in it
            sides.append(parse(text, (LatexExtractionConfig(), ExprExtractionConfig()), **options))
        else:  # all of it is the answer: never a number that stands somewhere in what cannot be parsed
            sides.append(
                parse(f"${_FRACTION.sub(_braced, text.strip(' .,;'))}$", (LatexExtractionConfig(),), **options)
            )
    if not all(sides):
        return False
    if verify(sides[0], sides[1], timeout_seconds=None, raise_on_error=True):
        return not any(_apart(left, right) for left in sides[0] for right in sides[1])
    return bool(tolerance) and any(_within(left, right, tolerance) for left in sides[0] for right in sides[1])


def _braced(match: re.Match[str]) -> str:
    return f"\\frac{{{match.group(1)}}}{{{match.group(2)}}}"


def _apart(left: Any, right: Any) -> bool:
    """Whether two numbers are equal only because both are rounded to six decimals, as math-verify does."""
    if not (getattr(left, "is_number", False) and getattr(right, "is_number", False)):
        return False
    left, right = left.evalf(30), right.evalf(30)
    size = max(abs(left), abs(right))
    percent = any(abs(left * scale - right) < size / 10**9 for scale in (100, 0.01))
    return bool(size < 0.01 and abs(left - right) > size / 10**5) and not percent


def _within(left: Any, right: Any, tolerance: float) -> bool:
    numbers = getattr(left, "is_number", False) and getattr(right, "is_number", False)
    return bool(numbers and abs((left - right).evalf(30)) <= tolerance)


if __name__ == "__main__":
    serve(compare, "math_verify")
