r"""Finding the final answer in a response: our own extraction, in front of math-verify.

1. The final part: what stands after the thought, whatever its tags, and before a next turn.
2. Run-on text is cut: everything from an invented next question on, once an answer was stated before it.
3. The last explicit answer: ``\boxed{…}`` (boxes joined by "and" are one answer), ``#### …``, ``<answer>…</answer>``.
4. Else the last stated one: "the answer is …", "Answer: …", "A: 26", or the line below a heading "Final Answer".
5. Else, only where the benchmark allows it, the last bare number.

Every step takes linear time, so that a hostile text costs no more than a long one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from dcod import thoughts

TURN = re.compile(
    r"<\|(?:im_start|im_end|eot_id|eom_id|endoftext|end_of_text|end_of_solution|start_header_id|user|return)\|>"
    r"|<\|END_OF_TURN_TOKEN\|>|<\|end\|>(?!\s*<\|start\|>assistant)"  # there the next channel of the same turn begins
    r"|</s>|<end_of_turn>|<turn\|>|<｜end▁of▁sentence｜>|<｜User｜>"
)
NEXT_QUESTION = re.compile(
    r"^[#*_> \t]{0,8}(?:(?:Next|New|Another)[ \t])?"
    r"(?:Question|Problem|Exercise|Q|Human|User|Instruction|Input)[ \t]*\d{0,4}[*_ \t]{0,4}[:.](?=[*_\s])",
    re.MULTILINE,
)
NUMBER = re.compile(r"(?<![\w.])[-−+]?\$?\s?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+)?(?:/\d+)?(?<=\d)%?")
HASHES = re.compile(r"(?<!#)####(?!#)[ \t]*([^\n]+)")
TAGGED = re.compile(r"<answer>((?:[^<]|<(?!/?answer>))*)", re.IGNORECASE)
HEADING = re.compile(r"\s*(?:Step|Part|Case|Solution|Explanation|Conclusion|Given|Summary|Note)\b|[^\n]*:\s*\Z", re.I)

_IS = r"(?:is|are|was|would be|should be|will be|must be|becomes|equals|=|:)"
STATED = re.compile(
    # "the (final) answer (to this problem) is", "Answer:", "final answer =", "answer $5$"
    r"\banswers?(?:[ \t]+(?:to|for|of)[ \t]+(?:the|this|that|our)[ \t]+\w+)?(?:[*_`]|[ \t]){0,6}"
    rf"(?:{_IS}(?:[*_`:]|\s)*|(?=\$|\\\(|\\\[))"
    # a heading "**Final Answer**", and the answer on a line below it
    r"|^[#*_> \t]{0,8}(?:final[ \t]+)?answers?[*_: \t]{0,6}\n\s*"
    # "A: 26", "Ans. 26"
    r"|^[#*_> \t]{0,8}(?:A[*_ \t]{0,4}:|Ans[*_ \t]{0,4}[.:])[*_ \t]{0,4}(?=\S)",
    re.IGNORECASE | re.MULTILINE,
)
FINAL = re.compile(r"\bfinal[ \t]+answer\b", re.IGNORECASE)
_HEDGE = re.compile(
    r"(?:that|therefore|thus|then|simply|just|equal to|given by|as follows|approximately|about|exactly|indeed)\b[,: ]*",
    re.IGNORECASE,
)
_CLAUSE = re.compile(
    r",?\s+(?:because|since|which|as\s+(?:the|we|it|there)|so(?!\w)|but|not(?=\s)|instead|hence|therefore|I hope)\b"
    r"|[;!]|\.(?=\s|\Z|[A-Z\"'])"
)
_BOX_PART = re.compile(r"\\(?:boxed|fbox|framebox)\s*(\{)?|\\.|[{}]", re.DOTALL)
_BARE_BOX = re.compile(r"[^\s$\\]+")
_JOIN = re.compile(
    r"(?:[ \t,;$]|\\[()\[\]]|\\q?quad|\\text\s?\{\s*(?:and|or)\s*\}|\band\b|\bor\b|[A-Za-z](?:_\w)?\s*=)*"
)


def extract(response: str, *, last_number: bool = False) -> str | None:
    """The final answer of a response, as written; None when there is none.

    Args:
        response: the whole text.
        last_number: fall back on the last number of the final part.
    """
    return _find(final_part(response, last_number=last_number), last_number)


def final_part(response: str, *, last_number: bool = False) -> str:
    """The response after its thought, whatever the tags, and before a next turn or an invented next question.

    A thought that is never closed counts as the response itself; nothing after a closed one is no answer.
    """
    text = _one_turn(response)
    first = thoughts.first_end(text)
    if first is not None:
        # The first end, then run-on cut, then the last end of what is left: an invented question may think as well.
        text = _cut(text[first:], last_number)
        return text[thoughts.last_end(text) :]
    return _cut(text, last_number)


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
    found = [*_box_groups(text), *_hashes(text), *_tagged(text)]
    return max(found)[1] if found else None


def stated(text: str) -> str | None:
    """The last answer that a sentence or heading states; None when there is none."""
    begins = [match.end() for match in STATED.finditer(text)]
    for begin in reversed(begins):
        found = _sentence(text[begin : begin + 2000])
        if found:
            return found
    return None


def _find(text: str, last_number: bool) -> str | None:
    found = explicit(text) or stated(text)
    finals = list(FINAL.finditer(text))
    if finals:  # stated after the last mark, which stands at an intermediate result then
        final = explicit(text[finals[-1].start() :]) or stated(text[finals[-1].start() :])
        found = final if final and (found is None or re.search(r"[\d$\\]", final)) else found
    if found is None and last_number:
        numbers = [match.group().strip() for match in NUMBER.finditer(text)]
        found = next((number for number in reversed(numbers) if any(c.isdigit() for c in number)), None)
    return found


def _one_turn(text: str) -> str:
    """Up to the first mark of a turn's end that stands behind some text."""
    done = 0
    for match in TURN.finditer(text):
        if text[done : match.start()].strip() not in ("", "assistant"):
            return text[: match.start()]
        done = match.end()
    return text


