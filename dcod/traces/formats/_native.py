"""Engines' own generate responses beside their requests: what SGLang, TGI and llama.cpp have in common.

A row is a response with the prompt beside it, in its own columns (``prompt``, ``text``, ``meta_info``), or a pair: a
response, or a list of several, in a column such as ``response``, and the request in ``request``, or its fields beside
it. Log-probs are taken where they are the sampler's. A row that names no sampler is read for its text, which is said.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dcod.traces import columns
from dcod.traces.formats._fields import (
    COMMON,
    GOLDS,
    MORE_GOLDS,
    REASONING,
    SYSTEMS,
    asked,
    check_prompt,
    each,
    final_answer,
    first_key,
    goes_on,
    has_turns,
    make,
    name,
    text,
    thought_of,
    turns,
    with_system,
)
from dcod.traces.formats._sampled import check_finish, check_logprobs
from dcod.traces.refusals import RowError
from dcod.traces.schema import Message, Trace

RESPONSES = (
    "response", "responses", "output", "outputs", "result", "results", "completion", "completions", "generation",
    "generations",
)  # fmt: skip
REQUESTS = ("request", "input", "payload")
_PROMPTS = ("prompt", "inputs", "question", "problem", "text")
_REQUEST = frozenset(
    (*_PROMPTS, "messages", "sampling_params", "parameters", "input_ids", "stop", "samplers", "grammar", "json_schema",
     "logit_bias", "model", "rid", "lora_path", "custom_logit_processor", "dry_sequence_breakers", "response_fields")
)  # fmt: skip
_MEDIA = ("image_data", "audio_data", "video_data", "images", "multimodal_data", "tools")
READS = {
    "chat": ("messages",), "gold": (*GOLDS, *MORE_GOLDS), "thought": REASONING, "system": SYSTEMS, **COMMON,
    **{key: (key,) for key in ("request", "logprobs_mode", "tokenizer_digest", "custom_id")},
}  # fmt: skip
_MARKS = ('"meta_info"', '"generated_text"', '"stop_type"', '"generation_settings"', '"completion_probabilities"')
UNSAID = "log-probs left out: the row names no sampler"


@dataclass(frozen=True)
class Answer:
    """One completion of a response, as its engine says it.

    Attributes:
        text: as it is taught.
        finish: how it ended, in OpenAI's words; None where the engine does not say.
        stopped: the stop string or token.
        ids: of the sampled tokens, the end included.
        logprobs: of each.
        tops: the likeliest at each, ids and log-probs; empty for none.
        temperature: of the sampler whose log-probs they are.
        top_p: likewise.
        left: why recorded log-probs are knowingly left out.
        model: who wrote it.
    """

    text: str
    finish: str | None = None
    stopped: str | int | None = None
    ids: Sequence[int] = ()
    logprobs: Sequence[float] = ()
    tops: Sequence[Mapping[int, float]] = ()
    temperature: float | None = None
    top_p: float | None = None
    left: str = ""
    model: str = ""


@dataclass(frozen=True)
class Pair:
    """A request and its responses, out of a row."""

    row: Mapping[str, Any]
    request: Mapping[str, Any]
    responses: Sequence[Mapping[str, Any]]
    flat: bool

    def said(self, key: str) -> Any:
        """A field of the request, which may stand in the row itself."""
        value = self.request.get(key)
        return self.row.get(key) if value is None else value

    def params(self, key: str) -> Mapping[str, Any]:
        """A section of the request.

        Raises:
            RowError: it is none, or there are several.
        """
        value = self.said(key)
        if isinstance(value, list):
            raise RowError("ambiguous_format", f"{key}: {len(value)} of them: a batch of requests in one row")
        if value is not None and not isinstance(value, dict):
            raise RowError("bad_field", f"{key}: expected an object, got {type(value).__name__}")
        return value or {}


def is_sglang(value: Any) -> bool:
    """Whether this is a response of SGLang's generate."""
    return isinstance(value, dict) and isinstance(value.get("meta_info"), dict) and "text" in value


def is_tgi(value: Any) -> bool:
    """Whether this is a response of text-generation-inference."""
    return isinstance(value, dict) and "generated_text" in value


def is_llama_cpp(value: Any) -> bool:
    """Whether this is a response of llama.cpp's server."""
    if not isinstance(value, dict) or not isinstance(value.get("content"), str) or "role" in value:
        return False
    marks = ("stop_type", "stopped_eos", "completion_probabilities", "generation_settings", "tokens_predicted")
    return type(value.get("stop")) is bool or any(value.get(key) is not None for key in marks)


