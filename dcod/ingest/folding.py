r"""One text for all spellings of a problem: what a reader takes for the same comes out as the same characters.

Case, white space, invisible characters, letters of other scripts that look like Latin ones, full-width and other
digits, and mathematics as LaTeX, Unicode or plain text: ``$\dfrac{1}{2} \le x$``, ``\(\frac12\leq x\)`` and ``½ ≤ x``
all become ``1/2<=x``. What changes a problem stays: numbers, signs, operators, brackets, points. In time linear in the
text.
"""

from __future__ import annotations

import html
import re
import unicodedata

# Letters that look like Latin ones, once case is folded; by what they look like as small letters or, where that differs
# from the capital's look, by the capital (a Cyrillic en looks like H).
_LOOKS = {
    **dict(zip("авекмнорстухіјѕԁһԛԝґьӏүӕ", "abekmhopctyxijsdhqwrblyæ", strict=True)),  # Cyrillic
    **dict(zip("օսհոցզլյ", "ouhngqlj", strict=True)),  # Armenian
    **dict(zip("ᎪᏴᏟᎠᎬᏀᎻᎫᏦᏞᎷᏢᎡᏚᎢᏙᎳᏃ", "abcdeghjklmprstvwz", strict=True)),  # Cherokee
    **dict(zip("ıȷɑɡɩʟꞮƖ", "ijagilil", strict=True)),
}
_GREEK = dict(zip("αεγηικνορτυχω", "aeynikvoptuxw", strict=True))  # look so inside a word; else they are symbols
_WORD = re.compile(rf"[A-Za-z{''.join(_GREEK)}]{{4,}}")
_FUNCTIONS = frozenset(
    re.findall(
        r"\w+", "sin cos tan cot sec csc log exp lim max min arg det gcd lcm sinh cosh tanh arcsin arccos arctan"
    )
)
_CAPITALS = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹϺϳ", "abezhikmnoptyxcmj", strict=True))  # Greek: no LaTeX command has them
_SIGNS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "‒": "-", "―": "-", "﹣": "-",
    "×": "*", "⋅": "*", "·": "*", "∙": "*", "•": "*", "∗": "*", "✕": "*", "✖": "*", "⨯": "*", "∘": r"\circ ",
    "÷": "/", "∕": "/", "⁄": "/", "∶": ":",
    "≤": "<=", "≦": "<=", "⩽": "<=", "≥": ">=", "≧": ">=", "⩾": ">=", "≠": "!=", "≈": r"\approx ", "≡": r"\equiv ",
    "≅": r"\cong ", "∼": r"\sim ", "∝": r"\propto ", "±": r"\pm ", "∓": r"\mp ", "√": r"\sqrt ", "∛": r"\sqrt[3] ",
    "∞": r"\infty ", "°": r"^\circ ", "º": r"^\circ ", "˚": r"^\circ ", "∠": r"\angle ", "△": r"\triangle ",
    "⊥": r"\perp ", "∥": r"\parallel ", "∣": "|", "∈": r"\in ", "∉": r"\notin ", "∋": r"\ni ", "⊂": r"\subset ",
    "⊆": r"\subseteq ", "∪": r"\cup ", "∩": r"\cap ", "∅": r"\emptyset ", "∀": r"\forall ", "∃": r"\exists ",
    "¬": r"\neg ", "∧": r"\wedge ", "∨": r"\vee ", "→": r"\to ", "⟶": r"\to ", "←": r"\leftarrow ", "⇒": r"\implies ",
    "⇔": r"\iff ", "↔": r"\leftrightarrow ", "↦": r"\mapsto ", "∑": r"\sum ", "∏": r"\prod ", "∫": r"\int ",
    "∂": r"\partial ", "∇": r"\nabla ", "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ",
    "⟨": r"\langle ", "⟩": r"\rangle ", "〈": r"\langle ", "〉": r"\rangle ", "…": "...", "⋯": "...", "⋮": "...",
    "‘": "'", "’": "'", "‛": "'", "′": "'", "ʹ": "'", "`": "'", "´": "'", "“": "''", "”": "''", "„": "''", "«": "''",
    "»": "''", '"': "''", "″": "''", "‴": "'''", "。": ".", "、": ",", "⊙": r"\odot ", "⊕": r"\oplus ",
}  # fmt: skip
_NAMES = {
    "le": "<=", "leq": "<=", "leqslant": "<=", "leqq": "<=", "ge": ">=", "geq": ">=", "geqslant": ">=", "geqq": ">=",
    "lt": "<", "gt": ">", "ne": "!=", "neq": "!=", "cdot": "*", "times": "*", "ast": "*", "bullet": "*", "div": "/",
    "dots": "...", "ldots": "...", "cdots": "...", "dotsc": "...", "dotsb": "...", "vdots": "...", "prime": "'",
    "mid": "|", "vert": "|", "lvert": "|", "rvert": "|", "colon": ":", "rightarrow": "to", "longrightarrow": "to",
    "longmapsto": "mapsto", "Rightarrow": "implies", "Longrightarrow": "implies", "Leftrightarrow": "iff",
    "Longleftrightarrow": "iff", "gets": "leftarrow", "varnothing": "emptyset", "land": "wedge", "lor": "vee",
    "lnot": "neg", "degree": "^circ", "ell": "l", "imath": "i", "jmath": "j", "bmod": "mod", "pmod": "mod",
    "varphi": "phi", "varepsilon": "epsilon", "vartheta": "theta", "varrho": "rho", "varsigma": "sigma",
    "varpi": "pi", "bigtriangleup": "triangle", "owns": "ni", "lbrace": "", "rbrace": "", "lbrack": "[",
    "rbrack": "]", "Vert": "||", "backslash": "", "textdegree": "^circ", "iint": "intint", "sqrt": "sqrt",
}  # fmt: skip
_SILENT = frozenset(
    re.findall(
        r"\w+",
        "left right middle big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr bigm displaystyle "
        "textstyle scriptstyle limits nolimits quad qquad enspace enskip thinspace medspace thickspace "
        "negthinspace hspace vspace text textrm textbf textit textsf texttt textnormal mbox hbox mathrm mathbf "
        "mathit mathsf mathtt mathnormal mathbb mathcal mathscr mathfrak boldsymbol bm operatorname rm bf it em "
        "emph underline phantom hphantom vphantom mathstrut strut nonumber notag noindent centering hfill "
        "smallskip medskip bigskip newline par item mathop mathrel mathbin ensuremath allowbreak nobreak relax "
        "protect boldmath unboldmath ",
    )
)  # fmt: skip
_FRACTIONS = frozenset({"frac", "dfrac", "tfrac", "cfrac", "nicefrac", "sfrac"})
_TAKES = {"left", "right", "middle", "big", "Big", "bigg", "Bigg"}  # a point behind them is no bracket
_MARKUP = re.compile(r"<(/?)(sup|sub|br|b|i|p|em|strong|span|div|math|u)\b[^<>]{0,200}>", re.IGNORECASE)
_BOLD = re.compile(r"(?<![\w*)\]}])(\*{1,2}|_{1,2})(?=[^\s*_])([^*_\n]{1,500})(?<=[^\s*_])\1(?![\w*(\[{])")
_TOKEN = re.compile(r"\\([a-zA-Z]+)\*?|\\(.)|([{}])|([^\\{}]+)|\\", re.DOTALL)
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\s{0,9}\{[a-zA-Z]{1,20}\*?\}(?:\{[lcr|@ ]{0,20}\}|\[[a-z]\])?")
_SPACES = re.compile(r"\s+")
_DELIMITERS = re.compile(r"\\[()\[\]]")
_HUNDREDS = re.compile(r"(?<=\d)(?:,|\{,\}|\\,|\\!|,\\!|\\ )(?=\d{3}(?!\d))")
_SIMPLE = re.compile(r"[\w.']*", re.ASCII)
_DEEPEST = 30
_NOTHING = dict.fromkeys(map(ord, "_&"))
_ENDS = ".,;:!?'*#>"  # say nothing at the ends of a problem


