r"""Whether two answers mean the same: what is decided without algebra, step by step.

Answers come tidied and marked (:func:`dcod.grading.spelling.marked`). Lists, tuples, sets and intervals are compared by
their members, none of them twice; numbers exactly, with their units; sentences by what they say. What is left are
formulas, which go to math-verify in a worker process, :mod:`dcod.grading.algebra`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from dcod.grading import extract, quantities, spelling
from dcod.grading.hedges import settled
from dcod.grading.worker import ask

_MEMBERS = 100  # of a list that is still compared
_LEFT = re.compile(
    r"(?:\\?[A-Za-z]+(?:_(?:\{\w+\}|\w))?'?(?:\([a-z](?:,[a-z])*\))?|\([A-Za-z](?:,[A-Za-z])+\))(?:=|\\in(?![a-z]))|="
)
_CHOICE = re.compile(r"\(?([A-Z])\)?")
_CHOSEN = re.compile(r"(?:(?:option|choice) )?\(?([A-Z])(?:\)[:.]?|[:.]) ?(?=\S)(?!.*=)", re.IGNORECASE)
_BASED = re.compile(r"(\d\w*?)_\{?(\d+)\}?")
_RATIO = re.compile(r"(?:[A-Za-z_{}\d]+:[A-Za-z_{}\d]+=)?(\d{1,30}(?:\.\d{1,30})?(?::\d{1,30}(?:\.\d{1,30})?)+)")
_WORDS = re.compile(r"[A-Za-z][A-Za-z' -]*[A-Za-z]")
_ARTICLE = re.compile(r"(?:the|an?) ", re.IGNORECASE)
_LED = re.compile(r"(?:the|an?) (?:[a-z]+ ){1,3}(?=[-\d\\(\[{])")
_SAYS = re.compile(r"\b(?:is|are|was|were|equals|be) ")
UNSETTLED = re.compile(
    r"\b(?:between|at least|at most|than|either|or|maybe|not|unknown|depends|from|about|fewer|up to|over|under)\b|n't\b"
)
_PROSE = re.compile(r"(?<![\\A-Za-z{_^])[A-Za-z][A-Za-z']+")
_WHERE = re.compile(
    r",? ?(?<![A-Za-z\\])(?:for|where|when|whenever|if|with|provided|unless|assuming|as long as)(?![A-Za-z])"
)
_RELATION = re.compile(r"(<|>|\\(?:le|ge|lt|gt)(?![a-z]))")
_UNION = re.compile(r"\\cup(?![a-z])|(?<![A-Za-z\\])or(?![A-Za-z])")
_NAME = re.compile(r"\\?[A-Za-z]+(?:_\w)?(?:\([a-z]\))?")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_MORE = re.compile(r"=|\\in(?![a-z])|\\cup|\\begin|<|>|\\[lg][et](?![a-z])")
_SIDE = re.compile(r"=|\\in(?![a-z])")
_TRAILING = re.compile(
    r"(?<=[\d)}a-zA-Z]) ?(?: |\ue000)((?:(?:square|cubic|sq) )?[A-Za-z]+(?: ?\^ ?\d)?(?: ?(?:/|per) ?[A-Za-z]+)?)\Z"
)
_ANGLE = re.compile(r"\\?(?:sin|cos|tan|cot|sec|csc)(?![a-z])")  # of degrees
_OR = re.compile(r"(?<![A-Za-z\\])or(?![A-Za-z])")
_CONDITION = re.compile(r"<|>|\\(?:le|ge|lt|gt|ne|in)(?![a-z])")


def members(text: str) -> list[str]:
    r"""The members of a tidied answer that may name several; ``\pm`` stands for two."""
    enclosed = spelling.enclosed(text)
    left = _LEFT.match(_close_up(text))
    if enclosed is None and left and "=" in text:  # (x, y) = (1, 2), (3, 4)
        enclosed = spelling.enclosed(text.partition("=")[2].strip())
    named = [text] if enclosed is None or enclosed[0] in ("(", "[") else enclosed[1]
    return [member.replace("\\pm", sign) for member in named for sign in ("+-" if "\\pm" in member else "+")]


def _close_up(text: str) -> str:
    return "".join(text.replace(spelling.ROMAN, "").split())


_Found = bool | None | Literal["open"]  # None: the worker gave up; open: this step decides nothing


@dataclass(frozen=True)
class Comparison:
    """Compares two answers that are tidied and marked."""

    tolerance: Fraction

    def same(self, gold: str, answer: str) -> bool | None:
        """Whether both mean the same; None where the worker gave up."""
        gold, answer = (_LED.sub("", text, count=1).removeprefix("=").strip() for text in (gold, answer))
        if _close_up(gold) == _close_up(answer):
            return True
        if not gold or not answer:
            return False
        steps = (
            self._letters, self._signs, self._numbers, self._words, self._conditions, self._ranges, self._lists,
            self._sides, self._units, self._prose,
        )  # fmt: skip
        for step in steps:
            verdict = step(gold, answer)
            if verdict != "open":
                return verdict
        return _verified(_plain(gold), _plain(answer), float(self.tolerance))

    def unordered(self, required: Sequence[str], given: Sequence[str]) -> bool | None:
        """Whether both lists name the same, in any order, each as often."""
        if len(required) != len(given) or len(given) > _MEMBERS:
            return False
        rest = {_close_up(one): list[str]() for one in given}
        for one in given:
            rest[_close_up(one)].append(one)
        missing = [one for one in required if not (rest.get(_close_up(one)) and rest[_close_up(one)].pop())]
        left, unsure = [one for same in rest.values() for one in same], False
        for one in missing:
            verdicts = [self.same(one, other) for other in left]
            if True in verdicts:
                left.pop(verdicts.index(True))
            elif None in verdicts:
                unsure = True
            else:
                return False
        return None if unsure else True

    def ordered(self, required: Sequence[str], given: Sequence[str]) -> bool | None:
        """Whether both lists name the same in the same order."""
        if len(required) != len(given) or len(given) > _MEMBERS:
            return False
        verdicts = [self.same(one, other) for one, other in zip(required, given, strict=True)]
        return False if False in verdicts else None if None in verdicts else True

    def _letters(self, gold: str, answer: str) -> _Found:
        """Letters of choices, ratios, and numbers in a base."""
        left, right = _close_up(gold), _close_up(answer)
        letters = [_CHOICE.fullmatch(text) for text in (left, right)]
        if letters[0] and letters[1]:
            return letters[0][1] == letters[1][1]
        chosen = [_CHOSEN.match(text) for text in (gold, answer)]
        if any(chosen):  # (C) 12 cm: the letter where one is asked for, else what stands behind it
            named = [one[1].upper() if one else two[1] if two else "" for one, two in zip(chosen, letters, strict=True)]
            if all(named) and (named[0] != named[1] or any(letters)):
                return named[0] == named[1]
            rests = [text[one.end() :] if one else text for one, text in zip(chosen, (gold, answer), strict=True)]
            return self.same(*rests)
        ratios = [_RATIO.fullmatch(text) for text in (left, right)]
        if ratios[0] and ratios[1]:
            return ratios[0][1] == ratios[1][1] or _proportional(ratios[0][1], ratios[1][1])
        bases = _BASED.fullmatch(left), _BASED.fullmatch(right)
        if bases[0] and (bases[1] or right.isdigit()):  # 4343_6; the base goes without saying
            return bases[1].groups() == bases[0].groups() if bases[1] else bases[0][1] == right
        return "open"

    def _signs(self, gold: str, answer: str) -> _Found:
        """Both roots, or a list of the two."""
        return self.unordered(members(gold), members(answer)) if "\\pm" in gold + answer else "open"

    def _numbers(self, gold: str, answer: str) -> _Found:
        numbers = quantities.quantity(gold), quantities.quantity(answer)
        return quantities.same(numbers[0], numbers[1], self.tolerance) if numbers[0] and numbers[1] else "open"

    def _words(self, gold: str, answer: str) -> _Found:
        said = [_ARTICLE.sub("", _plain(text), count=1).casefold() for text in (gold, answer)]
        if not (_WORDS.fullmatch(said[0]) and _WORDS.fullmatch(said[1])):
            return "open"
        if said[0] == said[1]:
            return True
        letters = [sorted(_close_up(text)) for text in said]
        return "open" if letters[0] == letters[1] and len(letters[0]) <= 3 else False  # xy and yx are one product

    def _conditions(self, gold: str, answer: str) -> _Found:
        """What stands behind "for" or "where" goes without saying."""
        heads, tails = zip(*(_condition(text) for text in (gold, answer)), strict=True)
        if not any(tails):
            return "open"
        if all(_CONDITION.search(tail) for tail in tails):
            same = self.same(*tails)
            if not same:
                return same
        return self.same(*heads)

    def _ranges(self, gold: str, answer: str) -> _Found:
        """An inequality, or its interval; several of them, or their union."""
        parts = [_UNION.split(text) for text in (gold, answer)]
        both = [[_interval(one) or one for one in parts[i]] for i in (0, 1)]
        if [len(one) for one in both] == [1, 1]:
            changed = [both[i] != parts[i] for i in (0, 1)]
            return self.same(both[0][0], both[1][0]) or "open" if changed[0] != changed[1] else "open"
        if "\\cup" in gold + answer and len(both[0]) == len(both[1]):
            return self.unordered(*both) or "open"
        return "open"

    def _lists(self, gold: str, answer: str) -> _Found:
        """Lists, tuples, intervals and sets, by their members."""
        ours, theirs = spelling.enclosed(gold), spelling.enclosed(answer)
        if ours is None and theirs is None:
            return "open"
        if ours and theirs and min(len(ours[1]), len(theirs[1])) > 1:
            kinds = {ours[0] + ours[2], theirs[0] + theirs[2]}
            if kinds <= {"", "{}"}:
                return self.unordered(ours[1], theirs[1])
            return self.ordered(ours[1], theirs[1]) if len(kinds) == 1 or kinds == {"", "()"} else False
        if ours and len(ours[1]) == 1:  # the set of one thing, or the thing
            return self.same(ours[1][0], answer)
        if theirs and len(theirs[1]) == 1:
            return self.same(gold, theirs[1][0])
        several, other = (ours, answer) if ours else (theirs, gold)
        assert several is not None
        plain = [_THOUSANDS.sub("", text) for text in (gold, answer)]
        if several[0] == "" and plain != [gold, answer]:
            return self.same(*plain)
        if theirs and theirs[0] == "" and _OR.search(answer):  # 1/2 or 0.5: one value, said twice
            verdicts = [self.same(gold, part) for part in _OR.split(answer)]
            return False if False in verdicts else None if None in verdicts else True
        return "open" if _MORE.search(other) else False

    def _sides(self, gold: str, answer: str) -> _Found:
        """``x = 5`` where 5 is asked for, or the other way round."""
        sides = [_LEFT.match(_close_up(text)) for text in (gold, answer)]
        if not any(sides) or (sides[0] and sides[1] and sides[0].group() != sides[1].group()):
            return "open"
        rests = [_right(text) if side else text for side, text in zip(sides, (gold, answer), strict=True)]
        verdict = self.same(*rests)
        return "open" if verdict is False and not all(sides) else verdict

    def _units(self, gold: str, answer: str) -> _Found:
        """A unit behind a formula."""
        (left, ours), (right, theirs) = _unit(gold), _unit(answer)
        if not (ours or theirs):
            return "open"
        if ours and theirs and quantities.unit_of(ours) != quantities.unit_of(theirs):
            return "open"
        return self.same(left, right)

    def _prose(self, gold: str, answer: str) -> _Found:
        """A sentence says what stands behind its verb, or its only number."""
        said = [len(_PROSE.findall(text)) > 2 for text in (gold, answer)]
        if not any(said):
            return False if UNSETTLED.search(answer) and not UNSETTLED.search(gold) else "open"
        verbs = list(_SAYS.finditer(answer))
        told_last = answer[verbs[-1].end() :].strip() if verbs else ""
        if told_last and not said[0] and not UNSETTLED.search(told_last):
            verdict = self.same(gold, settled(told_last))
            if verdict is not False:
                return verdict
        if said[0] or UNSETTLED.search(answer):
            return False
        numbers = [m.group() for m in extract.NUMBER.finditer(answer) if any(c.isdigit() for c in m.group())]
        asked = quantities.quantity(gold)
        told = quantities.quantity(spelling.tidy(numbers[0])) if len(numbers) == 1 and "\\" not in answer else None
        return bool(asked and told and quantities.same(asked, told, self.tolerance))


def _right(text: str) -> str:
    """What stands behind ``x =``; of a chain of equations, its last side."""
    rest = _SIDE.split(text, maxsplit=1)[-1]
    return rest.rpartition("=")[2] if "," not in rest and not _CONDITION.search(rest) else rest


def _plain(text: str) -> str:
    return text.replace(spelling.ROMAN, "")


def _condition(text: str) -> tuple[str, str]:
    r"""A formula and what it holds for: ``2x``, ``for x > 0``; ``2x, x \ne 1``."""
    match = _WHERE.search(text, 1)
    if match and text[: match.start()].strip():
        return text[: match.start()].strip(" ,"), text[match.end() :].strip()
    parts = spelling.split_list(text)
    listed = len(parts) == 2 and spelling.enclosed(text) == ("", parts, "") and ";" not in text
    if listed and text.count(",") == 1 and _CONDITION.search(parts[1]) and not _CONDITION.search(parts[0]):
        return parts[0], parts[1]
    return text, ""


def _interval(text: str) -> str | None:
    """A tidied inequality of one variable as the interval that it means; None where it is none."""
    parts = [part.strip() for part in _RELATION.split(text)]
    if len(parts) not in (3, 5) or "=" in text or not all(parts):
        return None
    signs = [("<" if part in ("<", "\\le", "\\lt") else ">", "e" in part) for part in parts[1::2]]
    if len(parts) == 5:
        if signs[0][0] != signs[1][0] or not _NAME.fullmatch(parts[2]):
            return None
        (low, left), (high, right) = (parts[0], signs[0][1]), (parts[4], signs[1][1])
        if signs[0][0] == ">":
            (low, left), (high, right) = (high, right), (low, left)
        return f"{'(['[left]}{low},{high}{')]'[right]}"
    named = [bool(_NAME.fullmatch(part)) for part in (parts[0], parts[2])]
    if named[0] == named[1]:
        return None
    below = (signs[0][0] == "<") == named[0]
    end, closed = parts[2] if named[0] else parts[0], signs[0][1]
    return f"(-\\infty,{end}{')]'[closed]}" if below else f"{'(['[closed]}{end},\\infty)"


def _unit(text: str) -> tuple[str, str]:
    """A formula and the unit behind it; none where that may be a variable."""
    match = _TRAILING.search(text)
    if not match or _ANGLE.search(text):
        return text, ""
    unit = match[1].strip()
    known = quantities.unit_of(unit) is not None and (len(unit) > 1 or spelling.ROMAN in match.group())
    return (text[: match.start()], unit) if known or len(unit.split()[0]) > 3 else (text, "")


def _proportional(left: str, right: str) -> bool:
    """Whether 2:4 and 1:2 are one ratio; with a zero in it it is a time, such as 12:00."""
    ours, theirs = left.split(":"), right.split(":")
    if len(ours) != len(theirs) or not all(Fraction(part) for part in ours + theirs):
        return False
    return len({Fraction(a) / Fraction(b) for a, b in zip(ours, theirs, strict=True)}) == 1


@functools.lru_cache(maxsize=50_000)
def _verified(gold: str, answer: str, tolerance: float) -> bool | None:
    verdict: bool | None = ask("dcod.grading.algebra", [gold, answer, tolerance])
    return verdict
