"""Weights that are made before the training and stay: of students of the other half, or a plain student's success."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dcod.config import TrainConfig
from dcod.score import asking, crossfit
from dcod.score.parts import Kept
from dcod.train.checkpoints import Checkpoints
from dcod.train.sets import TraceSet

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def fitted(
    traces: TraceSet,
    held: TraceSet,
    config: TrainConfig,
    seed: int,
    load: Callable[[], PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    kept: Checkpoints | None,
) -> TraceSet:
    """The traces as the correction wants them, beside the checkpoints of the training; else as they are.

    As :func:`dcod.score.crossfit.crossed` or :func:`dcod.score.asking.asked`, where that is wanted.
    """
    kind = _kind(config)
    beside = Kept(kept.uri, kept.keep, kind) if kept else None
    if kind == "asked":
        return asking.asked(traces, held, config, seed, load, tokenizer, beside)
    if kind == "cross":
        return crossfit.crossed(traces, config, seed, load, tokenizer, beside)
    return traces


def forget(config: TrainConfig, kept: Checkpoints | None) -> None:
    """Drops the checkpoints of a training whose student is kept, and what was kept of its preparation."""
    if kept:
        kept.clear()
        if kind := _kind(config):
            Kept(kept.uri, kept.keep, kind).clear()


def _kind(config: TrainConfig) -> str:
    """What is to be made before the training: ``asked``, ``cross`` or nothing."""
    if config.correction.name == "success":
        return "asked"
    return "cross" if config.correction.weights == "cross" and config.correction.name != "none" else ""
