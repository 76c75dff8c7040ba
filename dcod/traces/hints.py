"""What a mapping might take from a row that no format reads: a word to its owner, never a reading."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from dcod.traces import columns

_ASKED = frozenset(
    ("question", "problem", "prompt", "query", "instruction", "instructions", "input", "user", "human", "task")
)
_SHOWN = 3
_KEYS = 20  # columns, or keys of an object, that are looked at


def hint(row: Mapping[str, Any]) -> str:
    """Which paths of a row may be the prompt, the completion and so on; empty where nothing looks like one."""
    return _told(tuple(sorted(set(_paths(row)))))


def _paths(row: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """The paths of texts, two levels deep, and whether it is a chat that stands there."""
    for name, value in list(row.items())[:_KEYS]:
        yield from _of(name, value, 0)


def _of(path: str, value: Any, level: int) -> Iterator[tuple[str, bool]]:
    if isinstance(value, str):
        yield path, False
    elif isinstance(value, list) and value and isinstance(value[0], str):
        yield f"{path}[*]", False
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        if "role" in value[0] or "from" in value[0]:
            yield path, True
        elif level == 0:
            yield from _of(f"{path}[*]", value[0], 0)
    elif isinstance(value, dict) and level == 0:
        for key, inner in list(value.items())[:_KEYS]:
            yield from _of(f"{path}.{key}", inner, 1)


@lru_cache(1024)
def _told(paths: tuple[tuple[str, bool], ...]) -> str:
    found: dict[str, list[str]] = {name: [] for name in ("prompt", "completion", "thought", "gold", "messages")}
    for path, is_chat in paths:
        last = path.removesuffix("[*]").rpartition(".")[2]
        named, safe, own = columns.kinds(last)
        if is_chat:
            found["messages"].append(path)
        elif safe or own:
            continue
        elif columns.words(last) & _ASKED and "[*]" not in path and not {"answer", "thought"} & set(named):
            found["prompt"].append(path)
        elif "thought" in named:
            found["thought"].append(path)
        elif "answer" in named or "answer" in columns.words(last):
            found["completion"].append(path)
        elif "gold" in named:
            found["gold"].append(path)
    parts = [f"{role} {' or '.join(names[:_SHOWN])}" for role, names in found.items() if names]
    return f"a mapping says what is what; by their names: {', '.join(parts)}?" if parts else ""
