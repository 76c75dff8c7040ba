"""Sets of scored traces: what training asks of them, whether they lie in memory or in a file.

What stays in memory of a set is an index of a few bytes a trace; the traces themselves only while their step runs.
Order and steps follow from the index alone, so a stored set and a list of the same traces train alike, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dcod.config import TrainConfig
from dcod.models.batches import epoch_rows, numbered
from dcod.traces.scored import ScoredTrace


class TraceSet(Protocol):
    """Scored traces by row number; :class:`dcod.score.scores.StoredTraces` is the one that streams.

    Attributes:
        prompts: of each trace the number of its prompt, in order of first appearance [B].
        sizes: tokens of each trace, prompt included [B].
    """

    prompts: NDArray[np.int32]
    sizes: NDArray[np.int32]

    def __len__(self) -> int: ...

    def take(self, rows: Iterable[int]) -> list[ScoredTrace]:
        """The traces at some rows, in the order of the rows."""
        ...

    def missing(self, fields: Sequence[str]) -> int:
        """How many traces have none of these fields."""
        ...


class ListedTraces:
    """A list of traces as a :class:`TraceSet`."""

    def __init__(self, examples: Sequence[ScoredTrace]) -> None:
        self.examples = examples
        self.prompts = numbered(e.prompt_id for e in examples)
        self.sizes = np.fromiter(map(len, examples), np.int32)

    def __len__(self) -> int:
        return len(self.examples)

    def take(self, rows: Iterable[int]) -> list[ScoredTrace]:
        return [self.examples[row] for row in rows]

    def missing(self, fields: Sequence[str]) -> int:
        return sum(all(getattr(example, name) is None for name in fields) for example in self.examples)


class Rows:
    """Some rows of a set, as a :class:`TraceSet` of their own."""

    def __init__(self, traces: TraceSet, rows: NDArray[np.int64]) -> None:
        self._traces, self._rows = traces, rows
        self.prompts = np.unique(traces.prompts[rows], return_inverse=True)[1].astype(np.int32)
        self.sizes = traces.sizes[rows]

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, rows: Iterable[int]) -> list[ScoredTrace]:
        return self._traces.take(self._rows[list(rows)].tolist())

    def missing(self, fields: Sequence[str]) -> int:
        whole = self._traces.missing(fields)
        if whole in (0, len(self._traces)):
            return len(self) if whole else 0
        each = (trace for row in range(len(self)) for trace in self.take([row]))
        return sum(all(getattr(trace, name) is None for name in fields) for trace in each)


def part(traces: TraceSet, share: float, seed: int) -> Rows:
    """The traces of a share of the prompts, at least one, drawn alike for all who ask with one seed."""
    count = int(traces.prompts.max(initial=-1)) + 1
    chosen = np.random.default_rng(seed).permutation(count)[: max(1, math.ceil(share * count))]
    return Rows(traces, np.flatnonzero(np.isin(traces.prompts, chosen)))


def trace_set(examples: Sequence[ScoredTrace] | TraceSet) -> TraceSet:
    """Traces, however they are held, as a set."""
    return ListedTraces(examples) if isinstance(examples, Sequence) else examples


class Schedule:
    """The optimizer steps of a whole run by number, from 0; each is read when it is asked for.

    Where only some traces have the teacher's log-probs token by token, all are compared by their totals: a mixture
    would compare clipped sums with unclipped ones within a prompt.
    """

    def __init__(self, traces: TraceSet, config: TrainConfig, seed: int) -> None:
        self.traces = traces
        self._per_step, self._seed = config.traces_per_step, seed
        lengths = [len(self._plan(epoch)[1]) for epoch in range(config.epochs)]
        self._before = list(accumulate(lengths, initial=0))  # steps before each epoch
        self._epoch, self._rows, self._ends = -1, np.empty(0, np.int64), list[int]()
        self._by_totals = 0 < traces.missing(["behavior_logprobs"]) < len(traces)

    def __len__(self) -> int:
        return self._before[-1]

    def __getitem__(self, number: int) -> list[ScoredTrace]:
        epoch = int(np.searchsorted(self._before, number, side="right")) - 1
        if epoch != self._epoch:  # runs go through the epochs in order: one plan is kept
            self._rows, self._ends = self._plan(epoch)
            self._epoch = epoch
        place = number - self._before[epoch]
        begin = self._ends[place - 1] if place else 0
        step = self.traces.take(self._rows[begin : self._ends[place]].tolist())
        return [_by_total(example) for example in step] if self._by_totals else step

    def _plan(self, epoch: int) -> tuple[NDArray[np.int64], list[int]]:
        return epoch_rows(self.traces.prompts, self._per_step, self._seed, epoch)


def _by_total(example: ScoredTrace) -> ScoredTrace:
    known = example.behavior_logprobs
    total = example.behavior_total if known is None else sum(known)
    return replace(example, behavior_logprobs=None, behavior_total=total)
