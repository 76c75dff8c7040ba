"""OpenAI's answers and batch results: ``choices``, ``response.body.choices`` or ``…output``, each choice a trace.

A batch result does not repeat its request. Put it beside the result as ``request`` (the line of the batch's
input file with the same ``custom_id``), or put ``messages`` there and set ``ingest.format=openai_batch``. Log-probs
have no token ids in this format; dcod.traces.mapping.tokens says what becomes of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dcod.traces.formats._fields import (
    COMMON,
    GOLDS,
    MORE_GOLDS,
    SYSTEMS,
    asked,
    check_prompt,
    each,
    final_answer,
    goes_on,
    has_turns,
    make,
    split_chat,
    text,
    turns,
    with_system,
)
from dcod.traces.formats._native import is_native
from dcod.traces.formats._sampled import check_finish, check_logprobs, check_sampler, sampler, stop
from dcod.traces.refusals import RowError
from dcod.traces.schema import Message, Trace

_OTHERS = (
    "messages", "prompt", "completion", "conversations", "problem", "question", "outputs", "input", "generation",
    "generated_solution", "content", "reasoning_content",
)  # fmt: skip
READS = {
    "completion": ("choices", "response", "result"), "request": ("request",), "chat": ("messages",),
    "gold": (*GOLDS, *MORE_GOLDS), "system": SYSTEMS, **COMMON,
    **{key: (key,) for key in ("custom_id", "key", "error", "logprobs_mode", "usage", "prompt")},
}  # fmt: skip
_KINDS = {"expire": "expired_request", "cancel": "cancelled_request"}
_STATES = ("expired", "canceled", "cancelled", "errored", "error", "failed")


def detect(row: dict[str, Any]) -> bool:
    """Choices, a response with a body, or a line of a batch without either: a request that failed, or was not sent."""
    choices = row.get("choices")
    if "choices" in row and not (isinstance(choices, list) and any(isinstance(one, str) for one in choices)):
        return True
    if (isinstance(row.get("response"), dict) and "body" in row["response"]) or has_choices(row.get("response")):
        return True
    if is_response(row):
        return True
    unsent = "custom_id" in row and not any(key in row for key in _OTHERS)
    return (has_failed(row) or unsent) and not is_native(row)


def has_choices(response: Any) -> bool:
    """Whether a response is a chat completion itself, without a ``body`` around it, as gateways log it."""
    return isinstance(response, dict) and isinstance(response.get("choices"), list)


def is_response(row: dict[str, Any]) -> bool:
    """Whether a row is an answer of the Responses API itself, with its request's fields in it."""
    return row.get("object") == "response" and isinstance(row.get("output"), list)


def has_failed(row: dict[str, Any]) -> bool:
    """Whether a row is a line of a batch that says why there is no answer; other formats leave it alone."""
    return row.get("custom_id") is not None and _failure(row) is not None


def to_trace(row: dict[str, Any]) -> Trace:
    """The trace of a row with one choice.

    Raises:
        RowError: ``several_completions``, or what is wrong with the choice.
    """
    body = _answered(row)
    choices = _choices(body)
    if len(choices) > 1:
        raise RowError("several_completions", f"{len(choices)} choices in one row; to_traces takes them all")
    return _of(row, body, choices[0])


def to_traces(row: dict[str, Any]) -> list[Trace | RowError]:
    """A trace a choice."""
    body = _answered(row)
    return each(lambda choice: _of(row, body, choice), _choices(body))


def _answered(row: dict[str, Any]) -> dict[str, Any]:
    _check_ids(row)
    return _body(row)


