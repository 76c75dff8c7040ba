"""Cleaning of completions: pure functions, each names a fault or mends one known mark."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from dcod.grading import thoughts
from dcod.grading.ends import MARK
from dcod.grading.extract import TURN, extract, run_on

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

_LONGEST_MARK = 60
_LAST_MARK = re.compile(rf"{MARK}\Z")
_CALCULATOR = re.compile(r"<<[^<>\n=]*+=[^<>\n]*+>>")
_NO_PROSE = re.compile(r"\$\$|\\[\[(]|```|\$[^$\n]*\$|\\[a-zA-Z]+|<[^<>\n]*>")
_CLOSES = {"$$": "$$", "\\[": "\\]", "\\(": "\\)", "```": "```"}
_PROSE = 60  # letters from which a language can be told
_SURE = 0.9
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

    Only what follows a stated answer is cut, and never anything inside a thought; see ``extract.run_on``.
    """
    if thoughts.kind(text) == "unclosed":
        return without_marks(text)
    begin = thoughts.last_end(text)
    end = begin + run_on(text[begin:])
    turn = next(_turns(text, begin, end), None)
    if turn and extract(text[begin : turn.start()]) is not None:
        end = turn.start()
    return without_marks(text) if end == len(text) else text[:end].rstrip()


def _turns(text: str, begin: int, end: int) -> Iterator[re.Match[str]]:
    """Marks of a turn's end; that of a solution belongs to a thought's tags (:mod:`dcod.grading.thoughts`)."""
    return (match for match in TURN.finditer(text, begin, end) if match.group() != "<|end_of_solution|>")


def without_marks(text: str, own: Sequence[str] = ()) -> str:
    """Text without the marks that end a turn, at its end.

    Args:
        text: a completion.
        own: marks of the student, beside those of all families.
    """
    cut = text.rstrip()
    while cut:
        tail = cut[-_LONGEST_MARK:]
        mark = next((name for name in own if cut.endswith(name)), "")
        cut_mark = None if mark else _LAST_MARK.search(tail)
        size = len(mark) or (len(cut_mark.group()) if cut_mark else 0)
        if not size:
            break
        cut = cut[:-size].rstrip()
    return cut if cut and len(cut) < len(text.rstrip()) else text


def language(text: str) -> str | None:
    """The language of a text, such as ``en``, by its prose; None where there is little of it, or it is mixed."""
    prose = " ".join(_prose(text)[:_TAIL].split())
    if sum(map(str.isalpha, prose)) < _PROSE:
        return None
    code, sure = _identifier().classify(prose)
    return str(code) if sure >= _SURE else None


@lru_cache(maxsize=1)
def languages() -> tuple[str, ...]:
    """The codes that :func:`language` tells apart (ISO 639), sorted."""
    return tuple(sorted(_identifier().labels))


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _prose(text: str) -> str:
    """Text without formulas, commands, tags and code, as much as is looked at; in time linear in the text."""
    pieces, length, begin = [], 0, 0
    never = set[str]()  # closing marks that do not come any more
    place = 0
    while length < 2 * _TAIL and (match := _NO_PROSE.search(text, place)):
        place, close = match.end(), _CLOSES.get(match.group())
        if close is not None:
            end = -1 if close in never else text.find(close, place)
            if end < 0:
                never.add(close)
                continue
            place = end + len(close)
        pieces.append(text[begin : match.start()])
        length, begin = length + match.start() - begin, place
    return " ".join([*pieces, text[begin : begin + 2 * _TAIL]])


def fault(completion: str, *, loops: bool = True) -> tuple[str, str] | None:
    """Why a completion must not be taught, as reason code and message; None for a sound one."""
    if not completion.strip():
        return "empty_completion", "the completion is empty"
    loop = repetition(completion) if loops else None
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
