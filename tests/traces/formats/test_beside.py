"""A thought beside an answer is taken in, wherever an API keeps it; what no text can say refuses the row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dcod.traces import Trace
from dcod.traces.formats import RowError
from dcod.traces.items import mapped, taken
from dcod.traces.mapping import addresses

ASKED = "How many legs have three spiders together, if none was lost?"
THOUGHT = "Spiders have eight legs each, and there are three of them here."
SAID = "Three times eight make \\boxed{24}."
WHOLE = f"<think>\n{THOUGHT}\n</think>\n\n{SAID}"
USER = {"role": "user", "content": ASKED}
PLACES: list[dict[str, Any]] = [
    {"reasoning_content": THOUGHT},
    {"reasoning_content": "", "reasoning": THOUGHT},
    {"reasoning_content": [], "thinking": [{"type": "text", "text": THOUGHT}]},
    {"reasoning": ["Spiders have eight legs each,", "and there are three of them here."]},
    {"reasoning": {"effort": "high", "text": THOUGHT}},
    {"thinking_blocks": [{"type": "thinking", "thinking": THOUGHT, "signature": "x"}]},
    {"reasoning": None, "reasoning_details": [{"type": "reasoning.text", "text": THOUGHT}]},
    {"provider_specific_fields": {"reasoning_content": THOUGHT}},
    {"additional_kwargs": {"thinking_blocks": [{"type": "thinking", "thinking": THOUGHT}]}},
]


def rows_of(beside: dict[str, Any]) -> list[dict[str, Any]]:
    """Every shape in which a message stands in somebody's output."""
    message = {"role": "assistant", "content": SAID, **beside}
    choice = {"finish_reason": "stop", "message": message}
    sent = {"messages": [USER]}
    return [
        {"messages": [USER, message]},
        {"request": sent, "response": {"body": {"choices": [choice]}}},
        {"messages": [USER], "outputs": [{"text": SAID, **beside}]},
        {"request_body": sent, "response_body": {"choices": [choice]}},
        {"messages": [USER], "message": message},
        {"modelInput": sent, "modelOutput": {"choices": [choice]}},
        {"generic_request": sent | {"model": "m"}, "response_message": SAID, "raw_response": {"choices": [choice]}},
        {
            "generic_request": sent | {"model": "m"},
            "response_message": SAID,
            "raw_response": {"response": {"body": {"choices": [choice]}}},
        },
    ]


def one(row: dict[str, Any]) -> Trace:
    (item,) = taken(row).items
    assert isinstance(item, Trace), item
    return item


def why(row: dict[str, Any]) -> str:
    try:
        (item,) = taken(row).items
    except RowError as error:
        return f"{error.code}: {error.message}"
    assert isinstance(item, RowError), item
    return f"{item.code}: {item.message}"


@pytest.mark.parametrize("beside", PLACES, ids=lambda place: "+".join(place))
def test_a_thought_is_taken_in_wherever_it_stands(beside: dict[str, Any]) -> None:
    for row in rows_of(beside):
        assert " ".join(one(row).completion.split()) == " ".join(WHOLE.split())


@pytest.mark.parametrize(
    ("beside", "reason"),
    [
        ({"tool_calls": [{"function": {"name": "count"}}]}, "tool calls cannot be taught"),
        ({"function_call": {"name": "count"}}, "tool calls cannot be taught"),
        ({"thinking_blocks": [{"type": "redacted_thinking", "data": "x"}]}, "redacted_thinking"),
        ({"reasoning_details": [{"type": "reasoning.summary", "summary": "He counts."}]}, "reasoning.summary"),
        ({"inner": {"chain": {"thoughts": THOUGHT}}}, "thought"),
    ],
)
def test_what_is_there_and_cannot_be_read_refuses_the_row(beside: dict[str, Any], reason: str) -> None:
    for row in rows_of(beside):
        assert reason in why(row)


@pytest.mark.parametrize(
    "beside", [{"reasoning": {"effort": "high"}}, {"thinking": True}, {"provider_specific_fields": {"refusal": None}}]
)
def test_settings_are_no_thought(beside: dict[str, Any]) -> None:
    for row in rows_of(beside):
        assert one(row).completion == SAID


def test_blocks_of_anthropic_in_what_curator_keeps() -> None:
    blocks = [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": SAID}]
    row = {"generic_request": {"messages": [USER], "model": "m"}, "response_message": SAID}
    assert one({**row, "raw_response": {"content": blocks, "stop_reason": "end_turn"}}).completion == WHOLE
    batch = {"result": {"message": {"content": blocks, "stop_reason": "max_tokens"}}}
    assert why({**row, "raw_response": batch}).startswith("truncated")


def test_a_mapping_that_names_no_thought_finds_the_one_beside_its_completion() -> None:
    row = {"asked": ASKED, "got": {"said": SAID, "reasoning": THOUGHT}}
    address = addresses.address("f?prompt=asked&completion=got.said")
    (found,) = mapped(row, address.map).items
    assert isinstance(found, Trace)
    assert found.completion == WHOLE
    written = {"asked": ASKED, "got": json.dumps(row["got"])}
    assert mapped(written, address.map).items == [found]
    (bare,) = mapped(row, addresses.address("f?prompt=asked&completion=got.said&thought==").map).items
    assert isinstance(bare, Trace)
    assert bare.completion == SAID


def test_texts_as_outputs_and_a_chat_beside_an_engines_response() -> None:
    assert [item.completion for item in taken({"prompt": ASKED, "outputs": [SAID, WHOLE]}).items
            if isinstance(item, Trace)] == [SAID, WHOLE]  # fmt: skip
    row = {"messages": [USER], "text": SAID, "meta_info": {"finish_reason": {"type": "stop"}}}
    assert one(row).completion == SAID
    assert one({**row, "reasoning_text": THOUGHT}).completion == WHOLE


def test_an_empty_text_hides_no_full_one() -> None:
    assert one({"question": ASKED, "response": "", "output": SAID, "answer": "24"}).completion == SAID
    assert one({"question": "", "prompt": ASKED, "response": SAID}).problem == ASKED
    assert one({"question": ASKED, "response": SAID, "gold": "", "answer": "24"}).gold == "24"


def test_a_turns_reason_is_a_thought_that_is_not_read() -> None:
    turn = {"role": "assistant", "content": SAID, "reason": THOUGHT}
    assert "messages[].reason looks like a thought" in why({"messages": [USER, turn]})
