"""What llama.cpp's server returns from ``/completion``, beside its prompt: ``content``, and how it stopped.

``completion_probabilities`` has an ``id`` and a natural ``logprob`` for each token, a softmax of all logits before any
sampler: the sampler's where the settings say that nothing shifts it. With ``post_sampling_probs`` it has a ``prob``; in
servers of before 2025 it has texts with a ``prob``, no ids. These are no log-probs, and such a row is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dcod.traces.formats import _native as native
from dcod.traces.formats._fields import text
from dcod.traces.formats._native import Answer, Pair
from dcod.traces.formats._sampled import check_plain
from dcod.traces.refusals import RowError
from dcod.traces.schema import Trace

_TOLD = (
    "tokens", "stop", "stop_type", "stopping_word", "stopped_eos", "stopped_word", "stopped_limit", "truncated",
    "generation_settings", "completion_probabilities", "probs", "timings", "model", "has_new_line", "index", "id_slot",
)  # fmt: skip
READS = {
    **native.READS, "prompt": ("prompt", "question", "problem", "text"), "completion": (*native.RESPONSES, "content"),
    **{key: (key,) for key in (*_TOLD, "input") if key != "model"},
}  # fmt: skip
_RESPONSE = frozenset((*_TOLD, "content", "prompt"))
_SAID = ("temperature", "top_k", "top_p", "min_p", "repeat_penalty")  # whose defaults do something, or once did
_ENDS = {"eos": "stop", "word": "stop", "limit": "length"}
_WAY = "map the row to take its text alone (prompt and completion)"


def detect(row: dict[str, Any]) -> bool:
    """A content with how it stopped, or a list of them."""
    flat = native.is_llama_cpp(row) and not isinstance(row.get("reasoning_content"), str) and "choices" not in row
    return flat or (not native.is_llama_cpp(row) and native.fits(row, native.is_llama_cpp))


def to_trace(row: dict[str, Any]) -> list[Trace | RowError]:
    """The traces of a row.

    Raises:
        RowError: as :func:`dcod.traces.formats._native.traces`.
    """
    return native.traces(row, native.is_llama_cpp, _answers, _RESPONSE)


def _answers(pair: Pair, response: Mapping[str, Any]) -> Iterator[Any]:
    yield lambda: _answer(pair, response)


def _answer(pair: Pair, response: Mapping[str, Any]) -> Answer:
    finish, stopped = _finish(response)
    model = response.get("model")
    said = text(dict(response), "content")
    answer: dict[str, Any] = {"text": said, "finish": finish, "stopped": stopped}
    answer["model"] = model if isinstance(model, str) else ""
    recorded = response.get("completion_probabilities") or response.get("probs")
    if not recorded:
        return Answer(**answer)
    _check_kind(recorded)
    settings = response.get("generation_settings") or {}
    if not isinstance(settings, dict):
        raise RowError("bad_field", f"generation_settings: expected an object, got {type(settings).__name__}")
    settings = _active(settings if "temperature" in settings else {**pair.request, **settings})
    if check_plain(settings, pair.said, _SAID):
        return Answer(**answer, left=native.UNSAID)
    if stopped:
        raise RowError("no_end", f"the server keeps no log-probs of the stop string {stopped!r:.60}; {_WAY}")
    pairs = native.objects(recorded, "completion_probabilities")
    ids = [token for token, _ in pairs]
    _check_whole(response, ids, recorded)
    tops = native.likeliest([one.get("top_logprobs") for one in recorded], native.objects, "top_logprobs")
    values = [value for _, value in pairs]
    return Answer(**answer, ids=ids, logprobs=values, tops=tops, temperature=1.0, top_p=1.0)


def _check_kind(recorded: Any) -> None:
    """Refuses what are no log-probs.

    Raises:
        RowError: ``not_sampler_logprobs``, or ``bad_field``.
    """
    if not isinstance(recorded, list) or not all(isinstance(one, dict) for one in recorded):
        raise RowError("bad_field", "completion_probabilities: expected a list of objects")
    if any("prob" in one or "top_probs" in one for one in recorded):
        raise RowError(
            "not_sampler_logprobs",
            "completion_probabilities are probabilities after sampling (post_sampling_probs), no log-probs; ask with "
            f"post_sampling_probs=false, or {_WAY}",
        )
    if any("probs" in one for one in recorded):
        raise RowError(
            "not_sampler_logprobs",
            "completion_probabilities are texts with probabilities (tok_str, prob) of a server of before 2025: no "
            f"log-probs and no token ids; ask a newer one, or {_WAY}",
        )


def _active(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the samplers that are used at all."""
    used = settings.get("samplers")
    if not isinstance(used, list) or not all(isinstance(one, str) for one in used):
        return dict(settings)
    idle = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "typ_p": 1.0, "xtc": 0.0, "dry": 0.0, "temperature": 1.0}
    keys = {"typ_p": "typical_p", "xtc": "xtc_probability", "dry": "dry_multiplier"}
    names = {"typical_p": "typ_p", "top-k": "top_k", "top-p": "top_p", "min-p": "min_p", "typical": "typ_p"}
    active = {names.get(one, one) for one in used}
    return {**settings, **{keys.get(one, one): value for one, value in idle.items() if one not in active}}


def _check_whole(response: Mapping[str, Any], ids: list[int], recorded: list[Any]) -> None:
    """Refuses log-probs of a part of the tokens: one that splits a character has none.

    Raises:
        RowError: ``bad_field``.
    """
    tokens = response.get("tokens")
    if isinstance(tokens, list) and tokens:
        if tokens != ids:
            raise RowError(
                "bad_field", f"completion_probabilities of {len(ids)} tokens, and {len(tokens)} were sampled"
            )
        return
    try:
        said = b"".join(bytes(one["bytes"]) for one in recorded)
    except (KeyError, TypeError, ValueError):
        told = "completion_probabilities: no tokens (return_tokens) and no bytes to compare the content with"
        raise RowError("bad_field", told) from None
    if said != str(response["content"]).encode("utf-8", "surrogatepass"):
        raise RowError("bad_field", "completion_probabilities say another text than content: some token has none")


def _finish(response: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """How it ended, and the stop string."""
    if response.get("stop") is False or response.get("stop_type") == "none":
        raise RowError("truncated", "stop is false: a part of a completion that goes on")
    if response.get("truncated") is True:
        raise RowError("truncated", "truncated: the context was full")
    word = response.get("stopping_word")
    stopped = word if isinstance(word, str) and word else None
    if (kind := response.get("stop_type")) is not None:
        return _ENDS.get(str(kind), str(kind)), stopped
    if response.get("stopped_limit") is True:
        return "length", stopped
    known = any(response.get(key) is True for key in ("stopped_eos", "stopped_word"))
    return "stop" if known else None, stopped
