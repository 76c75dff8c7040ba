"""OpenAI chat completions and batch results: ``choices``, or ``response.body.choices``, one choice a row.

A batch result does not repeat its request. Put it beside the result as ``request`` (the line of the batch's
input file with the same ``custom_id``), or put ``messages`` there and set ``ingest.format=openai_batch``. Log-probs
have no token ids in this format; dcod.traces.mapping says what becomes of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dcod.traces.formats._fields import check_prompt, final_answer, has_turns, make, split_chat, turns
from dcod.traces.formats._find import RowError
from dcod.traces.formats._sampled import check_finish, check_logprobs, check_sampler, sampler, stop
from dcod.traces.schema import Trace

_OTHERS = (
    "messages", "prompt", "completion", "conversations", "problem", "question", "outputs", "input", "generation",
    "generated_solution", "content", "reasoning_content",
)  # fmt: skip
_KINDS = {"expire": "expired_request", "cancel": "cancelled_request"}
_STATES = ("expired", "canceled", "cancelled", "errored", "error", "failed")


def detect(row: dict[str, Any]) -> bool:
    """Choices, a response with a body, or a line of a batch without either: a request that failed, or was not sent."""
    if "choices" in row or (isinstance(row.get("response"), dict) and "body" in row["response"]):
        return True
    return has_failed(row) or ("custom_id" in row and not any(key in row for key in _OTHERS))


def has_failed(row: dict[str, Any]) -> bool:
    """Whether a row is a line of a batch that says why there is no answer; other formats leave it alone."""
    return row.get("custom_id") is not None and _failure(row) is not None


def to_trace(row: dict[str, Any]) -> Trace:
    """The choice's message is the completion; its reasoning stands in front, in think tags."""
    _check_ids(row)
    body = _body(row)
    choices = body.get("choices")
    if not (isinstance(choices, list) and choices and isinstance(choices[0], dict)):
        raise RowError("no_completion", "choices: expected a list with one choice")
    if len(choices) > 1:
        raise RowError("several_completions", f"{len(choices)} choices in one row; write one row a choice")
    choice = choices[0]
    check_finish(choice.get("finish_reason"))
    request = _request(row)
    asked, beside = request.get("messages"), row.get("messages")
    if asked and beside and asked != beside:
        raise RowError("other_request", "messages beside the request are not those of the request")
    prompt = turns(asked or beside or [])
    if not prompt:
        raise RowError("no_prompt", "a result without its request; join the batch's input file in as `request`")
    check_prompt(prompt)
    _, completion = split_chat([*prompt, *turns([{"role": "assistant", **_mapping(choice.get("message"))}])])
    trace = make(prompt, completion, final_answer(row), {"model": body.get("model"), **row})
    temperature, top_p = sampler(row, request)
    trace = replace(trace, temperature=temperature, top_p=top_p, stopped_by=stop(choice))
    tokens = _mapping(choice.get("logprobs") or {}).get("content")
    if not tokens:
        return trace
    if not has_turns(tokens):
        raise RowError("bad_field", "logprobs.content: expected a list of tokens")
    check_sampler(temperature, top_p, row.get("logprobs_mode"))
    pieces = [_bytes(token) for token in tokens]
    whole = completion.encode("utf-8", "surrogatepass")
    said, ended = b"".join(pieces), trace.stopped_by  # a stop string may be in the tokens alone
    stopped = isinstance(ended, str) and said.startswith(whole + ended.encode("utf-8", "surrogatepass"))
    if not stopped and whole not in (said, b"".join(pieces[:-1])):  # servers may record the end of the turn as well
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
    failure = _failure(row)
    if failure:
        raise RowError(*failure)
    if row.get("response") is None:
        raise RowError("no_completion", "a line of a batch without a response: it was not answered")
    return _mapping(_mapping(row.get("response")).get("body"))


def _check_ids(row: dict[str, Any]) -> None:
    """Refuses an answer whose request is another one: results come back in any order.

    Raises:
        RowError: ``other_request``.
    """
    parts = [row, *(row[name] for name in ("request", "response", "result") if isinstance(row.get(name), dict))]
    parts += [part["body"] for part in parts if isinstance(part.get("body"), dict)]
    for key in ("custom_id", "key"):
        found = list(dict.fromkeys(str(part[key]) for part in parts if part.get(key) is not None))
        if len(found) > 1:
            raise RowError(
                "other_request", f"{key}: the answer to {found[0]!r:.60} beside the request {found[1]!r:.60}"
            )


def _failure(row: dict[str, Any]) -> tuple[str, str] | None:
    """Reason code and message of a request that was not answered; None for one that was."""
    parts = [row, *(row[name] for name in ("response", "result") if isinstance(row.get(name), dict))]
    parts += [part["body"] for part in parts if isinstance(part.get("body"), dict)]
    errors = [part["error"] for part in parts if part.get("error")]
    said = [str(part[key]) for part in parts for key in ("status", "type") if isinstance(part.get(key), str)]
    codes = [str(part.get("status_code")) for part in parts if part.get("status_code") not in (None, 200, "200")]
    words = " ".join([*said, *map(str, errors)]).lower()
    kind = next((code for mark, code in _KINDS.items() if mark in words), "failed_request")
    if not errors and not codes and not any(word.lower() in _STATES for word in said):
        return None
    told = [_text(error) for error in errors] or [word for word in said if word.lower() in _STATES]
    return kind, "; ".join([*(f"status {code}" for code in codes), *told])[:300]


def _text(error: Any) -> str:
    """An error as people read it."""
    if not isinstance(error, dict):
        return str(error)
    within = error.get("error")
    inner = within if isinstance(within, dict) else error
    return ": ".join(str(inner[key]) for key in ("code", "type", "message") if inner.get(key)) or str(error)


def _request(row: dict[str, Any]) -> dict[str, Any]:
    request = _mapping(row.get("request") or {})
    return _mapping(request.get("body") or request)


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RowError("bad_field", f"expected an object, got {type(value).__name__}")
    return value
