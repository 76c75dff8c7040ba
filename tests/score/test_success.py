"""The chance of success in the manner of a trace: by form, over all problems, drawn towards the mean."""

from __future__ import annotations

from random import Random

import pytest

from dcod.score import success
from dcod.score.success import NEAREST, PRIOR, Success

PLAIN = [f"#### {n} {n + 1}" for n in range(40)]
STEPS = [f"First take {n}, then add {n + 2}.\n#### {2 * n + 2}" for n in range(40)]


def by_hand(own: list[str], right: list[bool], problems: list[str], text: str, nearest: int) -> float:
    """The definition, one pair of texts after the other."""

    def like(other: str) -> float:
        one, two = success._runs(text), success._runs(other)
        return len(one & two) / max(1, len(one | two))

    ranked = sorted((like(other) for other in own), reverse=True)
    least = ranked[min(nearest, len(own)) - 1]
    hits = {name: [hit for hit, of in zip(right, problems, strict=True) if of == name] for name in problems}
    better = [
        hit - sum(hits[of]) / len(hits[of])
        for other, hit, of in zip(own, right, problems, strict=True)
        if like(other) >= least
    ]
    chance = sum(right) / len(right) + sum(better) / (len(better) + PRIOR)
    return min(max(chance, 0.5 / len(own)), 1 - 0.5 / len(own))


def test_a_manner_that_succeeds_has_the_better_chance_whatever_the_numbers() -> None:
    right = [n % 4 > 0 for n in range(40)] + [n % 4 == 0 for n in range(40)]
    problems = [f"p{n}" for n in range(40)] * 2  # each once in either manner
    plain, steps, other = Success([*PLAIN, *STEPS], right, problems).chances(
        ["#### 900 901", "First take 7, then add 1.5.\n#### 8.5", "unlike any"]
    )
    apart = (30 - 10) / 2 / (40 + PRIOR)
    assert (plain, steps, other) == pytest.approx((0.5 + apart, 0.5 - apart, 0.5))


def test_a_manner_does_not_suffer_for_the_hard_problems_that_it_is_used_on() -> None:
    """Half of the problems are always solved, half in one of four; the steps are written three times as often there."""
    texts, right, problems = list[str](), list[bool](), list[str]()
    for n in range(40):
        hard = n % 2 == 0
        for attempt in range(4):
            texts.append((STEPS if (attempt > 0) == hard else PLAIN)[n])
            right.append(not hard or attempt == (n // 2) % 4)
            problems.append(f"p{n}")
    plain, steps = Success(texts, right, problems).chances([PLAIN[0], STEPS[0]])
    assert plain == pytest.approx(steps, abs=0.02)


@pytest.mark.parametrize("block", [1, 2**22])
def test_it_is_its_definition(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(success, "_BLOCK", block)
    draw = Random(0)
    words = ["so", "then", "add", "3", "41", "=", ".", "\n", "Äpfel", "x_1"]
    texts = [" ".join(draw.choices(words, k=draw.randint(0, 12))) for _ in range(90)]
    own, right = texts[:60], [draw.random() < 0.4 for _ in range(60)]
    problems = [f"p{n // 4}" for n in range(60)]
    expected = [by_hand(own, right, problems, text, NEAREST) for text in texts[60:]]
    assert Success(own, right, problems).chances(texts[60:]) == pytest.approx(expected)


@pytest.mark.parametrize("right", [True, False])
def test_where_all_or_none_are_right_nothing_is_told_apart(right: bool) -> None:
    known = Success(PLAIN[:8], [right] * 8, ["p", "q"] * 4)
    chances = known.chances(["", "#### 1 2", "unlike any"])
    assert known.contrasts == 0
    assert len(set(chances)) == 1
    assert 0.0 < chances[0] < 1.0
