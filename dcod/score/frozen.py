"""Weights that are made before the training and stay: of students of the other half, or a plain student's success."""

from __future__ import annotations

from dcod.config import TrainConfig
from dcod.score import asking, crossfit, preparing
from dcod.score.preparing import Preparation
from dcod.train.checkpoints import Checkpoints
from dcod.train.sets import TraceSet


def fitted(traces: TraceSet, held: TraceSet, by: Preparation) -> TraceSet:
    """The traces as the correction wants them, else as they are.

    As :func:`dcod.score.crossfit.crossed` or :func:`dcod.score.asking.asked`, where that is wanted.
    """
    if by.kind == "asked":
        return asking.asked(traces, held, by)
    return crossfit.crossed(traces, by) if by.kind == "cross" else traces


def forget(config: TrainConfig, kept: Checkpoints | None) -> None:
    """Drops the checkpoints of a training whose student is kept, and what was kept of its preparation."""
    for each in (kept, preparing.beside(config, kept)):
        if each:
            each.clear()
