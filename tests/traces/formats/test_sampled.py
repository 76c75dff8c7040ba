"""Formats of engines' own outputs: whole completions, and log-probs only where they are the sampler's."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest

from dcod.traces import Trace, formats
from dcod.traces.formats import RowError

USER = {"role": "user", "content": "2+2?"}
OPENAI: dict[str, Any] = {
    "custom_id": "a",
    "error": None,
    "request": {"custom_id": "a", "body": {"messages": [USER], "temperature": 1, "top_p": 1.0}},
    "response": {
        "status_code": 200,
        "body": {
            "model": "teacher-1",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": "#### 4"},
                    "logprobs": {"content": [{"token": "####", "logprob": -0.5}, {"token": " 4", "logprob": 0.0}]},
                }
            ],
        },
    },
}
VLLM: dict[str, Any] = {
    "prompt": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n",
    "sampling_params": {"temperature": 1.0, "top_p": 1.0},
    "tokenizer_digest": "abc",
    "outputs": [
        {
            "text": "#### 4",
            "token_ids": [7, 8, 2],
            "finish_reason": "stop",
            "logprobs": [
                {"7": {"logprob": -0.5, "rank": 1}, "9": {"logprob": -2.0}},
                {"8": {"logprob": -0.25}},
                {"2": {"logprob": 0.0}},
            ],
        }
    ],
}
DEEPSEEK: dict[str, Any] = {"question": "2+2?", "reasoning_content": "Two and two.\n", "content": "\\boxed{4}"}


def convert(row: dict[str, Any]) -> Trace:
    return formats.get(formats.detect(row)).to_trace(row)


def code(row: dict[str, Any]) -> str:
    with pytest.raises(RowError) as caught:
        convert(row)
    return caught.value.code


def changed(row: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with one value changed, named by a dotted path."""
    copied = copy.deepcopy(row)
    node: Any = copied
    *parents, last = path.split(".")
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node[part]
    node[int(last) if isinstance(node, list) else last] = value
    return copied


@pytest.mark.parametrize(("name", "row"), [("openai_batch", OPENAI), ("vllm", VLLM), ("reasoning_content", DEEPSEEK)])
def test_each_fits_exactly_one_format(name: str, row: dict[str, Any]) -> None:
    assert [other for other in formats.names() if formats.get(other).detect(row)] == [name]


def test_openai_batch_result_with_its_request() -> None:
    trace = convert(OPENAI)
    assert (trace.prompt, trace.completion, trace.teacher) == ([USER], "#### 4", "teacher-1")
    assert trace.behavior_logprobs == [-0.5, 0.0]
    assert (trace.temperature, trace.top_p, trace.token_ids) == (1.0, 1.0, None)
    assert code(OPENAI | {"request": None}) == "no_prompt"
    failed = {"status_code": 429, "body": {}}
    assert code(OPENAI | {"response": failed, "error": {"message": "slow down"}}) == "failed_request"


def test_openai_tokens_may_be_parts_of_a_character() -> None:
    choice = "response.body.choices.0"
    parts = [{"token": f"\\x{byte:x}", "bytes": [byte], "logprob": -1.0} for byte in "é".encode()]
    row = changed(changed(OPENAI, f"{choice}.message.content", "é"), f"{choice}.logprobs.content", parts)
    assert convert(row).behavior_logprobs == [-1.0, -1.0]
    assert code(changed(row, f"{choice}.logprobs.content.0.bytes", [300])) == "bad_field"


def test_a_plain_chat_completion_with_reasoning() -> None:
    body = copy.deepcopy(OPENAI["response"]["body"])
    body["choices"][0] |= {"logprobs": None, "message": {"content": "4", "reasoning_content": "Easy.\n"}}
    trace = convert(body | {"messages": [USER], "gold": "4"})
    assert trace.completion == "<think>\nEasy.\n</think>\n\n4"
    assert (trace.gold, trace.behavior_logprobs) == ("4", None)


def test_vllm_output_with_its_tokens() -> None:
    trace = convert(VLLM)
    assert trace.prompt == [{"role": "system", "content": "Be brief."}, USER]
    assert (trace.token_ids, trace.behavior_logprobs) == ([7, 8, 2], [-0.5, -0.25, 0.0])
    assert (trace.tokenizer_digest, trace.temperature) == ("abc", 1.0)
    assert convert(changed(VLLM, "prompt", "2+2?")).prompt == [USER]
    assert convert(VLLM | {"messages": [USER]}).prompt == [USER]
    assert convert(changed(VLLM, "outputs.0.logprobs", [-0.5, -0.25, 0.0])).behavior_logprobs == [-0.5, -0.25, 0.0]


