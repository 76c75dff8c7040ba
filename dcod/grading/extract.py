r"""Finding the final answer in a response: our own extraction, in front of math-verify.

1. The final part: what stands after the thought, whatever its tags, and before a next turn. A thought that never closes
   is no part of it.
2. Run-on text is cut: everything from an invented next question on, once an answer was stated before it; sub-questions
   on the way to the response's own final answer are not (:func:`run_on`).
3. The last marked answer (:mod:`dcod.grading.boxes`); unless a final answer, or the letter of a choice, is stated after
   it, or any answer once the response has gone back on the marked one.
4. Else the last stated one (:mod:`dcod.grading.stated`).
5. Else, only where that is allowed, the last bare number or formula.

Every step takes linear time, so that a hostile text costs no more than a long one.
"""

from __future__ import annotations

import re

from dcod.grading import boxes, hedges, stated, thoughts
from dcod.grading.ends import MARK
from dcod.grading.stated import FORMULA, LETTER

# Between harmony's channels the turn goes on.
TURN = re.compile(rf"(?!<\|end\|>\s*<\|start\|>assistant)(?:{MARK})|<\|end_of_solution\|>")
_ASKS = (
    r"Question|Problem|Exercise|Q|Human|User|Instruction|Input|Task|Prompt|Example(?=[ \t]{1,4}[#№]?\d)"
    r"|问题|问|题目|質問|問題|문제|Pregunta|Problema|Frage|Aufgabe|Domanda|Pergunta|Вопрос|Задача"
)
NEXT_QUESTION = re.compile(
    r"^[#*_> \t]{0,8}(?:\d{1,3}[.)][ \t]{1,4})?[\[(]?(?:(?:Next|New|Another)[ \t]{1,4})?"
    rf"(?:{_ASKS})[ \t]{{0,4}}[#№]?\d{{0,4}}[*_ \t]{{0,4}}(?:[:.](?=[*_\s])|：|[\])](?:(?<=\d\))|(?<=\]))[:.]?(?=\s))",
    re.MULTILINE | re.IGNORECASE,
)
NUMBER = re.compile(r"(?<![\w.])[-−+]?\$?\s?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+)?(?:/\d+)?(?<=\d)%?")
# What makes a number the part of another one, before and behind it: 2^10, \frac{1}{2}, 3e8, 10:15, a/4.
_BEFORE = re.compile(r"(?:[\w)}\]][\^/_]\{?|√|\\sqrt(?:\[\d+\])?\{?|frac\{[^{}]*\}\{?|\d[:-])\Z")
_BEHIND = re.compile(r"[\^√]|[eE][-+]?\d|[:-]\d|\}\s?\{")
_BLANK = re.compile(r"[\s$*\"'`]")
_INDEXED = re.compile(r"[A-Za-z]{1,12}[\^_]\{?\d+\}?")  # m^2, x_1
_SCALE = re.compile(r" ?(?:[½⅓⅔¼¾]|(?:hundred|thousand|million|billion|trillion)\b)")
_GONE_BACK = re.compile(
    r"\b(?:wait|wrong|incorrect|correction|mistake\w*|sorry|oops|actually|instead|double-checked|redo|hmm)\b",
    re.IGNORECASE,
)


def extract(response: str, *, last_number: bool = False, last_math: bool = False) -> str | None:
    """The final answer of a response, as written; None when there is none.

    Args:
        response: the whole text.
        last_number: fall back on the last number of the final part.
        last_math: fall back on its last formula or number.
    """
    return _find(final_part(response, last_number=last_number), last_number, last_math)


def final_part(response: str, *, last_number: bool = False) -> str:
    """The response after its thought, whatever the tags, and before a next turn or an invented next question.

    Nothing inside a thought is an answer, one that never closes included.
    """
    text = _closed(_one_turn(response))
    first = thoughts.first_end(text)
    if first is not None:
        # The first end, then run-on cut, then the last end of what is left: an invented question may think as well.
        text = text[first:]
        text = text[: run_on(text, last_number)]
        return text[thoughts.last_end(text) :]
    return text[: run_on(text, last_number)]


