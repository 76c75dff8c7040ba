"""One text for all spellings, and none for two problems: generated disguises of real shapes of problems."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dcod.config import BenchmarkConfig
from dcod.ingest.contamination import Contamination
from dcod.ingest.folding import fold
from dcod.traces import Message

PROBLEMS = [
    r"Find all real $x$ with $\dfrac{x+1}{x-2} \le 3$.",
    r"Let $f(x) = x^2 - 5x + 6$. What is $f(10)$?",
    r"Compute $\sin 60^\circ \cdot \cos 45^\circ$.",
    r"What is the value of $\sqrt{49} \times 10,\!000$ if $x \ne 0$?",
    r"Simplify $\left(\frac{a^{2}}{b}\right)^{3}$ where $a_{1} \geq \pi$.",
    r"How many subsets of $\{1, 2, 3\}$ have $\alpha + \beta \le 12$?",
    r"In $\triangle ABC$, $\angle A = 30^{\circ}$ and $AB = 12$. Find the area of $\triangle ABC$.",
    r"A farmer has twelve hens, each of which lays 3 eggs a day. How many eggs are laid in 5 days?",
    r"Evaluate $2 + 2$.",
    r"Determine $\lim_{n\to\infty} \frac{1}{n+1}$, or say that it does not exist.",
]
LOOKALIKES = dict(zip("aeopcxyiHBMTK", "аеорсхуіНВМТК", strict=True))
UNICODE = {
    r"\le ": "≤ ", r"\geq": "≥", r"\ne ": "≠ ", r"\cdot": "·", r"\times": "×", r"\pi": "π",
    r"\alpha": "α", r"\beta": "β",
    r"\triangle": "△", r"\angle": "∠", r"\infty": "∞", r"\to": "→", r"^\circ": "°", r"^{\circ}": "°",
    r"\sqrt{49}": "√49",
    "^2": "²", "^{2}": "²", "^{3}": "³", "_{1}": "₁", " - ": " − ", r"\{": "{", r"\}": "}",
    r"\dfrac{x+1}{x-2}": "(x+1)/(x-2)",
    r"\frac{1}{n+1}": "1/(n+1)", r"\frac{a^{2}}{b}": "(a²)/b", r"\left(": "(", r"\right)": ")", ",\\!": ",",
}  # fmt: skip
Disguise = Callable[[str, random.Random], str]


def wide(text: str, rng: random.Random) -> str:
    digits = rng.choice(["０１２３４５６７８９", "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗", "٠١٢٣٤٥٦٧٨٩", "𝟘𝟙𝟚𝟛𝟜𝟝𝟞𝟟𝟠𝟡"])
    return text.translate(dict(zip(map(ord, "0123456789"), digits, strict=True)))


def wide_letters(text: str, rng: random.Random) -> str:
    def spelt(match: re.Match[str]) -> str:
        return "".join(chr(ord(c) - 0x21 + 0xFF01) if c.isalpha() else c for c in match.group())

    return re.sub(r"(?<![\\A-Za-z{])[A-Za-z]+", spelt, text)


def invisible(text: str, rng: random.Random) -> str:
    marks = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e"
    return re.sub(r"(?<=[a-z ])(?=[a-z ])(?<!\\)", lambda m: rng.choice(marks) if rng.random() < 0.4 and not
                  re.search(r"\\[a-zA-Z]*$", text[: m.start()]) else "", text)  # fmt: skip


def lookalike(text: str, rng: random.Random) -> str:
    return re.sub(r"\\[a-zA-Z]+|[a-zA-Z]", lambda m: m.group() if m.group()[0] == "\\" else
                  LOOKALIKES.get(m.group(), m.group()) if rng.random() < 0.7 else m.group(), text)  # fmt: skip


def unicode(text: str, rng: random.Random) -> str:
    for command, sign in UNICODE.items():
        text = text.replace(command, sign)
    return text.replace("$", "")


def spaced(text: str, rng: random.Random) -> str:
    spaces = [r"\,", r"\;", r"\:", r"\!", r"\quad ", "~", "\u2009", "\u202f", "\u00a0", "\u3000", "\n", "\r\n\t"]

    def formula(match: re.Match[str]) -> str:
        return re.sub(r"(?<=[=+<>]) | (?=[=+<>])", lambda _: rng.choice(spaces), match.group())

    return re.sub(r"\$[^$]*\$", formula, text)


DISGUISES: dict[str, Disguise] = {
    "parentheses": lambda text, rng: re.sub(r"\$([^$]*)\$", r"\\(\1\\)", text),
    "brackets": lambda text, rng: re.sub(r"\$([^$]*)\$", r"\\[\1\\]", text),
    "doubled": lambda text, rng: text.replace("$", "$$"),
    "bare": lambda text, rng: text.replace("$", ""),
    "fractions": lambda text, rng: re.sub(r"\\d?frac", lambda _: "\\" + rng.choice(["frac", "dfrac", "tfrac"]), text),
    "left right": lambda text, rng: re.sub(r"\\left|\\right", "", text).replace("(10)", "\\left(10\\right)"),
    "big": lambda text, rng: re.sub(r"(?<!\\)\(", r"\\bigl(", re.sub(r"(?<![\\])\)", r"\\bigr)", text)),
    "spaces": spaced,
    "unicode": unicode,
    "digits": wide,
    "letters": wide_letters,
    "invisible": invisible,
    "look-alikes": lookalike,
    "capitals": lambda text, rng: re.sub(r"\\[a-zA-Z]+|[a-z]", lambda m: m.group() if len(m.group()) > 1 else
                                         m.group().upper(), text),
    "bold": lambda text, rng: f"**{text.split()[0]}** {text.split(' ', 1)[1]}",
    "display": lambda text, rng: text.replace("$", "$\\displaystyle ", 1),
    "text": lambda text, rng: re.sub(r"\$([A-Z]{2}) =", r"$\\mathrm{\1} =", text),
    "html": lambda text, rng: text.replace("^2", "<sup>2</sup>").replace("<=", "&lt;="),
    "synonyms": lambda text, rng: text.replace(r"\le ", r"\leqslant ").replace(r"\ne ", r"\neq ").replace("geq", "ge"),
}  # fmt: skip


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Contamination:
    path = tmp_path_factory.mktemp("folding") / "own.jsonl"
    path.write_text("".join(json.dumps({"problem": one, "answer": "1"}) + "\n" for one in PROBLEMS))
    return Contamination([BenchmarkConfig(name="custom", source=str(path))])


def user(*texts: str) -> list[Message]:
    return [{"role": "user", "content": text} for text in texts]


def test_every_disguise_is_seen_through(check: Contamination) -> None:
    """Each alone, and two on top of one another."""
    rng = random.Random(0)
    tried, unseen = 0, []
    for problem in PROBLEMS:
        for name, disguise in DISGUISES.items():
            once = disguise(problem, rng)
            other = rng.choice([one for one in DISGUISES if one not in ("letters", "unicode", "look-alikes", "bold")])
            twice = DISGUISES[other](once, rng)
            for how, text in ((name, once), (f"{name}, {other}", twice)):
                if text == problem:
                    continue
                tried += 1
                hit = check.find(user(text))
                if hit is None or hit.kind != "exact":
                    unseen.append((how, text, fold(text), fold(problem)))
    assert not unseen, unseen[:5]
    assert tried >= 250


@pytest.mark.parametrize("problem", PROBLEMS)
def test_another_problem_is_another(problem: str, check: Contamination) -> None:
    """A digit, a sign, a relation or a function changed; nothing is taken for the problem itself."""
    changes = [
        re.sub(r"\d", lambda m: str((int(m.group()) + 1) % 10), problem, count=1),
        re.sub(r"(\d)(?!.*\d)", r"\g<1>7", problem),
        problem.replace(" + ", " - "), problem.replace(" - ", " + "), problem.replace(r"\le ", r"\ge "),
        problem.replace(r"\cdot", "+"), problem.replace(r"\sin", r"\tan"), problem.replace("x+1", "x-1"),
        problem.replace("12", "1.2"), problem.replace("10", "1.0"), problem.replace("^2", "^3"),
        problem.replace("^2", ""),
    ]  # fmt: skip
    changed = [text for text in changes if text != problem]
    assert changed
    for text in changed:
        assert fold(text) != fold(problem)
        hit = check.find(user(text))
        assert hit is None or hit.kind == "ngram", text


def test_a_problem_split_over_messages(check: Contamination) -> None:
    splits = 0
    for problem in PROBLEMS:
        words = problem.split(" ")
        for at in range(1, len(words)):
            first, second = " ".join(words[:at]), " ".join(words[at:])
            answered: list[Message] = [*user(first), {"role": "assistant", "content": "Go on."}, *user(second)]
            opened: list[Message] = [{"role": "system", "content": first}, *user(second)]
            for prompt in (user(first, second), answered, opened):
                hit = check.find(prompt)
                assert hit is not None, prompt
                assert hit.kind in ("exact", "inside")
                splits += 1
    assert splits >= 200
    assert check.find(user("Evaluate", "nothing at all.")) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"$\frac12$", "1/2"), ("½", r"\frac{1}{2}"), (r"x^{10}", "x¹⁰"), ("x**10", "x^{10}"),
        (r"\sqrt{x+1}", "√(x+1)"),
        (r"10{,}000", "10000"), ("αβ", r"\alpha \beta"), (r"a_{n}", "aₙ"), ("ℝ", r"\mathbb{R}"), ("𝐱+𝟐", "x+2"),
        ("“a”", '"a"'), ("it’s", "it's"), ("3 — 2", "3 - 2"), ("naïve", "nai\u0308ve"), ("é", "e"), (r"5\%", "5%"),
        (r"\frac{\sqrt{3}}{2}", "√3/2"), (r"f\left(x\right)", "f(x)"), (r"\text{if } x", "if x"),
        ("fαrmεr", "farmer"), ("αpples", "apples"),
        ("sinα", r"\sin\alpha"), ("2πρh", r"2\pi\rho h"), ("", " \u200b\n"),
    ],
)  # fmt: skip
def test_spellings(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("22.5", "225"), ("(2+3)*4", "2+(3*4)"), ("-3", "3"), ("x<3", "x>3"), ("2^3", "23"), ("a/b", "ab"), ("1,2", "12"),
     (r"\alpha", "a"), (r"\frac{x+1}{2}", r"x+\frac{1}{2}"), ("≠", "="), ("∉", "∈"), ("5!", "5"), ("x'y", "xy")],
)  # fmt: skip
def test_what_is_another_thing_stays_so(one: str, other: str) -> None:
    assert fold(f"a {one} b") != fold(f"a {other} b")


def test_folding_twice_is_folding_once_on_real_problems(data_dir: Path) -> None:
    rows = [json.loads(line)["problem"] for line in (data_dir / "math500" / "test.jsonl").open(encoding="utf-8")]
    folded = [fold(text) for text in rows]
    assert len(set(folded)) == len(set(rows)) == 500
    assert sum(fold(text) == text for text in folded) >= 450  # but where a name follows a name


@pytest.mark.parametrize(
    "unit",
    ["{", "}", "\\frac", "\\frac{", "**a ", "_", "<sup>", "<b", "$", "\\(", "^{", "(", "{x", "\\left.", "x²",
    "1,000", "&lt",
     "\\begin{", "\\", "{}{x+1}", "а", "\u200b", "*a*", "\\sqrt{(", "____", "~", "--", "a\\\\"],
)  # fmt: skip
def test_hostile_texts_take_time_in_proportion(unit: str) -> None:
    """Processor time at n and 4n, best of three: at most 8 times."""

    def seconds(count: int) -> float:
        best = 1e9
        for _ in range(3):
            begun = time.process_time()
            fold(unit * count)
            best = min(best, time.process_time() - begun)
        return best

    count = 20_000 // len(unit) + 1
    assert seconds(4 * count) < 8 * max(seconds(count), 0.002)
