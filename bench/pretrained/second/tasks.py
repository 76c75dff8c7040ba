"""Three tasks of reasoning-gym, asked in a few words, and the styles in which a teacher may solve them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random
from typing import Any, Literal

SPAN = 100_000  # reasoning-gym seeds problem i with seed + i: seeds of sets lie so far apart


@dataclass(frozen=True)
class Problem:
    """One problem: what is asked, its answer, and what the styles need of it."""

    text: str
    answer: str
    facts: Mapping[str, Any] = field(compare=False)


Part = Literal["teacher", "train", "validation", "test"]
_EIGHTHS: tuple[Part, ...] = ("teacher", "train", "train", "train", "train", "validation", "test", "test")
Style = Callable[[Problem], str]


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        source: its name in reasoning-gym, and the options that make it this hard.
        read: a row of reasoning-gym as a problem.
        styles: by name; every text ends in a line ``#### answer``. The first is what a hint shows to the teacher.
        style_of: the name of the style of a text, "" where it is none of them.
        max_new_tokens: limit of an answer.
    """

    source: tuple[str, Mapping[str, object]]
    read: Callable[[dict[str, Any]], Problem]
    styles: Mapping[str, Style]
    style_of: Callable[[str], str]
    max_new_tokens: int

    def problems(self, count: int, seed: int, part: Part) -> list[Problem]:
        """Distinct problems; a text is of one part only, whatever the seed: what tests is never taught."""
        import reasoning_gym

        name, options = self.source
        rows = reasoning_gym.create_dataset(name, size=SPAN, seed=seed * SPAN, **options)
        found: dict[str, Problem] = {}
        for row in rows:
            problem = self.read(row)
            if _part(problem.text) == part:
                found.setdefault(problem.text, problem)
            if len(found) == count:
                return list(found.values())
        raise AssertionError(f"{name}: only {len(found)} of {count} problems of {part}")

    def write(self, problem: Problem, style: str) -> str:
        """A solution."""
        return f"{self.styles[style](problem)}\n#### {problem.answer}".lstrip("\n")


def answer_of(text: str) -> str:
    """What stands behind the last ####, on that line."""
    _, mark, answer = text.rpartition("####")
    return answer.strip().partition("\n")[0].strip() if mark else ""


def at_once(_: Problem) -> str:
    """The answer alone."""
    return ""


def _read_sorting(row: dict[str, Any]) -> Problem:
    facts = row["metadata"]
    numbers = [int(float(number)) for number in facts["original_numbers"]]
    down = facts["direction"] == "descending"
    answer = " ".join(map(str, sorted(numbers, reverse=down)))
    order = "largest first" if down else "smallest first"
    return Problem(f"Sort, {order}: {' '.join(map(str, numbers))}", answer, {"numbers": numbers, "down": down})


def _selection(problem: Problem) -> str:
    """Takes the next one out of what is left."""
    left, lines = list(problem.facts["numbers"]), []
    while len(left) > 1:
        chosen = max(left) if problem.facts["down"] else min(left)
        lines.append(f"{' '.join(map(str, left))} -> {chosen}")
        left.remove(chosen)
    return "\n".join([*lines, str(left[0])])


def _insertion(problem: Problem) -> str:
    """Puts one after the other where it belongs."""
    row: list[int] = []
    lines = []
    for number in problem.facts["numbers"]:
        row = sorted([*row, number], reverse=problem.facts["down"])
        lines.append(" ".join(map(str, row)))
    return "\n".join(lines)


def _sorting_style(text: str) -> str:
    body = text.rpartition("####")[0].strip()
    if not body:
        return "at_once"
    return "selection" if "->" in body.partition("\n")[0] else "insertion"


def _read_reversal(row: dict[str, Any]) -> Problem:
    words = [word.lower() for word in row["metadata"]["words"]]
    return Problem(f"Reverse: {', '.join(words)}", ", ".join(reversed(words)), {"words": words})


def _numbered(problem: Problem) -> str:
    """Numbers the words, then reads them from the end."""
    return "\n".join(f"{place} {word}" for place, word in enumerate(problem.facts["words"], start=1))


def _growing(problem: Problem) -> str:
    """Puts every word in front of those before it."""
    words = problem.facts["words"]
    return "\n".join(", ".join(reversed(words[:count])) for count in range(1, len(words)))


def _reversal_style(text: str) -> str:
    body = text.rpartition("####")[0].strip()
    if not body:
        return "at_once"
    return "numbered" if body.startswith("1 ") else "growing"


def _read_legs(row: dict[str, Any]) -> Problem:
    from reasoning_gym.arithmetic.leg_counting import ANIMALS

    counts = {name: (number, ANIMALS[name]) for name, number in row["metadata"]["animals"].items()}
    asked = ", ".join(f"{number} {name}" for name, (number, _) in counts.items())
    answer = sum(number * legs for number, legs in counts.values())
    return Problem(f"How many legs: {asked}?", str(answer), {"counts": counts})


def _running_legs(problem: Problem) -> str:
    """One animal a line, with the total so far."""
    total, lines = 0, []
    for name, (number, legs) in problem.facts["counts"].items():
        total += number * legs
        lines.append(f"{number} {name}: {number} * {legs} = {number * legs}, total {total}")
    return "\n".join(lines)


def _sum_of_legs(problem: Problem) -> str:
    """All in one line."""
    products = [number * legs for number, legs in problem.facts["counts"].values()]
    return f"{' + '.join(map(str, products))} = {problem.answer}"


def _legs_style(text: str) -> str:
    body = text.rpartition("####")[0].strip()
    if not body:
        return "at_once"
    return "running" if "*" in body else "sum"


TASKS: dict[str, Task] = {
    "sorting": Task(
        (
            "number_sorting",
            {
                "min_numbers": 3,
                "max_numbers": 3,
                "min_decimals": 0,
                "max_decimals": 0,
                "min_value": 10,
                "max_value": 99,
            },
        ),
        _read_sorting,
        {"insertion": _insertion, "selection": _selection, "at_once": at_once},
        _sorting_style,
        96,
    ),
    "reversal": Task(
        ("word_sequence_reversal", {"min_words": 6, "max_words": 6}),
        _read_reversal,
        {"numbered": _numbered, "growing": _growing, "at_once": at_once},
        _reversal_style,
        80,
    ),
    "legs": Task(
        ("leg_counting", {"min_animals": 2, "max_animals": 2, "min_instances": 1, "max_instances": 3}),
        _read_legs,
        {"running": _running_legs, "sum": _sum_of_legs, "at_once": at_once},
        _legs_style,
        56,
    ),
}


def _part(text: str) -> Part:
    return _EIGHTHS[sha256(text.encode()).digest()[0] % 8]


def style_for(task: Task, problem: Problem, copy: int) -> str:
    """The style of a teacher's copy: drawn by the problem, so that a set mixes them."""
    return Random(f"{problem.text}/{copy}").choice(list(task.styles))
