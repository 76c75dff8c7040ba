"""What a mapping might take from a row that no format reads: an address for its owner to try, never a reading."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from dcod.traces import columns

_ASKED = frozenset(
    ("question", "problem", "prompt", "query", "instruction", "instructions", "input", "user", "human", "task")
)
_REFERENCE = frozenset(("gold", "final", "correct", "reference", "expected", "truth", "target", "label", "key"))
_EITHER = (frozenset(("result",)), frozenset(("results",)))  # a solution or a reference: nobody knows
_SHOWN = 3
_KEYS = 20  # columns, or keys of an object, that are looked at


def hint(row: Mapping[str, Any]) -> str:
    """How to say which columns of a row are the prompt, the completion and so on, with those that look like it."""
    return _told(tuple(sorted(set(_paths(row)))))


def address(chosen: Mapping[str, str]) -> str:
    """A mapping as it stands behind a source's path, to be copied."""
    return "'SOURCE?" + "&".join(f"{role}={path}" for role, path in chosen.items()) + "'"


def _paths(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The paths of texts and numbers, two levels deep, and whether a text, a number or a chat stands there."""
    for name, value in list(row.items())[:_KEYS]:
        yield from _of(name, value, 0)


def _of(path: str, value: Any, level: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, "text"
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path, "number"
    elif isinstance(value, list) and value and isinstance(value[0], str):
        yield f"{path}[*]", "text"
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        if "role" in value[0] or "from" in value[0]:
            yield path, "chat"
        elif level == 0:
            yield from _of(f"{path}[*]", value[0], 0)
    elif isinstance(value, dict) and level == 0:
        for key, inner in list(value.items())[:_KEYS]:
            yield from _of(f"{path}.{key}", inner, 1)


@lru_cache(1024)
def _told(paths: tuple[tuple[str, str], ...]) -> str:
    by_role: dict[str, list[str]] = {}
    for path, kind in paths:
        if role := _role(path, kind):
            by_role.setdefault(role, []).append(path)
    needed = ("messages",) if "messages" in by_role and "prompt" not in by_role else ("prompt", "completion")
    asked = by_role if all(role in by_role for role in needed) else (*by_role, "gold")
    roles = [role for role in (*needed, "thought", "gold") if role in needed or role in asked]
    told = address({role: by_role.get(role, ["COLUMN"])[0] for role in roles})
    others = [f"{role} {' or '.join(by_role[role][:_SHOWN])}" for role in roles if len(by_role.get(role, ())) > 1]
    return f"say which column is what: {told}" + (f" ({', '.join(others)}?)" if others else "")


def _role(path: str, kind: str) -> str:
    """What a path may be, by its name and by what stands there; empty for nothing."""
    last = path.removesuffix("[*]").rpartition(".")[2]
    named, safe, own = columns.kinds(last)
    words = columns.words(last)
    if kind == "chat":
        return "messages"
    if safe or own or words in _EITHER:
        return ""
    if words & _REFERENCE or kind == "number":
        return "gold" if "gold" in named else ""
    if words & _ASKED and "[*]" not in path and not {"answer", "thought"} & set(named):
        return "prompt"
    if "thought" in named:
        return "thought"
    return "completion" if "answer" in named or "answer" in words else "gold" if "gold" in named else ""
