"""A list or an object of answers, written as text, is no completion; one that was asked for is."""

from __future__ import annotations

import json

import pytest

from dcod.traces.formats import RowError
from dcod.traces.items import taken
from dcod.traces.printed import check
from dcod.traces.schema import Message

THOUGHT = "Spiders have eight legs each, and there are three."
SAID = "So the answer is 24."
VALUES = [
    [f"<think>\n{THOUGHT}\n</think>\n\n{SAID}"],
    [SAID, "The answer is 25."],
    [THOUGHT * 2],
    {"thinking": THOUGHT, "answer": SAID},
    {"role": "assistant", "content": SAID},
    {"choices": [{"message": {"content": SAID}}]},
    [{"generated_text": SAID}],
]
OTHERS = ["[1, 2, 3]", '["red", "blue"]', '{"x": 1, "y": "two"}', "{1, 2}", "[0, 1)", "[a] so it is {b}", "[]", '{"a"']


def asked(text: str = "How many legs have three spiders?") -> list[Message]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_answers_in_a_list_or_an_object_are_refused_however_they_were_written(value: object) -> None:
    for text, why in ((json.dumps(value), "written as JSON"), (f" {value!r}\n", "printed as text|written as JSON")):
        with pytest.raises(RowError, match=why):
            check(asked(), text)
    check(asked("Answer as JSON: how many?"), json.dumps(value))


def test_a_list_that_was_asked_for_is_one_unless_thoughts_are_in_it() -> None:
    check(asked("List the facts about spiders."), json.dumps([THOUGHT * 2]))
    with pytest.raises(RowError):
        check(asked("List the facts about spiders."), json.dumps(VALUES[0]))


@pytest.mark.parametrize("text", OTHERS)
def test_other_texts_in_brackets_are_completions(text: str) -> None:
    check(asked(), text)


def test_a_row_says_why() -> None:
    (item,) = taken({"question": "How many legs have three spiders?", "response": json.dumps(VALUES[3])}).items
    assert isinstance(item, RowError)
    assert (item.code, "an object written as JSON" in item.message) == ("bad_field", True)
