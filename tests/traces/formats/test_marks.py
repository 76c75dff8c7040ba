"""What a row says not to train on is not taught; chunks, ids and failures of batches, in every reader."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dcod.traces import Trace, formats
from dcod.traces.formats import RowError

USER = {"role": "user", "content": "2+2?"}
PARTS = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "4"}]
THOUGHT = "<think>\nhm\n</think>\n\n4"


def convert(row: dict[str, Any]) -> Trace:
    return formats.get(formats.detect(row)).to_trace(row)


def refused(row: dict[str, Any]) -> tuple[str, str]:
    with pytest.raises(RowError) as caught:
        convert(row)
    return caught.value.code, caught.value.message


def chat(*answers: dict[str, Any]) -> dict[str, Any]:
    turns = [turn for answer in answers for turn in (USER, {"role": "assistant", "content": "4", **answer})]
    return {"messages": turns}


LEFT_OUT: list[dict[str, Any]] = [
    {"weight": 0}, {"weight": 0.0}, {"weight": "0"}, {"loss_weight": 0}, {"train": False}, {"training": False},
    {"loss": False}, {"loss_mask": 0}, {"loss_mask": [0, 0]}, {"train_on_turn": False}, {"masked": True},
    {"ignore": 1}, {"weight": 1, "masked": True},
]  # fmt: skip
TAUGHT: list[dict[str, Any]] = [
    {"weight": 1}, {"weight": None}, {"train": True}, {"loss": True}, {"loss_mask": [1, 1]}, {"masked": False}, {},
]  # fmt: skip
UNCLEAR: list[dict[str, Any]] = [
    {"weight": -0.5}, {"weight": "some"}, {"loss_mask": [0, 1]}, {"mask": 1}, {"loss": 0.3},
    {"train_detail": [{"begin_offset": 0, "end_offset": 3, "train": False}]},
]  # fmt: skip


@pytest.mark.parametrize("mark", LEFT_OUT + UNCLEAR, ids=str)
def test_a_turn_that_is_not_to_be_trained_on_is_not_taught(mark: dict[str, Any]) -> None:
    assert refused(chat(mark))[0] == "not_taught"
    turns = [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4", **mark}]
    assert refused({"conversations": turns})[0] == "not_taught"
    assert refused({"prompt": [USER], "completion": [{"role": "assistant", "content": "4", **mark}]})[0] == "not_taught"


@pytest.mark.parametrize("mark", TAUGHT, ids=str)
def test_other_marks_change_nothing(mark: dict[str, Any]) -> None:
    assert replace(convert(chat(mark)), weight=None) == convert(chat({}))


def test_another_weight_is_the_traces_own_for_who_trains_with_it() -> None:
    assert convert(chat({"weight": 0.5})).weight == 0.5
    assert convert(chat({"weight": 3}, {"weight": 2}, {"weight": 0})).weight == 2.0  # of the turn that is taught
    assert convert({**chat({"weight": 3}), "weight": 0.25}).weight == 0.25
    assert convert({"prompt": "2+2?", "completion": "4", "loss_weight": 1.5}).weight == 1.5
    assert convert({"prompt": "2+2?", "completion": "4"}).weight is None
    for wrong in (-1, "much", float("inf"), float("nan")):
        assert refused({"prompt": "2+2?", "completion": "4", "weight": wrong})[0] == "bad_field"


def test_such_a_turn_is_context_and_what_comes_behind_the_last_taught_one_is_left() -> None:
    kept = convert(chat({"content": "3", "weight": 0}, {"weight": 1}))
    assert (kept.completion, [turn["content"] for turn in kept.prompt]) == ("4", ["2+2?", "3", "2+2?"])
    kept = convert(chat({"content": "3"}, {"weight": 0}))
    assert (kept.completion, [turn["content"] for turn in kept.prompt]) == ("3", ["2+2?"])
    assert refused(chat({"weight": 0}, {"train": False}))[0] == "not_taught"


@pytest.mark.parametrize("mark", [{"weight": 0}, {"train": False}, {"label": False}, {"loss_mask": [1, 0]}], ids=str)
@pytest.mark.parametrize("prompt", ["2+2?", [USER]], ids=["text", "messages"])
def test_a_row_that_is_not_to_be_trained_on_is_not_taught(prompt: Any, mark: dict[str, Any]) -> None:
    assert refused({"prompt": prompt, "completion": "4", **mark})[0] == "not_taught"
    assert convert({"prompt": prompt, "completion": "4", "weight": 1, "label": True, "loss": 0.0}).completion == "4"


CHUNKED: list[tuple[str, dict[str, Any]]] = [
    ("messages", chat({"content": PARTS})),
    ("conversations", {"conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": PARTS}]}),
    ("prompt_completion", {"prompt": "2+2?", "completion": PARTS}),
    ("prompt_completion", {"prompt": [USER], "completion": [{"role": "assistant", "content": PARTS}]}),
    ("dcod_rows", {"prompt": [USER], "completion": PARTS}),
    ("benchmark_responses", {"problem": "2+2?", "response": PARTS}),
    ("nemo_skills", {"problem": "2+2?", "generation": PARTS}),
    ("vllm", {"prompt": "2+2?", "outputs": [{"text": PARTS}]}),
    ("reasoning_content", {"prompt": "2+2?", "reasoning_content": "hm", "content": PARTS[1:]}),
    ("openai_batch", {"request": {"messages": [USER]}, "choices": [{"message": {"content": PARTS}}]}),
]


@pytest.mark.parametrize(("name", "row"), CHUNKED)
def test_every_reader_takes_chunks_or_refuses_them(name: str, row: dict[str, Any]) -> None:
    assert [other for other in formats.names() if formats.get(other).detect(row)] == [name]
    found = convert(row) if name != "openai_batch" else formats.get(name).to_trace(row)
    assert found.completion == THOUGHT
    printed = replaced(row, str(PARTS))
    code, message = refused(printed)
    assert code in ("bad_field", "bad_messages")
    assert "printed" in message
    assert refused(replaced(row, [{"type": "tool_use", "name": "f"}]))[0] in ("bad_field", "bad_messages")


def replaced(value: Any, new: Any) -> Any:
    """A row with something else where the parts were."""
    if value in (PARTS, PARTS[1:]):
        return new
    if isinstance(value, dict):
        return {key: replaced(item, new) for key, item in value.items()}
    return [replaced(item, new) for item in value] if isinstance(value, list) else value


REQUEST = {"custom_id": "q-1", "body": {"messages": [USER]}}
ANSWER = {"status_code": 200, "body": {"choices": [{"finish_reason": "stop", "message": {"content": "4"}}]}}


def test_an_answer_beside_another_request_is_refused() -> None:
    assert convert({"custom_id": "q-1", "request": REQUEST, "response": ANSWER, "error": None}).completion == "4"
    assert convert({"custom_id": None, "request": REQUEST, "response": ANSWER}).completion == "4"
    code, message = refused({"custom_id": "q-2", "request": REQUEST, "response": ANSWER})
    assert (code, "'q-2'" in message, "'q-1'" in message) == ("other_request", True, True)
    other = [{"role": "user", "content": "3+3?"}]
    with pytest.raises(RowError, match="other_request"):
        formats.get("openai_batch").to_trace({"request": REQUEST, "response": ANSWER, "messages": other})


FAILED: list[tuple[dict[str, Any], str, str]] = [
    ({"response": None, "error": {"code": "batch_expired", "message": "too late"}}, "expired_request", "too late"),
    ({"response": None, "error": {"code": "batch_cancelled", "message": "by you"}}, "cancelled_request", "by you"),
    ({"response": None, "error": {"code": "server_error", "message": "oops"}}, "failed_request", "server_error: oops"),
    ({"response": {"status_code": 500, "body": {"error": {"message": "oops"}}}}, "failed_request", "status 500; oops"),
    ({"response": {"status_code": 200, "body": {"error": {"message": "oops"}}}}, "failed_request", "oops"),
    ({"response": None, "error": "overloaded", "messages": [USER]}, "failed_request", "overloaded"),
    ({"result": {"type": "expired"}}, "expired_request", "expired"),
    ({"result": {"type": "canceled"}}, "cancelled_request", "canceled"),
    ({"result": {"type": "errored", "error": {"error": {"type": "bad"}}}}, "failed_request", "bad"),
    ({"response": None, "error": None}, "no_completion", "not answered"),
    ({"method": "POST", "url": "/v1/chat/completions", "body": {"messages": [USER]}}, "no_completion", "not answered"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "reason", "told"), FAILED)
def test_a_line_of_a_batch_without_an_answer_says_why(row: dict[str, Any], reason: str, told: str) -> None:
    code, message = refused({"custom_id": "q-1", "gold": "4", **row})
    assert code == reason
    assert told in message
