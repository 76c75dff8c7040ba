"""Whether a mapping fits a source at all: a path that none of its first rows has is a mistake, told before the rest."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from dcod.config.mapping import MapConfig, ProblemMap
from dcod.errors import UserError
from dcod.traces.mapping import paths, values
from dcod.traces.mapping.paths import MissingError

_EACH = ("flags", "where", "join")
_NEEDED = ("prompt", "messages", "completion", "problem", "answer")  # a list of paths must find something at least


def check(source: str, chosen: MapConfig | ProblemMap, rows: Sequence[dict[str, Any]], but: Sequence[str] = ()) -> None:
    """Compares the paths of a mapping with the first rows of a source.

    Args:
        source: as the message names it.
        chosen: the mapping.
        rows: the first ones.
        but: what is not looked at.

    Raises:
        UserError: no row has one of them; with the nearest names.
    """
    for name, texts in values.paths_of(chosen).items():
        if name in but:
            continue
        missing = [text for text in texts if lacks(text, rows)]
        if isinstance(getattr(chosen, name), list) and name not in _EACH:  # the first that is there
            missing = missing[:1] if name in _NEEDED and len(missing) == len(texts) else []
        if missing:
            raise UserError(f"{source}: {name}: no row has {missing[0]!r}{near(missing[0], rows)}")


def lacks(text: str, rows: Sequence[dict[str, Any]]) -> bool:
    """Whether there are rows, and none has a path that must be there."""
    path = paths.parse(text)
    return bool(rows) and not path.optional and not any(has(row, path) for row in rows)


def has(row: Mapping[str, Any], path: paths.Path) -> bool:
    """Whether a row has a path, be it null there."""
    try:
        for _ in paths.spread(row, path):
            return True
    except MissingError:
        return False
    return path.steps[0].kind != "each"  # null there


def near(text: str, rows: Sequence[dict[str, Any]]) -> str:
    """What may have been meant by a path that no row has."""
    path = paths.parse(text)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if path.column in columns:
        try:
            list(paths.spread(rows[0], path))
        except MissingError as error:
            return f" ({error})"
        return ""
    alike = difflib.get_close_matches(path.column, columns, 3, 0.5)
    return f"; did you mean {' or '.join(alike)}?" if alike else f"; columns: {', '.join(columns[:20])}"
