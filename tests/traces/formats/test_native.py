"""Engines' own generate responses: every completion, how it ended, and log-probs only where they are the sampler's."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from dcod.traces import Trace, formats
from dcod.traces.formats import RowError
from dcod.traces.items import taken

ASKED = "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"
USER = {"role": "user", "content": "2+2?"}
PLAIN = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0}
SGLANG: dict[str, Any] = {
    "text": "It is #### 4",
    "output_ids": [7, 8, 2],
    "meta_info": {
        "id": "x", "finish_reason": {"type": "stop", "matched": 2}, "prompt_tokens": 9, "completion_tokens": 3,
        "output_token_logprobs": [[-0.5, 7, None], [-0.25, 8, None], [0.0, 2, None]],
        "output_top_logprobs": [[[-0.5, 7, None], [-2.0, 9, None]], [[-0.1, 5, None]], [[0.0, 2, None]]],
    },
}  # fmt: skip
TOKENS = [
    {"id": 7, "text": "It is", "logprob": -0.5, "special": False},
    {"id": 8, "text": " #### 4", "logprob": -0.25, "special": False},
    {"id": 2, "text": "</s>", "logprob": 0.0, "special": True},
]
TGI: dict[str, Any] = {
    "generated_text": "It is #### 4",
    "details": {"finish_reason": "eos_token", "generated_tokens": 3, "seed": 1, "prefill": [], "tokens": TOKENS},
}
SETTINGS = {
    "temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0, "repeat_penalty": 1.0,
    "presence_penalty": 0.0, "frequency_penalty": 0.0, "dry_multiplier": 0.0, "xtc_probability": 0.0, "mirostat": 0,
    "dynatemp_range": 0.0, "top_n_sigma": -1.0, "grammar": "", "logit_bias": [], "stop": [], "n_probs": 1,
    "dry_sequence_breakers": ["\n", ":"],
    "samplers": ["penalties", "dry", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"],
}  # fmt: skip
LLAMA: dict[str, Any] = {
    "index": 0, "content": "It is #### 4", "tokens": [7, 8, 2], "id_slot": 0, "stop": True, "model": "m.gguf",
    "tokens_predicted": 3, "tokens_evaluated": 9, "generation_settings": SETTINGS, "prompt": f"<s>{ASKED}",
    "has_new_line": False, "truncated": False, "stop_type": "eos", "stopping_word": "", "tokens_cached": 11,
    "timings": {"predicted_n": 3}, "completion_probabilities": [
        {"id": 7, "token": "It is", "bytes": list(b"It is"), "logprob": -0.5, "top_logprobs": [
            {"id": 7, "token": "It is", "bytes": [], "logprob": -0.5},
            {"id": 9, "token": "x", "bytes": [120], "logprob": -2.0}]},
        {"id": 8, "token": " #### 4", "bytes": list(b" #### 4"), "logprob": -0.25, "top_logprobs": []},
        {"id": 2, "token": "", "bytes": [], "logprob": 0.0, "top_logprobs": []},
    ],
}  # fmt: skip
REQUESTS: dict[str, dict[str, Any]] = {
    "sglang": {"text": ASKED, "sampling_params": PLAIN, "return_logprob": True, "rid": "a"},
    "tgi": {"inputs": ASKED, "parameters": {"do_sample": True, "details": True, "max_new_tokens": 64}},
    "llama_cpp": {"prompt": ASKED, "n_predict": 64, "n_probs": 1, "return_tokens": True},
}
RESPONSES = {"sglang": SGLANG, "tgi": TGI, "llama_cpp": LLAMA}
ENGINES = tuple(RESPONSES)


def flat(engine: str) -> dict[str, Any]:
    """A response with the prompt and the request's settings in columns beside it."""
    beside = {key: value for key, value in REQUESTS[engine].items() if key in ("sampling_params", "parameters")}
    return {**copy.deepcopy(RESPONSES[engine]), "prompt": ASKED, **beside, "gold": "4"}