def fold(text: str) -> str:
    """A text as it is compared with others; empty for one of blanks and marks alone."""
    return _mathematics(_characters(text))


def _characters(text: str) -> str:
    """One character for all that look or read alike; formulas as LaTeX has them."""
    if "&" in text:
        text = html.unescape(text)
    if "<" in text:
        text = _MARKUP.sub(lambda m: {"sup": "^{", "sub": "_{"}.get(m[2].lower(), "") if not m[1] else
                           ("}" if m[2].lower() in ("sup", "sub") else " "), text)  # fmt: skip
    if text.isascii():
        return text.translate(_ASCII)
    return "".join(_folded(_WORD.sub(_word, text))).translate(_ASCII)


def _word(match: re.Match[str]) -> str:
    """A word in Latin letters; as it is where it is a formula, such as ``sinα``."""
    word = match.group()
    latin = re.findall("[A-Za-z]+", word)
    many = sum(map(len, latin))
    if many < 3 or 2 * many < len(word) or _FUNCTIONS.intersection(part.lower() for part in latin):
        return word
    return word.translate(_WORDS)


_WORDS = str.maketrans(_GREEK)
_ASCII = {ord("`"): "'", ord('"'): "''", ord("~"): " ", **{n: " " for n in range(32) if chr(n).isspace()}}


def _folded(text: str) -> list[str]:
    out: list[str] = []
    raised = ""  # which of ^ and _ a run of small digits stands in
    for character in text:
        if character.isascii():
            if raised:
                out.append("}")
                raised = ""
            out.append(character)
            continue
        kind, plain = _character(character)
        if kind != raised:
            if raised:
                out.append("}")
            if kind:
                out.append(f"{kind}{{")
            raised = kind
        out.append(plain)
    if raised:
        out.append("}")
    return out


_known: dict[str, tuple[str, str]] = {}


def _character(character: str) -> tuple[str, str]:
    """Whether a character is raised or lowered, and what it reads as."""
    folded = _known.get(character)
    if folded is None:
        folded = _known[character] = _read(character)
    return folded


