r"""Answers that a response marks, with their places: ``\boxed{…}``, ``#### …``, ``<answer>…</answer>``.

A mark that is taken back in its own sentence is none ("it cannot be \boxed{5}", "\boxed{5} is wrong"), nor is one that
repeats the task ("put it into \boxed{answer}").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from dcod.grading import quantities, spelling

_HASHES = re.compile(r"(?<!#)####(?!#)[ \t]*([^\n]+)")
_TAGGED = re.compile(
    r"(?:<(?:final_)?answer>|<\|begin_of_box\|>)((?:[^<]|<(?!/?(?:final_)?answer>|\|(?:begin|end)_of_box))*)",
    re.IGNORECASE,
)
_HEADING = re.compile(
    r"(?:Step|Part|Case|Solution|Explanation|Conclusion|Given|Summary|Note)\b|(?:Final[ \t]{1,4})?Answers?[*_: \t]*\Z",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(
    r"(?:\\text\s?\{)?(?:(?:your|the|final|my) )*(?:answer|result)(?: here)?\}?|…|\.{3}", re.IGNORECASE
)
_BOX = r"(?<!\\)\\+(?:boxed|fbox|framebox)"
_BOX_PART = re.compile(rf"{_BOX}\s*(\{{)?|\\.|[{{}}]", re.DOTALL)
_BOXED = re.compile(rf"{_BOX}\s*(?=\{{)")
_CLOSING = re.compile(r"</\w{1,20}>\Z|<br ?/?>\Z")
_BARE_BOX = re.compile(r"[^\s$\\]+")
_JOIN = re.compile(
    r"(?:[ \t,;$]|\\[()\[\]]|\\q?quad|\\text\s?\{ {0,4}(?:and|or) {0,4}\}|\b(?:and|or|maybe|perhaps|possibly)\b"
    r"|[A-Za-z](?:_\w)?\s?=)*"
)
_WRONG = "(?:wrong|incorrect|false|mistaken|erroneous|invalid|naive|tempting)"
_SAID = "(?:answer|value|result|choice|option|approach|guess|solution|attempt|method)"
_DENIED = re.compile(  # before a mark, in its sentence
    rf"(?:\bnot|n't be|\bcannot be|(?:{_WRONG} (?:\w+ )?{_SAID}\b|\btempting to )[^.!?\n,;]{{0,30}})"
    r"[\s$*_(\[\\]{0,6}\Z",
    re.IGNORECASE,
)
_TAKEN_BACK = re.compile(  # behind a mark
    r"[\s$*_)\]}\\]{0,6}(?:</answer>)?(?:"
    r"(?:,? ?(?:but|and|which|that|this|it)){0,3} ?(?:is|was|would be|seems|looks) "
    rf"(?:{_WRONG}|impossible|too (?:small|large|big|high|low)|not (?:the answer|right|correct|possible|valid|what))"
    r"|\? ?(?:no|not|wrong|incorrect))\b",
    re.IGNORECASE,
)


def marked(text: str, stated: Callable[[str], str | None]) -> list[tuple[int, str]]:
    """Every marked answer that is not taken back, with the place where its mark ends.

    Args:
        text: of a response, without its thought.
        stated: what a sentence within a tag states.
    """
    every = [*_groups(text), *_hashes(text), *_tagged(text, stated)]
    return [(end, answer) for begin, end, answer in every if not _void(text, begin, end, answer)]


def explicit(text: str, stated: Callable[[str], str | None]) -> str | None:
    r"""The last answer marked by ``\boxed``, ``####`` or ``<answer>``; None when there is none."""
    known = marked(text, stated)
    return max(known)[1] if known else None


def boxed(text: str) -> list[str]:
    r"""The contents of every well-formed ``\boxed{…}`` (or ``\boxed 2``, ``\fbox``), braces nested, in order.

    Boxes with nothing but commas, "and" or "or" between them are one answer of several members. Empty ones are none.
    """
    return [answer for _, _, answer in _groups(text)]