def _choices(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The choices of an answer; the output of the Responses API is one, of the same form.

    Raises:
        RowError: there is none.
    """
    if body.get("choices") is None and isinstance(body.get("output"), list):
        return [_of_responses(body)]
    choices = body.get("choices")
    if not (isinstance(choices, list) and choices and isinstance(choices[0], dict)):
        raise RowError("no_completion", "choices: expected a list with one choice")
    return choices


def _of_responses(body: dict[str, Any]) -> dict[str, Any]:
    """What the Responses API says, as a choice: the text of its messages, and what it tells of its thought."""
    texts, told = list[Any](), list[Any]()
    for item in body["output"]:
        kind = item.get("type") if isinstance(item, dict) else None
        if kind == "message":
            texts += item.get("content") or []
        elif kind == "reasoning":
            told += [{"type": "text", "text": _mapping(part).get("text")} for part in
                     item.get("content") or item.get("summary") or []]  # fmt: skip
        else:
            raise RowError("bad_messages", f"output: an item of type {kind!r} is no text")
    why = body.get("incomplete_details") or {}
    cut = "length" if body.get("status") == "incomplete" or "max" in str(why) else "stop"
    separated = [part for one in told for part in (one, {"type": "text", "text": "\n\n"})][:-1]
    return {"finish_reason": cut, "message": {"content": texts, "reasoning_content": separated or None}}


def _prompt(row: dict[str, Any]) -> tuple[list[Message], str]:
    """What was asked: the request's messages, input or prompt, behind its instructions; and a thought it opened."""
    request = _request(row)
    sent, beside = request.get("messages"), row.get("messages")
    if sent and beside and sent != beside:
        raise RowError("other_request", "messages beside the request are not those of the request")
    told = request.get("input", request.get("prompt", row.get("prompt")))
    opening = ""
    if sent or beside:
        prompt = turns(sent or beside)
    elif isinstance(told, str):
        prompt, opening = asked(told)
    else:
        prompt = turns(told or [])
    if not prompt:
        raise RowError("no_prompt", "a result without its request; join the batch's input file in as `request`")
    check_prompt(prompt)
    return with_system(prompt, {"system": request.get("instructions") or request.get("system")}), opening


def _of(row: dict[str, Any], body: dict[str, Any], choice: Any) -> Trace:
    """The choice's message is the completion; its reasoning stands in front, in think tags."""
    choice = _mapping(choice)
    check_finish(choice.get("finish_reason"))
    prompt, opening = _prompt(row)
    if choice.get("message") is None and isinstance(choice.get("text"), str):  # of the older completions
        completion = text(choice, "text")
    else:
        _, completion = split_chat([*prompt, *turns([{"role": "assistant", **_mapping(choice.get("message"))}])])
    recorded = bool(_mapping(choice.get("logprobs") or {}))
    completion = completion if recorded else goes_on(opening, completion)
    trace = make(prompt, completion, final_answer(row), {"model": body.get("model"), **row}, verbatim=recorded)
    temperature, top_p = sampler(row, _request(row))
    trace = replace(trace, temperature=temperature, top_p=top_p, stopped_by=stop(choice))
    tokens = _tokens(_mapping(choice.get("logprobs") or {}))
    if not tokens:
        return trace
    if not has_turns(tokens):
        raise RowError("bad_field", "logprobs.content: expected a list of tokens")
    check_sampler(temperature, top_p, row.get("logprobs_mode"), _request(row))
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


def _tokens(logprobs: dict[str, Any]) -> Any:
    """The tokens with their log-probs; those of the older completions stand in two lists."""
    texts, values = logprobs.get("tokens"), logprobs.get("token_logprobs")
    if not (isinstance(texts, list) and isinstance(values, list)):
        return logprobs.get("content")
    if len(texts) != len(values):
        raise RowError("bad_field", f"logprobs: {len(values)} values for {len(texts)} tokens")
    return [{"token": token, "logprob": value} for token, value in zip(texts, values, strict=True)]


def _bytes(token: dict[str, Any]) -> bytes:
    """What a token stands for: its ``bytes``, as it may be a part of a character; else its text."""
    data = token.get("bytes")
    if isinstance(data, list) and all(type(byte) is int and 0 <= byte < 256 for byte in data):
        return bytes(data)
    return str(token.get("token")).encode("utf-8", "surrogatepass")


def _body(row: dict[str, Any]) -> dict[str, Any]:
    if row.get("choices") is not None or is_response(row):
        return row
    failure = _failure(row)
    if failure:
        raise RowError(*failure)
    if row.get("response") is None:
        raise RowError("no_completion", "a line of a batch without a response: it was not answered")
    response = _mapping(row.get("response"))
    if response.get("body") is None and not has_choices(response):
        raise RowError("no_completion", f"response: neither choices nor a body in {', '.join(response)[:80]}")
    return response if has_choices(response) else _mapping(response["body"])


def _check_ids(row: dict[str, Any]) -> None:
    """Refuses an answer whose request is another one: results come back in any order.

    Raises:
        RowError: ``other_request``.
    """
    parts = [row, *(row[name] for name in ("request", "response", "result") if isinstance(row.get(name), dict))]
    parts += [part["body"] for part in parts if isinstance(part.get("body"), dict)]
    for key in ("custom_id", "key"):
        ids = list(dict.fromkeys(str(part[key]) for part in parts if part.get(key) is not None))
        if len(ids) > 1:
            raise RowError("other_request", f"{key}: the answer to {ids[0]!r:.60} beside the request {ids[1]!r:.60}")


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
    request = _mapping(row.get("request") or (row if is_response(row) else {}))
    return _mapping(request.get("body") or request)


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RowError("bad_field", f"expected an object, got {type(value).__name__}")
    return value