def _cut(text: str, last_number: bool) -> str:
    """Up to the first invented question that stands behind an answer."""
    done = 0
    for match in NEXT_QUESTION.finditer(text):
        # Each stretch is searched once; an answer that straddles a question is none.
        if _find(text[done : match.start()], last_number) is not None:
            return text[: match.start()]
        done = match.start()
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
            groups[-1] = (stop, known if answer in known else [*known, answer])
        elif answer:
            groups.append((stop, [answer]))
        else:
            continue
        end = stop
    return [(stop, ", ".join(answers)) for stop, answers in groups]


def _hashes(text: str) -> list[tuple[int, str]]:
    found = []
    for match in HASHES.finditer(text):
        answer = _trim(match.group(1))
        if answer and "\\boxed" not in answer and not HEADING.match(match.group(1)):
            found.append((match.end(), answer))
    return found


def _tagged(text: str) -> list[tuple[int, str]]:
    found = []
    for match in TAGGED.finditer(text):
        inner = match.group(1)
        answer = explicit(inner) or stated(inner) or _trim(inner)
        if answer and len(answer) <= 300:
            found.append((match.end(), answer))
    return found


def _sentence(text: str) -> str:
    """The answer at the start of a text: up to the end of its line, sentence or clause, formulas left whole."""
    text = text.lstrip(" \t\n*_`\"'")
    while match := _HEDGE.match(text):
        text = text[match.end() :]
    for begin, end in (("\\[", "\\]"), ("$$", "$$"), ("\\(", "\\)")):  # may go over lines
        if text.startswith(begin) and end in text[2:]:
            stop = text.index(end, 2) + 2
            line = text[:stop].replace("\n", " ") + text[stop:].partition("\n")[0]
            break
    else:
        line = text.partition("\n")[0]
    answer = _trim(_clause(line))
    if answer.lower().startswith(("not ", "wrong", "incorrect", "correct", "unique", "to ", "in ")):
        return ""
    return answer if any(c.isalnum() for c in answer) and not answer.endswith(":") else ""