def pair(engine: str, *responses: dict[str, Any], **request: Any) -> dict[str, Any]:
    answers: Any = list(responses) or copy.deepcopy(RESPONSES[engine])
    return {"request": REQUESTS[engine] | request, "response": answers, "gold": "4"}


def changed(row: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    copied = copy.deepcopy(row)
    node: Any = copied
    *parents, last = path.split(".")
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node[part]
    node[int(last) if isinstance(node, list) else last] = value
    return copied


def only(row: dict[str, Any]) -> Trace:
    (found,) = taken(row).items
    assert isinstance(found, Trace), found
    return found


def code(row: dict[str, Any]) -> str:
    try:
        (found,) = taken(row).items
    except RowError as error:
        return error.code
    return found.code if isinstance(found, RowError) else f"read: {found.left}"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_row_is_of_its_engine_alone(engine: str) -> None:
    response = RESPONSES[engine]
    shapes = [flat(engine), pair(engine), pair(engine, response, response), {"custom_id": "a", **pair(engine)}]
    for column in ("responses", "output", "outputs", "completion", "result"):
        shapes += [{"prompt": ASKED, column: response}, {"prompt": ASKED, column: [response, response]}]
        shapes += [{"prompt": [USER], column: [response]}, {"problem": "2+2?", column: [response, response]}]
    for row in shapes:
        assert [name for name in formats.names() if formats.get(name).detect(row)] == [engine], list(row)
        assert taken(row).reading.text.startswith(f"{engine}: ")


@pytest.mark.parametrize("engine", ENGINES)
def test_log_probs_of_the_sampler_are_taken(engine: str) -> None:
    beside = {**REQUESTS[engine], "output": RESPONSES[engine]}
    for row in (flat(engine), pair(engine), beside):
        trace = only(row | {"tokenizer_digest": "abc"})
        assert (trace.prompt, trace.completion) == ([USER], "It is #### 4")
        assert (trace.token_ids, trace.behavior_logprobs) == ([7, 8, 2], [-0.5, -0.25, 0.0])
        assert (trace.temperature, trace.top_p, trace.tokenizer_digest, trace.left) == (1.0, 1.0, "abc", "")
        assert trace.gold == row.get("gold")
    assert only(pair("llama_cpp")).teacher == "m.gguf"


def test_likeliest_tokens_travel_along_with_the_sampled_one() -> None:
    trace = only(pair("sglang"))
    assert trace.top_ids == [[7, 9], [5, 8], [2]]
    assert trace.top_logprobs == [[-0.5, -2.0], [-0.1, -0.25], [0.0]]
    assert only(pair("llama_cpp")).top_ids == [[7, 9], [8], [2]]
    assert only(pair("tgi")).top_ids is None
    tops = [[TOKENS[0], TOKENS[1]], [], []]
    assert only(pair("tgi", changed(TGI, "details.top_tokens", tops))).top_ids == [[7, 8], [8], [2]]


@pytest.mark.parametrize("engine", ENGINES)
def test_several_completions_are_several_traces(engine: str) -> None:
    key = {"sglang": "text", "tgi": "generated_text", "llama_cpp": "content"}[engine]
    second = RESPONSES[engine] | {key: "It is five"}
    found = taken(pair(engine, RESPONSES[engine], second)).items
    said = [one.completion if isinstance(one, Trace) else one.code for one in found]
    assert said[0] == "It is #### 4"
    assert len(said) == 2
    bad = changed(RESPONSES[engine], {"sglang": "meta_info.finish_reason", "tgi": "details.finish_reason",
                                      "llama_cpp": "stop_type"}[engine],
                  {"type": "length"} if engine == "sglang" else "length" if engine == "tgi" else "limit")  # fmt: skip
    good, cut = taken(pair(engine, RESPONSES[engine], bad)).items
    assert isinstance(good, Trace)
    assert isinstance(cut, RowError)
    assert cut.code == "truncated"


def test_the_other_sequences_of_best_of_are_traces() -> None:
    others = [TGI["details"] | {"generated_text": f"Not {n}."} for n in (1, 2)]
    found = taken(pair("tgi", changed(TGI, "details.best_of_sequences", others))).items
    assert [one.completion for one in found if isinstance(one, Trace)] == ["It is #### 4", "Not 1.", "Not 2."]
    assert all(one.behavior_logprobs for one in found if isinstance(one, Trace))


SAMPLERS: list[tuple[str, dict[str, Any], str]] = [
    ("sglang", {"sampling_params": PLAIN | {"temperature": 0.6}}, "not_sampler_logprobs"),
    ("sglang", {"sampling_params": PLAIN | {"top_k": 20}}, "not_sampler_logprobs"),
    ("sglang", {"sampling_params": PLAIN | {"top_k": 1 << 30}}, "read: "),
    ("sglang", {"sampling_params": PLAIN | {"regex": "[0-9]+"}}, "not_sampler_logprobs"),
    ("sglang", {"sampling_params": PLAIN | {"frequency_penalty": 0.1}}, "not_sampler_logprobs"),
    ("sglang", {"sampling_params": {"temperature": 1.0, "top_p": 1.0}}, "not_sampler_logprobs"),  # the model's top_k?
    ("sglang", {"sampling_params": {"max_new_tokens": 9}}, "read: log-probs left out: the row names no sampler"),
    ("sglang", {"sampling_params": {}}, "read: log-probs left out: the row names no sampler"),
    ("sglang", {"sampling_params": [PLAIN, PLAIN]}, "ambiguous_format"),
    ("tgi", {"parameters": {"do_sample": True, "temperature": 0.6, "top_p": 0.9}}, "read: "),  # taken after both
    ("tgi", {"parameters": {"temperature": 0.6}}, "read: "),
    ("tgi", {"parameters": {"top_k": 5}}, "read: "),
    ("tgi", {"parameters": {"details": True}}, "read: log-probs left out: the request does not sample"),
    ("tgi", {"parameters": {"do_sample": False, "temperature": 1.0}}, "read: log-probs left out: the request does not"),
    ("tgi", {"parameters": {}}, "read: log-probs left out: the row names no sampler"),
]


@pytest.mark.parametrize(("engine", "request_", "said"), SAMPLERS)
def test_whose_log_probs_they_are(engine: str, request_: dict[str, Any], said: str) -> None:
    row = pair(engine, **request_)
    assert code(row).startswith(said)
    assert (code(row) == "read: ") == (said == "read: ")
    if said == "read: ":
        assert only(row).behavior_logprobs == [-0.5, -0.25, 0.0]
    elif said.startswith("read"):
        assert (only(row).behavior_logprobs, only(row).token_ids) == (None, None)
        assert taken(row).reading.text.endswith(only(row).left)
    if said == "not_sampler_logprobs":
        assert only(row | {"logprobs_mode": "processed_logprobs"}).behavior_logprobs == [-0.5, -0.25, 0.0]


def test_tgis_log_probs_are_of_its_sampler() -> None:
    trace = only(pair("tgi", parameters={"temperature": 0.6, "top_p": 0.9}))
    assert (trace.temperature, trace.top_p) == (0.6, 0.9)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("temperature", 0.8), ("top_k", 40), ("top_p", 0.95), ("min_p", 0.05), ("typical_p", 0.9), ("mirostat", 2),
        ("repeat_penalty", 1.1), ("presence_penalty", 0.5), ("dry_multiplier", 0.8), ("xtc_probability", 0.1),
        ("top_n_sigma", 1.0), ("grammar", "root ::= [0-9]"), ("logit_bias", [[5, 1.0]]), ("top_k", None),
        ("min_p", None),
    ],
)  # fmt: skip
def test_llama_cpps_log_probs_are_of_no_sampler_but_the_plain_one(path: str, value: Any) -> None:
    response = changed(LLAMA, f"generation_settings.{path}", value)
    assert code(pair("llama_cpp", response)) == "not_sampler_logprobs"
    unused = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "typical_p": 0.9, "xtc_probability": 0.1,
              "dry_multiplier": 0.8}  # fmt: skip
    if path in unused:  # a sampler that is not in the chain does nothing
        assert code(pair("llama_cpp", changed(response, "generation_settings.samplers", []))) == "read: "


