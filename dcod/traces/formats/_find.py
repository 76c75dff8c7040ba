"""Formats found by name or by a row, and how a row is refused."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Protocol, cast

from dcod.errors import UserError
from dcod.traces.refusals import RowError
from dcod.traces.schema import Trace


class Format(Protocol):
    """What a module of this package offers.

    ``READS`` says which columns it takes, by what they are: of several that may be one thing, the first that is there.
    A module whose rows may hold several completions has ``to_traces`` besides, or ``to_trace`` gives a list.
    """

    READS: Mapping[str, Sequence[str]]

    def detect(self, row: dict[str, Any]) -> bool: ...

    def to_trace(self, row: dict[str, Any]) -> Trace: ...  # or a list of traces and errors


_PLAIN = frozenset({str, int, float, bool})
_LOOKED_INTO = frozenset({"input", "custom_id"})  # whose values decide as well


@cache
def names() -> list[str]:
    """The names of all formats, sorted."""
    return sorted(
        item.name for item in pkgutil.iter_modules([str(Path(__file__).parent)]) if not item.name.startswith("_")
    )


@cache
def get(name: str) -> Format:
    """The format of a name.

    Raises:
        UserError: there is no such format.
    """
    if name not in names():
        raise UserError(f"ingest.format {name!r}: unknown; known: auto, {', '.join(names())}")
    return cast(Format, importlib.import_module(f"{__package__}.{name}"))


def fitting(filled: dict[str, Any]) -> list[str]:
    """The names of the formats that a row without nulls fits, sorted."""
    kinds = tuple(map(type, filled.values()))
    if _PLAIN.issuperset(kinds) and _LOOKED_INTO.isdisjoint(filled):
        return list(_by_types(tuple(filled), kinds))
    return [name for name, detects in _detectors() if detects(filled)]


@lru_cache(1024)
def _by_types(keys: tuple[str, ...], kinds: tuple[type, ...]) -> tuple[str, ...]:
    """The same for a row of texts and numbers alone, which its names and types decide."""
    row = {key: kind() for key, kind in zip(keys, kinds, strict=True)}
    return tuple(name for name, detects in _detectors() if detects(row))


@cache
def _detectors() -> list[tuple[str, Callable[[dict[str, Any]], bool]]]:
    return [(name, get(name).detect) for name in names()]


def detect(row: dict[str, Any]) -> str:
    """The name of the one format that a row fits.

    Raises:
        RowError: ``unknown_format`` where none does, ``ambiguous_format`` where several do.
    """
    filled = {key: value for key, value in row.items() if value is not None}  # Parquet fills gaps with nulls
    fits = fitting(filled)
    if not fits:
        keys = ", ".join(key[:40] for key in sorted(filled)[:20]) or "none"
        raise RowError("unknown_format", f"no format has these fields: {keys}")
    if len(fits) > 1:
        raise RowError("ambiguous_format", f"fits {' and '.join(fits)}; set ingest.format to one of them")
    return fits[0]
