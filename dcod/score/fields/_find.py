"""Ways to make fields, found in this folder, and what a scoring takes of them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from dcod.config import Config, TrainConfig
from dcod.config.schema import ScoreConfig
from dcod.engines.transformers import TransformersEngine
from dcod.score.fields._types import Way
from dcod.traces import scored
from dcod.traces.scored import ScoredTrace


@cache
def ways() -> tuple[Way, ...]:
    """The ``WAY`` of each file, by their names."""
    names = sorted(item.name for item in pkgutil.iter_modules([str(Path(__file__).parent)]))
    return tuple(importlib.import_module(f"{__package__}.{name}").WAY for name in names if not name.startswith("_"))


def asked(config: Config) -> list[Way]:
    """What the score stage records: by its own keys, and on demand of the corrections."""
    return [way for way in ways() if way.key and getattr(config.score, way.key)] + demanded(config.train)


def demanded(train: TrainConfig) -> list[Way]:
    """What a training demands, whatever the score stage was told."""
    wanted = set(scored.demanded(train))
    return [way for way in ways() if not way.key and wanted.intersection(way.fields)]


def annotate(
    engine: TransformersEngine, examples: Sequence[ScoredTrace], config: ScoreConfig, taken: Sequence[Way]
) -> None:
    """Scores traces, and writes into them what is recorded besides.

    Args:
        engine: of the student.
        examples: the traces, changed in place.
        config: how.
        taken: the ways to take.
    """
    statistics = [way.of_logits for way in taken if way.of_logits]
    engine.annotate(examples, config.batch_tokens, config.top_k, statistics)
    for way in taken:
        if way.by_itself:
            way.by_itself(engine, examples, config)
