"""A row that no format reads is answered by an address that its owner can try, with the columns that look right."""

from __future__ import annotations

from typing import Any

import pytest

from dcod.traces.formats import RowError
from dcod.traces.items import taken
from dcod.traces.mapping import addresses

ROWS: list[tuple[dict[str, Any], str]] = [
    ({"Prompt": "a", "Completion": "b"}, "'SOURCE?prompt=Prompt&completion=Completion'"),
    (
        {"prompt": "a", "responses": ["b", "c"], "correct": [True, False]},
        "'SOURCE?prompt=prompt&completion=responses[*]'",
    ),
    (
        {"query": "a", "result": {"text_answer": "b", "rationale": "c"}},
        "'SOURCE?prompt=query&completion=result.text_answer&thought=result.rationale'",
    ),
    (
        {"input": [{"role": "user", "content": "a"}], "reward_model": {"ground_truth": "3"}},
        "'SOURCE?messages=input&gold=reward_model.ground_truth'",
    ),
    (
        {"question": "a", "solutions": ["b", "c"], "final_answer": "4"},
        "'SOURCE?prompt=question&completion=solutions[*]&gold=final_answer'",
    ),
    ({"question": "a", "worked": "b", "label": 4}, "'SOURCE?prompt=question&completion=COLUMN&gold=label'"),
    ({"Task text": "a", "Worked out": "b", "Should be": "4"}, "'SOURCE?prompt=COLUMN&completion=COLUMN&gold=COLUMN'"),
    ({"question": "a", "reply": "b", "result_text": "c"}, "(completion reply or result_text?)"),
    ({"Question": "a", "Result": "4"}, "'SOURCE?prompt=Question&completion=COLUMN&gold=COLUMN'"),
    ({"a": "1", "source": "x"}, "'SOURCE?prompt=COLUMN&completion=COLUMN&gold=COLUMN'"),
]


@pytest.mark.parametrize(("row", "told"), ROWS, ids=lambda one: str(one)[:30])
def test_names_say_what_may_be_meant(row: dict[str, Any], told: str) -> None:
    with pytest.raises(RowError, match=r"^unknown_format") as caught:
        taken(row)
    assert told in caught.value.message
    if "COLUMN" not in told and told.startswith("'"):
        assert addresses.address(told.strip("'")).map  # can be copied as it stands


def test_a_reference_beside_a_chat_can_be_taken() -> None:
    chat = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4, so #### 4"}]
    turns = [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4, so #### 4"}]
    for row, told in (
        ({"messages": chat, "label": 4}, "take it: 'SOURCE?messages=messages&gold=label'"),
        ({"conversations": turns, "label": 4}, "take it: 'SOURCE?messages=conversations&gold=label'"),
        ({"prompt": "2 + 2?", "response": "#### 4", "right": "x", "Label": 4}, "completion=response&gold=Label'"),
    ):
        with pytest.raises(RowError, match=r"^ambiguous_format") as caught:
            taken(row)
        assert told in caught.value.message
        assert "or leave it out: SOURCE?ignore=" in caught.value.message
