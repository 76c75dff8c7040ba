"""dcod's own record, as JSON Lines or Parquet: the columns of :data:`dcod.traces.SCHEMA`; see docs/traces.md."""

from typing import Any

from dcod.formats import RowError, messages
from dcod.traces import SCHEMA, Trace


def detect(row: dict[str, Any]) -> bool:
    return isinstance(row.get("prompt"), list) and "completion" in row


def to_trace(row: dict[str, Any]) -> Trace:
    unknown = sorted(set(row) - set(SCHEMA.names))
    if unknown:
        raise RowError("unknown_column", f"columns {', '.join(unknown)}; known: {', '.join(SCHEMA.names)}")
    if not isinstance(row["completion"], str):
        raise RowError("bad_column", "column completion is not text")
    values = {k: v for k, v in row.items() if k not in ("prompt", "prompt_id", "trace_id", "verdict", "split")}
    tokens, logprobs = values.get("token_ids"), values.get("behavior_logprobs")
    if logprobs is not None:
        if tokens is None or len(tokens) != len(logprobs):
            raise RowError("bad_logprobs", f"{len(logprobs)} log-probs for {len(tokens or [])} token ids")
        if any(not isinstance(p, int | float) or p != p or p > 1e-3 for p in logprobs):
            raise RowError("bad_logprobs", "a log-prob is not a number at most 0")
    return Trace(prompt=messages(row["prompt"]), **values)
