r"""Is an answer right? Cheap exact comparison first, then math-verify in a worker that may be killed.

Outcomes are exhaustive: correct, wrong, unparseable (no answer found), truncated (the limit came before an
answer), error (the comparison itself failed or took too long).

1. :mod:`dcod.grading.extract` finds the final answer, :mod:`dcod.grading.hedges` says what it settles on,
   :mod:`dcod.grading.spelling` takes its dress off.
2. :mod:`dcod.grading.equality` decides equal texts, letters of choices, exact numbers with their units
   (:mod:`dcod.grading.quantities`), ratios and bases; lists, tuples, sets and intervals by their members, none of them
   twice.
3. Formulas go to math-verify (sympy underneath) in a worker process, :mod:`dcod.grading.algebra`, with a limit on
   memory and on processor time: not on wall time, so that a verdict does not depend on a busy machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeVar

from joblib import cpu_count

from dcod.grading import spelling
from dcod.grading.equality import UNSETTLED, Comparison, members
from dcod.grading.extract import extract
from dcod.grading.hedges import settled
from dcod.grading.spelling import LONGEST
from dcod.grading.stated import FORMULA

VERSION = 7  # moves with every change that can change a verdict
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
    return extract(response, last_number=last_number and not truncated)


def grade(
    response: str,
    gold: str | Sequence[str],
    *,
    truncated: bool = False,
    last_number: bool = False,
    last_math: bool = False,
    tolerance: float = 0.0,
    several: bool = False,
) -> Grade:
    """Grades one response.

    Args:
        response: what the model wrote.
        gold: the reference answer; or several, all of which are required, in any order, and no others.
        truncated: the limit ended the response. Where it had stated an answer before, that one is graded; a bare last
            number of a cut text is no answer. Nothing inside a thought that never closes is one, cut or not.
        last_number: the benchmark allows a bare last number as an answer.
        last_math: a bare last formula or number counts as an answer.
        tolerance: how far a number may lie from the reference, absolutely.
        several: the one reference is a list of required answers, such as ``1, 3``.

    Raises:
        ValueError: the gold answer is empty.
    """
    golds = [gold] if isinstance(gold, str) else list(gold)
    if not golds or not all(one.strip() for one in golds):
        raise ValueError("the gold answer is empty")
    answer = extract(response, last_number=last_number and not truncated, last_math=last_math and not truncated)
    if answer is None:
        return Grade("truncated" if truncated else "unparseable")
    same = all_given(golds, answer, tolerance=tolerance) if several or len(golds) > 1 else False
    if same is False:  # or the list as a whole: (1, 3)
        whole = golds[0] if len(golds) == 1 and not several else ", ".join(spelling.tidy(one) for one in golds)
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
    workers = workers or min(8, cpu_count())
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
    if max(len(gold), len(answer)) > LONGEST or not answer.strip():
        return False
    return Comparison(Fraction(tolerance)).same(spelling.marked(gold), settled(spelling.marked(answer)))


def all_given(golds: Sequence[str], answer: str, *, tolerance: float = 0.0) -> bool | None:
    """Whether an answer names all required answers, in any order, and nothing else; None as :func:`equivalent`."""
    text = settled(spelling.marked(_final(answer)))
    required = [member for one in golds for member in members(spelling.marked(one))]
    if len(text) > LONGEST:
        return False
    return Comparison(Fraction(tolerance)).unordered(required, members(text))


_RESPONSE = re.compile(
    r"\\boxed|\\fbox|####|<answer>|</think>|<\|im_|\banswers?\b\s?(?:is|are|:|\*\*|\$|\\[(\[])", re.IGNORECASE
)
_TWICE = re.compile(r"\\\\(?=[a-zA-Z({\[])")  # backslashes that were escaped once too often
_TABLE = re.compile(r"matrix|cases|array|align")
_LONG = 3  # sentences of a text that is no answer alone


def _final(text: str) -> str:
    """The final answer of a text that is a whole response or a sentence about one formula; an answer stays as it is."""
    text = text if _TABLE.search(text) else _TWICE.sub(r"\\", text)
    long = len(re.findall(r"\.\s", text)) >= _LONG
    if long or _RESPONSE.search(text):
        return extract(text, last_math=long) or text
    formulas = FORMULA.findall(text)
    around = FORMULA.sub(" ", text)
    if not formulas or len(re.findall(r"(?<![\\A-Za-z])[A-Za-z]{2,}", around)) < 3:
        return text
    return formulas[0] if len(formulas) == 1 and not UNSETTLED.search(around) else text
