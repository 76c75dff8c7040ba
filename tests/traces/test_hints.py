"""A row that no format reads is told what its columns look like."""

from __future__ import annotations

from typing import Any

import pytest

from dcod.traces.formats import RowError
from dcod.traces.hints import hint
from dcod.traces.items import taken

ROWS: list[tuple[dict[str, Any], str]] = [
    ({"Prompt": "a", "Completion": "b"}, "prompt Prompt, completion Completion?"),
    ({"prompt": "a", "responses": ["b", "c"], "correct": [True, False]}, "prompt prompt, completion responses[*]?"),
    ({"query": "a", "result": {"text_answer": "b", "rationale": "c"}}, "completion result.text_answer, thought"),
    ({"input": [{"role": "user", "content": "a"}], "reward_model": {"ground_truth": "3"}}, "gold reward_model.g"),
]


@pytest.mark.parametrize(("row", "told"), ROWS, ids=lambda one: str(one)[:30])
def test_names_say_what_may_be_meant(row: dict[str, Any], told: str) -> None:
    with pytest.raises(RowError, match=r"^unknown_format") as caught:
        taken(row)
    assert told in caught.value.message


def test_a_row_without_any_says_nothing() -> None:
    assert hint({"a": 1, "source": "x"}) == ""