def is_native(row: Mapping[str, Any]) -> bool:
    """Whether a row is a pair of a request and such a response; other formats leave it alone."""
    return any(_responses(row, known) is not None for known in (is_sglang, is_tgi, is_llama_cpp))


def fits(row: Mapping[str, Any], known: Callable[[Any], bool]) -> bool:
    """Whether a row is a response of an engine, or a pair."""
    return known(row) or _responses(row, known) is not None


def check_said(completion: str) -> str:
    """A completion, unless it is the text of such a response.

    Raises:
        RowError: ``ambiguous_format``.
    """
    if completion.lstrip()[:1] in ("{", "[") and any(mark in completion for mark in _MARKS):
        try:
            content = json.loads(completion)
        except (ValueError, RecursionError):
            return completion
        first = content[0] if isinstance(content, list) and content else content
        if is_sglang(first) or is_tgi(first) or is_llama_cpp(first):
            told = "an engine's response as text of JSON; record the object itself, or map what is in it"
            raise RowError("ambiguous_format", f"{told}: {completion[:60]!r}")
    return completion


def _responses(row: Mapping[str, Any], known: Callable[[Any], bool]) -> list[dict[str, Any]] | None:
    for key in RESPONSES:
        value = row.get(key)
        responses: list[Any] = value if isinstance(value, list) else [value]
        if responses and all(map(known, responses)):
            return responses
    return None


def traces(
    row: dict[str, Any],
    known: Callable[[Any], bool],
    answers: Callable[[Pair, Mapping[str, Any]], Iterator[Callable[[], Answer]]],
    of_response: frozenset[str],
) -> list[Trace | RowError]:
    """The traces of a row: one for each completion of each response.

    Args:
        row: without nulls.
        known: whether something is a response of the engine.
        answers: of a response, each to be read by itself.
        of_response: what its fields are called.

    Raises:
        RowError: the request is none, or of several prompts.
    """
    responses = _responses(row, known)
    if responses is None and not known(row):
        raise RowError("no_completion", f"no response of this engine in {', '.join(map(str, row))[:200] or 'the row'}")
    body: dict[str, Any] = next((row[key] for key in REQUESTS if isinstance(row.get(key), dict)), {})
    inner = body.get("body") if isinstance(body.get("body"), dict) else body.get("json")
    pair = Pair(row, inner if isinstance(inner, dict) else body, responses or [row], responses is None)
    prompt, opening = _prompt(pair)
    _account(pair, prompt, of_response)
    parts = [part for response in pair.responses for part in answers(pair, response)]
    return each(lambda part: _trace(pair, part(), prompt, opening), parts)


def _prompt(pair: Pair) -> tuple[list[Message], str]:
    holders = [pair.request, {key: value for key, value in pair.row.items() if key not in _own(pair)}]
    holders += [{"prompt": response.get("prompt")} for response in pair.responses[:1] if not pair.flat]
    for holder in holders:
        if holder.get("messages") is not None:
            return turns(holder["messages"]), ""
        key = first_key(holder, _PROMPTS)
        if key is None:
            continue
        value = holder[key]
        if has_turns(value):
            return turns(value), ""
        if isinstance(value, list):
            raise RowError("ambiguous_format", f"{key}: {len(value)} prompts in one row; write a row of each")
        _check_same(pair, value)
        return asked(text(dict(holder), key))
    raise RowError("no_prompt", "no prompt as text beside the response; join the request in as `request`")


def _own(pair: Pair) -> tuple[str, ...]:
    """What in the row is the response's, not the request's."""
    return ("text",) if pair.flat and is_sglang(pair.row) else ()


def _check_same(pair: Pair, prompt: Any) -> None:
    """Refuses a response that repeats another prompt: responses come back in any order."""
    for response in () if pair.flat else pair.responses:
        echoed = response.get("prompt")
        if isinstance(echoed, str) and isinstance(prompt, str):
            one, other = columns.flat(prompt), columns.flat(echoed)
            if one not in other and other not in one:
                raise RowError("other_request", f"the answer to {echoed!r:.60} beside the request {prompt!r:.60}")


