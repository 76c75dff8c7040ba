"""Train: the start becomes the student, on weighted supervision.

1. check and open the inputs;
2. where several ranks are wanted and none runs yet, start them (dcod.stages.train_ranks); else train here, as each of
   them does (dcod.stages.train_rank).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dcod.config import Config
from dcod.score import frozen
from dcod.stages import train_rank, train_ranks

if TYPE_CHECKING:
    from dcod.tracking import Log


def run(config: Config, out: Path, log: Log, *, scores: Path, student: Path) -> dict[str, float]:
    """Trains a student; see the module.

    Raises:
        UserError: as :func:`dcod.stages.train_rank.opened` and :func:`dcod.train.loop.train`.
    """
    inputs = train_rank.opened(config, scores=scores, student=student)
    count = train_ranks.wanted(config)
    if count > 1:
        return train_ranks.run(config, out, log, scores=scores, student=student, count=count)
    return train_rank.run(config, inputs, out, log)


def settle(config: Config, *, scores: Path, student: Path) -> None:
    """Drops the checkpoints of a run whose student is kept."""
    frozen.forget(config.train, train_rank.checkpoints_of(config, scores, student))
