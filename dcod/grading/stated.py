"""Answers that a sentence or a heading states: "the answer is …", "Answer: …", "A: 26", a line below "Final Answer".

What counts has to look like an answer: what ordinary sentences say about answers is none, nor is what is denied ("I
doubt that the answer is 5"), supposed ("if the answer is 5, …") or called wrong. A weaker statement ("the answer would
be 24", "the answer is even") does not replace an earlier one with a value. Code counts where nothing else states one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from dcod.grading.boxes import boxed, trim
from dcod.grading.hedges import regretted, settled

_IS = r"(?:is|are|was|(?P<weak>(?:would|should|could|might|may) be)|will be|must be|becomes|equals|=|:)"
_OF = r"(?:(?:the|this|that|our|original)[ \t]{1,4}){0,2}[\w#().]{1,14}(?:[ \t]{1,4}[\w#().]{1,14})?"
_STATED = re.compile(
    # "the (final) answer (to this problem, for part 1) is", "Answer:", "final answer =", "answer $5$"
    rf"\banswers?(?:[ \t]{{1,4}}(?:to|for|of)[ \t]{{1,4}}{_OF})?[*_`\"\t ]{{0,6}}"
    rf"(?:{_IS}(?:[*_`:]|\s)*|(?=\$|\\\(|\\\[))"
    # "the correct option is"
    r"|\b(?:correct|right|best)[ \t]{1,4}(?:option|choice)[*_`\t ]{0,6}(?:is|:)[*_`:\t ]{0,6}"
    # a heading "**Final Answer**", and the answer on a line below it
    r"|^[#*_> \t]{0,8}(?:final[ \t]{1,4})?answers?[*_: \t]{0,6}\n\s*"
    # "A: 26", "Ans. 26"
    r"|^[#*_> \t]{0,8}(?:A[*_ \t]{0,4}:|Ans[*_ \t]{0,4}[.:])[*_ \t]{0,4}(?=\S)",
    re.IGNORECASE | re.MULTILINE,
)
_CODE = re.compile(r"```[^`\n]*\n.*?(?:```|\Z)", re.DOTALL)
_QUOTED = re.compile(r'"((?:[^"\\\n]|\\.){1,300})"|([^"{}\[\],\n]+)')
_CHECK = re.compile(r"\b(?:check|verify|confirm|round|simplify)(?!ed and)[a-z]{0,3}(?: \w{1,8}){0,2} \Z", re.IGNORECASE)
_LAST = 50  # statements that are looked at, from the end
_BACK = 120  # characters before a statement that are looked at
_FINAL = re.compile(r"(?:^|[.!\n]|\bfinal[ \t]{1,4})[#*_> \t]{0,8}\Z", re.IGNORECASE)
_DENIED = re.compile(  # before a statement, in its sentence
    r"(?:(?:n't|\bnot|\bnever) (?:think|believe|say|claim|mean|true|the case|possible|clear)|can(?:'t|not| not) be"
    r"|\b(?:nobody|no one|one|some|many|most|people|students|you|they) (?:\w+ )?(?:would|might|may|could|will)? ?"
    r"(?:say|think|believe|claim|guess|assume|expect)s?|\bdoubt\w*|\bimpossible|\bunlikely)\b[^,;:]{0,40}\Z"
    r"|\b(?:wrong|incorrect|false|mistaken|erroneous|invalid|naive|tempting|previous|initial|earlier|old|common|typical"
    r"|unlikely|least likely|second-best|worst|suppose|assuming|if|whether)[ \t](?:(?:the|that|my|its|final) )*\Z",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(
    r"(?<!\w)(?:if|suppose|supposing|assume|assuming|were|had|unless|otherwise)(?!\w)", re.IGNORECASE
)
_CONDITION = re.compile(r"(?:[^.!?\n]|\.(?=\d)){0,80}\b(?:if|were|unless|had)\b", re.IGNORECASE)
_CLAUSE = re.compile(
    r",?\s(?:because|since|which|as\s(?:the|we|it|there)|so(?!\w)|but|not(?=\s)|instead|hence|therefore|I hope|"
    r"rather)\b"
    r"|[;!]|\.(?=\s|\Z|[A-Z\"'])"
)
_SENTENCE = re.compile(r"[!](?!=)|(?<!\.)\.(?=\s|\Z|[A-Z\"'*_<])")
FORMULA = re.compile(
    r"\$\$[^$]*\$\$|(?<!\\)\$(?!\d[\d,.]{0,30}(?:\s|$))(?:[^$\\]|\\.)*\$"
    r"|\\\((?:[^\\]|\\(?![()]))*\\\)|\\\[(?:[^\\]|\\(?![\[\]]))*\\\]"
)
_ITEM = re.compile(r"(?:(\d{1,2})[.)]|[-*•]|\(?([a-h])\))[ \t]{1,4}(?=\S)")
LETTER = re.compile(r"[*_(\[]{0,4}([A-Z])(?:[)\].:*_]{1,4}\s.*|[)\].*_]{0,4})", re.DOTALL)
_VALUE = re.compile(r"[\d$\\]|\A(?:[*_(\[]{0,4}[A-Z]|(?:yes|no|true|false|none|zero|one)\b)")
# How an ordinary sentence about an answer goes on; a line for a space.
_GOES_ON = """
not wrong off (?:in)?correct right unique to in on at of for from by with within as if when because that which what
whether how why where who given found obtained shown based determined calculated computed derived written expressed
verified confirmed useful helpful (?:un)?known (?:un)?clear obvious easy simple straightforward trivial here there
below above my your his her our their its these those such one_of also always supposed expected going we i you he she
they it it's let let's close consistent reasonable important different almost nearly more less greater smaller larger
complete ready needed still required the_same between at_least at_most following depend(?:s|ent|ing) (?:un)?likely_to
made part something anything nothing all some too very well good
the_(?:sum|product|difference|number_of|smallest|largest|one|following)
"""
_ORDINARY = re.compile(rf"(?:{'|'.join(_GOES_ON.split()).replace('_', ' ')})\b(?!,)", re.IGNORECASE)


class Statement(NamedTuple):
    """A stated answer: its place, and whether it is a final one, of a line or heading of its own."""

    end: int
    answer: str
    final: bool


def stated(text: str) -> str | None:
    """The last answer that a sentence or heading states; None when there is none."""
    statement = last(text, 0)
    return statement.answer if statement else None


def last(text: str, begin: int) -> Statement | None:
    """The last statement from a place on; of those with a value, and not in code, where there is one."""
    fallback = None
    for spoken in (_CODE.sub(lambda code: " " * len(code.group()), text), text):
        for statement, weak in _statements(spoken, begin):
            if not weak:
                return statement
            fallback = fallback or statement
        if fallback or spoken == text:
            break
    return fallback


def every(text: str) -> list[tuple[int, str]]:
    """Every stated answer with its place, but for those that hold a box."""
    return [(one.end, one.answer) for one, _ in _statements(text, 0) if "\\boxed" not in one.answer]


def _statements(text: str, begin: int) -> Iterator[tuple[Statement, bool]]:
    """Statements from the last one on, and whether each is a weak one."""
    for match in reversed(list(_STATED.finditer(text, begin))[-_LAST:]):
        start = max(0, match.start() - _BACK)
        back = re.split(r"[.!?\n](?=\s|\Z)", text[start : match.start()])[-1]
        rest = text[match.end() : match.end() + 2000]
        denied = _CHECK.search(back) or _DENIED.search(back) or regretted(text, match.end())
        if denied or (match["weak"] and _CONDITION.match(rest)):
            continue
        quoted = _QUOTED.match(rest) if '"' in match.group() else None  # {"answer": "12"}
        answer = quoted[1] or trim(quoted[2]) if quoted else _sentence(rest, below="\n" in match.group())
        if answer:
            final = bool(_FINAL.search(text, max(0, match.start() - 40), match.start()))
            weak = bool(match["weak"] or _SUPPOSED.search(back) or not _VALUE.search(answer))
            yield Statement(match.end(), answer, final), weak


def _sentence(text: str, below: bool = False) -> str:
    """The answer at the start of a text: up to the end of its line, sentence or clause, formulas left whole.

    Args:
        text: behind what introduces it.
        below: it stands on a line below that.
    """
    text = text.lstrip(" \t\n*_`\"'}")
    if _is_list(text, below):
        return _items(text)
    for begin, end in (("\\[", "\\]"), ("$$", "$$"), ("\\(", "\\)")):  # may go over lines
        if text.startswith(begin) and end in text[2:]:
            stop = text.index(end, 2) + 2
            line = text[:stop].replace("\n", " ") + text[stop:].partition("\n")[0]
            break
    else:
        line = text.partition("\n")[0]
    answer = trim(_until(_CLAUSE, settled(_until(_SENTENCE, line))))
    return answer if _answers(answer) else ""


def _is_list(text: str, below: bool) -> bool:
    """Whether a list begins here, not a number with a full stop, a negative one, or the letter of a choice."""
    lines = [_ITEM.match(line.strip()) for line in text.split("\n\n")[0].splitlines()[:2]]
    first = lines[0] if lines else None
    if first is None or first[1] not in (None, "1") or first[2] not in (None, "a"):
        return False
    return below or (len(lines) > 1 and lines[1] is not None)


def _items(text: str) -> str:
    """The items of a list below a heading, if each is an answer."""
    lines = [line.strip() for line in text.split("\n\n")[0].splitlines()]
    items = [trim(line[match.end() :]) for line in lines if (match := _ITEM.match(line))]
    good = len(items) == len(lines) and all(_answers(item) and len(item) <= 40 for item in items)
    return ", ".join(items) if good else ""


def _answers(text: str) -> bool:
    """Whether a statement looks like an answer: a value, a letter, a name; no ordinary sentence, no unclosed box."""
    if not any(c.isalnum() for c in text) or text.endswith((":", "?")) or _ORDINARY.match(text):
        return False
    if "\\boxed" in text and not boxed(text):
        return False
    value = re.search(r"[\d$\\]", text)
    parts = FORMULA.sub(" ", text).split(",")  # of a list of words, each
    words = max(len(re.findall(r"[A-Za-z']{2,}", part)) for part in parts)
    return " than " not in text and words <= (12 if value else 4)


def _until(end: re.Pattern[str], line: str) -> str:
    """Up to the first match outside formulas."""
    spans = [match.span() for match in FORMULA.finditer(line)]
    for match in end.finditer(line):
        begin = match.start()
        if begin and not any(start < begin < stop for start, stop in spans):
            return line[:begin]
    return line
