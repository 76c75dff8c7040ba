"""vLLM's request outputs as rows: ``outputs`` with ``text``, ``token_ids`` and ``logprobs``, one output a row.

The prompt is ``messages``, else ``prompt``: a text in ChatML or Llama-3 marks is taken apart, any other becomes
the user's message. ``sampling_params`` and ``tokenizer_digest`` may stand beside them.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from dcod.traces.formats._fields import ROLES, check_prompt, final_answer, make, name, text, turns
from dcod.traces.formats._find import RowError
from dcod.traces.formats._sampled import check_finish, check_logprobs, check_sampler, sampler, stop, tops
from dcod.traces.schema import Message, Trace

_TURNS = {
    "<|im_start|>": re.compile(r"<\|im_start\|>(\w+)\n(.*?)(?:<\|im_end\|>\n?|\Z)", re.DOTALL),
    "<|start_header_id|>": re.compile(
        r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n(.*?)(?:<\|eot_id\|>|\Z)", re.DOTALL
    ),
}


def detect(row: dict[str, Any]) -> bool:
    """A list of outputs."""
    return isinstance(row.get("outputs"), list)


def to_trace(row: dict[str, Any]) -> Trace:
    """The output's text is the completion; its tokens and log-probs come along where they are the sampler's."""
    outputs = row.get("outputs")
    if not (isinstance(outputs, list) and outputs and isinstance(outputs[0], dict)):
        raise RowError("no_completion", "outputs: expected a list with one output")
    if len(outputs) > 1:
        raise RowError("several_completions", f"{len(outputs)} outputs in one row; write one row an output")
    output = outputs[0]
    check_finish(output.get("finish_reason"))
    prompt = turns(row["messages"]) if row.get("messages") else untemplated(text(row, "prompt"))
    check_prompt(prompt)
    trace = make(prompt, text(output, "text"), final_answer(row), row)
    params = row.get("sampling_params") or {}
    if not isinstance(params, dict):
        raise RowError("bad_field", f"sampling_params: expected an object, got {type(params).__name__}")
    temperature, top_p = sampler(row, params)
    trace = replace(trace, temperature=temperature, top_p=top_p, stopped_by=stop(output))
    if not output.get("logprobs"):
        return trace
    check_sampler(temperature, top_p, row.get("logprobs_mode"))
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


def untemplated(prompt: str) -> list[Message]:
    """The messages of a templated prompt; any other text is what the user says.

    Raises:
        RowError: a turn has an unknown role.
    """
    for mark, pattern in _TURNS.items():
        if mark not in prompt:
            continue
        found = [(role, content.strip()) for role, content in pattern.findall(prompt)]
        unknown = [role for role, _ in found if role not in ROLES]
        if unknown:
            raise RowError("bad_messages", f"role {unknown[0]!r} is unknown; known: {', '.join(ROLES)}")
        return [{"role": ROLES[role], "content": content} for role, content in found if content]
    return [{"role": "user", "content": prompt}]


def _chosen(logprobs: Any, ids: list[int]) -> list[float]:
    """The sampled tokens' log-probs out of {token id: {"logprob": …}} by position."""
    if not isinstance(logprobs, list) or len(logprobs) != len(ids):
        size = len(logprobs) if isinstance(logprobs, list) else "no list of"
        raise RowError("bad_field", f"logprobs: {size} positions for {len(ids)} tokens")
    found = []
    for position, (entry, token) in enumerate(zip(logprobs, ids, strict=True)):
        value = entry.get(str(token)) if isinstance(entry, dict) else entry
        value = value.get("logprob") if isinstance(value, dict) else value
        if value is None:
            raise RowError("bad_field", f"logprobs: none for the sampled token {token} at position {position}")
        found.append(value)
    return check_logprobs(found)
