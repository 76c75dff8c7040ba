"""What formats with recorded log-probs share: is a completion whole, and are its log-probs the sampler's?

A behaviour log-prob counts only as the sampler's own, after temperature and top-p. Engines report them before
both unless told otherwise, which is the same thing at temperature 1 and top-p 1 only. Anything else is refused:
a ratio made of it would be wrong, and dropping it unseen would change the objective.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dcod.traces import flags
from dcod.traces.formats._fields import number
from dcod.traces.refusals import RowError

# Settings of samplers by the value at which they do nothing; None: any that is empty.
_IDLE: dict[str, float | None] = {
    **dict.fromkeys(("temperature", "top_p", "typical_p", "tfs_z", "repetition_penalty", "repeat_penalty"), 1.0),
    **dict.fromkeys(("top_k", "top_n_sigma", "min_p", "presence_penalty", "frequency_penalty", "dry_multiplier"), 0.0),
    **dict.fromkeys(("xtc_probability", "mirostat", "dynatemp_range", "min_tokens", "min_new_tokens"), 0.0),
    **dict.fromkeys(("logit_bias", "bad_words", "allowed_token_ids", "logits_processors", "custom_logit_processor")),
    **dict.fromkeys(("grammar", "json_schema", "regex", "ebnf", "structural_tag", "guided_decoding", "watermark")),
    **dict.fromkeys(("structured_outputs", "ignore_eos")),
}
_ALL = 10**6  # a top-k from which all tokens are taken
_LOWEST = -1e30  # well inside float32
PROCESSED = "processed_logprobs"  # vLLM's name for log-probs after temperature and top-p


def check_finish(reason: Any) -> None:
    """Refuses a completion that the limit cut: it has no end to teach.

    Raises:
        RowError: ``truncated``.
    """
    if reason in (None, "stop"):
        return
    if reason in ("length", "max_tokens"):
        raise RowError("truncated", "the token limit ended the completion (finish_reason=length)")
    if not flags.has_end(reason):
        raise RowError("truncated", f"the completion was broken off (finish_reason={reason!s:.40})")


def stop(part: dict[str, Any]) -> str | int | None:
    """The stop string, or the id of the stop token, at which an engine ended a completion; None for its own end.

    vLLM tells it as ``stop_reason``, in its outputs and in the choices of its server.
    """
    reason = part.get("stop_reason")
    return reason if type(reason) is int or (isinstance(reason, str) and reason) else None


def sampler(row: dict[str, Any], params: dict[str, Any]) -> tuple[float | None, float | None]:
    """Temperature and top-p from the request's parameters, else from the row."""
    values = [
        number(params, key) if params.get(key) is not None else number(row, key) for key in ("temperature", "top_p")
    ]
    return values[0], values[1]


def check_sampler(
    temperature: float | None, top_p: float | None, mode: Any, params: Mapping[str, Any] | None = None
) -> None:
    """Refuses log-probs that are not the sampler's own.

    Args:
        temperature: of the sampler; None where the row does not say.
        top_p: of the sampler, likewise.
        mode: vLLM's ``logprobs_mode``, where the row says it.
        params: of the request, in which other settings may shift the sampler.

    Raises:
        RowError: ``not_sampler_logprobs``.
    """
    if mode == PROCESSED:
        return
    if temperature == 1.0 and top_p == 1.0:
        _refuse([], shifts({**(params or {}), "temperature": temperature, "top_p": top_p}))
        return
    said = f"temperature {temperature}, top_p {top_p}" if temperature is not None else "no temperature in the row"
    raise RowError(
        "not_sampler_logprobs",
        f"{said}: log-probs are the sampler's only at temperature 1 and top_p 1, or with logprobs_mode={PROCESSED}; "
        "record these, or take the log-probs out of the rows to use the text alone",
    )


def check_plain(params: Mapping[str, Any], beside: Callable[[str], Any], needed: Sequence[str]) -> bool:
    """Whether nothing is said of a sampler at all, so that its log-probs cannot be used.

    Args:
        params: of the sampler.
        beside: gives a setting that stands beside them.
        needed: settings that must be said, since the engine's own defaults may do something.

    Raises:
        RowError: ``not_sampler_logprobs``: some of it is said, and the log-probs are not the sampler's, or may not be.
    """
    if beside("logprobs_mode") == PROCESSED:
        return False
    whole = dict(params) | {key: beside(key) for key in needed if params.get(key) is None}
    missing = [key for key in needed if whole.get(key) is None]
    if len(missing) == len(needed):
        return True
    _refuse(missing, shifts(whole))
    return False


def shifts(params: Mapping[str, Any]) -> list[str]:
    """The settings, with their values, that make a sampler draw from another distribution than the model's own."""
    changed = []
    for key, value in params.items():
        if value is None or key not in _IDLE:
            continue
        idle = _IDLE[key]
        if idle is None:
            shifted = bool(value)
        elif not isinstance(value, (int, float)) or isinstance(value, bool):
            shifted = True
        elif key in ("top_k", "top_n_sigma"):
            shifted = 0 < value < _ALL
        else:
            shifted = value != idle
        if shifted:
            changed.append(f"{key}={value!r:.40}")
    return changed


def _refuse(missing: Sequence[str], shifted: Sequence[str]) -> None:
    if missing or shifted:
        said = [*shifted, *(f"{key} is not said" for key in missing)]
        raise RowError(
            "not_sampler_logprobs",
            f"{', '.join(said)}: the recorded log-probs are the sampler's only where nothing shifts it (temperature 1, "
            f"top_p 1, no top_k, min_p or penalty), or with logprobs_mode={PROCESSED}; record these, or map the row to "
            "take its text alone",
        )


def check_logprobs(values: list[Any]) -> list[float]:
    """Log-probs as numbers.

    Raises:
        RowError: one is none, above 0, or infinite.
    """
    if any(type(value) not in (int, float) or not _LOWEST < value <= 0.0 for value in values):
        raise RowError("bad_field", "log-probs: expected finite numbers of at most 0")
    return [float(value) for value in values]


def tops(logprobs: list[Any]) -> dict[str, Any]:
    """The sampler's likeliest tokens out of {token id: {"logprob": …}} by position, as fields of a trace.

    Empty where only the sampled token was recorded.

    Raises:
        RowError: a token id or a log-prob is none.
    """
    if not all(isinstance(entry, dict) for entry in logprobs) or max(map(len, logprobs)) < 2:
        return {}
    ids, values = [], []
    for entry in logprobs:
        if not all(token.isdecimal() and len(token) <= 10 and int(token) < 2**31 for token in entry):
            raise RowError("bad_field", "logprobs: expected token ids as keys")
        ids.append([int(token) for token in entry])
        values.append(check_logprobs([v.get("logprob") if isinstance(v, dict) else v for v in entry.values()]))
    return {"top_ids": ids, "top_logprobs": values}
