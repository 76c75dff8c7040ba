"""Our own rows: ``prompt`` (chat messages) and ``completion`` (text), and any further field of a Trace.

Verdict, answer, split, identities and source are found anew, never taken over.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from dcod.traces.formats._fields import (
    COMMON,
    GOLDS,
    MORE_GOLDS,
    REASONING,
    SYSTEMS,
    check_prompt,
    final_answer,
    has_text,
    has_turns,
    make,
    name,
    text,
    turns,
)
from dcod.traces.formats._native import is_native
from dcod.traces.formats._sampled import check_finish, check_logprobs, stop
from dcod.traces.refusals import RowError
from dcod.traces.schema import Trace

_GOLDS = ("gold", "expected_answer", "ground_truth")
_SETS = ({"trace_id"}, {"question", "attempt"})  # columns that only a trace set has, and what `dcod teach` writes
_ANEW = ("answer", "verdict", "split")  # of a trace set: found anew; elsewhere a reference and a flag
_TOLD = ("question", "attempt", "good", "read", "wrote")  # of `dcod teach`: the counts of its attempts
READS = {
    "prompt": ("prompt",), "completion": ("completion",), "gold": (*GOLDS, *MORE_GOLDS), "thought": REASONING,
    "system": SYSTEMS, **COMMON,
    **{key: (key,) for key in (
        "token_ids", "behavior_logprobs", "top_ids", "top_logprobs", "tokenizer_digest", "finish_reason", "stop_reason",
    )},
}  # fmt: skip


def reads(names: Collection[str]) -> dict[str, tuple[str, ...]]:
    """What is read of a row with these columns."""
    own = {"gold": (*_GOLDS, *MORE_GOLDS), **{key: (key,) for key in (*_ANEW, *_TOLD)}}
    return READS | own if _is_own(names) else READS


def detect(row: dict[str, Any]) -> bool:
    """A list of messages as prompt, text as completion."""
    if not (has_turns(row.get("prompt")) and has_text(row, "completion")):
        return False
    return isinstance(row["completion"], str) or not is_native(row)


def to_trace(row: dict[str, Any]) -> Trace:
    """Takes a row over; token ids and log-probs must fit each other."""
    check_finish(row.get("finish_reason"))
    prompt = turns(row.get("prompt"))
    check_prompt(prompt)
    recorded = row.get("token_ids") is not None
    gold = final_answer(row, _GOLDS if _is_own(row) else GOLDS)
    trace = make(prompt, text(row, "completion"), gold, row, verbatim=recorded)
    ids, logprobs = row.get("token_ids"), row.get("behavior_logprobs")
    if ids is not None and not (isinstance(ids, list) and all(type(item) is int and 0 <= item < 2**31 for item in ids)):
        raise RowError("bad_field", "token_ids: expected a list of whole numbers below 2^31")
    if logprobs is not None:
        if not isinstance(logprobs, list):
            raise RowError("bad_field", f"behavior_logprobs: expected a list, got {type(logprobs).__name__}")
        if ids is None or len(ids) != len(logprobs):
            known = "no token_ids" if ids is None else f"{len(ids)} token_ids"
            raise RowError("bad_field", f"behavior_logprobs: {len(logprobs)} values for {known}")
        logprobs = check_logprobs(logprobs)
    return replace(
        trace,
        tokenizer_digest=name(row, "tokenizer_digest"),
        token_ids=ids,
        behavior_logprobs=logprobs,
        stopped_by=stop(row),
        **_tops(row, ids),
    )


def _is_own(names: Collection[str]) -> bool:
    return any(all(key in names for key in one) for one in _SETS)


def _tops(row: dict[str, Any], ids: list[int] | None) -> dict[str, Any]:
    """``top_ids`` and ``top_logprobs``, a list a token each."""
    top_ids, top_logprobs = row.get("top_ids"), row.get("top_logprobs")
    if top_ids is None and top_logprobs is None:
        return {}
    size = -1 if ids is None else len(ids)
    if not (isinstance(top_ids, list) and isinstance(top_logprobs, list) and len(top_ids) == len(top_logprobs) == size):
        raise RowError("bad_field", "top_ids, top_logprobs: expected one list for each of the token_ids, in both")
    pairs = list(zip(top_ids, top_logprobs, strict=True))
    if not all(isinstance(a, list) and isinstance(b, list) and len(a) == len(b) > 0 for a, b in pairs):
        raise RowError("bad_field", "top_ids, top_logprobs: expected lists of like length at every token")
    if not all(type(item) is int and 0 <= item < 2**31 for tokens, _ in pairs for item in tokens):
        raise RowError("bad_field", "top_ids: expected whole numbers below 2^31")
    return {"top_ids": top_ids, "top_logprobs": [check_logprobs(values) for _, values in pairs]}