def test_llama_cpp_without_its_settings_goes_by_the_request() -> None:
    bare = {key: value for key, value in LLAMA.items() if key != "generation_settings"}
    assert code(pair("llama_cpp", bare)) == "read: log-probs left out: the row names no sampler"
    assert code(pair("llama_cpp", bare, temperature=1.0)) == "not_sampler_logprobs"  # its top_k is 40
    plain = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repeat_penalty": 1.0}
    assert only(pair("llama_cpp", bare, **plain)).behavior_logprobs == [-0.5, -0.25, 0.0]


def test_probabilities_are_no_log_probs() -> None:
    after = [{"id": 7, "token": "It", "bytes": [], "prob": 0.6, "top_probs": [{"id": 7, "token": "It", "prob": 0.6}]}]
    old = [{"content": "It", "probs": [{"tok_str": "It", "prob": 0.6}, {"tok_str": "I", "prob": 0.1}]}]
    for recorded, said in ((after, "post_sampling_probs"), (old, "before 2025")):
        row = pair("llama_cpp", changed(LLAMA, "completion_probabilities", recorded))
        (found,) = taken(row).items
        assert isinstance(found, RowError)
        assert found.code == "not_sampler_logprobs"
        assert said in found.message
    ended = {"content": "It is #### 4", "stop": True, "stopped_eos": True, "stopped_word": False,
             "stopped_limit": False, "stopping_word": "", "model": "m", "tokens_predicted": 3}  # fmt: skip
    assert only(pair("llama_cpp", ended)).completion == "It is #### 4"  # the old form without them
    assert code(pair("llama_cpp", ended | {"stopped_eos": False, "stopped_limit": True})) == "truncated"


