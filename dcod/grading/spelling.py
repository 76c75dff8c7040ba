r"""How an answer may be spelled: the one table of normalisations, exact numbers, and the members of a list.

:func:`tidy` takes the dress off an answer (maths marks, fonts, Unicode signs, currency) and leaves LaTeX that means the
same; :func:`latex` goes on to what math-verify's parser reads without rounding: decimals become fractions. Numbers with
their units are in :mod:`dcod.grading.quantities`. Everything here takes time linear in its text; none longer than
:data:`LONGEST` is looked at.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

LONGEST = 4000  # characters of an answer that is still read
ROMAN = "\ue000"  # stands before what was set upright, such as the J of 5 \mathrm{J}: a unit, no variable
_LETTERS = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi . pi rho . sigma tau upsilon phi chi psi"
)
_PARTS = "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒"


def _part(char: str) -> Fraction:
    return Fraction(unicodedata.numeric(char)).limit_denominator(10)


_CAPITALS = "Gamma Delta Theta Lambda Pi Sigma Phi Psi Omega omega"
_SIGNS: dict[str, str] = {
    **{c: f"\\{n} " for n, c in zip(_LETTERS.split(), "αβγδεζηθικλμνξοπρςστυφχψ", strict=True) if n != "."},
    **{c: f"\\{n} " for n, c in zip(_CAPITALS.split(), "ΓΔΘΛΠΣΦΨΩω", strict=True)},
    **{c: f"\\frac{{{half.numerator}}}{{{half.denominator}}}"
       for c, half in zip(_PARTS, map(_part, _PARTS), strict=True)},
    **dict.fromkeys("−–—‐‑‒―﹣－", "-"), **dict.fromkeys("⋅·∙•", r"\cdot "), **dict.fromkeys("⁄∕÷", "/"),
    **dict.fromkeys("\u00a0\u2009\u202f\u2007\u2008\u2002\u2003\u3000", r"\,"),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f\ufe0e\ufe0f", ""),
    "×": r"\times ", "✕": r"\times ", "∞": r"\infty ", "°": r"^\circ ", "º": r"^\circ ", "≤": r"\le ", "⩽": r"\le ",
    "≥": r"\ge ", "⩾": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "±": r"\pm ",
    "√": r"\sqrt ", "∛": r"\sqrt[3]", "∅": r"\emptyset ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℚ": r"\mathbb{Q}",
    "ℕ": r"\mathbb{N}", "ℂ": r"\mathbb{C}", "⟨": r"\langle ", "⟩": r"\rangle ",
    "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "∖": r"\setminus ",
    "′": "'", "’": "'", "⊙": r"\odot ", "☉": r"\odot ",
    "∠": r"\angle ", "µ": r"\mu ", "ϕ": r"\phi ", "ϵ": r"\epsilon ", "€": "", "£": "", "≈": r"\approx ",
    "∧": r"\wedge ", "→": r"\to ",
}  # fmt: skip
_RAISED, _LOWERED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣ", "₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙᵢₓ"
_DIGITS = zip(_RAISED + _LOWERED, "0123456789+-()nix" * 2, strict=True)
_PLAIN = {ord(sign): plain for sign, plain in [*_SIGNS.items(), *_DIGITS]}


def _recurring(match: re.Match[str]) -> str:
    """A recurring decimal as the fraction that it is."""
    whole, plain, again = match.groups()
    value = int(whole + plain + again) - int(whole + plain or 0)
    return f"\\frac{{{value}}}{{{'9' * len(again)}{'0' * len(plain)}}}"


def _upright(match: re.Match[str]) -> str:
    """What was set upright, in place; a short word is marked as such."""
    text = match.group(1)
    return f" {ROMAN if text.strip().isalpha() and len(text.strip()) < 3 else ''}{text.lstrip()} "


_Rule = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]
_DRESS: list[_Rule] = [
    (re.compile(r"\\(?:left|right|bigl?|bigr?|Bigl?|Bigr?|biggl?|biggr?|displaystyle|limits)(?![a-zA-Z])\.?"), ""),
    (re.compile(r"(?<=\d)(?:\{,\}|,\\!|\\[,!]|,(?=\\))\s?(?=\d{3}(?!\d))"), ""),
    (re.compile(r"(?<!\\)\\(?:[!,;:> ]|q?quad(?![a-zA-Z]))|~"), " "),
    (re.compile(r"\\(?:text(?:bf|it|rm)?|math(?:rm|bf|it)|[mh]box|operatorname|rm)\s?\{([^{}]*)\}"), _upright),
    (re.compile(r"(?<=\d)\s?\^?\s?\{?\s?\s?\ue000?(?:st|nd|rd|th)\b\s?\s?\}?"), ""),  # the 12th is number 12
    (re.compile(r'\\?"'), ""),
    (re.compile(r"(?<![\d.])(\d{1,20}) and (?:a|one)[- ]half(?![a-z])"), r"\1.5"),
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\frac\s?(\d)\s?(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\frac\s?(\d)\s?(?=\{)"), r"\\frac{\1}"),
    (re.compile(r"(\\frac\s?\{[^{}\\]*\})\s?(\d)"), r"\1{\2}"),
    (re.compile(r"\\frac\s?(\\[a-zA-Z]+|\w)\s?(\\[a-zA-Z]+|\w)"), r"\\frac{\1}{\2}"),
    (re.compile(r"(?<![\\a-zA-Z])sqrt(?![a-zA-Z])"), r"\\sqrt"),
    (re.compile(r"\\sqrt\s?(\d|[a-z])"), r"\\sqrt{\1}"),
    (re.compile(r"\\exp\s?\{"), r"e^{"),
    (re.compile(r"\\geq(?:slant)?(?![a-zA-Z])|>=|=>"), r"\\ge "),
    (re.compile(r"\\leq(?:slant)?(?![a-zA-Z])|<="), r"\\le "),
    (re.compile(r"\\neq(?![a-zA-Z])|!="), r"\\ne "),
    (re.compile(r"\\[lr]angle(?![a-zA-Z])"), lambda m: "(" if m.group()[1] == "l" else ")"),
    (re.compile(r"\\\$|\$|\\degree(?![a-zA-Z])"), ""),
    (re.compile(r"\^\s?(?:\\circ(?![a-zA-Z])|\{\s?\\circ\s?\})"), " degrees "),
    (re.compile(r"_\s?\{\s?[\ue000\\]?([A-Za-z]+|\d+)\s?\}"), r"_{\1}"),
    (re.compile(r"([_^])\s?\{\s?(\w)\s?\}"), r"\1\2"),
    (re.compile(r"(?<![\d.])(\d{0,20})\.(\d{0,20})\\(?:overline|bar|dot)\s?\{\s?(\d{1,20})\s?\}"), _recurring),
    (re.compile(r"(?:(?<=[\[(,])|^)\s?\+\s?(?=\\infty)"), ""),
    (re.compile(r"\\varnothing(?![a-zA-Z])"), r"\\emptyset"),
    (re.compile(r"\\(?:vec|hat)\s?\{?\s?([a-zA-Z])(?![a-zA-Z])\s?\}?"), r"\1"),
    (re.compile(r"\\(?:approx|sim|simeq)(?![a-zA-Z])"), "="),
    (re.compile(r"\s+"), " "),
    (re.compile(r"(?<![\d.,])(?<!\d )\d{1,3}(?: \d{3}){1,9}(?! ?[\d.,])"), lambda m: m.group().replace(" ", "")),
]  # fmt: skip
_WRAPS = (("\\(", "\\)"), ("\\[", "\\]"))


def tidy(answer: str) -> str:
    """An answer without dress: maths marks, font and size commands, currency, end marks; words keep their spaces."""
    return marked(answer).replace(ROMAN, "")


def marked(answer: str) -> str:
    """As :func:`tidy`, with :data:`ROMAN` before short words that were set upright."""
    return answer if len(answer) > LONGEST else _marked(answer)


@lru_cache(4096)  # several traces of a problem have one reference, and most of them its answer
def _marked(answer: str) -> str:
    text = re.sub(r"(?<=[\d ])([a-z]{1,2})(?=[²³])", ROMAN + r"\1", answer.replace(ROMAN, ""))  # 5 m², a unit
    text = re.sub(f"[{_RAISED}]+", r"^{\g<0>}", text)
    text = re.sub(f"[{_LOWERED}]+", r"_{\g<0>}", text)
    text = unicodedata.normalize("NFKC", text.translate(_PLAIN)).translate(_PLAIN).strip()
    for _ in range(3):
        text = text.strip("$ \n").rstrip(".,;: \n")
        for begin, end in _WRAPS:
            if text.startswith(begin) and text.endswith(end):
                text = text[2:-2]
    for pattern, plain in _DRESS:
        text = pattern.sub(plain, text)
    text = _roots(text)
    return text.strip().rstrip(".,;: \\")


def normalise(answer: str) -> str:
    """As :func:`tidy`, without any white space."""
    return "".join(tidy(answer).split())


def _roots(text: str) -> str:
    r"""``\sqrt(…)`` and ``\sqrt 12`` with braces."""
    text = re.sub(r"\\sqrt\{(\d)\}(\d+)", r"\\sqrt{\1\2}", text)
    if "\\sqrt(" not in text.replace("\\sqrt (", "\\sqrt("):
        return text
    out, depth, opened = [], 0, list[int]()
    for part in re.split(r"(\\sqrt ?\(|[()])", text):
        if part.startswith("\\sqrt"):
            opened.append(depth)
            part = "\\sqrt{"
            depth += 1
        elif part == "(":
            depth += 1
        elif part == ")":
            depth -= 1
            if opened and opened[-1] == depth:
                opened.pop()
                part = "}"
        out.append(part)
    return "".join(out)


_FUNCTIONS = "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh coth ln log exp pi min max gcd lcm det infty"
_DECIMAL = re.compile(r"(?<![\d.A-Za-z_])(\d{0,60})\.(\d{1,60})(?!\.?\d)")
_POWER = re.compile(r"(?<![A-Za-z\\}])(?<=\d)[eE]([-+]?\d{1,4})(?![\d.A-Za-z])")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]+")


def latex(text: str) -> str:
    """A tidied answer as math-verify's parser reads it, exactly: no decimals, functions with their backslash."""
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    text = _POWER.sub(r" \\times 10^{\1}", text)
    text = _DECIMAL.sub(lambda m: f"(\\frac{{{int(m[1] + m[2])}}}{{1{'0' * len(m[2])}}})", text)
    text = _WORD.sub(lambda m: f"\\{m.group()} " if m.group() in _FUNCTIONS.split() else m.group(), text)
    if re.search(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])", text):
        text = re.sub(r"(\d{1,9}) ?degrees", r"(\\frac{\1\\pi}{180})", text)
    return text.replace("degrees", "").replace("\\%", "").replace("%", "").strip(" .,;")


# --- lists -------------------------------------------------------------------------------------------------------

_OPEN, _CLOSE = "([{", ")]}"
_BREAK = re.compile(r"\\[{}]|[()\[\]{}]|[,;]|\\cup(?![a-z])|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|\\.")


def split_list(text: str) -> list[str]:
    """The members of a tidied list, at commas, semicolons, "and" and "or" outside all brackets."""
    parts, depth, begin = [], 0, 0
    for match in _BREAK.finditer(text):
        mark = match.group()
        if mark[-1] in _OPEN and len(mark) <= 2:
            depth += 1
        elif mark[-1] in _CLOSE and len(mark) <= 2:
            depth -= 1
        elif depth == 0 and mark in (",", ";", "and", "or"):
            parts.append(text[begin : match.start()].strip())
            begin = match.end()
    parts.append(text[begin:].strip())
    return [part for part in parts if part]


def enclosed(text: str) -> tuple[str, list[str], str] | None:
    r"""A tidied tuple, interval, set or bare list: its brackets ("" for none; ``{`` for a set) and members."""
    text = re.sub(r"\\(?=[{}])", "", text).strip()
    if len(text) > 1 and text[0] in _OPEN and text[-1] in _CLOSE:
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
