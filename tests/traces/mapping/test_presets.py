"""Every preset reads a row of its shape, is found or offered by its columns, and no other one is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dcod.config import parse_config
from dcod.traces import Trace
from dcod.traces.formats import RowError
from dcod.traces.items import mapped, taken
from dcod.traces.mapping import addresses

ASKED = "How many wheels do five tricycles have?"
THOUGHT = "Every tricycle has three of them, and there are five."
SAID = "Together that is \\boxed{15}."
WHOLE = f"<think>\n{THOUGHT}\n</think>\n\n{SAID}"
WORKED = "Since $5 \\times 3 = 15$, it is \\boxed{15}."
USER = {"role": "user", "content": ASKED}
CHAT = [USER, {"role": "assistant", "content": WHOLE}]
ROWS: dict[str, tuple[dict[str, Any], int]] = {
    "am-deepseek-r1": ({"messages": [USER | {"info": {"reference_answer": "15"}}, CHAT[1]]}, 1),
    "anthropic-batch": (
        {"custom_id": "a", "request": {"params": {"messages": [USER]}}, "result": {"type": "succeeded", "message": {
            "content": [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": SAID}], "model": "m"}}},
        1,
    ),
    "deepmath": ({"question": ASKED, "final_answer": "15", "r1_solution_1": WHOLE, "r1_solution_2": SAID}, 2),
    "distilabel": (
        {"instruction": ASKED, "generation": WHOLE, "model_name": "m",
         "distilabel_metadata": {"raw_input_text_generation_0": [USER]}},
        1,
    ),
    "distilabel-generations": (
        {"instruction": ASKED, "generations": [WHOLE, SAID], "generation_models": ["m", "n"]},
        2,
    ),
    "dolphin-r1": ({"messages": [USER], "reasoning": THOUGHT, "answer": SAID, "model": "m"}, 1),
    "gemini-batch": (
        {"key": "a", "request": {"contents": [{"role": "user", "parts": [{"text": ASKED}]}]}, "response": {
            "candidates": [{"content": {"parts": [{"text": THOUGHT, "thought": True}, {"text": SAID}]}}]}},
        1,
    ),
    "general-thought": (
        {"question": ASKED, "reference_answer": "15", "model_name": "m", "model_answer": SAID,
         "model_reasoning": THOUGHT},
        1,
    ),
    "gsm8k-responses": ({"problem": ASKED, "answer": 15, "response_0": WHOLE, "response_1": SAID}, 2),
    "lighteval": (
        {"doc": {"query": ASKED, "choices": ["14", "15"], "gold_index": [1]},
         "model_response": {"text": [WHOLE, SAID]}},
        2,
    ),
    "lm-eval": (
        {"doc": {"question": ASKED}, "target": "15", "arguments": [[ASKED, {}]], "resps": [[WHOLE, SAID]],
         "filtered_resps": ["15"]},
        2,
    ),
    "math-shepherd": ({"prompt": ASKED, "completions": [THOUGHT, SAID], "labels": [True, True]}, 1),
    "mmlu-pro-cot": ({"question": ASKED, "options": ["14", "15"], "answer": "B", "cot_content": SAID}, 1),
    "nemotron-post-training": (
        {"messages": CHAT, "metadata": '{"expected_answer": "15"}', "generator": "m", "category": "math"},
        1,
    ),
    "openr1-math": ({"problem": ASKED, "solution": WORKED, "answer": "15", "generations": [WHOLE, SAID]}, 2),
    "openthoughts-math": (
        {"problem": ASKED, "solution": WORKED, "conversations": CHAT, "system": "Think.", "correct": True},
        1,
    ),
    "openthoughts-metadata": (
        {"problem": ASKED, "deepseek_reasoning": THOUGHT, "deepseek_solution": SAID, "ground_truth_solution": WORKED},
        1,
    ),
    "orca-math": ({"question": ASKED, "answer": SAID}, 1),
    "preference": ({"prompt": ASKED, "chosen": WHOLE, "rejected": "It is \\boxed{16}."}, 2),
    "preference-chats": ({"chosen": CHAT, "rejected": [USER, {"role": "assistant", "content": "No."}]}, 2),
    "r1-distill-sft": ({"problem": ASKED, "solution": WORKED, "reannotated_assistant_content": WHOLE}, 1),
    "r1-distill-sft-v1": (
        {"messages": [USER, {"role": "assistant", "content": WORKED}], "reannotated_messages": CHAT,
         "reannotated_assistant_content": WHOLE},
        1,
    ),
    "reasoning-answer": ({"question": ASKED, "reasoning": THOUGHT, "answer": "15"}, 1),
    "reflect-responses": ({"problem": ASKED, "answer": "15", "response@0": [WHOLE], "response@1": [SAID]}, 2),
    "s1k": ({"question": ASKED, "solution": WORKED, "thinking_trajectories": [THOUGHT], "attempt": SAID}, 1),
    "s1k-1.1": (
        {"question": ASKED, "solution": "15", "deepseek_thinking_trajectory": THOUGHT, "deepseek_attempt": SAID,
         "gemini_thinking_trajectory": THOUGHT, "gemini_attempt": f"Hence. {SAID}"},
        2,
    ),
    "synthetic-1": (
        {"prompt": ASKED, "llm_response": WHOLE, "verification_info": '{"ground_truth": "15"}', "score": 1.0,
         "gold_standard_solution": WORKED},
        1,
    ),
    "verl-responses": ({"prompt": [USER], "responses": [WHOLE, SAID], "reward_model": {"ground_truth": "15"}}, 2),
}  # fmt: skip
NO = "I think that it is \\boxed{16}."
MESSAGE = {"role": "assistant", "content": SAID}
CHOICES = [{"message": MESSAGE, "finish_reason": "stop"}]
ROWS |= {
    "acemath": ({"messages": [USER], "answer": SAID}, 1),
    "am-thinking": (
        {"conversations": [{"from": "human", "value": ASKED}, {"from": "assistant", "value": WHOLE, "info": {
            "ground_truth": "15", "think_content": THOUGHT, "answer_content": SAID, "verify_score": 1.0}}]},
        1,
    ),
    "anthropic-message": (
        {"system": "Count.", "messages": [USER], "role": "assistant", "stop_reason": "end_turn", "content": [
            {"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": SAID}]},
        1,
    ),
    "anthropic-messages": (
        {"custom_id": "a", "request": {"messages": [USER]}, "response": {
            "role": "assistant", "content": [{"type": "text", "text": SAID}], "stop_reason": "end_turn"}},
        1,
    ),
    "bedrock-batch": (
        {"recordId": "a", "modelInput": {"messages": [{"role": "user", "content": [{"text": ASKED}]}]},
         "modelOutput": {"output": {"message": {"role": "assistant", "content": [{"text": SAID}]}}}},
        1,
    ),
    "bedrock-converse": (
        {"messages": [USER], "stopReason": "end_turn", "output": {"message": {"content": [
            {"reasoningContent": {"reasoningText": {"text": THOUGHT}}}, {"text": SAID}]}}},
        1,
    ),
    "camel": ({"role_1": "Expert", "message_1": ASKED, "message_2": SAID}, 1),
    "chat-message": ({"model": "m", "messages": [USER], "message": MESSAGE | {"thinking": THOUGHT}, "done": True}, 1),
    "code-feedback": ({"query": ASKED, "answer": SAID, "resource": "x", "lang": "python"}, 1),
    "cot-collection": ({"source": ASKED, "target": "15", "rationale": THOUGHT}, 1),
    "curator": (
        {"generic_request": {"messages": [USER], "model": "m", "original_row": {"answer": "15"}},
         "response_message": SAID, "raw_response": {"choices": CHOICES}, "finish_reason": "stop"},
        1,
    ),
    "gemini-tuning": (
        {"contents": [{"role": "user", "parts": [{"text": ASKED}]}, {"role": "model", "parts": [{"text": SAID}]}]},
        1,
    ),
    "inspect": (
        {"messages": CHAT, "target": "15", "input": ASKED, "scores": {"match": {"value": "C"}},
         "output": {"model": "m", "choices": CHOICES, "completion": SAID}},
        1,
    ),
    "kodcode-r1": (
        {"question": ASKED, "solution": "x = 15", "r1_solution": WHOLE, "r1_correctness": "True",
         "conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": WHOLE}]},
        1,
    ),
    "langfuse": ({"input": [USER], "output": MESSAGE, "expectedOutput": "15", "model": "m"}, 1),
    "magpie": (
        {"instruction": ASKED, "response": SAID, "conversations": CHAT, "knowledge": "How to multiply, and so on.",
         "gen_input_configs": {"input_generator": "m"}, "gen_response_configs": {"output_generator": "n"}},
        1,
    ),
    "medical-o1": ({"Question": ASKED, "Complex_CoT": THOUGHT, "Response": SAID}, 1),
    "natural-reasoning": (
        {"question": ASKED, "reference_answer": "15", "responses": [{"response": SAID, "response_model": "m"}]},
        1,
    ),
    "openai-evals": ({"sample_id": "a", "data": {"prompt": [USER], "sampled": [SAID]}}, 1),
    "preference-conversations": (
        {"chosen_conversations": CHAT, "rejected_conversations": [USER, MESSAGE | {"content": NO}]},
        2,
    ),
    "preference-inputs": ({"instruction": "Count.", "input": ASKED, "chosen": SAID, "rejected": NO}, 2),
    "preference-openai": (
        {"input": {"messages": [USER]}, "preferred_output": [MESSAGE], "non_preferred_output": [MESSAGE]},
        2,
    ),
    "preference-questions": ({"system": "Count.", "question": ASKED, "chosen": SAID, "rejected": NO}, 2),
    "preference-responses": ({"instruction": ASKED, "chosen_response": SAID, "rejected_response": NO}, 2),
    "preference-turns": (
        {"conversations": [{"from": "human", "value": ASKED}], "chosen": {"from": "gpt", "value": SAID},
         "rejected": {"from": "gpt", "value": NO}},
        2,
    ),
    "qwq-longcot": ({"problem": ASKED, "qwq": SAID}, 1),
    "request-bodies": ({"request_body": {"messages": [USER]}, "response_body": {"choices": CHOICES}}, 1),
    "scp-116k": (
        {"problem": ASKED, "matched_solution": WORKED, "r1_reasoning_content": THOUGHT, "r1_content": SAID},
        1,
    ),
    "step-dpo": (
        {"prompt": ASKED, "full_chosen": SAID, "full_rejected": NO, "initial_reason_steps": "Well.", "chosen": SAID,
         "rejected": NO, "answer": "15"},
        2,
    ),
    "ultrafeedback": (
        {"instruction": ASKED, "correct_answers": ["x"], "completions": [
            {"model": "m", "response": SAID, "custom_system_prompt": "Count."}, {"model": "n", "response": NO}]},
        2,
    ),
}  # fmt: skip
_READ = ("orca-math",)  # by a format as well


def test_every_preset_has_a_row_here() -> None:
    assert set(addresses.presets()) == set(ROWS)
    assert len(ROWS) >= 57


@pytest.mark.parametrize("name", ROWS)
def test_a_preset_reads_its_rows(name: str) -> None:
    row, count = ROWS[name]
    found = mapped(row, addresses.text_of(name)).items
    assert len(found) == count
    first = found[0]
    assert isinstance(first, Trace), first
    assert ASKED in first.problem
    assert "15" in first.completion
    assert first.gold in ("15", "B", None)
    reads_gold = any(engine_map.gold != "" for engine_map in addresses.presets()[name].maps)
    assert (first.gold is None) <= (not reads_gold or addresses.presets()[name].auto)


@pytest.mark.parametrize("name", ROWS)
def test_a_preset_is_found_or_offered_by_its_columns(name: str) -> None:
    row, count = ROWS[name]
    if addresses.presets()[name].auto:
        found = taken(row)
        assert found.reading.text.startswith(f"{name}: ")
        assert len(found.items) == count
    elif name not in _READ:
        try:
            assert len(taken(row).items) == count
        except RowError as error:
            if error.code in ("unknown_format", "ambiguous_format"):
                assert f"map: {name}" in error.message  # noqa: PT017
            else:
                assert error.code == "no_completion"  # noqa: PT017


def test_a_tools_output_with_something_beside_it_is_refused() -> None:
    row = ROWS["verl-responses"][0] | {"system_prompt_text": "Be terse."}
    with pytest.raises(RowError, match=r"ambiguous_format.*system_prompt_text"):
        taken(row)


def test_rejected_texts_are_wrong_traces() -> None:
    good, bad = taken(ROWS["preference"][0]).items
    assert isinstance(good, Trace)
    assert isinstance(bad, Trace)
    assert (good.flagged, bool(bad.flagged)) == ("", True)


def test_what_a_user_says_to_read_the_shared_sets_is_allowed() -> None:
    """`check.py --options tests/data/sets_options.json` of ../shared/sets reads all 69 rightly with it (2026-11-29)."""
    said = json.loads((Path(__file__).parents[2] / "data/sets_options.json").read_text())
    assert len(said) == 44
    for name, options in said.items():
        ingest = parse_config("{}", options).ingest
        assert addresses.text_of(ingest.map) or "ingest.keep=answered" in options, name


PARTS = [{"text": "Be terse. "}, {"text": "Box it."}]
WAYS: list[dict[str, Any]] = [
    {"systemInstruction": {"parts": PARTS}},
    {"system_instruction": {"role": "system", "parts": PARTS}},
    {"config": {"system_instruction": {"parts": {"text": "Be terse. Box it."}}}},
    {"config": {"systemInstruction": "Be terse. Box it."}},
    {"systemInstruction": PARTS},
    {"system_instruction": {"text": "Be terse. Box it."}},
]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_all_of_a_system_prompt_in_every_spelling_of_geminis_api(way: dict[str, Any]) -> None:
    asked, said = {"role": "user", "parts": [{"text": ASKED}]}, {"role": "model", "parts": [{"text": SAID}]}
    batch = {"request": {"contents": [asked], **way}, "response": {"candidates": [{"content": said}]}}
    for row in (batch, *([{"contents": [asked, said], **way}] if "config" not in way else [])):
        (found,) = taken(row).items
        assert isinstance(found, Trace)
        assert found.prompt[0] == {"role": "system", "content": "Be terse. Box it."}


def test_texts_as_parts_of_a_system_prompt() -> None:
    asked, said = {"role": "user", "parts": [{"text": ASKED}]}, {"role": "model", "parts": [{"text": SAID}]}
    (found,) = taken({"contents": [asked, said], "systemInstruction": {"parts": ["Be terse.", "Box it."]}}).items
    assert isinstance(found, Trace)
    assert found.prompt[0]["content"] == "Be terse.\n\nBox it."
