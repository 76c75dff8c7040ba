"""The chance of success in the manner of a trace: by form, over all problems, drawn towards the mean."""

from __future__ import annotations

from random import Random

import pytest

from dcod.score import success
from dcod.score.success import NEAREST, PRIOR, Success

PLAIN = [f"#### {n} {n + 1}" for n in range(40)]
STEPS = [f"First take {n}, then add {n + 2}.\n#### {2 * n + 2}" for n in range(40)]


def by_hand(own: list[str], right: list[bool], text: str, nearest: int) -> float:
    """The definition, one pair of texts after the other."""

    def like(other: str) -> float:
        one, two = success._runs(text), success._runs(other)
        return len(one & two) / max(1, len(one | two))

    ranked = sorted((like(other) for other in own), reverse=True)
    near = [hit for other, hit in zip(own, right, strict=True) if like(other) >= ranked[min(nearest, len(own)) - 1]]
    return (sum(near) + PRIOR * sum(right) / len(right)) / (len(near) + PRIOR)


def test_a_manner_that_succeeds_has_the_better_chance_whatever_the_numbers() -> None:
    right = [n % 4 > 0 for n in range(40)] + [n % 4 == 0 for n in range(40)]
    plain, steps = Success([*PLAIN, *STEPS], right).chances(["#### 900 901", "First take 7, then add 1.5.\n#### 8.5"])
    assert plain == pytest.approx((30 + PRIOR / 2) / (40 + PRIOR))
    assert steps == pytest.approx((10 + PRIOR / 2) / (40 + PRIOR))


@pytest.mark.parametrize("block", [1, 2**22])
def test_it_is_its_definition(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(success, "_BLOCK", block)
    draw = Random(0)
    words = ["so", "then", "add", "3", "41", "=", ".", "\n", "Äpfel", "x_1"]
    texts = [" ".join(draw.choices(words, k=draw.randint(0, 12))) for _ in range(90)]
    own, right = texts[:60], [draw.random() < 0.4 for _ in range(60)]
    expected = [by_hand(own, right, text, NEAREST) for text in texts[60:]]
    assert Success(own, right).chances(texts[60:]) == pytest.approx(expected)


@pytest.mark.parametrize("right", [True, False])
def test_it_is_never_0_nor_1(right: bool) -> None:
    chances = Success(PLAIN[:3], [right] * 3).chances(["", "#### 1 2", "unlike any"])
    assert all(0.0 < chance < 1.0 for chance in chances)
