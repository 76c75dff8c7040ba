"""What SGLang's generate returns, beside its prompt: ``text`` and ``meta_info``, or a list of them where n is above 1.

``meta_info.output_token_logprobs`` has a log-prob, a token id and perhaps a text for each token, the end included. They
are the sampler's at temperature 1, top_p 1, top_k -1 and min_p 0, all said in ``sampling_params``: for what is not said
the server takes the model's generation_config.json.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dcod.traces.formats import _native as native
from dcod.traces.formats._fields import number, text
from dcod.traces.formats._native import Answer, Pair
from dcod.traces.formats._sampled import check_plain
from dcod.traces.refusals import RowError
from dcod.traces.schema import Trace

READS = {
    **native.READS, "prompt": ("prompt", "question", "problem", "text"), "completion": (*native.RESPONSES, "text"),
    **{key: (key,) for key in ("meta_info", "output_ids", "sampling_params", "input", "index")},
}  # fmt: skip
_RESPONSE = frozenset(("text", "meta_info", "output_ids", "prompt"))
_SAID = ("temperature", "top_p", "top_k", "min_p")  # what the server takes from the model where it is not said


def detect(row: dict[str, Any]) -> bool:
    """A text with what SGLang says of it, or a list of them."""
    return native.fits(row, native.is_sglang)


def to_trace(row: dict[str, Any]) -> list[Trace | RowError]:
    """The traces of a row.

    Raises:
        RowError: as :func:`dcod.traces.formats._native.traces`.
    """
    return native.traces(row, native.is_sglang, _answers, _RESPONSE)


def _answers(pair: Pair, response: Mapping[str, Any]) -> Iterator[Any]:
    if isinstance(response["text"], list):
        raise RowError("ambiguous_format", f"text: {len(response['text'])} of them; write a row or an object of each")
    yield lambda: _answer(pair, response)


def _answer(pair: Pair, response: Mapping[str, Any]) -> Answer:
    info = response["meta_info"]
    finish, stopped = _finish(info)
    said, model = text(dict(response), "text"), info.get("model")
    params = pair.params("sampling_params")
    answer: dict[str, Any] = {"text": said, "finish": finish, "stopped": stopped}
    answer |= {key: number({key: params.get(key)}, key) for key in ("temperature", "top_p")}
    answer["model"] = model if isinstance(model, str) else ""
    if not info.get("output_token_logprobs"):
        return Answer(**answer)
    pairs = native.triples(info["output_token_logprobs"], "meta_info.output_token_logprobs")
    ids = [token for token, _ in pairs]
    told = response.get("output_ids")
    if isinstance(told, list) and told and told != ids:
        raise RowError("bad_field", f"output_ids are {len(told)} other tokens than the {len(ids)} with log-probs")
    count = info.get("completion_tokens")
    if type(count) is int and count != len(ids):
        raise RowError("bad_field", f"output_token_logprobs: {len(ids)} tokens, meta_info.completion_tokens is {count}")
    if check_plain(params, pair.said, _SAID):
        return Answer(**answer, left=native.UNSAID)
    tops = native.likeliest(info.get("output_top_logprobs"), native.triples, "output_top_logprobs")
    return Answer(**answer, ids=ids, logprobs=[value for _, value in pairs], tops=tops)


def _finish(info: Mapping[str, Any]) -> tuple[str | None, str | int | None]:
    """How it ended, and the stop string or token."""
    if "finish_reason" not in info:
        return None, None
    reason = info["finish_reason"]
    if reason is None:
        raise RowError("truncated", "meta_info.finish_reason is null: a part of a completion that goes on")
    if not isinstance(reason, dict):
        return str(reason), None
    matched = reason.get("matched")
    matched = matched[0] if isinstance(matched, list) and len(matched) == 1 else matched
    known = type(matched) is int or (isinstance(matched, str) and matched)
    return str(reason.get("type")), matched if known else None