def _read(character: str) -> tuple[str, str]:
    if character in _SIGNS:
        return "", _SIGNS[character]
    category = unicodedata.category(character)
    if category in ("Cf", "Cc", "Mn", "Me", "Co", "Cn", "Cs") and character != "\u0338":
        return "", " " if character.isspace() else ""
    if character == "\u0338":
        return "", r"\not "
    how = unicodedata.decomposition(character)
    kind = "^" if how.startswith("<super>") else "_" if how.startswith("<sub>") else ""
    apart = unicodedata.normalize("NFKD", character)
    if apart != character:
        inner = "".join(_character(one)[1] for one in apart)
        return kind, f" {inner}" if how.startswith("<fraction>") else inner
    if category == "Nd":
        return "", str(unicodedata.digit(character))
    if category.startswith("Z"):
        return "", " "
    if character in _CAPITALS:
        return "", _CAPITALS[character]
    small = character.casefold()
    if small in _LOOKS or character in _LOOKS:
        return "", _LOOKS.get(small) or _LOOKS[character]
    name = unicodedata.name(character, "")
    greek = re.fullmatch(r"GREEK (?:SMALL|CAPITAL) LETTER (?:FINAL )?(\w+)|GREEK (\w+) SYMBOL", name)
    if greek:
        letter = (greek[1] or greek[2]).lower()
        letter = {"lamda": "lambda", "omicron": "o"}.get(letter, letter)
        return "", letter if letter == "o" else f"\\{letter} "
    latin = re.fullmatch(r"LATIN (?:LETTER SMALL CAPITAL|SMALL LETTER|CAPITAL LETTER) ([A-Z])(?: WITH .*)?", name)
    return kind, latin[1].lower() if latin else small


def _mathematics(text: str) -> str:
    """Without the marks of LaTeX and Markdown, and with one way to write each operator."""
    text = _HUNDREDS.sub("", text)
    if "*" in text or "_" in text:
        text = _BOLD.sub(r"\2", text)
    if "\\" in text:
        text = _ENVIRONMENT.sub(" ", text)
        text = _DELIMITERS.sub(" ", text)
    text = _commands(text.replace("$", "")) if "\\" in text or "{" in text else text.replace("$", "")
    text = text.casefold().replace("**", "^").replace("---", "-")
    return _SPACES.sub("", text.translate(_NOTHING)).strip(_ENDS)


def _commands(text: str) -> str:
    """Groups become brackets where they must: behind a fraction, a root, a power; elsewhere they vanish."""
    frames, deeper = [_Frame()], 0  # groups below the deepest level that is followed say nothing
    for match in _TOKEN.finditer(text):
        name, sign, brace, plain = match.groups()
        if brace == "{":
            if len(frames) < _DEEPEST:
                frames.append(_Frame())
            else:
                deeper += 1
        elif brace == "}":
            if deeper:
                deeper -= 1
            elif len(frames) > 1:
                inner = frames.pop().close()
                frames[-1].group(inner)
        elif name is not None:
            _command(frames[-1], name)
        elif plain is not None:
            frames[-1].text(plain)
        elif sign is not None and sign not in ",;:!> \\/-{}\n\t":
            frames[-1].text(sign)
    while len(frames) > 1:
        inner = frames.pop().close()
        frames[-1].group(inner)
    return frames[0].close()


def _command(frame: _Frame, name: str) -> None:
    if name in _FRACTIONS:
        frame.expect = 2
    elif name in _SILENT:
        frame.drops_point = name in _TAKES
    else:
        frame.word(_NAMES.get(name, name))


class _Frame:
    """What stands inside one pair of braces, and what is still to come to a fraction in it."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.expect = 0  # arguments of a fraction that are still to come
        self.drops_point = False

    def word(self, word: str) -> None:
        """A command's name: one argument of a fraction."""
        self._add(word)

    def group(self, inner: str) -> None:
        """What stood in braces."""
        bare = inner.strip()
        binds = self.expect or (self.parts and self.parts[-1].rstrip().endswith(("^", "_", "sqrt")))
        if binds and not _SIMPLE.fullmatch(bare.replace(" ", "")):
            whole = bare.startswith("(") and bare.endswith(")") and _one_pair(bare)
            inner = bare if whole else f"({bare})"
        self._add(inner)

    def text(self, plain: str) -> None:
        """Characters between commands; an argument of a fraction is a single one."""
        if self.drops_point:
            self.drops_point = False
            if plain.startswith("."):
                plain = plain[1:]
        while self.expect and plain.strip():
            plain = plain.lstrip()
            self._add(plain[0])
            plain = plain[1:]
        if plain:
            self.parts.append(plain)

    def close(self) -> str:
        """All of it."""
        return "".join(self.parts)

    def _add(self, part: str) -> None:
        self.parts.append(part)
        if self.expect:
            self.expect -= 1
            if self.expect:
                self.parts.append("/")


def _one_pair(text: str) -> bool:
    """Whether the first bracket closes with the last."""
    level = 0
    for place, character in enumerate(text):
        level += (character == "(") - (character == ")")
        if not level:
            return place == len(text) - 1
    return False
