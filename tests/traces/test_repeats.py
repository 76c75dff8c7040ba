"""Prompt and answer are told apart where one stands in the other, and refused where it is not certain how."""

from __future__ import annotations

from typing import Any

import pytest

from dcod.traces import Trace
from dcod.traces.formats import RowError
from dcod.traces.items import taken

ASKED = "How many legs have three spiders together?"
SAID = "Three times eight make \\boxed{24}."
WHOLE = f"<think>\nEight each.\n</think>\n\n{SAID}"
FULL = [
    f"{ASKED}\n\n{WHOLE}",
    f"{ASKED}{WHOLE}",
    f"{ASKED} {WHOLE}",
    f"<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n{WHOLE}<|im_end|>",
    f"<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n{WHOLE}<|im_end|>\n<|im_start|>user\nAnd four?",
    f"<s>[INST] {ASKED} [/INST] {WHOLE}</s>",
    f"user\n{ASKED}\nassistant\n{WHOLE}",
    f"user\n\n{ASKED}assistant\n\n{WHOLE}",
    f"user\n{ASKED}\nmodel\n{WHOLE}",
    f"### Instruction:\n{ASKED}\n\n### Response:\n{WHOLE}",
    f"<|im_start|>assistant\n{WHOLE}",
    f"assistant\n\n{WHOLE}",
]


def one(row: dict[str, Any]) -> Trace:
    (item,) = taken(row).items
    assert isinstance(item, Trace), item
    return item


def why(row: dict[str, Any]) -> str:
    (item,) = taken(row).items
    assert isinstance(item, RowError), item
    return item.code


@pytest.mark.parametrize("text", FULL, ids=repr)
@pytest.mark.parametrize("columns", [("prompt", "generated_text"), ("question", "response")])
def test_a_completion_that_begins_with_its_prompt_loses_it(text: str, columns: tuple[str, str]) -> None:
    trace = one(dict(zip(columns, (ASKED, text), strict=True)))
    assert trace.completion.rstrip() == WHOLE
    assert trace.prompt == [{"role": "user", "content": ASKED}]


def test_the_rendered_prompt_says_what_was_asked() -> None:
    sent = f"<|im_start|>system\nBe terse.<|im_end|>\n<|im_start|>user\n{ASKED}\nBox it.<|im_end|>\n"
    text = f"{sent}<|im_start|>assistant\n{SAID}"
    assert one({"question": ASKED, "response": text}).prompt == [
        {"role": "system", "content": "Be terse."},
        {"role": "user", "content": f"{ASKED}\nBox it."},
    ]
    deepseek = f"<｜begin▁of▁sentence｜>Be terse.<｜User｜>{ASKED}<｜Assistant｜>{SAID}"
    assert [turn["content"] for turn in one({"question": ASKED, "response": deepseek}).prompt] == ["Be terse.", ASKED]


def test_another_prompt_in_a_completion_is_refused() -> None:
    text = f"<|im_start|>user\nHow old is Tom?<|im_end|>\n<|im_start|>assistant\n{WHOLE}"
    assert why({"question": ASKED, "response": text}) == "template_marks"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("Say: hi", "Say: hi there, my friend."),
        ("The sum of two odd numbers is even", "The sum of two odd numbers is even because each is 2k + 1."),
        ("The sum of two odd numbers is even", "The sum of two odd numbers is even. Let them be 2k + 1 and 2m + 1."),
        ("Write a short talk of two people, please", "User: Hello!\nAssistant: Good day."),
    ],
)
def test_an_answer_that_only_sounds_like_its_prompt_stays(asked: str, said: str) -> None:
    assert one({"question": asked, "response": said}).completion == said


@pytest.mark.parametrize("said", [SAID, WHOLE])
def test_an_answer_at_the_prompts_end_is_cut_where_a_template_divides_them(said: str) -> None:
    alpaca = f"Below is one.\n\n### Instruction:\nCount.\n\n### Input:\n{ASKED}\n\n### Output:\n{SAID}</s>"
    trace = one({"instruction": "Count.", "input": ASKED, "output": said, "prompt": alpaca})
    assert trace.prompt[-1]["content"] == f"Count.\n\n{ASKED}"
    assert why({"prompt": f"{ASKED}\n{SAID}", "response": said}) == "answer_in_prompt"


def test_an_answer_that_copies_from_its_prompt_stays() -> None:
    long = "How many legs have three spiders, if the answer is no 25? " * 6
    assert one({"question": long.strip(), "response": long.strip()}).completion == long.strip()
    asked = "Mend this sentence: She goes to school every day."
    assert one({"question": asked, "response": "She goes to school every day."}).prompt[0]["content"] == asked
