"""Figures of graded answers, worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from dcod.evaluate import statistics, summaries


def row(problem: str, outcome: str, answer: str | None, **fields: Any) -> dict[str, Any]:
    steady = {"truncated": False, "looping": False, "contradicting": False, "repetition": 0.0, "tokens": 10}
    return {"problem_id": problem, "outcome": outcome, "answer": answer, "response": "So", **steady, **fields}


ROWS = [
    row("a", "correct", "4"),
    row("a", "correct", "4.0"),
    row("a", "wrong", "5", looping=True),
    row("a", "truncated", None, truncated=True, tokens=30),
    row("b", "wrong", "1"),
    row("b", "wrong", "2", contradicting=True),
    row("b", "wrong", "1"),
    row("b", "correct", "3"),
]


def test_at_k_and_stability_by_hand() -> None:
    found = summaries.summarise(ROWS, 4)
    assert (found["n"], found["accuracy"]) == (2, 3 / 8)
    assert found["outcomes"] == {"correct": 3, "wrong": 4, "unparseable": 0, "truncated": 1, "error": 0}
    assert {name: values[0] for name, values in found["at_k"].items()} == pytest.approx(
        {"avg@4": 3 / 8, "maj@4": 0.5, "pass@2": (5 / 6 + 1 / 2) / 2, "pass@4": 1.0}
    )
    steady = found["stability"]
    assert (steady["truncated"], steady["looping"], steady["contradicting"]) == (1 / 8, 1 / 8, 1 / 8)
    assert steady["agreement"] == 0.5  # two fours (and 4.0 is one) of four; two ones of four
    assert steady["entropy"] == pytest.approx(statistics.answer_entropy(["4", "4", "5", None]))
    assert steady["openings"] == 1.0
    assert (steady["tokens_p50"], found["mean_tokens"]) == (10, 12.5)
    assert set(summaries.SHOWN) == {"mean_tokens", *steady}


def test_certainty_is_never_claimed() -> None:
    wrong = [row(str(n), "wrong", "1") for n in range(10) for _ in range(2)]
    found = summaries.summarise(wrong, 2)
    assert (found["low"], found["high"]) == statistics.wilson_interval(0, 10)
    assert found["at_k"]["pass@2"][1:] == list(statistics.wilson_interval(0, 10))
    assert 0.5 <= found["detectable"] <= 1.0


def test_detectable_shrinks_with_n_and_is_honest_at_the_ends() -> None:
    sizes = [summaries.detectable([1.0, 0.0] * (n // 2)) for n in (30, 300, 3000)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[1] == pytest.approx(statistics.minimum_detectable_difference(300, 0.5))
    assert summaries.detectable([0.0] * 30) >= 5 / 30
    assert summaries.detectable([]) == 1.0


def test_an_empty_split_has_no_figures() -> None:
    found = summaries.summarise([], 1)
    assert (found["n"], found["low"], found["high"], found["at_k"], found["stability"]) == (0, 0.0, 1.0, {}, {})


def test_answers_vote_in_one_spelling() -> None:
    assert summaries.canonical("1,000") == summaries.canonical("$1000.0$") == "1000"
    assert summaries.canonical("\\frac{1}{2}") == summaries.canonical("0.5")
    assert summaries.canonical("X + 1") == summaries.canonical("x+1")
    assert summaries.canonical(None) is None
    shown = summaries.of_answer("2 + 2 = 5")
    assert shown == {"repetition": 0.0, "looping": False, "contradicting": True}
