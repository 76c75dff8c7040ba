"""Formats: the rows that people have, taken over verbatim, and each broken row with its own reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dcod.errors import UserError
from dcod.traces import Trace, formats
from dcod.traces.formats import RowError
from dcod.traces.prompts import INSTRUCTIONS

FORMATS = (
    "benchmark_responses",
    "chat_response",
    "conversations",
    "dcod_rows",
    "gsm8k",
    "llama_cpp",
    "math",
    "messages",
    "nemo_skills",
    "openai_batch",
    "prompt_completion",
    "reasoning_content",
    "sglang",
    "templated",
    "tgi",
    "vllm",
)
ELSEWHERE = ("openai_batch", "reasoning_content", "vllm", "llama_cpp", "sglang", "tgi")  # test_sampled, test_native
CHAT = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "\\boxed{4}"}]
HEADER = "<|start_header_id|>{}<|end_header_id|>\n\n{}<|eot_id|>"
ROWS: list[tuple[str, dict[str, Any]]] = [
    ("dcod_rows", {"prompt": CHAT[:1], "completion": "4", "gold": "4", "attempts": 3}),
    ("messages", {"messages": CHAT, "answer": 4}),
    ("prompt_completion", {"prompt": "2+2?", "completion": "#### 4"}),
    ("prompt_completion", {"prompt": CHAT[:1], "completion": CHAT[1:]}),
    ("prompt_completion", {"question": "2+2?", "response": "#### 4"}),
    ("conversations", {"conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]}),
    ("conversations", {"conversations": CHAT, "system": "Be brief."}),
    ("nemo_skills", {"problem": "2+2?", "generation": "4", "expected_answer": "4"}),
    ("nemo_skills", {"problem": "2+2?", "generated_solution": "4", "expected_answer": 4}),
    ("gsm8k", {"question": "2+2?", "answer": "2+2=<<2+2=4>>4\n#### 4"}),
    ("conversations", {"conversation": CHAT, "model": "m"}),
    ("conversations", {"conversation": [{"input": "1+1?", "output": "2"}, {"input": "2+2?", "output": "4"}]}),
    ("chat_response", {"messages": CHAT[:1], "response": "4"}),
    ("chat_response", {"prompt": CHAT[:1], "output": "4"}),
    ("math", {"problem": "2+2?", "solution": "\\boxed{4}", "level": "Level 1"}),
    ("templated", {"input": HEADER.format("user", "2+2?"), "output": "4<|eot_id|>"}),
    ("benchmark_responses", {"problem": "2+2?", "response": "4", "gold": "4"}),
    ("benchmark_responses", {"problem": "2+2?", "prompt": "2+2?", "full_response": "4", "ground_truth": "4"}),
]


def convert(row: dict[str, Any]) -> Trace:
    return formats.get(formats.detect(row)).to_trace(row)


def code(row: dict[str, Any], name: str = "") -> str:
    with pytest.raises(RowError) as caught:
        formats.get(name or formats.detect(row)).to_trace(row)
    return caught.value.code


def test_all_formats_are_found() -> None:
    assert tuple(formats.names()) == FORMATS
    assert {name for name, _ in ROWS} | set(ELSEWHERE) == set(FORMATS)


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_a_row_fits_exactly_one_format(name: str, row: dict[str, Any]) -> None:
    assert [other for other in formats.names() if formats.get(other).detect(row)] == [name]
    assert "2+2?" in convert(row).problem


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_nulls_of_other_columns_change_nothing(name: str, row: dict[str, Any]) -> None:
    """As in Parquet, where every row has every column."""
    nulls = {key: None for _, other in ROWS for key in other}
    assert formats.detect(nulls | row) == name
    assert convert(nulls | row) == convert(row)


def test_unknown_and_ambiguous_rows_say_what_to_do() -> None:
    with pytest.raises(RowError, match=r"unknown_format.*a, b"):
        formats.detect({"a": 1, "b": 2})
    with pytest.raises(RowError, match=r"ambiguous_format.*ingest\.format"):
        formats.detect({"prompt": "p", "completion": "c"} | ROWS[-3][1])
    with pytest.raises(UserError, match=r"ingest.format 'csv': unknown; known: auto, benchmark_responses"):
        formats.get("csv")


def test_prompts_are_those_of_the_evaluation() -> None:
    assert convert(dict(ROWS[9][1])).prompt == [
        {"role": "user", "content": f"2+2?\n{INSTRUCTIONS['number']}"},
    ]
    for name in ("math", "nemo_skills", "benchmark_responses"):
        row = next(row for other, row in ROWS if other == name)
        assert convert(row).problem == f"2+2?\n{INSTRUCTIONS['boxed']}"
    assert convert(ROWS[1][1]).prompt == CHAT[:1]  # a chat keeps its own


def test_gold_answers() -> None:
    assert convert(ROWS[9][1]).gold == "4"
    assert convert({"question": "q", "answer": "so 1,000\n#### 1,000"}).gold == "1,000"
    assert convert({"question": "q", "answer": "no mark"}).gold is None
    assert convert({"problem": "p", "solution": "\\boxed{1} then \\boxed 2"}).gold == "2"
    assert convert({"problem": "p", "solution": "\\boxed{}"}).gold is None
    assert convert({"problem": "p", "response": "x", "gold": 27.0}).gold == "27.0"
    assert convert({"problem": "p", "response": "x", "gold": ["5"]}).gold == "5"
    assert convert({"problem": "p", "response": "x", "gold": "  "}).gold is None
    solved = convert({"problem": "p", "response": "A: 18", "gold_solution": "9 * 2 = 18\nA: 18"})
    assert (solved.gold, solved.problem) == ("18", f"p\n{INSTRUCTIONS['number']}")
    assert code({"problem": "p", "response": "x", "gold": ["5", "6"]}) == "bad_gold"
    assert code({"problem": "p", "response": "x", "gold": True}) == "bad_gold"


def test_what_is_known_about_the_teacher_is_kept_and_nothing_is_guessed() -> None:
    row = {"problem": "p", "response": "x", "model": "m", "temperature": "0.6", "licence": "MIT", "top_p": 0.9}
    trace = convert(row)
    assert (trace.teacher, trace.temperature, trace.top_p, trace.licence) == ("m", 0.6, 0.9, "MIT")
    bare = convert({"problem": "p", "response": "x", "upstream_correct": True})
    assert (bare.teacher, bare.temperature, bare.attempts, bare.verdict) == (None, None, None, "unverified")
    for value in ("warm", True, float("nan"), [1]):
        assert code({"problem": "p", "response": "x", "temperature": value}) == "bad_field"


def test_chats_that_cannot_be_taught() -> None:
    user, answer = CHAT
    assert code({"messages": [user]}) == "no_completion"
    assert code({"messages": []}) == "no_completion"
    assert code({"messages": [answer]}) == "bad_messages"
    assert code({"messages": [user, {"role": "tool", "content": "4"}, answer]}) == "bad_messages"
    assert code({"messages": [user, {"role": "assistant", "content": None, "tool_calls": [1]}]}) == "bad_messages"
    assert code({"messages": [{"role": "user", "content": " "}, answer]}) == "empty_prompt"
    assert code({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, answer]}) == "bad_messages"
    assert code({"conversations": [{"from": "alien", "value": "x"}]}) == "bad_messages"
    assert code({"problem": "", "response": "x"}) == "empty_prompt"
    assert code({"problem": "p", "response": 4}) == "bad_field"
    assert code({"no": "messages"}, "messages") == "bad_messages"
    assert code({"no": "turns"}, "conversations") == "bad_messages"


def test_several_turns_and_parts() -> None:
    user, answer = CHAT
    again = {"role": "user", "content": [{"type": "text", "text": "and "}, {"type": "text", "text": "3+3?"}]}
    trace = convert({"messages": [user, answer, again, {"role": "assistant", "content": "6"}]})
    assert trace.prompt == [user, answer, {"role": "user", "content": "and 3+3?"}]
    assert trace.completion == "6"
    talk = convert({"conversations": CHAT, "system": "Be brief."})
    assert talk.prompt[0] == {"role": "system", "content": "Be brief."}


def test_templated_text_is_taken_apart() -> None:
    text = "<|begin_of_text|>" + HEADER.format("system", "") + HEADER.format("user", "2+2?")
    trace = convert({"input": text + "<|start_header_id|>assistant<|end_header_id|>\n\n", "output": "4<|eot_id|>"})
    assert trace.prompt == [{"role": "user", "content": "2+2?"}]
    assert trace.completion == "4"
    assert code({"input": HEADER.format("ipython", "x"), "output": "4"}) == "bad_messages"


def test_own_rows_check_recorded_tokens() -> None:
    row = {"prompt": CHAT[:1], "completion": "4", "token_ids": [5, 2], "behavior_logprobs": [-0.5, 0.0]}
    assert convert(row).behavior_logprobs == [-0.5, 0.0]
    for change in (
        {"behavior_logprobs": [-0.5]},
        {"behavior_logprobs": [-0.5, 0.1]},
        {"behavior_logprobs": [-0.5, float("nan")]},
        {"behavior_logprobs": [-0.5, float("-inf")]},
        {"behavior_logprobs": "-0.5"},
        {"token_ids": None},
        {"token_ids": ["5", "2"]},
        {"attempts": 0},
        {"attempts": "many"},
    ):
        assert code(row | change) == "bad_field", change


def test_own_rows_check_the_recorded_top_k() -> None:
    row = {"prompt": CHAT[:1], "completion": "4", "token_ids": [5, 2], "behavior_logprobs": [-0.5, 0.0]}
    top = {"top_ids": [[5, 6], [2]], "top_logprobs": [[-0.5, -1.0], [0.0]]}
    trace = convert(row | top)
    assert (trace.top_ids, trace.top_logprobs) == (top["top_ids"], top["top_logprobs"])
    for change in (
        {"top_ids": None},
        {"top_logprobs": None},
        {"top_ids": [[5, 6]]},
        {"top_ids": [[5, 6], []], "top_logprobs": [[-0.5, -1.0], []]},
        {"top_ids": [[5], [2]]},
        {"top_ids": [[5, -6], [2]]},
        {"top_ids": [[5, "6"], [2]]},
        {"top_logprobs": [[-0.5, 1.0], [0.0]]},
        {"token_ids": None, "behavior_logprobs": None},
    ):
        assert code(row | top | change) == "bad_field", change


def test_every_row_of_every_real_file_fits_one_format(data_dir: Path) -> None:
    splits = [data_dir / name / "train.jsonl" for name in ("gsm8k", "math")]
    files = [*sorted((data_dir / "traces").rglob("*.jsonl")), *splits]
    assert len(files) == 23
    found = {}
    for file in files:
        rows = [json.loads(line) for line in file.open(encoding="utf-8")]
        names = {formats.detect(row) for row in rows}
        assert len(names) == 1, file
        traces = [formats.get(next(iter(names))).to_trace(row) for row in rows]
        found[f"{file.parent.name}/{file.name}"] = (next(iter(names)), sum(trace.gold is not None for trace in traces))
    assert found["gsm8k/train.jsonl"] == ("gsm8k", 7473)
    assert found["math/train.jsonl"] == ("math", 7498)  # two empty boxes
    assert found["gsm8k_openai/gsm8k_test_model_solutions.jsonl"] == ("benchmark_responses", 5276)
    assert {name for name, _ in found.values()} == {
        "benchmark_responses",
        "gsm8k",
        "math",
        "messages",
        "nemo_skills",
        "templated",
    }
