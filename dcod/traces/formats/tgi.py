"""What text-generation-inference returns, beside its prompt: ``generated_text``, and ``details`` where asked for.

``details.tokens`` has an id and a log-prob for each token, the end included; ``details.best_of_sequences`` the other
completions of ``best_of``, each with its own. The log-probs are taken after temperature, top-k, top-p and penalties, of
the very scores that are sampled, so they are the sampler's wherever it samples; a greedy one's are left out, and said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dcod.traces.formats import _native as native
from dcod.traces.formats._fields import number, text
from dcod.traces.formats._native import Answer, Pair
from dcod.traces.refusals import RowError
from dcod.traces.schema import Trace

READS = {
    **native.READS, "prompt": ("inputs", "prompt", "question", "problem", "text"),
    "completion": (*native.RESPONSES, "generated_text"),
    **{key: (key,) for key in ("details", "parameters", "input")},
}  # fmt: skip
_RESPONSE = frozenset(("generated_text", "details"))
_SAMPLES = ("temperature", "top_k", "top_p", "typical_p")  # each of which makes it sample, unless it does nothing
_ENDS = {"eos_token": "stop", "stop_sequence": "stop"}
GREEDY = "log-probs left out: the request does not sample (parameters.do_sample)"


def detect(row: dict[str, Any]) -> bool:
    """A generated text, or a list of them."""
    return native.fits(row, native.is_tgi)


def to_trace(row: dict[str, Any]) -> list[Trace | RowError]:
    """The traces of a row.

    Raises:
        RowError: as :func:`dcod.traces.formats._native.traces`.
    """
    return native.traces(row, native.is_tgi, _answers, _RESPONSE)


def _answers(pair: Pair, response: Mapping[str, Any]) -> Iterator[Any]:
    details = response.get("details") or {}
    others = (details.get("best_of_sequences") or ()) if isinstance(details, dict) else ()
    if not isinstance(details, dict) or not all(isinstance(one, dict) for one in others):
        raise RowError("bad_field", "details: expected an object, its best_of_sequences a list of them")
    yield lambda: _answer(pair, text(dict(response), "generated_text"), details)
    for other in others:
        yield lambda other=other: _answer(pair, text(other, "generated_text"), other)


def _answer(pair: Pair, said: str, details: Mapping[str, Any]) -> Answer:
    params = dict(pair.params("parameters"))
    reason = details.get("finish_reason")
    finish = _ENDS.get(str(reason), str(reason)) if reason is not None else None
    stopped = _stop(params, said) if reason == "stop_sequence" else None
    cut = said.removesuffix(stopped) if stopped else said
    if not details.get("tokens") or not params or not _samples(params):
        left = native.UNSAID if not params else GREEDY
        return Answer(cut, finish, stopped, left=left if details.get("tokens") else "")
    pairs = native.objects(details["tokens"], "details.tokens")
    count = details.get("generated_tokens")
    if type(count) is int and count != len(pairs):
        raise RowError("bad_field", f"details.tokens: {len(pairs)} tokens, generated_tokens is {count}")
    return Answer(
        said,
        finish,
        stopped,
        ids=[token for token, _ in pairs],
        logprobs=[value for _, value in pairs],
        tops=native.likeliest(details.get("top_tokens"), native.objects, "details.top_tokens"),
        temperature=1.0 if (told := number(params, "temperature")) is None else told,
        top_p=1.0 if (told := number(params, "top_p")) is None else told,
    )


def _samples(params: dict[str, Any]) -> bool:
    shifts = (params.get(key) for key in _SAMPLES)
    return params.get("do_sample") is True or any(value is not None and value not in (0, 1, 1.0) for value in shifts)


def _stop(params: Mapping[str, Any], said: str) -> str:
    """The stop string in which a text ends, which TGI leaves there.

    Raises:
        RowError: it is not known which.
    """
    stops = params.get("stop") or params.get("stop_sequences") or []
    listed = [stops] if isinstance(stops, str) else stops
    ends = {one for one in listed if isinstance(one, str) and one and said.endswith(one)}
    if len(ends) != 1:
        raise RowError(
            "no_end",
            f"the text ends in a stop string ({said[-20:]!r}), and parameters.stop does not say which; put the request "
            "beside it",
        )
    return ends.pop()
