"""What a stage may say of itself, in words that all of dcod shares."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SOURCE = "source"  # context of files among the inputs of a run: that an ingest read, that scored traces came from
NAME = re.compile(r"[^\w./ :-]")  # what MLflow allows in the name of a metric


class Log(Protocol):
    """What a stage may say about itself while it runs."""

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None: ...

    def figure(self, name: str, figure: Figure) -> None: ...

    def text(self, name: str, text: str) -> None: ...

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None: ...

    def sources(self, files: Mapping[str, str]) -> None: ...


class NullLog:
    """Says nothing: for tests and library use without tracking."""

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None: ...

    def figure(self, name: str, figure: Figure) -> None: ...

    def text(self, name: str, text: str) -> None: ...

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None: ...

    def sources(self, files: Mapping[str, str]) -> None: ...


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings as dotted keys; lists as JSON."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return flat
