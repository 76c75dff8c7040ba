"""Runs, metrics, artifacts and the registry. The only mlflow import, and a lazy one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Log(Protocol):
    """What a stage may say about itself while it runs."""

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None: ...

    def figure(self, name: str, figure: Figure) -> None: ...

    def text(self, name: str, text: str) -> None: ...


class NullLog:
    """Says nothing: for tests and library use without tracking."""

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None: ...

    def figure(self, name: str, figure: Figure) -> None: ...

    def text(self, name: str, text: str) -> None: ...