ODD: list[tuple[str, str, Any, str]] = [
    ("sglang", "meta_info.finish_reason", None, "truncated"),
    ("sglang", "meta_info.finish_reason", {"type": "abort", "message": "gone"}, "truncated"),
    ("sglang", "meta_info.finish_reason", "length", "truncated"),
    ("sglang", "output_ids", [7, 8], "bad_field"),
    ("sglang", "meta_info.completion_tokens", 4, "bad_field"),
    ("sglang", "meta_info.output_token_logprobs.1", [0.25, 8, None], "bad_field"),
    ("sglang", "meta_info.output_token_logprobs.1", [None, 8, None], "bad_field"),
    ("sglang", "meta_info.output_token_logprobs.1", [-0.25], "bad_field"),
    ("sglang", "meta_info.output_top_logprobs", [[[-0.5, 7, None], [-2.0, 9, None]]], "bad_field"),
    ("sglang", "text", ["one", "two"], "ambiguous_format"),
    ("sglang", "reasoning_content", "I think that two and two make four.", "ambiguous_format"),
    ("tgi", "details.finish_reason", "length", "truncated"),
    ("tgi", "details.finish_reason", "stop_sequence", "no_end"),
    ("tgi", "details.generated_tokens", 4, "bad_field"),
    ("tgi", "details.tokens.1.logprob", 0.5, "bad_field"),
    ("tgi", "details.tokens.1", {"id": 8}, "bad_field"),
    ("tgi", "details.best_of_sequences", ["text"], "bad_field"),
    ("tgi", "details", ["text"], "bad_field"),
    ("llama_cpp", "stop_type", "limit", "truncated"),
    ("llama_cpp", "stop_type", "none", "truncated"),
    ("llama_cpp", "stop", False, "truncated"),
    ("llama_cpp", "truncated", True, "truncated"),
    ("llama_cpp", "stopping_word", "END", "no_end"),
    ("llama_cpp", "tokens", [7, 6, 8, 2], "bad_field"),  # one that splits a character has no log-prob
    ("llama_cpp", "completion_probabilities.1.logprob", -3.4028234663852886e38, "bad_field"),  # of probability 0
    ("llama_cpp", "prompt", "<s>3+3?", "other_request"),
]


