r"""Finding the final answer in a response: our own extraction, in front of math-verify.

1. The final part: what stands after the thought, whatever its tags, and before a next turn. A thought that never closes
   is no part of it.
2. Run-on text is cut: everything from an invented next question on, once an answer was stated before it; sub-questions
   on the way to the response's own final answer are not (:func:`run_on`).
3. The last explicit answer: ``\boxed{…}`` (boxes joined by "and" are one answer), ``#### …``, ``<answer>…</answer>``;
   unless a final answer, or the letter of a choice, is stated after it.
4. Else the last stated one: "the answer is …", "Answer: …", "A: 26", or what stands below a heading "Final Answer". It
   has to look like an answer: what ordinary sentences say about answers is none.
5. Else, only where that is allowed, the last bare number or formula.

Every step takes linear time, so that a hostile text costs no more than a long one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dcod.grading import quantities, spelling, thoughts
from dcod.grading.ends import MARK
from dcod.grading.hedges import settled

# Between harmony's channels the turn goes on.
TURN = re.compile(rf"(?!<\|end\|>\s*<\|start\|>assistant)(?:{MARK})|<\|end_of_solution\|>")
NEXT_QUESTION = re.compile(
    r"^[#*_> \t]{0,8}(?:(?:Next|New|Another)[ \t])?"
    r"(?:Question|Problem|Exercise|Q|Human|User|Instruction|Input)[ \t]*\d{0,4}[*_ \t]{0,4}[:.](?=[*_\s])",
    re.MULTILINE,
)
NUMBER = re.compile(r"(?<![\w.])[-−+]?\$?\s?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+)?(?:/\d+)?(?<=\d)%?")
HASHES = re.compile(r"(?<!#)####(?!#)[ \t]*([^\n]+)")
TAGGED = re.compile(r"<answer>((?:[^<]|<(?!/?answer>))*)", re.IGNORECASE)
_HEADING = re.compile(r"(?:Step|Part|Case|Solution|Explanation|Conclusion|Given|Summary|Note)\b", re.IGNORECASE)

_IS = r"(?:is|are|was|would be|should be|will be|must be|becomes|equals|=|:)"
_OF = r"(?:(?:the|this|that|our|original)[ \t]{1,4}){0,2}[\w#().]{1,14}(?:[ \t]{1,4}[\w#().]{1,14})?"
STATED = re.compile(
    # "the (final) answer (to this problem, for part 1) is", "Answer:", "final answer =", "answer $5$"
    rf"\banswers?(?:[ \t]{{1,4}}(?:to|for|of)[ \t]{{1,4}}{_OF})?[*_`\t ]{{0,6}}"
    rf"(?:{_IS}(?:[*_`:]|\s)*|(?=\$|\\\(|\\\[))"
    # "the correct option is"
    r"|\b(?:correct|right|best)[ \t]{1,4}(?:option|choice)[*_`\t ]{0,6}(?:is|:)[*_`:\t ]{0,6}"
    # a heading "**Final Answer**", and the answer on a line below it
    r"|^[#*_> \t]{0,8}(?:final[ \t]{1,4})?answers?[*_: \t]{0,6}\n\s*"
    # "A: 26", "Ans. 26"
    r"|^[#*_> \t]{0,8}(?:A[*_ \t]{0,4}:|Ans[*_ \t]{0,4}[.:])[*_ \t]{0,4}(?=\S)",
    re.IGNORECASE | re.MULTILINE,
)
_CHECK = re.compile(r"\b(?:check|verify|confirm|round|simplify)[a-z]{0,3}(?: \w{1,8}){0,2} \Z", re.IGNORECASE)
_LAST = 50  # statements that are looked at, from the end
_FINAL = re.compile(r"(?:^|[.!\n]|\bfinal[ \t]{1,4})[#*_> \t]{0,8}\Z", re.IGNORECASE)
_CLAUSE = re.compile(
    r",?\s(?:because|since|which|as\s(?:the|we|it|there)|so(?!\w)|but|not(?=\s)|instead|hence|therefore|I hope|"
    r"rather)\b"
    r"|[;!]|\.(?=\s|\Z|[A-Z\"'])"
)
_SENTENCE = re.compile(r"[!]|\.(?=\s|\Z|[A-Z\"'])")
FORMULA = re.compile(
    r"\$\$[^$]*\$\$|(?<!\\)\$(?!\d[\d,.]{0,30}(?:\s|$))(?:[^$\\]|\\.)*\$"
    r"|\\\((?:[^\\]|\\(?![()]))*\\\)|\\\[(?:[^\\]|\\(?![\[\]]))*\\\]"
)
_ITEM = re.compile(r"(?:\d{1,2}[.)]|[-*•]|\(?[a-h]\))[ \t]{1,4}(?=\S)")
_LETTER = re.compile(r"[*_(\[]{0,4}([A-Z])(?:[)\].:*_]{1,4}\s.*|[)\].*_]{0,4})", re.DOTALL)
# How an ordinary sentence about an answer goes on.
_ORDINARY = re.compile(
    r"(?:not|wrong|off|(?:in)?correct|right|unique|to|in|on|at|of|for|from|by|with|within|as|if|when|because|that|which|"
    r"what|whether|how|why|where|who|given|found|obtained|shown|based|determined|calculated|computed|derived|written|"
    r"expressed|(?:un)?known|(?:un)?clear|obvious|easy|simple|straightforward|trivial|here|there|below|above|my|your|"
    r"his|her|our|their|its|these|those|such|one of|also|always|supposed|expected|going|we|i|you|he|she|they|it|it's|"
    r"let|let's|close|consistent|reasonable|important|different|almost|nearly|more|less|greater|smaller|larger|"
    r"complete|ready|needed|still|required|the same|between|at least|at most|following|depend(?:s|ent|ing)|likely to|"
    r"the (?:sum|product|difference|number of|smallest|largest|one|following)|made|part|something|anything|nothing|"
    r"all|some|too|very|well|good)\b(?!,)",
    re.IGNORECASE,
)
_BOX_PART = re.compile(r"\\(?:boxed|fbox|framebox)\s*(\{)?|\\.|[{}]", re.DOTALL)
_BARE_BOX = re.compile(r"[^\s$\\]+")
_JOIN = re.compile(
    r"(?:[ \t,;$]|\\[()\[\]]|\\q?quad|\\text\s?\{ {0,4}(?:and|or) {0,4}\}|\band\b|\bor\b|[A-Za-z](?:_\w)?\s?=)*"
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


def boxed(text: str) -> list[str]:
    r"""The contents of every well-formed ``\boxed{…}`` (or ``\boxed 2``, ``\fbox``), braces nested, in order.

    Boxes with nothing but commas, "and" or "or" between them are one answer of several members. Empty ones are none.
    """
    return [answer for _, answer in _box_groups(text)]


def explicit(text: str) -> str | None:
    r"""The last answer marked by ``\boxed``, ``####`` or ``<answer>``; None when there is none."""
    marked = [*_box_groups(text), *_hashes(text), *_tagged(text)]
    return max(marked)[1] if marked else None


