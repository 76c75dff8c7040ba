"""A thought in the column of the answer that no trace says is found; a grader's, or one that was read, is not."""

from __future__ import annotations

from typing import Any

import pytest

from dcod.traces.columns import Said
from dcod.traces.unheard import thoughts_in

ANSWER = "It is \\boxed{24}."
THOUGHT = "Spiders have eight legs each, and there are three of them."


def found(value: Any, completion: str = ANSWER) -> list[str]:
    return [path for path, _ in thoughts_in({"answer": value}, ["answer"], Said([], [completion], False, True))]


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"cot": THOUGHT}, "answer.cot"),
        ([{"text": ANSWER, "meta": {"reasonings": [THOUGHT]}}], "answer[].meta.reasonings[]"),
        ({"thinking": {"parts": [{"body": THOUGHT}]}}, "answer.thinking.parts[].body"),
        ([{"role": "user", "cot": "an earlier one of which nobody asks"}, {"role": "assistant", "cot": THOUGHT}],
         "answer[].cot"),
    ],
)  # fmt: skip
def test_a_thought_that_nobody_reads_is_found(value: Any, path: str) -> None:
    assert found(value) == [path]


@pytest.mark.parametrize(
    "value",
    [
        {"reasoning": "high"},
        {"judge": {"reasoning": THOUGHT}},
        {"request": {"messages": [{"thinking": THOUGHT}]}},
        {"text": THOUGHT},
        THOUGHT,
    ],
)
def test_settings_graders_and_requests_are_no_thought_of_it(value: Any) -> None:
    assert found(value) == []


def test_a_thought_that_was_read_is_not_missed() -> None:
    assert found({"cot": THOUGHT}, f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}") == []
