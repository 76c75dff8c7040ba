"""Our own rows: ``prompt`` (chat messages) and ``completion`` (text), and any further field of a Trace.

Verdict, answer, split, identities and source are found anew, never taken over.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dcod.formats import RowError
from dcod.formats._fields import check_prompt, final_answer, has_text, has_turns, make, optional_text, text, turns
from dcod.traces import Trace


def detect(row: dict[str, Any]) -> bool:
    """A list of messages as prompt, text as completion."""
    return has_turns(row.get("prompt")) and has_text(row, "completion")


def to_trace(row: dict[str, Any]) -> Trace:
    """Takes a row over; token ids and log-probs must fit each other."""
    prompt = turns(row["prompt"])
    check_prompt(prompt)
    trace = make(prompt, text(row, "completion"), final_answer(row, ("gold",)), row)
    ids, logprobs = row.get("token_ids"), row.get("behavior_logprobs")
    if ids is not None and not (isinstance(ids, list) and all(type(item) is int for item in ids)):
        raise RowError("bad_field", "token_ids: expected a list of whole numbers")
    if logprobs is not None:
        if not (isinstance(logprobs, list) and all(type(item) in (int, float) for item in logprobs)):
            raise RowError("bad_field", "behavior_logprobs: expected a list of numbers")
        if ids is None or len(ids) != len(logprobs):
            known = "no token_ids" if ids is None else f"{len(ids)} token_ids"
            raise RowError("bad_field", f"behavior_logprobs: {len(logprobs)} values for {known}")
        if any(not item <= 0.0 or item == float("-inf") for item in logprobs):
            raise RowError("bad_field", "behavior_logprobs: a log-probability above 0, infinite or not a number")
    attempts = row.get("attempts")
    if attempts is not None and (type(attempts) is not int or attempts < 1):
        raise RowError("bad_field", f"attempts: expected a whole number above 0, got {attempts!r:.40}")
    return replace(
        trace,
        attempts=attempts,
        tokenizer_digest=optional_text(row, "tokenizer_digest"),
        token_ids=ids,
        behavior_logprobs=logprobs,
    )