def stated(text: str) -> str | None:
    """The last answer that a sentence or heading states; None when there is none."""
    statement = _statement(text, 0)
    return statement[1] if statement else None


def _statement(text: str, begin: int) -> tuple[bool, str] | None:
    """The last statement from a place on, and whether it is a final one: of a line or heading of its own."""
    for match in reversed(list(STATED.finditer(text, begin))[-_LAST:]):
        checked = _CHECK.search(text, max(0, match.start() - 40), match.start())
        answer = "" if checked else _sentence(text[match.end() : match.end() + 2000])
        if answer:
            return bool(_FINAL.search(text, max(0, match.start() - 40), match.start())), answer
    return None


def _all(text: str) -> list[tuple[int, str]]:
    """Every answer with its place, marked or stated."""
    marked = [*_box_groups(text), *_hashes(text), *_tagged(text)]
    for match in list(STATED.finditer(text))[-_LAST:]:
        answer = _sentence(text[match.end() : match.end() + 2000])
        if answer and "\\boxed" not in answer:
            marked.append((match.end(), answer))
    return marked


def _strong(text: str) -> bool:
    return explicit(text) is not None or bool(re.search(r"\bfinal[ \t]{1,4}answer\b", text, re.IGNORECASE))


def _find(text: str, last_number: bool, last_math: bool = False) -> str | None:
    marks = [*_box_groups(text), *_hashes(text), *_tagged(text)]
    end, answer = max(marks) if marks else (0, None)
    later = _statement(text, end)
    if answer is None:
        answer = later[1] if later else None
    elif later and (_LETTER.fullmatch(later[1]) or (later[0] and re.search(r"[\d$\\]", later[1]))):
        answer = later[1]  # stated after the last mark, which stands at an intermediate result then
    if answer is None and (last_number or last_math):
        answer = _bare(text, last_math)
    return answer