def run_on(text: str, last_number: bool = False) -> int:
    """Where a text runs on into an invented question; its length where it does not.

    What follows an answer is told as a whole. A response may ask itself sub-questions: then a question stands before
    the first answer, and behind the last one's answer stands another, the response's own, or one of a stronger form (a
    box, "the final answer") than all before.

    Args:
        text: without its thought.
        last_number: a bare number counts as an answer.
    """
    heads = [match.start() for match in NEXT_QUESTION.finditer(text)]
    ends = [*heads, len(text)]
    parts = [text[begin:end] for begin, end in zip([0, *heads], ends, strict=True)]
    for index, part in enumerate(parts[:-1]):  # an answer that straddles a question is none
        if _find(part, last_number) is None:
            continue
        said = [answer for _, answer in sorted(_all(parts[-1]))]
        goes_on = len(said) > 1 and said[0] != said[-1]
        stronger = bool(said) and _strong(parts[-1]) and not any(map(_strong, parts[index:-1]))
        asked = index > 0
        return len(text) if (goes_on or stronger if asked else goes_on and stronger) else ends[index]
    return len(text)


def thinking(response: str) -> bool:
    """Whether a response ends inside a thought: it was opened and never closed."""
    return thoughts.kind(_one_turn(response)) == "unclosed"


def explicit(text: str) -> str | None:
    r"""The last answer marked by ``\boxed``, ``####`` or ``<answer>``; None when there is none."""
    return boxes.explicit(text, stated.stated)


def _all(text: str) -> list[tuple[int, str]]:
    """Every answer with its place, marked or stated."""
    return [*boxes.marked(text, stated.stated), *stated.every(text)]


def _strong(text: str) -> bool:
    return explicit(text) is not None or bool(re.search(r"\bfinal[ \t]{1,4}answer\b", text, re.IGNORECASE))


def _find(text: str, last_number: bool, last_math: bool = False) -> str | None:
    marks = boxes.marked(text, stated.stated)
    end, answer = max(marks) if marks else (0, None)
    later = stated.last(text, end)
    if answer is None:
        answer = later.answer if later else None
    elif later and (LETTER.fullmatch(later.answer) or (re.search(r"[\d$\\]", later.answer) and (
        later.final or _GONE_BACK.search(text, end, later.end)
    ))):  # fmt: skip
        answer = later.answer  # stated after the last mark, which stands at an intermediate result then
    elif hedges.regretted(text, end):
        answer = None
    if answer is None and (last_number or last_math):
        answer = _bare(text, last_math)
    return answer


def _bare(text: str, formulas: bool) -> str | None:
    """The last number of a text, with what it is a part of; or its last formula's last side where none follows it."""
    numbers = [match for match in NUMBER.finditer(text) if any(c.isdigit() for c in match.group())]
    spans = list(FORMULA.finditer(text)) if formulas else []
    if spans and not (numbers and numbers[-1].start() >= spans[-1].end()):
        inner = spans[-1].group().strip("$").removeprefix("\\(").removeprefix("\\[")
        return inner.removesuffix("\\)").removesuffix("\\]").rpartition("=")[2].strip(" .,") or None
    while numbers:
        whole = _whole(text, numbers.pop(), numbers)
        if whole:
            return whole
    return None


def _whole(text: str, number: re.Match[str], before: list[re.Match[str]]) -> str:
    """A number with what it is a part of, as 3 1/2, 2^10 or 2.5 million; empty for that of a unit or a name, as m^2."""
    (begin, end), said = number.span(), number.group().strip()
    head = _BLANK.split(text[max(0, begin - 80) : begin])[-1]
    if _BEFORE.search(head) or _BEHIND.match(text, end):
        word = (head + _BLANK.split(text[begin : begin + 80])[0]).rstrip(".,;:!?")
        return "" if _INDEXED.fullmatch(word) else word
    scale = _SCALE.match(text, end)
    beside = before[-1] if before and before[-1].end() == begin - 1 and text[begin - 1] == " " else None
    if beside and beside.group().isdigit() and ("/" in said or (len(said) == 3 and len(beside.group()) <= 3)):
        return text[beside.start() : end]
    return text[begin : scale.end()].strip() if scale else said


def _closed(text: str) -> str:
    """Without a thought that is opened, on a line of its own, and never closed."""
    bounds = [mark for mark in thoughts.marks(text) if mark.does != "answer"]
    if not bounds or bounds[-1].does != "open":
        return text
    begin = bounds[-1].begin
    return text if text[text.rfind("\n", 0, begin) + 1 : begin].strip() else text[:begin]


def _one_turn(text: str) -> str:
    """Up to the first mark of a turn's end that stands behind some text."""
    done = 0
    for match in TURN.finditer(text):
        if text[done : match.start()].strip() not in ("", "assistant"):
            return text[: match.start()]
        done = match.end()
    return text
