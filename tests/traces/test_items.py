"""A row is read whole or refused: every column is accounted for, whatever its name and shape."""

from __future__ import annotations

from typing import Any

import pytest

from dcod.config import IngestConfig
from dcod.ingest.examine import verify
from dcod.traces import Trace, columns
from dcod.traces.formats import RowError
from dcod.traces.items import Taken, taken

ASKED = "How many legs have three spiders together, if none was lost?"
SAID = "Each has eight, so three times eight make \\boxed{24}."
THOUGHT = "Spiders have eight legs each, and there are three of them here."
CHAT = [{"role": "user", "content": ASKED}, {"role": "assistant", "content": SAID}]
PAIR = {"question": ASKED, "response": SAID}


def traces(found: Taken) -> list[Trace]:
    assert all(isinstance(item, Trace) for item in found.items)
    return [item for item in found.items if isinstance(item, Trace)]


def one(row: dict[str, Any]) -> Trace:
    (found,) = traces(taken(row))
    return found


def refused(row: dict[str, Any]) -> RowError:
    with pytest.raises(RowError) as caught:
        taken(row)
    return caught.value


OVERLOOKED = [
    (PAIR, "second_response", "Eight and eight and eight are \\boxed{24}, I should say."),
    (PAIR, "best_of", ["Eight and eight and eight are \\boxed{24}.", "It is \\boxed{25}."]),
    (PAIR, "col_7", "word " * 80),
    (PAIR, "chain_of_thought", "First I count the spiders, then I count their legs."),
    (PAIR, "notes", "<think>\nEight.\n</think>\n\n24"),
    (PAIR, "passage", "Spiders are arachnids."),
    (PAIR, "system_instructions", "Be terse."),
    (PAIR, "meta", '{"expected_answer": "24"}'),
    (PAIR, "extra", {"label": {"reference": 24}}),
    (PAIR, "choices", ["8", "24"]),
    ({"messages": CHAT}, "solution", "Three spiders have 3 * 8 = 24 legs, that is \\boxed{24}."),
    ({"messages": CHAT}, "few_shot_prompt", "<|im_start|>user\nhi<|im_end|>"),
    ({"question": ASKED, "answer": f"{SAID}\n#### 24"}, "reasoning", THOUGHT),
    ({"problem": ASKED, "solution": SAID}, "model_output", "Let me see: it is \\boxed{24}."),
]


@pytest.mark.parametrize(("row", "column", "value"), OVERLOOKED, ids=[column for _, column, _ in OVERLOOKED])
def test_a_column_that_would_change_what_is_taught_is_named(row: dict[str, Any], column: str, value: Any) -> None:
    assert taken(row).items
    error = refused(row | {column: value})
    assert error.code == "ambiguous_format"
    assert column in error.message


HARMLESS: list[dict[str, Any]] = [
    {"id": "a-1", "source": "somewhere", "difficulty": 3, "topic": "Zoology", "tokens": [1, 2]},
    {"echo": ASKED},
    {"messages_text": SAID},
    {"response_length": "112", "answer_type": "number", "prompt_hash": "f00"},
    {"reasoning": "on", "input_ids": [1, 2, 3]},
    {"predicted_answer": "24"},
    {"passage": "", "thought_time": 3.5},
]


@pytest.mark.parametrize("more", HARMLESS, ids=str)
def test_what_says_nothing_new_is_left_out_and_told(more: dict[str, Any]) -> None:
    found = taken(PAIR | {"gold": "24"} | more)
    assert (traces(found)[0].completion, traces(found)[0].gold) == (SAID, "24")
    assert set(found.reading.unused) <= set(more)
    assert "prompt = question, completion = response, gold = gold" in found.reading.text