def _clause(line: str) -> str:
    """Up to the first end of a sentence or clause outside formulas."""
    spans = [
        m.span()
        for m in re.finditer(
            r"\$\$.*?\$\$|(?<!\\)\$(?!\d[\d,.]*(?:\s|$))(?:[^$\\]|\\.)*\$|\\\(.*?\\\)|\\\[.*?\\\]", line
        )
    ]
    for match in _CLAUSE.finditer(line):
        begin = match.start()
        if begin and not any(start < begin < end for start, end in spans):
            return line[:begin]
    return line


def _trim(text: str) -> str:
    """Drops markdown marks and the closing full stop of a sentence."""
    return text.strip().strip('*_`" ').removesuffix(".").strip().strip('*_`" ')


# --- reading an answer: text without dress, exact numbers, units, lists -----------------------------------------

_PLAIN = str.maketrans(
    {"−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "÷": "/", "π": r"\pi ", "∞": r"\infty ", "°": r"^\circ ",
     "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "²": "^2", "³": "^3", "∪": r"\cup ", "∈": r"\in ", "±": r"\pm ",
     "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "{": "{", "\u00a0": " ", "，": ","}
)  # fmt: skip


def _recurring(match: re.Match[str]) -> str:
    """A recurring decimal as the fraction that it is."""
    whole, plain, again = match.groups()
    value = int(whole + plain + again) - int(whole + plain or 0)
    return f"\\frac{{{value}}}{{{'9' * len(again)}{'0' * len(plain)}}}"


_DRESS: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (re.compile(r"\\(?:left|right|bigl?|bigr?|Bigl?|Bigr?|biggl?|biggr?|displaystyle|limits)(?![a-zA-Z])\.?"), ""),
    (re.compile(r"(?<=\d)(?:\{,\}|,\\!|\\[,!]|,(?=\\))\s?(?=\d{3}(?!\d))"), ""),
    (re.compile(r"(?<!\\)\\(?:[!,;:> ]|q?quad(?![a-zA-Z]))|~"), " "),
    (re.compile(r"\\(?:text(?:bf|it|rm)?|math(?:rm|bf|it)|[mh]box|operatorname|rm)\s?\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"(?<=\d)\s?\^?\s?\{?\s{0,2}(?:st|nd|rd|th)\b\s{0,2}\}?"), ""),  # the 12th is number 12
    (re.compile(r"\\(?:dfrac|tfrac|cfrac)(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\frac\s*(\d)\s*(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\frac\s*(\d)\s*(?=\{)"), r"\\frac{\1}"),
    (re.compile(r"(\\frac\s*\{[^{}]*\})\s*(\d)"), r"\1{\2}"),
    (re.compile(r"\\sqrt\s*(\d|[a-z])"), r"\\sqrt{\1}"),
    (re.compile(r"\\(?:geq|geqslant)(?![a-zA-Z])|>="), r"\\ge "),
    (re.compile(r"\\(?:leq|leqslant)(?![a-zA-Z])|<="), r"\\le "),
    (re.compile(r"\\neq(?![a-zA-Z])|!="), r"\\ne "),
    (re.compile(r"\\\$|\$|€|£|\\(?:degree)(?![a-zA-Z])"), ""),
    (re.compile(r"\^\s*(?:\\circ(?![a-zA-Z])|\{\s*\\circ\s*\})"), " degrees "),
    (re.compile(r"([_^])\s*\{\s*(\w)\s*\}"), r"\1\2"),
    (re.compile(r"(?<![\d.])(\d{0,20})\.(\d{0,20})\\overline\s?\{\s?(\d{1,20})\s?\}"), _recurring),
    (re.compile(r"(?:(?<=[\[(,])|^)\s?\+\s?(?=\\infty)"), ""),
    (re.compile(r"\\varnothing(?![a-zA-Z])"), r"\\emptyset"),
    (re.compile(r"\\(?:vec|hat)\s?\{?\s?([a-zA-Z])(?![a-zA-Z])\s?\}?"), r"\1"),
    (re.compile(r"\s+"), " "),
]  # fmt: skip
_WRAPS = (("\\(", "\\)"), ("\\[", "\\]"))


def tidy(answer: str) -> str:
    """An answer without dress: maths marks, font and size commands, currency, end marks; words keep their spaces."""
    text = answer.translate(_PLAIN).strip()
    for _ in range(3):
        text = text.strip("$ \n").rstrip(".,;: \n")
        for begin, end in _WRAPS:
            if text.startswith(begin) and text.endswith(end):
                text = text[2:-2]
    for pattern, plain in _DRESS:
        text = pattern.sub(plain, text)
    return text.strip().rstrip(".,;: \\")


def normalise(answer: str) -> str:
    """As :func:`tidy`, without any white space."""
    return re.sub(r"\s+", "", tidy(answer))


@dataclass(frozen=True)
class Quantity:
    """An exact number, how many decimals it was written with (-1: a whole number or fraction), and its unit."""

    value: Fraction
    places: int = -1
    unit: str = ""


_UNSIGNED = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,60})(?:\.\d{0,60})?|\.\d{1,60}"
_QUANTITY = re.compile(
    rf"(?P<sign>[-+]?)\s?(?:(?P<whole>\d{{1,20}})\s?)?\\frac\s?\{{\s?(?P<top>[-+]?\d{{1,40}})\s?\}}\s?"
    r"\{\s?(?P<bottom>\d{1,40})\s?\}"
    r"|(?P<sign2>[-+]?)\s?(?P<whole2>\d{1,20})\s(?P<top2>\d{1,9})/(?P<bottom2>\d{1,9})"
    rf"|(?P<sign3>[-+]?)\s?(?P<decimal>{_UNSIGNED})(?:\s?/\s?(?P<over>\d{{1,40}})(?![\d.]))?"
    r"(?:(?:\s?(?:\\times|\\cdot|\*|x)\s?10\s?\^\s?\{?|[eE](?=[-+\d]))\s?(?P<power>[-+]?\d{1,3})\}?)?"
)
_UNIT = re.compile(r"\s*(?:\\?%|[A-Za-zµ][A-Za-zµ./ ^\-\d{}]*)")
_NO_UNIT = re.compile(r"(?:^| )(?:and|or|pi|sqrt|sin|cos|tan|log|ln|mod|i|e)(?: |$)")


def quantity(text: str) -> Quantity | None:
    """A tidied answer as a number with or without a unit; None where it is something else."""
    text = text[1:-1] if text[:1] == "(" and text[-1:] == ")" and "," not in text else text
    match = _QUANTITY.match(text)
    if match is None:
        return None
    value, places = _value(match)
    rest = text[match.end() :]
    if value is None:
        return None
    if not rest.strip():
        return Quantity(value, places)
    unit = rest.strip().lstrip("\\").strip()
    if len(unit) > 60 or not _UNIT.fullmatch(rest) or _NO_UNIT.search(unit):
        return None
    letters = len(re.sub(r"[^A-Za-z]", "", unit))
    known = unit_of(unit) is not None and (rest[0] in " \\%" or letters > 1)  # "2 m" is one, "2m" may be a product
    if not known and (letters < 3 or rest[0] != " "):
        return None
    return Quantity(value, places, unit)


def as_number(text: str) -> Fraction | None:
    """A normalised answer as an exact number: integer, decimal, fraction, mixed or scientific; else None."""
    found = quantity(text)
    return found.value if found and not found.unit else None


def _value(match: re.Match[str]) -> tuple[Fraction | None, int]:
    part = match.groupdict()
    for sign, whole, top, bottom in (("sign", "whole", "top", "bottom"), ("sign2", "whole2", "top2", "bottom2")):
        if part[bottom]:
            if not int(part[bottom]):
                return None, -1
            value = int(part[whole] or 0) + Fraction(int(part[top]), int(part[bottom]))
            return (-value if part[sign] == "-" else value), -1
    digits = part["decimal"].replace(",", "")
    value = Fraction(digits if not digits.endswith(".") else digits[:-1])
    if part["over"]:
        if not int(part["over"]):
            return None, -1
        value /= int(part["over"])
    if part["power"]:
        value *= Fraction(10) ** int(part["power"])
    places = len(digits.partition(".")[2]) if "." in digits and not part["over"] else -1
    return (-value if part["sign3"] == "-" else value), places


_UNITS: dict[str, tuple[str, Fraction]] = {
    name: (dimension, Fraction(factor))
    for dimension, rows in {
        "length": "mm millimeter|1/1000;cm centimeter centimetre|1/100;dm decimeter|1/10;m meter metre|1;"
        "km kilometer kilometre|1000;in inch inche|127/5000;ft foot feet|381/1250;yd yard|1143/1250;mi mile|201168/125",
        "mass": "mg milligram|1/1000;g gram|1;kg kilogram kilo|1000;oz ounce|45359237/1600000;lb pound|45359237/100000",
        "time": "s sec second|1;min minute|60;h hr hour|3600;day|86400;week|604800",
        "years": "month|1;year yr|12",
        "volume": "ml milliliter millilitre|1/1000;l liter litre|1",
        "pints": "pint|1;quart|2;gal gallon|8",
        "money": "cent|1/100;dollar|1",
        "angle": "degree|1",
        "radian": "rad radian|1",
        "%": "% percent pct|1",
    }.items()
    for row in rows.split(";")
    for names, factor in [row.split("|")]
    for name in names.split()
}


def unit_of(text: str) -> tuple[str, Fraction] | None:
    """Dimension and size of a unit such as ``km/h``, ``square feet`` or ``cm^2``; None for words that are none."""
    text = re.sub(r"\bper\b", "/", text.lower().replace("{", "").replace("}", "").strip(" .\\"))
    text = {"mph": "mile/hour", "kph": "km/hour"}.get(text, text)
    dimension, size = [], Fraction(1)
    for index, part in enumerate(text.split("/")):
        power = (
            2 if re.search(r"\b(?:square|sq)\b\.?|\^ ?2|²", part) else 3 if re.search(r"\bcubic\b|\^ ?3", part) else 1
        )
        name = re.sub(r"\b(?:square|sq|cubic)\b\.?|\^ ?\d|[ .]", "", part)
        known = _UNITS.get(name) or _UNITS.get(name.removesuffix("s")) or _UNITS.get(name.removesuffix("es"))
        if known is None:
            return None
        size *= known[1] ** (-power if index else power)
        dimension.append(f"{known[0]}{power}")
    return "/".join(dimension), size


_OPEN, _CLOSE = "([{", ")]}"
_BREAK = re.compile(r"\\[{}]|[()\[\]{}]|[,;]|\\(?:text|mbox)?\s?\{?\s*(?:and|or)\s*\}?|\b(?:and|or)\b|\\.")


def split_list(text: str) -> list[str]:
    """The members of a tidied list, at commas, semicolons, "and" and "or" outside all brackets."""
    parts, depth, begin = [], 0, 0
    for match in _BREAK.finditer(text):
        mark = match.group()
        if mark[-1] in _OPEN and len(mark) <= 2:
            depth += 1
        elif mark[-1] in _CLOSE and len(mark) <= 2:
            depth -= 1
        elif depth == 0 and (mark in ",;" or "and" in mark or "or" in mark):
            parts.append(text[begin : match.start()].strip())
            begin = match.end()
    parts.append(text[begin:].strip())
    return [part for part in parts if part]


def enclosed(text: str) -> tuple[str, list[str], str] | None:
    r"""A tidied tuple, interval, set or bare list: its brackets ("" for none; ``{`` for a set) and members."""
    text = re.sub(r"\\(?=[{}])", "", text).strip()
    if len(text) > 1 and text[0] in _OPEN and text[-1] in ")]}":
        depth = 0
        for index, char in enumerate(text):
            depth += (char in _OPEN) - (char in _CLOSE)
            if depth == 0 and index < len(text) - 1:
                break
        else:
            members = split_list(text[1:-1])
            return (text[0], members, text[-1]) if len(members) > 1 or text[0] == "{" else None
    members = split_list(text)
    return ("", members, "") if len(members) > 1 else None
