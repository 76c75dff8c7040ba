"""Exposure bias: do a student's errors add up, or compound (ExAccErr; Arora et al. 2022, arXiv 2204.01171)?

At each position t the error is KL(teacher || student): the mean of log p_T/p_S of a token that the *teacher* would
write there. On the teacher's prefixes their mean up to a length l is eps(l); on the student's own they add up to R(l).
If the student were as good where it gets itself as where the teacher was, R(l) would be l eps(l), so

    ExAccErr(l) = (R(l) - l eps(l)) / (l eps(l))

is 0 where errors only add up, and above 0 where they compound, which is what the correction is for. One static set of
the student's answers, with the teacher's likeliest tokens recorded at each position, gives the curve. The teacher's
distribution is its recorded top-k and a tail bucket, so the divergences are from below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from dcod.engines.transformers import TransformersEngine
from dcod.models import attention
from dcod.models.batches import collate, micro_batches, to_device
from dcod.models.heads import Logits
from dcod.objective.losses import forward_kl
from dcod.progress import track
from dcod.traces.scored import ScoredTrace

FEWEST = 10  # traces that still go on at a length, for it to be on the curve


@torch.inference_mode()
def divergences(engine: TransformersEngine, traces: Sequence[ScoredTrace], batch_tokens: int) -> list[list[float]]:
    """KL(teacher || the engine's model) at every token of each trace, nats, in their order.

    Args:
        engine: the student's.
        traces: with the teacher's likeliest tokens; whoever wrote them, they are the prefixes.
        batch_tokens: padded tokens per forward pass.
    """
    found: dict[int, list[float]] = {}
    numbers = {id(trace): number for number, trace in enumerate(traces)}
    head = engine.reading.head(engine.model)
    for group in track(micro_batches(traces, batch_tokens, layout=engine.layout), "diverge"):
        batch = to_device(collate(group, layout=engine.layout), engine.device)
        assert batch.teacher is not None, "no top-k of the teacher"
        logits = Logits(attention.hidden_states(engine.model, batch, engine.reading.body), head)
        parts = [forward_kl(logits[part], batch.teacher.rows(part)) for part in logits.parts]
        each = torch.cat(parts).cpu().split([len(trace.completion_tokens) for trace in group])
        found |= {numbers[id(trace)]: values.tolist() for trace, values in zip(group, each, strict=True)}
    return [found[number] for number in range(len(traces))]


def excess(on_teacher: Sequence[Sequence[float]], on_student: Sequence[Sequence[float]]) -> dict[str, Any]:
    """The curve of ExAccErr over lengths.

    Args:
        on_teacher: divergences on the teacher's prefixes, a list a trace.
        on_student: the same on the student's.

    Returns:
        ``lengths``, and at each ``epsilon`` (nats a token), ``accumulated`` (R, nats) and ``excess``; up to the length
        that :data:`FEWEST` traces of both kinds reach. Empty lists where none does.
    """
    teacher, student = (_by_position(values) for values in (on_teacher, on_student))
    lengths = np.arange(1, min(len(teacher), len(student)) + 1)
    teacher, student = teacher[: len(lengths)], student[: len(lengths)]
    linear, accumulated = np.cumsum(teacher), np.cumsum(student)
    return {
        "lengths": lengths.tolist(),
        "epsilon": (linear / lengths).tolist(),
        "accumulated": accumulated.tolist(),
        "excess": ((accumulated - linear) / np.maximum(linear, np.finfo(float).tiny)).tolist(),
    }


def _by_position(values: Sequence[Sequence[float]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The mean at each position over the traces that reach it."""
    longest = max(map(len, values), default=0)
    sums, counts = np.zeros(longest), np.zeros(longest)
    for row in values:
        sums[: len(row)] += row
        counts[: len(row)] += 1
    enough = int((counts >= FEWEST).sum())
    return sums[:enough] / counts[:enough]
