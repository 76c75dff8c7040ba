"""Cross-fitted scores: each half of the prompts as a student scores it that was fine-tuned on the other half.

Weights that are made of them know what fine-tuning will make likely, have seen none of the traces that they weigh, and
stay: live ones feed back, since what is a little likelier gets more weight and so becomes likelier.

1. fine-tune the start on one half (no correction, the plain log loss, else as the student), and let it score the other;
2. the other way round; scored parts and checkpoints are kept, so that a killed run goes on;
3. put the halves together in the order of the set.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcod.config.schema import ScoreConfig
from dcod.engines.transformers import TransformersEngine
from dcod.errors import UserError
from dcod.score import fields, preparing
from dcod.score.fields import Way
from dcod.score.parts import Parts
from dcod.score.preparing import Preparation
from dcod.score.scores import StoredTraces
from dcod.traces.scored import ScoredTrace
from dcod.train import parallel
from dcod.train.sets import Rows, Schedule, TraceSet

EVERY = 1024  # traces of a part
_BATCH_TOKENS = 4096


def crossed(traces: TraceSet, by: Preparation) -> StoredTraces:
    """Training traces with the log-probs and entropies of students of the other half; call on every rank (collective).

    Args:
        traces: as the start scored them.
        by: how the students are trained, and where they are kept.

    Raises:
        UserError: there is one prompt alone, the student is to be split over ranks, or as :func:`loop.train`.
        PreemptedError: SIGTERM came; what is done is kept.
    """
    sides = np.asarray(traces.prompts) % 2
    label = "train.correction.weights=cross"
    if not sides.any():
        raise UserError(
            f"{label} fits on half of the prompts, and there is one alone; use stored, or bring more prompts"
        )
    if parallel.is_sharded_by(by.config):
        raise UserError(f"{label}: a student that is split over ranks is not cross-fitted; set train.sharding=ddp")
    demanded = fields.demanded(by.config)
    with by.parts() as parts:
        done = parts.done()
        for half in (0, 1):
            due = [n for n in _numbers(sides, half) if 2 * n + half not in done]
            if not due:
                continue
            others = Rows(traces, np.flatnonzero(sides != half))
            steps, all_steps = (len(Schedule(some, by.config.plain(), by.seed)) for some in (others, traces))
            _say(
                f"{label}: {steps} steps on half of the prompts, to score the other, beside the {all_steps} to come",
                half,
            )
            engine = by.student(others, half)
            for number in due:
                examples = _scored(engine, traces.take(_rows(sides, half, number).tolist()), demanded)
                by.put(parts, 2 * number + half, examples)
        parallel.gathered([])  # nobody reads before all is written
        return preparing.stored(_joined(parts, sides))


def _say(text: str, half: int) -> None:
    if parallel.rank() == 0:
        print(f"train: {text} ({half + 1} of 2)", file=sys.stderr)


def _numbers(sides: NDArray[Any], half: int) -> list[int]:
    """The parts with traces of a half."""
    return np.unique(np.flatnonzero(sides == half) // EVERY).tolist()


def _rows(sides: NDArray[Any], half: int, number: int) -> NDArray[np.int64]:
    """The rows of a half in a part."""
    begin = number * EVERY
    return begin + np.flatnonzero(sides[begin : begin + EVERY] == half)


def _scored(engine: TransformersEngine, examples: list[ScoredTrace], demanded: list[Way]) -> list[ScoredTrace]:
    """The examples with new scores, each rank scoring its share of them."""

    def scored(mine: range) -> list[ScoredTrace]:
        copies = [replace(examples[place]) for place in mine]
        fields.annotate(engine, copies, ScoreConfig(batch_tokens=_BATCH_TOKENS), demanded)
        return copies

    return preparing.shared(len(examples), scored)


def _joined(parts: Parts, sides: NDArray[Any]) -> Iterator[list[ScoredTrace]]:
    """The traces of both halves in the order of the set, part by part."""
    for number in range(-(-len(sides) // EVERY)):
        halves = [iter(_read(parts, sides, half, number)) for half in (0, 1)]
        yield [next(halves[side]) for side in sides[number * EVERY : (number + 1) * EVERY]]


def _read(parts: Parts, sides: NDArray[Any], half: int, number: int) -> list[ScoredTrace]:
    return preparing.read(parts, 2 * number + half) if number in _numbers(sides, half) else []