def test_vllm_top_logprobs_travel_along() -> None:
    """What was recorded beside the sampled token is the teacher's top-k; of the sampled token alone there is none."""
    trace = convert(VLLM)
    assert trace.top_ids == [[7, 9], [8], [2]]
    assert trace.top_logprobs == [[-0.5, -2.0], [-0.25], [0.0]]
    alone = convert(changed(VLLM, "outputs.0.logprobs.0", {"7": {"logprob": -0.5}}))
    assert (alone.top_ids, alone.top_logprobs) == (None, None)


@pytest.mark.parametrize("params", [{"temperature": 0.6, "top_p": 1.0}, {"temperature": 1.0, "top_p": 0.95}, {}])
def test_logprobs_that_are_not_the_samplers_are_refused_and_not_dropped(params: dict[str, float]) -> None:
    row = VLLM | {"sampling_params": params}
    assert code(row) == "not_sampler_logprobs"
    assert convert(row | {"logprobs_mode": "processed_logprobs"}).behavior_logprobs == [-0.5, -0.25, 0.0]
    assert convert(changed(row, "outputs.0.logprobs", None)).behavior_logprobs is None
    assert code(changed(OPENAI, "request.body", {"messages": [USER], **params})) == "not_sampler_logprobs"


@pytest.mark.parametrize(
    ("row", "path", "value", "reason"),
    [
        (OPENAI, "response.body.choices.0.finish_reason", "length", "truncated"),
        (OPENAI, "response.body.choices", [], "no_completion"),
        (OPENAI, "response.body.choices", [{}, {}], "several_completions"),
        (OPENAI, "response.body", "text", "bad_field"),
        (OPENAI, "response.body.choices.0.message", None, "bad_field"),
        (OPENAI, "response.body.choices.0.logprobs.content", [{"token": "5", "logprob": 0.0}], "bad_field"),
        (OPENAI, "response.body.choices.0.logprobs.content.1.logprob", math.nan, "bad_field"),
        (VLLM, "outputs.0.finish_reason", "length", "truncated"),
        (VLLM, "outputs", [{"text": "a"}, {"text": "b"}], "several_completions"),
        (VLLM, "outputs", [7], "no_completion"),
        (VLLM, "outputs.0.token_ids", [7, 8], "bad_field"),
        (VLLM, "outputs.0.token_ids", [7, 8, 2**31], "bad_field"),
        (VLLM, "outputs.0.token_ids", [7, 8, -1], "bad_field"),
        (VLLM, "outputs.0.logprobs.1", {"9": {"logprob": -1.0}}, "bad_field"),
        (VLLM, "outputs.0.logprobs.1.8.logprob", 0.5, "bad_field"),
        (VLLM, "outputs.0.logprobs.0.9.logprob", 0.5, "bad_field"),
        (VLLM, "outputs.0.logprobs.0", {"7": {"logprob": -0.5}, "nine": {"logprob": -2.0}}, "bad_field"),
        (VLLM, "outputs.0.logprobs.1.8.logprob", -math.inf, "bad_field"),
        (VLLM, "sampling_params", "hot", "bad_field"),
        (VLLM, "prompt", "<|im_start|>tool\nx<|im_end|>\n", "bad_messages"),
        (DEEPSEEK, "question", " ", "empty_prompt"),
    ],
)
def test_broken_outputs_are_refused_by_name(row: dict[str, Any], path: str, value: Any, reason: str) -> None:
    assert code(changed(row, path, value)) == reason


def test_reasoning_goes_into_think_tags_and_is_never_dropped() -> None:
    assert convert(DEEPSEEK).completion == "<think>\nTwo and two.\n</think>\n\n\\boxed{4}"
    assert convert(DEEPSEEK).prompt == [USER]
    answer = {"role": "assistant", "content": None, "reasoning_content": "Two and two."}
    assert convert({"messages": [USER, answer]}).completion == "<think>\nTwo and two.\n</think>\n\n"
    named = {"role": "assistant", "content": "4", "reasoning": "Two and two."}
    assert convert({"messages": [USER, named]}).completion == "<think>\nTwo and two.\n</think>\n\n4"
    assert code({"messages": [USER, answer | {"reasoning_content": 4}]}) == "bad_messages"
