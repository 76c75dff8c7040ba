"""How a field is recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dcod.config.schema import ScoreConfig
from dcod.engines.transformers import Statistic, TransformersEngine
from dcod.traces.scored import ScoredTrace


@dataclass(frozen=True)
class Way:
    """One way to make some fields of the traces: of the logits of the pass that all take, or by itself.

    Attributes:
        fields: of ScoredTrace.
        of_logits: makes them in that pass, and shares its cost.
        by_itself: writes them into examples that have been scored.
        key: of the configuration's section ``score`` that asks for them; empty: a correction that needs one of them.
    """

    fields: tuple[str, ...]
    of_logits: Statistic | None = None
    by_itself: Callable[[TransformersEngine, Sequence[ScoredTrace], ScoreConfig], None] | None = None
    key: str = ""
