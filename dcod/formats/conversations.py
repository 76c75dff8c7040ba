"""ShareGPT and OpenThoughts: ``{"conversations": [{"from": "human", "value": …}, …], "system": …}``."""

from typing import Any

from dcod.formats import RowError, conversation, optional_text
from dcod.traces import Trace

ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


def detect(row: dict[str, Any]) -> bool:
    return "conversations" in row


def to_trace(row: dict[str, Any]) -> Trace:
    if not isinstance(row["conversations"], list):
        raise RowError("bad_messages", "conversations is not a list")
    turns = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    for turn in row["conversations"]:
        if not isinstance(turn, dict):
            raise RowError("bad_messages", "a turn is not an object")
        turns.append({"role": ROLES.get(str(turn.get("from", turn.get("role"))), "?"), "content": turn.get("value")})
    prompt, completion = conversation(turns)
    return Trace(prompt, completion, gold=optional_text(row, "gold", "expected_answer"))