@pytest.mark.parametrize(("engine", "path", "value", "reason"), ODD)
def test_what_is_odd_is_refused(engine: str, path: str, value: Any, reason: str) -> None:
    assert code(pair(engine, changed(RESPONSES[engine], path, value))) == reason


def test_without_token_ids_the_bytes_must_say_the_content() -> None:
    bare = changed(LLAMA, "tokens", [])
    assert only(pair("llama_cpp", bare)).token_ids == [7, 8, 2]
    assert code(pair("llama_cpp", changed(bare, "completion_probabilities.1.bytes", []))) == "bad_field"
    assert code(pair("llama_cpp", changed(bare, "completion_probabilities.1.bytes", None))) == "bad_field"


def test_stop_strings() -> None:
    row = pair("sglang", changed(SGLANG, "meta_info.finish_reason", {"type": "stop", "matched": "END"}))
    assert only(row).stopped_by == "END"
    ended = changed(changed(TGI, "generated_text", "It is #### 4\nQ:"), "details.finish_reason", "stop_sequence")
    with_log_probs = only(pair("tgi", ended, parameters={"do_sample": True, "stop": ["\nQ:", "x"]}))
    assert (with_log_probs.completion, with_log_probs.stopped_by) == ("It is #### 4\nQ:", "\nQ:")
    text = only(pair("tgi", changed(ended, "details.tokens", []), parameters={"stop": ["\nQ:"]}))
    assert (text.completion, text.stopped_by) == ("It is #### 4", "\nQ:")
    assert code(pair("tgi", ended, parameters={"stop": ["Q:", "\nQ:"]})) == "no_end"


@pytest.mark.parametrize(
    ("engine", "change", "reason"),
    [
        ("sglang", {"text": [ASKED, ASKED]}, "ambiguous_format"),
        ("sglang", {"text": None, "input_ids": [5, 6]}, "no_prompt"),
        ("sglang", {"image_data": "a.png"}, "bad_messages"),
        ("sglang", {"context": "Four hens live in a house at the end of the road."}, "ambiguous_format"),
        ("llama_cpp", {"prompt": {"prompt_string": "<__media__>", "multimodal_data": ["…"]}}, "bad_field"),
        ("tgi", {"inputs": "  "}, "empty_prompt"),
    ],
)
def test_requests_that_are_not_of_one_text(engine: str, change: dict[str, Any], reason: str) -> None:
    assert code(pair(engine, **change)) == reason


def test_a_system_prompt_and_a_thought_in_columns_beside() -> None:
    beside = {"system": "Be brief.", "thinking": "Two and two make four."}
    row = {"prompt": "2+2?", "output": changed(SGLANG, "meta_info.output_token_logprobs", []), **beside}
    assert only(row).prompt == [{"role": "system", "content": "Be brief."}, USER]
    assert only(row).completion.startswith("<think>\nTwo and two make four.")
    assert code({"prompt": "2+2?", "output": SGLANG, "sampling_params": PLAIN, **beside}) == "ambiguous_format"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_response_as_text_is_not_taught(engine: str) -> None:
    for value in (RESPONSES[engine], [RESPONSES[engine]]):
        assert code({"prompt": "2+2?", "response": json.dumps(value)}) == "ambiguous_format"
        assert code({"problem": "2+2?", "response": json.dumps(value), "gold": "4"}) == "ambiguous_format"
    assert code({"prompt": "A response of yours?", "response": '{"text": "#### 4"}'}) == "read: "
