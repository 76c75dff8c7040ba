"""OpenAI chat completions and batch results: ``choices``, or ``response.body.choices``, one choice a row.

A batch result does not repeat its request. Put it beside the result as ``request`` (the line of the batch's
input file with the same ``custom_id``), or put ``messages`` there and set ``ingest.format=openai_batch``. Log-probs
have no token ids in this format; dcod.mapping says what becomes of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dcod.formats import RowError
from dcod.formats._fields import check_prompt, final_answer, has_turns, make, split_chat, turns
from dcod.formats._sampled import check_finish, check_logprobs, check_sampler, sampler
from dcod.traces import Trace


def detect(row: dict[str, Any]) -> bool:
    """Choices, or a response with a body."""
    return "choices" in row or (isinstance(row.get("response"), dict) and "body" in row["response"])


def to_trace(row: dict[str, Any]) -> Trace:
    """The choice's message is the completion; its reasoning stands in front, in think tags."""
    body = _body(row)
    choices = body.get("choices")
    if not (isinstance(choices, list) and choices and isinstance(choices[0], dict)):
        raise RowError("no_completion", "choices: expected a list with one choice")
    if len(choices) > 1:
        raise RowError("several_completions", f"{len(choices)} choices in one row; write one row a choice")
    choice = choices[0]
    check_finish(choice.get("finish_reason"))
    request = _request(row)
    prompt = turns(request.get("messages") or row.get("messages") or [])
    if not prompt:
        raise RowError("no_prompt", "a result without its request; join the batch's input file in as `request`")
    check_prompt(prompt)
    _, completion = split_chat([*prompt, *turns([{"role": "assistant", **_mapping(choice.get("message"))}])])
    trace = make(prompt, completion, final_answer(row), {"model": body.get("model"), **row})
    temperature, top_p = sampler(row, request)
    trace = replace(trace, temperature=temperature, top_p=top_p)
    tokens = _mapping(choice.get("logprobs") or {}).get("content")
    if not tokens:
        return trace
    if not has_turns(tokens):
        raise RowError("bad_field", "logprobs.content: expected a list of tokens")
    check_sampler(temperature, top_p, row.get("logprobs_mode"))
    pieces = [_bytes(token) for token in tokens]
    whole = completion.encode("utf-8", "surrogatepass")
    if whole not in (b"".join(pieces), b"".join(pieces[:-1])):  # servers may record the end of the turn as well
        raise RowError("bad_field", "logprobs.content: its tokens do not spell the completion")
    logprobs = check_logprobs([token.get("logprob") for token in tokens])
    return replace(
        trace, behavior_logprobs=logprobs, sampled_texts=[piece.decode("utf-8", "replace") for piece in pieces]
    )


def _bytes(token: dict[str, Any]) -> bytes:
    """What a token stands for: its ``bytes``, as it may be a part of a character; else its text."""
    data = token.get("bytes")
    if isinstance(data, list) and all(type(byte) is int and 0 <= byte < 256 for byte in data):
        return bytes(data)
    return str(token.get("token")).encode("utf-8", "surrogatepass")


def _body(row: dict[str, Any]) -> dict[str, Any]:
    if row.get("choices") is not None:
        return row
    response = _mapping(row.get("response"))
    if row.get("error") or response.get("status_code", 200) != 200:
        raise RowError("failed_request", f"status {response.get('status_code')}: {row.get('error')!r:.200}")
    return _mapping(response.get("body"))


def _request(row: dict[str, Any]) -> dict[str, Any]:
    request = _mapping(row.get("request") or {})
    return _mapping(request.get("body") or request)


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RowError("bad_field", f"expected an object, got {type(value).__name__}")
    return value