def _bare(text: str, formulas: bool) -> str | None:
    """The last number of a text, or its last formula's last side where none follows it."""
    numbers = [match for match in NUMBER.finditer(text) if any(c.isdigit() for c in match.group())]
    spans = list(FORMULA.finditer(text)) if formulas else []
    if spans and not (numbers and numbers[-1].start() >= spans[-1].end()):
        inner = spans[-1].group().strip("$").removeprefix("\\(").removeprefix("\\[")
        return inner.removesuffix("\\)").removesuffix("\\]").rpartition("=")[2].strip(" .,") or None
    return numbers[-1].group().strip() if numbers else None


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
        elif part.startswith(("\\boxed", "\\fbox", "\\framebox")):
            plain = _BARE_BOX.match(text, match.end())
            if plain:
                yield match.start(), plain.end(), plain.group().rstrip(".,")


def _box_groups(text: str) -> list[tuple[int, str]]:
    """End and content of the boxes; boxes with nothing but "and" or commas between them are one answer."""
    groups: list[tuple[int, list[str]]] = []
    end = 0
    for begin, stop, answer in _boxes(text):
        if groups and begin < end:  # a box around boxes: what these say
            groups[-1] = (stop, groups[-1][1])
        elif answer and groups and begin - end <= 60 and _JOIN.fullmatch(text, end, begin):
            known = groups[-1][1]
            groups[-1] = (stop, known if any(_alike(answer, one) for one in known) else [*known, answer])
        elif answer:
            groups.append((stop, [answer]))
        else:
            continue
        end = stop
    return [(stop, ", ".join(answers)) for stop, answers in groups]


def _alike(one: str, other: str) -> bool:
    """Whether two boxes say the same number, as 15 39/40 and 639/40 do, or the same text."""
    numbers = [quantities.quantity(spelling.tidy(text)) for text in (one, other)]
    return one == other or bool(numbers[0] and numbers[1] and numbers[0] == numbers[1])


def _hashes(text: str) -> list[tuple[int, str]]:
    answers = []
    for match in HASHES.finditer(text):
        answer = _trim(match.group(1))
        heading = _HEADING.match(match.group(1).lstrip()) or match.group(1).rstrip().endswith(":")
        if answer and "\\boxed" not in answer and not heading:
            answers.append((match.end(), answer))
    return answers


def _tagged(text: str) -> list[tuple[int, str]]:
    answers = []
    for match in TAGGED.finditer(text):
        inner = match.group(1)
        answer = explicit(inner) or stated(inner) or _trim(inner)
        if answer and len(answer) <= 300:
            answers.append((match.end(), answer))
    return answers


def _sentence(text: str) -> str:
    """The answer at the start of a text: up to the end of its line, sentence or clause, formulas left whole."""
    text = text.lstrip(" \t\n*_`\"'")
    if _ITEM.match(text):
        return _items(text)
    for begin, end in (("\\[", "\\]"), ("$$", "$$"), ("\\(", "\\)")):  # may go over lines
        if text.startswith(begin) and end in text[2:]:
            stop = text.index(end, 2) + 2
            line = text[:stop].replace("\n", " ") + text[stop:].partition("\n")[0]
            break
    else:
        line = text.partition("\n")[0]
    answer = _trim(_until(_CLAUSE, settled(_until(_SENTENCE, line))))
    return answer if _answers(answer) else ""


def _items(text: str) -> str:
    """The items of a list below a heading, if each is an answer."""
    lines = [line.strip() for line in text.split("\n\n")[0].splitlines()]
    items = [_trim(line[match.end() :]) for line in lines if (match := _ITEM.match(line))]
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


def _trim(text: str) -> str:
    """Drops markdown marks and the closing full stop of a sentence."""
    return text.strip().strip('*_`" ').removesuffix(".").strip().strip('*_`" ')