CARDS = "Which of these numbers is the largest?"
TURNS = {"prompt": CHAT[:1], "completion": CHAT[1:]}
OWN = {"prompt": CHAT[:1], "completion": SAID}
STEPS = ["First I count the spiders.", "Then I count the legs of one."]
NOT_TAKEN = [
    ({"question": CARDS, "output": SAID}, "input", "7, 24, 19"),  # only Alpaca's instruction takes it
    ({"prompt": CARDS, "response": SAID}, "input", "24"),  # stands in the completion, and was not asked
    ({"query": ASKED, "response": SAID}, "input", f"{ASKED}\nPut the answer into a box."),
    ({"instruction": CARDS, "output": SAID}, "input", {"numbers": [7, 24]}),
    (TURNS, "input", "In Latin, please."),
    (TURNS, "history", [["Hello there.", "Hello."]]),
    (OWN, "question", "How many legs has a single spider?"),
    (OWN | {"token_ids": [1, 2], "behavior_logprobs": [-0.5, -0.1]}, "system_prompt", "Be terse."),
    (PAIR, "reasoning", STEPS),
    (PAIR, "thinking", [{"step": 1, "text": STEPS[0]}]),
    (PAIR, "thoughts", {"first": STEPS[0], "then": STEPS[1]}),
    ({"problem": ASKED, "generation": SAID}, "thought", STEPS),
    ({"messages": CHAT}, "reasoning", STEPS),
    (PAIR, "gts", [24, 25]),
    ({"messages": [{"role": "system", "content": "Be terse."}, *CHAT]}, "system", "Be terse. Count twice."),
    ({"messages": CHAT[:1], "outputs": [{"text": SAID}]}, "prompt", "Count the legs of three spiders."),
]


@pytest.mark.parametrize(("row", "column", "value"), NOT_TAKEN, ids=[column for _, column, _ in NOT_TAKEN])
def test_a_known_column_counts_only_where_this_row_gave_it(row: dict[str, Any], column: str, value: Any) -> None:
    assert taken(row).items
    error = refused(row | {column: value})
    assert error.code == "ambiguous_format"
    assert f"{column} looks like" in error.message


@pytest.mark.parametrize(
    ("row", "asked", "said"),
    [
        (PAIR | {"reasoning": [THOUGHT]}, ASKED, f"<think>\n{THOUGHT}\n</think>\n\n{SAID}"),
        (PAIR | {"thinking": {"type": "enabled", "effort": "high"}}, ASKED, SAID),
        ({"instruction": "Double it.", "input": 12, "output": SAID}, "Double it.\n\n12", SAID),
        (TURNS | {"completion": CHAT}, ASKED, SAID),  # repeats the prompt
    ],
)
def test_what_a_known_column_gives_is_taken(row: dict[str, Any], asked: str, said: str) -> None:
    trace = one(row)
    assert [turn["content"] for turn in trace.prompt] == [asked]
    assert trace.completion == said


def test_answer_and_verdict_are_found_anew_in_a_trace_set_alone() -> None:
    assert one(OWN | {"answer": "24", "split": "train"}).gold == "24"
    assert one(OWN | {"verdict": "incorrect"}).flagged == "verdict: incorrect"
    own = one(OWN | {"trace_id": "0", "answer": "24", "verdict": "wrong", "split": "train"})
    assert (own.gold, own.flagged) == (None, "")


def test_a_turn_may_hold_a_reference_too() -> None:
    asked = {"role": "user", "content": ASKED, "info": {"reference_answer": "24"}}
    assert "messages[].info.reference_answer" in refused({"messages": [asked, CHAT[1]]}).message


def test_a_worked_solution_beside_a_models_text_and_a_reference_is_left_out() -> None:
    human = "The textbook says: $3 \\times 8 = 24$, hence \\boxed{24}."
    found = one({"problem": ASKED, "generation": SAID, "expected_answer": "24", "reference_solution": human})
    assert (found.completion, found.gold) == (SAID, "24")


def test_several_texts_in_one_column_are_no_parts_of_one() -> None:
    error = refused({"question": ASKED, "response": [SAID, "It is \\boxed{25}."]})
    assert (error.code, "response[*]" in error.message) == ("ambiguous_format", True)


def test_formats_that_say_the_same_are_one_reading_and_others_are_not() -> None:
    both = {"problem": ASKED, "generated_solution": SAID, "conversations": CHAT, "expected_answer": 24}
    assert (one(both).completion, one(both).gold) == (SAID, "24")
    other = [CHAT[0], CHAT[1] | {"content": "It is \\boxed{25}."}]
    assert refused(both | {"conversations": other}).code == "ambiguous_format"


def test_what_stands_apart_comes_together() -> None:
    found = one(PAIR | {"reasoning": THOUGHT, "system_prompt": "Be terse.", "generator": "model-7", "final_answer": 24})
    assert found.completion == f"<think>\n{THOUGHT}\n</think>\n\n{SAID}"
    assert found.prompt[0] == {"role": "system", "content": "Be terse."}
    assert (found.teacher, found.gold) == ("model-7", "24")
    assert one(PAIR | {"thinking": "so three times eight"}).completion == SAID  # it says so itself
    turn = CHAT[1] | {"thinking": THOUGHT}
    assert one({"messages": [CHAT[0], turn]}).completion.startswith(f"<think>\n{THOUGHT}\n</think>")


