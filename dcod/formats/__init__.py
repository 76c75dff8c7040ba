"""Trace formats: one file each, found by looking into this folder; each says whether a row is its own.

A format module has ``detect(row) -> bool`` and ``to_trace(row) -> Trace``; a bad row raises :class:`RowError`.
Detection goes through the formats by name, and exactly one must claim a row.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any

from dcod.errors import UserError
from dcod.traces import Message


class RowError(Exception):
    """A row that cannot become a trace; it goes to the quarantine with this code and message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def names() -> list[str]:
    """All formats, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def get(name: str) -> ModuleType:
    """A format by name.

    Raises:
        UserError: there is none of that name.
    """
    if name not in names():
        raise UserError(f"ingest.format: {name!r} is unknown; known: auto, {', '.join(names())}")
    return importlib.import_module(f"dcod.formats.{name}")


def detect(row: dict[str, Any]) -> ModuleType:
    """The format that claims a row.

    Raises:
        RowError: none does, or several do.
    """
    found = [module for name in names() if (module := get(name)).detect(row)]
    if len(found) != 1:
        claims = ", ".join(module.__name__.rpartition(".")[2] for module in found) or "none"
        raise RowError("unknown_format", f"columns {sorted(row)}: formats that claim the row: {claims}")
    return found[0]


def text(row: dict[str, Any], *keys: str) -> str:
    """The first of some columns that the row has, as text.

    Raises:
        RowError: the row has none of them, or it is not text.
    """
    for key in keys:
        if row.get(key) is not None:
            value = row[key]
            if not isinstance(value, str):
                raise RowError("bad_column", f"column {key} holds {type(value).__name__}, not text")
            return value
    raise RowError("missing_column", f"none of the columns {', '.join(keys)} is filled")


def messages(value: Any) -> list[Message]:
    """Chat messages, checked.

    Raises:
        RowError: a message has no text, or a role that is not system, user or assistant.
    """
    if not isinstance(value, list) or not value:
        raise RowError("bad_messages", "expected a list of messages")
    out: list[Message] = []
    for item in value:
        if not isinstance(item, dict) or not isinstance(item.get("content"), str):
            raise RowError("bad_messages", "a message has no text as its content")
        if item.get("role") not in ("system", "user", "assistant"):
            raise RowError("bad_messages", f"role {item.get('role')!r} is not system, user or assistant")
        out.append({"role": item["role"], "content": item["content"]})
    return out


def conversation(value: Any) -> tuple[list[Message], str]:
    """Splits chat messages into the prompt and the last assistant turn.

    Raises:
        RowError: the last turn is not the assistant's, or nothing comes before it.
    """
    turns = messages(value)
    if turns[-1]["role"] != "assistant" or len(turns) < 2:
        raise RowError("no_completion", "the last message is not an answer of the assistant")
    return turns[:-1], turns[-1]["content"]


def optional_text(row: dict[str, Any], *keys: str) -> str | None:
    """The first of some columns that is filled, as text; numbers are written out."""
    value = next((row[key] for key in keys if row.get(key) not in (None, "")), None)
    return None if value is None else str(value)
