"""Whether a mapping fits a source at all: a path that none of its first rows has is a mistake, told before the rest."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from dcod.config.mapping import MapConfig
from dcod.errors import UserError
from dcod.traces.mapping import engine, paths
from dcod.traces.mapping.paths import MissingError

_EACH = ("flags", "where", "join")


def check(source: str, chosen: MapConfig, rows: Sequence[dict[str, Any]]) -> None:
    """Compares the paths of a mapping with the first rows of a source.

    Raises:
        UserError: no row has one of them; with the nearest names.
    """
    for name, texts in engine.paths_of(chosen).items():
        if isinstance(getattr(chosen, name), list) and name not in _EACH:
            continue  # the first that is there; perhaps none
        for text in texts:
            path = paths.parse(text)
            if rows and not path.optional and not any(has(row, path) for row in rows):
                raise UserError(f"source {source}: {name}: no row has {text!r}{_near(path, rows)}")


def has(row: Mapping[str, Any], path: paths.Path) -> bool:
    """Whether a row has a path, be it null there."""
    try:
        for _ in paths.spread(row, path):
            return True
    except MissingError:
        return False
    return path.steps[0].kind != "each"  # null there


def _near(path: paths.Path, rows: Sequence[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if path.column in columns:
        try:
            list(paths.spread(rows[0], path))
        except MissingError as error:
            return f" ({error})"
        return ""
    near = difflib.get_close_matches(path.column, columns, 3, 0.5)
    return f"; did you mean {' or '.join(near)}?" if near else f"; columns: {', '.join(columns[:20])}"