@pytest.mark.parametrize("said", ["proof", "Not found", "N/A", "none", "nan", float("nan"), "-"])
def test_a_reference_that_says_that_there_is_none(said: Any) -> None:
    found = one(PAIR | {"answer": said})
    assert found.gold is None
    with pytest.raises(RowError, match=r"no_gold: answer: .*ingest\.keep=answered"):
        verify(found, IngestConfig())
    assert verify(found, IngestConfig(keep="answered")).verdict == "unverified"


def test_the_end_of_the_response_is_no_reference_of_it() -> None:
    assert refused(PAIR | {"answer": "three times eight make \\boxed{24}."}).code == "ambiguous_format"
    assert one(PAIR | {"answer": "24"}).gold == "24"


def test_a_solution_with_a_reference_beside_it_is_checked_against_that() -> None:
    found = one({"problem": ASKED, "solution": "<think>\nhm\n</think>\n\n\\boxed{25}", "answer": "24"})
    with pytest.raises(RowError, match="wrong_answer"):
        verify(found, IngestConfig())


FLAGS: list[tuple[dict[str, Any], bool]] = [
    ({"correct": False}, True),
    ({"is_correct": "no"}, True),
    ({"accuracy_reward": 0.0, "format_reward": 1.0}, True),
    ({"symbolic_correct": False, "judge_correct": True}, False),
    ({"correct": True}, False),
    ({"correct_answer_index": 0}, False),
    ({"reward": 0.5}, False),
]


@pytest.mark.parametrize(("more", "wrong"), FLAGS, ids=str)
def test_what_the_row_calls_wrong_is_not_taught(more: dict[str, Any], wrong: bool) -> None:
    found = one(PAIR | more)
    assert bool(found.flagged) == wrong
    if wrong:
        with pytest.raises(RowError, match="flagged_wrong"):
            verify(found, IngestConfig(keep="answered"))
        assert verify(found, IngestConfig(keep="all")).verdict == "wrong"


@pytest.mark.parametrize(
    "more",
    [
        {"finish_reason": "length"},
        {"is_reasoning_complete": False},
        {"truncated": True},
        {"finish_reasons": ["length"]},
    ],
    ids=str,
)
def test_what_the_row_says_has_no_end_is_not_taught(more: dict[str, Any]) -> None:
    (item,) = taken(PAIR | more).items
    assert isinstance(item, RowError)
    assert item.code == "truncated"


def test_several_outputs_of_an_engine_are_as_many_traces_and_a_cut_one_is_told() -> None:
    outputs = [{"text": SAID, "finish_reason": "stop"}, {"text": "Let me", "finish_reason": "length"}, {"text": SAID}]
    found = taken({"prompt": ASKED, "outputs": outputs, "gold": "24", "correct": [True, None, False]})
    assert [item.code if isinstance(item, RowError) else item.flagged for item in found.items] == [
        "",
        "truncated",
        "correct: False",
    ]
    choices = [{"message": {"content": text}, "finish_reason": "stop"} for text in (SAID, "It is \\boxed{24}.")]
    found = taken({"messages": CHAT[:1], "choices": choices, "model": "m"}, "openai_batch")
    assert [trace.completion for trace in traces(found)] == [SAID, "It is \\boxed{24}."]


def test_a_column_without_a_name_and_a_system_prompt_in_parts_are_no_loss() -> None:
    assert one({"": 0, **PAIR}).completion == SAID
    parts = [{"text": "Be terse. "}, {"text": "Box it."}]
    assert one({"system": parts, "messages": CHAT}).prompt[0]["content"] == "Be terse. Box it."


def test_a_known_column_with_very_many_texts_is_looked_at_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    flattened: list[str] = []

    def flat(text: str) -> str:
        flattened.append(text)
        return text

    monkeypatch.setattr(columns, "flat", flat)
    said = columns.Said(["What is 1 + 1?"], ["one and one " * 1000], gold=True, model=True)
    row = {"thoughts": ["one and one"] * 10_000}
    assert list(columns.unused(row, {"thought": "thoughts"}, said)) == []
    assert len(flattened) <= 2001
    assert sum(len(text) > 1000 for text in flattened) == 1  # the completion