def _account(pair: Pair, prompt: list[Message], of_response: frozenset[str]) -> None:
    """Refuses a pair in which something that would matter is not read.

    Raises:
        RowError: ``ambiguous_format``, or ``bad_messages`` for pictures and tools.
    """
    if media := next((key for key in _MEDIA if pair.said(key)), ""):
        raise RowError("bad_messages", f"{media}: only texts are taught")
    if pair.flat and not pair.request:
        return
    said = columns.Said((message["content"] for message in prompt), (), True, True)
    parts = [("request", pair.request, _REQUEST)]
    parts += [("response", response, of_response) for response in pair.responses if not pair.flat]
    for what, part, known in parts:
        for column, kind in columns.overlooked(part, known, said):
            raise RowError(
                "ambiguous_format", f"{what}.{column} looks like {kind}, and is not read; a mapping says what"
            )


def _trace(pair: Pair, answer: Answer, prompt: list[Message], opening: str) -> Trace:
    check_finish(answer.finish)
    check_prompt(prompt)
    recorded = bool(answer.logprobs)
    said = answer.text if recorded else goes_on(opening, answer.text)
    row = dict(pair.row)
    if recorded and (thought := thought_of(row)) and columns.flat(thought) not in columns.flat(said):
        raise RowError("ambiguous_format", "a thought stands beside recorded tokens that do not say it")
    trace = make(prompt, said, final_answer(row), row, verbatim=recorded)
    if recorded:
        trace = replace(trace, prompt=with_system(prompt, row), prompt_id="", trace_id="")
    model = answer.model or pair.request.get("model")
    if trace.teacher is None and isinstance(model, str) and model:
        trace = replace(trace, teacher=name({"model": model}, "model"), trace_id="")
    trace = replace(
        trace,
        stopped_by=answer.stopped,
        left=answer.left,
        temperature=trace.temperature if answer.temperature is None else answer.temperature,
        top_p=trace.top_p if answer.top_p is None else answer.top_p,
    )
    if not recorded:
        return trace
    ids, values = list(answer.ids), check_logprobs(list(answer.logprobs))
    if not all(type(token) is int and 0 <= token < 2**31 for token in ids) or len(ids) != len(values):
        raise RowError("bad_field", f"expected a token id for each of {len(values)} log-probs")
    return replace(
        trace,
        token_ids=ids,
        behavior_logprobs=values,
        tokenizer_digest=name(dict(pair.row), "tokenizer_digest"),
        **_tops(answer),
    )


def _tops(answer: Answer) -> dict[str, Any]:
    if not answer.tops or max(map(len, answer.tops)) < 2:
        return {}
    if len(answer.tops) != len(answer.ids):
        raise RowError("bad_field", f"likeliest tokens at {len(answer.tops)} places for {len(answer.ids)} tokens")
    pairs = zip(answer.ids, answer.logprobs, answer.tops, strict=True)
    whole = [{**top, token: value} if token not in top else dict(top) for token, value, top in pairs]
    if not all(type(token) is int and 0 <= token < 2**31 for top in whole for token in top):
        raise RowError("bad_field", "likeliest tokens: expected whole numbers as ids")
    return {
        "top_ids": [list(top) for top in whole],
        "top_logprobs": [check_logprobs(list(top.values())) for top in whole],
    }


def triples(value: Any, what: str) -> list[tuple[int, Any]]:
    """Token ids and log-probs out of SGLang's lists of log-prob, id and perhaps text.

    Raises:
        RowError: they are none.
    """
    listed: list[Any] = value if isinstance(value, list) else [None]
    if not all(isinstance(one, (list, tuple)) and len(one) >= 2 and type(one[1]) is int for one in listed):
        raise RowError("bad_field", f"{what}: expected a list of [log-prob, token id, …]")
    return [(one[1], one[0]) for one in listed]


def objects(value: Any, what: str) -> list[tuple[int, Any]]:
    """The same out of a list of objects with ``id`` and ``logprob``.

    Raises:
        RowError: they are none.
    """
    listed: list[Any] = value if isinstance(value, list) else [None]
    if not all(isinstance(one, dict) and type(one.get("id")) is int and "logprob" in one for one in listed):
        raise RowError("bad_field", f"{what}: expected objects with id and logprob")
    return [(one["id"], one["logprob"]) for one in listed]


def likeliest(value: Any, read: Callable[[Any, str], list[tuple[int, Any]]], what: str) -> list[dict[int, Any]]:
    """The likeliest tokens at each place, by :func:`triples` or :func:`objects`; empty for none.

    Raises:
        RowError: they are none.
    """
    if not isinstance(value or [], list):
        raise RowError("bad_field", f"{what}: expected a list for each token, got {type(value).__name__}")
    return [dict(read(top or [], what)) for top in value or []]
