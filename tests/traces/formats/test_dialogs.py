"""Chats come in many forms: pairs, a history beside the prompt, the answer beside the chat, JSON in a text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dcod.traces import Trace
from dcod.traces.formats import RowError
from dcod.traces.items import taken

ASKED, SAID = "How many legs have three spiders, all together?", "Three times eight is \\boxed{24}."
FIRST, THEN = "How many legs has a spider?", "It has eight."
USER, ANSWER = {"role": "user", "content": ASKED}, {"role": "assistant", "content": SAID}
BEFORE = [{"role": "user", "content": FIRST}, {"role": "assistant", "content": THEN}]
SYSTEM = {"role": "system", "content": "Be brief."}
LONG = [SYSTEM, *BEFORE, USER]
ROWS: list[tuple[dict[str, Any], list[dict[str, str]]]] = [
    ({"conversation": [USER, ANSWER], "model": "m", "turn": 1}, [USER]),
    ({"conversation": [{"system": "Be brief.", "input": FIRST, "output": THEN}, {"input": ASKED, "output": SAID}]},
     LONG),
    ({"system": "Be brief.",
      "conversation": [{"human": FIRST, "assistant": THEN}, {"human": ASKED, "assistant": SAID}]}, LONG),
    ({"instruction": ASKED, "input": "", "output": SAID, "history": [[FIRST, THEN]], "system": "Be brief."}, LONG),
    ({"query": ASKED, "response": SAID, "history": BEFORE}, [*BEFORE, USER]),
    ({"query": ASKED, "response": SAID, "history": []}, [USER]),
    ({"messages": [*BEFORE, USER], "response": SAID}, [*BEFORE, USER]),
    ({"prompt": LONG, "output": SAID}, LONG),
    ({"conversations": [{"from": "human", "value": ASKED}], "response": SAID}, [USER]),
    ({"prompt": ASKED, "messages": [SYSTEM, USER, ANSWER]}, [SYSTEM, USER]),
    ({"messages": json.dumps([SYSTEM, USER, ANSWER])}, [SYSTEM, USER]),
    ({"prompt": json.dumps(LONG), "completion": SAID}, LONG),
    ({"messages": [{"role": "System", "content": "Be brief."}, {"role": "User", "content": ASKED},
                   {"role": "Chatbot", "content": SAID}]}, [SYSTEM, USER]),
    ({"system": [{"type": "text", "text": "Be brief."}], "messages": [USER, ANSWER]}, [SYSTEM, USER]),
    ({"text_input": ASKED, "text_output": SAID, "model_version": "1"}, [USER]),
    ({"prompt": ASKED, "generation": SAID, "messages": [USER, ANSWER]}, [USER]),
    ({"input": ASKED, "reasoning_content": "", "content": SAID}, [USER]),
    ({"messages": [USER], "response": {"choices": [{"message": ANSWER, "finish_reason": "stop"}]}}, [USER]),
    ({"object": "response", "model": "m", "instructions": "Be brief.", "input": ASKED,
      "output": [{"type": "message", "content": [{"type": "output_text", "text": SAID}]}]}, [SYSTEM, USER]),
]  # fmt: skip


@pytest.mark.parametrize(("row", "prompt"), ROWS, ids=lambda one: str(one)[:40])
def test_a_chat_is_read_whole(row: dict[str, Any], prompt: list[dict[str, str]]) -> None:
    (found,) = taken(row).items
    assert isinstance(found, Trace), found
    assert (found.prompt, found.completion) == (prompt, SAID)


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"messages": str([USER, ANSWER])}, "bad_messages", "printed"),
    ({"query": ASKED, "response": SAID, "history": "hello"}, "ambiguous_format", "history"),
    ({"conversation": [{"input": ASKED, "output": SAID, "tool": "x"}]}, "bad_messages", "tool"),
    ({"prompt": "Something else?", "messages": [USER, ANSWER]}, "ambiguous_format", "prompt"),
    ({"input": "-", "output": SAID}, "empty_prompt", "missing"),
    ({"question": ASKED, "answer": "24"}, "no_completion", "bare answer"),
    ({"system": "In French.", "messages": [SYSTEM, USER, ANSWER]}, "ambiguous_format", "system"),
    ({"question": ASKED, "response": f"<think>\nThree.\n</think>\n\n{SAID}", "reasoning": "Eight legs each."},
     "ambiguous_format", "thought"),
    ({"question": ASKED, "response": SAID, "options": {"A": "7", "B": "24"}}, "ambiguous_format", "options"),
    ({"problem": ASKED, "solution": SAID, "thinking": "Spiders have eight legs each."}, "ambiguous_format",
     "thought: thinking"),
    ({"messages": [{"role": "user", "content": "<image>\nHow many?"}, ANSWER]}, "template_marks", "image"),
    ({"messages": [{"role": "user", "content": "<|image_pad|>How many?"}, ANSWER]}, "template_marks", "image"),
    ({"messages": [USER, ANSWER | {"function_call": {"name": "add"}}]}, "bad_messages", "tool"),
    ({"messages": [USER, ANSWER], "images": ["a.png"]}, "bad_messages", "images"),
    ({"question": ASKED, "response": SAID, "image": {"bytes": b"x"}}, "bad_messages", "image"),
    ({"messages": [USER, ANSWER], "tools": '[{"name": "add"}]'}, "bad_messages", "tools"),
    ({"request": {"body": {"messages": [USER], "tools": [{"type": "function"}]}},
      "response": {"body": {"choices": [{"message": ANSWER}]}}}, "bad_messages", "request.body.tools"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "code", "told"), REFUSED, ids=lambda one: str(one)[:40])
def test_what_cannot_be_taught_whole_is_refused(row: dict[str, Any], code: str, told: str) -> None:
    try:
        (item,) = taken(row).items
    except RowError as error:
        item = error
    assert isinstance(item, RowError)
    assert item.code == code
    assert told in item.message


@pytest.mark.parametrize(
    "more", [{"images": []}, {"tools": "[]"}, {"image_count": 2}, {"tools_used": ["add"]}], ids=str
)
def test_columns_of_pictures_and_tools_that_are_empty_change_nothing(more: dict[str, Any]) -> None:
    assert isinstance(taken({"messages": [USER, ANSWER]} | more).items[0], Trace)


def test_advice_never_takes_the_chat_away_nor_the_humans_text_for_the_models() -> None:
    chat = [USER, ANSWER | {"info": {"ground_truth": "24"}}]
    with pytest.raises(RowError, match="messages: messages") as caught:
        taken({"messages": chat})
    assert "ignore=" not in caught.value.message
    with pytest.raises(RowError, match=r"completion: completions") as caught:
        taken({"problem": ASKED, "solution": SAID, "completions": [f"I say: {SAID}", "I say it is \\boxed{25}."]})
    assert "ignore=" not in caught.value.message


def test_a_text_that_repeats_the_row_in_a_template_is_no_loss() -> None:
    alpaca = f"Below is an instruction.\n\n### Instruction:\n{ASKED}\n\n### Response:\n{SAID}"
    marked = f"<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n{SAID}<|im_end|>\n"
    for text in (alpaca, marked):
        (found,) = taken({"instruction": ASKED, "output": SAID, "text": text}).items
        assert isinstance(found, Trace)
    with pytest.raises(RowError, match=r"ambiguous_format.*text"):
        taken({"instruction": ASKED, "output": SAID, "text": f"<|im_start|>system\nBe brief.<|im_end|>\n{marked}"})