def trim(text: str) -> str:
    """Drops markdown marks, closing tags and the closing full stop of a sentence."""
    text = text.rstrip()
    for _ in range(4):
        tag = _CLOSING.search(text[-24:])
        text = text[: -len(tag.group())].rstrip() if tag else text
    return text.strip().strip('*_`" ').removesuffix(".").strip().strip('*_`" ')


def _void(text: str, begin: int, end: int, answer: str) -> bool:
    denied = _DENIED.search(text, max(0, text.rfind("\n", 0, begin) + 1, begin - 80), begin)
    return bool(_PLACEHOLDER.fullmatch(answer) or denied or _TAKEN_BACK.match(text, end))


def _boxes(text: str) -> Iterator[tuple[int, int, str]]:
    r"""Begin, end and content of each box, in the order of their ends; ``\{`` is no brace."""
    stack: list[int] = []  # begins of open braces; of boxes, negative
    places: list[int] = []
    for match in _BOX_PART.finditer(text):
        part = match.group()
        if part == "}":
            if stack and stack.pop():
                begin = places.pop()
                inner = text.index("{", begin) + 1
                yield begin, match.end(), text[inner : match.start()].strip()
        elif part == "{" or match.group(1):
            stack.append(part != "{")
            if part != "{":
                places.append(match.start())
        elif part.lstrip("\\").startswith(("boxed", "fbox", "framebox")):
            plain = _BARE_BOX.match(text, match.end())
            if plain:
                yield match.start(), plain.end(), plain.group().rstrip(".,")


def _groups(text: str) -> list[tuple[int, int, str]]:
    """Begin, end and content of the boxes; boxes with nothing but "and" or commas between them are one answer."""
    groups: list[tuple[int, int, list[str]]] = []
    for begin, stop, answer in _boxes(text):
        inner = list[str]()
        while groups and begin < groups[-1][1]:
            inner = inner or groups[-1][2]
            groups.pop()
        if inner:  # a box around boxes: what the last of these says, unless the outer one goes on
            goes_on = len(answer) <= spelling.LONGEST and not _JOIN.fullmatch(_around(answer).rpartition("=")[2])
            groups.append((begin, stop, [_BOXED.sub("", answer)] if goes_on else inner))
        elif answer and groups and begin - groups[-1][1] <= 60 and _JOIN.fullmatch(text, groups[-1][1], begin):
            first, _, known = groups.pop()
            groups.append((first, stop, known if any(_alike(answer, one) for one in known) else [*known, answer]))
        elif answer:
            groups.append((begin, stop, [answer]))
    return [(begin, stop, ", ".join(answers)) for begin, stop, answers in groups]


def _around(text: str) -> str:
    """A text without its boxes."""
    parts, done = list[str](), 0
    for begin, stop, _ in sorted(_boxes(text)):
        if begin >= done:
            parts.append(text[done:begin])
            done = stop
    return "".join([*parts, text[done:]])


def _alike(one: str, other: str) -> bool:
    """Whether two boxes say the same number, as 15 39/40 and 639/40 do, or the same text."""
    numbers = [quantities.quantity(spelling.tidy(text)) for text in (one, other)]
    return one == other or bool(numbers[0] and numbers[1] and numbers[0] == numbers[1])


def _hashes(text: str) -> Iterator[tuple[int, int, str]]:
    for match in _HASHES.finditer(text):
        answer = trim(match.group(1))
        heading = _HEADING.match(match.group(1).lstrip()) or match.group(1).rstrip().endswith(":")
        if answer and "\\boxed" not in answer and not heading:
            taken_back = re.search(rf" (?:is|was) (?:not |{_WRONG})", answer)
            if not taken_back:
                yield match.start(), match.end(), answer


def _tagged(text: str, stated: Callable[[str], str | None]) -> Iterator[tuple[int, int, str]]:
    for match in _TAGGED.finditer(text):
        inner = match.group(1)
        answer = explicit(inner, stated) or stated(inner) or trim(inner)
        if answer and len(answer) <= 300:
            yield match.start(), match.end(), answer
