"""vLLM's request outputs as rows: ``outputs`` with ``text``, ``token_ids`` and ``logprobs``, each a trace.

The prompt is ``messages``, else ``prompt``: a text in the marks of a chat template is taken apart, any other becomes
the user's message. ``sampling_params`` and ``tokenizer_digest`` may stand beside them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dcod.traces.formats._beside import check_calls, with_reasoning
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
    goes_on,
    make,
    name,
    text,
    turns,
    with_system,
)
from dcod.traces.formats._native import is_native
from dcod.traces.formats._sampled import check_finish, check_logprobs, check_sampler, sampler, stop, tops
from dcod.traces.refusals import RowError
from dcod.traces.schema import Trace

READS = {
    "chat": ("messages",), "prompt": ("prompt",), "completion": ("outputs",), "gold": (*GOLDS, *MORE_GOLDS),
    "thought": REASONING, "system": SYSTEMS, **COMMON,
    **{key: (key,) for key in ("sampling_params", "logprobs_mode", "tokenizer_digest", "prompt_token_ids")},
}  # fmt: skip


def detect(row: dict[str, Any]) -> bool:
    """A list of outputs, and no other engine's."""
    return isinstance(row.get("outputs"), list) and not is_native(row)


def to_trace(row: dict[str, Any]) -> Trace:
    """The trace of a row with one output.

    Raises:
        RowError: ``several_completions``, or what is wrong with the output.
    """
    outputs = _outputs(row)
    if len(outputs) > 1:
        raise RowError("several_completions", f"{len(outputs)} outputs in one row; to_traces takes them all")
    return _of(row, outputs[0])


def to_traces(row: dict[str, Any]) -> list[Trace | RowError]:
    """A trace an output."""
    return each(lambda output: _of(row, output), _outputs(row))


def _outputs(row: dict[str, Any]) -> list[dict[str, Any]]:
    outputs = row.get("outputs")
    if not (isinstance(outputs, list) and outputs and isinstance(outputs[0], (dict, str))):
        raise RowError("no_completion", "outputs: expected a list of objects or texts")
    return [{"text": one} if isinstance(one, str) else one for one in outputs]  # DSPy's are texts


def _of(row: dict[str, Any], output: Any) -> Trace:
    """The output's text is the completion; its tokens and log-probs come along where they are the sampler's."""
    if not isinstance(output, dict):
        raise RowError("no_completion", f"outputs: expected objects, got {type(output).__name__}")
    check_finish(output.get("finish_reason"))
    prompt, opening = (turns(row["messages"]), "") if row.get("messages") else asked(text(row, "prompt"))
    check_prompt(prompt)
    check_calls(output)
    recorded = bool(output.get("logprobs"))
    said = text(output, "text")
    said = said if recorded else goes_on(opening, with_reasoning(output, said))
    trace = make(prompt, said, final_answer(row), row, verbatim=recorded)
    if recorded:
        trace = replace(trace, prompt=with_system(prompt, row), prompt_id="", trace_id="")
    params = row.get("sampling_params") or {}
    if not isinstance(params, dict):
        raise RowError("bad_field", f"sampling_params: expected an object, got {type(params).__name__}")
    temperature, top_p = sampler(row, params)
    trace = replace(trace, temperature=temperature, top_p=top_p, stopped_by=stop(output))
    if not recorded:
        return trace
    check_sampler(temperature, top_p, row.get("logprobs_mode"), params)
    ids = output.get("token_ids")
    if not (isinstance(ids, list) and all(type(item) is int and 0 <= item < 2**31 for item in ids)):
        raise RowError("bad_field", "token_ids: expected a list of whole numbers")
    return replace(
        trace,
        token_ids=ids,
        behavior_logprobs=_chosen(output["logprobs"], ids),
        **tops(output["logprobs"]),
        tokenizer_digest=name(row, "tokenizer_digest"),
    )


def _chosen(logprobs: Any, ids: list[int]) -> list[float]:
    """The sampled tokens' log-probs out of {token id: {"logprob": …}} by position."""
    if not isinstance(logprobs, list) or len(logprobs) != len(ids):
        size = len(logprobs) if isinstance(logprobs, list) else "no list of"
        raise RowError("bad_field", f"logprobs: {size} positions for {len(ids)} tokens")
    values = []
    for position, (entry, token) in enumerate(zip(logprobs, ids, strict=True)):
        value = entry.get(str(token)) if isinstance(entry, dict) else entry
        value = value.get("logprob") if isinstance(value, dict) else value
        if value is None:
            raise RowError("bad_field", f"logprobs: none for the sampled token {token} at position {position}")
        values.append(value)
    return check_logprobs(values)
