"""From scored traces to batches: whole prompts a step, micro-batches of like length, padded or packed.

A padded batch has a row a trace. A packed one has a single row without padding, and position ids that start anew with
every trace: faster wherever attention keeps the traces apart by itself (dcod.models.attention). Both give the same
loss, where a student keeps padding and neighbours out (dcod.models.layouts); else padding is masked, or each row runs
apart.

Shape suffixes: B traces, S tokens of prompt and completion, T completion positions, N counted tokens, K top-k.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain, pairwise
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dcod.objective.losses import NO_TOKEN, TopK
from dcod.objective.step_scores import StepScores
from dcod.traces.scored import DEMAND, ScoredTrace, told

Layout = Literal["padded", "masked", "packed", "apart"]

_SHARED = sorted({each.name for each in fields(StepScores)} & {each.name for each in fields(ScoredTrace)})
_DEMANDED = told(DEMAND)
OWN_COST = 64  # of a micro-batch, in tokens: gradients of all weights are added up once more


@dataclass
class Batch:
    """A micro-batch.

    Attributes:
        input_ids: right-padded [B, S], or packed [1, S].
        attention_mask: [B, S] where causality alone does not keep padding out (a mask costs attention half its
            speed on a CPU); packed traces are kept apart only without one.
        position_ids: [1, S] when packed, from 0 in every trace; None when padded.
        rows, columns: where the hidden state stands that predicts each counted token [N] each.
        targets: the counted tokens themselves [N].
        mask: completion positions [B, T]; its True entries, row by row, are the N counted tokens.
        apart: whether each row is to run by itself, without padding.
        teacher, start: recorded top-k of teacher and start at the counted tokens [N, K], where all traces have it.
    """

    examples: list[ScoredTrace]
    input_ids: Tensor
    attention_mask: Tensor | None
    position_ids: Tensor | None
    rows: Tensor
    columns: Tensor
    targets: Tensor
    mask: Tensor
    apart: bool = False
    teacher: TopK | None = None
    start: TopK | None = None

    def spread(self, values_N: Tensor) -> Tensor:
        """Values of the counted tokens as [B, T], 0 elsewhere."""
        out = torch.zeros(self.mask.shape, dtype=values_N.dtype, device=values_N.device)
        out[self.mask.to(values_N.device)] = values_N
        return out


def collate(examples: Sequence[ScoredTrace], pad_id: int = 0, layout: Layout = "padded") -> Batch:
    """Examples as one micro-batch; padding never reaches the loss, whatever ``pad_id`` is."""
    sizes = [len(e) for e in examples]
    tokens = [torch.tensor(e.prompt_tokens + e.completion_tokens) for e in examples]
    counts = torch.tensor([len(e.completion_tokens) for e in examples])
    starts = [len(e.prompt_tokens) - 1 for e in examples]  # the last prompt token predicts the first of the completion
    position_ids = None
    if layout == "packed":
        input_ids = torch.cat(tokens)[None]
        position_ids = torch.cat([torch.arange(size) for size in sizes])[None]
        offsets = [sum(sizes[:i]) for i in range(len(sizes))]
        rows = torch.zeros(int(counts.sum()), dtype=torch.long)
    else:
        input_ids = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=pad_id)
        offsets = [0] * len(sizes)
        rows = torch.arange(len(sizes)).repeat_interleave(counts)
    attention_mask = (torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]).long() if layout == "masked" else None
    columns = torch.cat(
        [torch.arange(o + s, o + s + c) for o, s, c in zip(offsets, starts, counts.tolist(), strict=True)]
    )
    return Batch(
        list(examples),
        input_ids,
        attention_mask,
        position_ids,
        rows,
        columns,
        targets=torch.cat([torch.tensor(e.completion_tokens, dtype=torch.long) for e in examples]),
        mask=torch.arange(int(counts.max())) < counts[:, None],
        apart=layout == "apart",
        teacher=_top(examples, "teacher"),
        start=_top(examples, "start"),
    )


def to_device(batch: Batch, device: torch.device | str) -> Batch:
    """A micro-batch with its tensors on a device."""
    moved: dict[str, Any] = {k: v.to(device) for k, v in vars(batch).items() if isinstance(v, (Tensor, TopK))}
    return replace(batch, **moved)


def _top(examples: Sequence[ScoredTrace], whose: str) -> TopK | None:
    ids = [getattr(e, f"{whose}_top_ids") for e in examples]
    if any(values is None for values in ids):
        return None
    rows = list(chain.from_iterable(ids))
    logprobs = list(chain.from_iterable(getattr(e, f"{whose}_top_logprobs") for e in examples))
    width = max(map(len, rows))
    return TopK(
        torch.tensor([row + [NO_TOKEN] * (width - len(row)) for row in rows]),
        torch.tensor([row + [0.0] * (width - len(row)) for row in logprobs], dtype=torch.float32),
    )


def stored_record(examples: Sequence[ScoredTrace], progress: float = 0.0) -> StepScores:
    """The stored scores of some traces as one record [B, T] (float32).

    Args:
        examples: the traces.
        progress: share of the training that lies behind.
    """
    width = max(len(e.completion_tokens) for e in examples)

    def column(name: str) -> Tensor | None:
        values = [getattr(e, name) for e in examples]
        if any(value is None for value in values):
            return None
        rows = [value + [0.0] * (width - len(value)) if isinstance(value, list) else value for value in values]
        return torch.tensor(rows, dtype=torch.float32)

    numbers: dict[str, int] = {}
    prompts = torch.tensor([numbers.setdefault(e.prompt_id, len(numbers)) for e in examples])
    lengths = torch.tensor([len(e.completion_tokens) for e in examples])
    totals = [sum(e.behavior_logprobs) if e.behavior_logprobs is not None else e.behavior_total for e in examples]
    stored: dict[str, Any] = {name: column(name) for name in _SHARED}
    stored["behavior_total"] = None if None in totals else torch.tensor(totals, dtype=torch.float32)
    demanded = {name: column(name) for name in _DEMANDED}
    return StepScores(
        **stored,
        mask=torch.arange(width)[None, :] < lengths[:, None],
        prompts=prompts,
        start_logprobs=stored["student_logprobs"],
        progress=torch.full((len(examples),), progress),
        demanded={name: values for name, values in demanded.items() if values is not None},
    )


def numbered(prompt_ids: Iterable[str]) -> NDArray[np.int32]:
    """Prompts as numbers, in order of first appearance [B]."""
    numbers: dict[str, int] = {}
    return np.fromiter((numbers.setdefault(name, len(numbers)) for name in prompt_ids), np.int32)


def epoch_rows(
    prompts: NDArray[np.int32], traces_per_step: int, seed: int, epoch: int
) -> tuple[NDArray[np.int64], list[int]]:
    """The order of one epoch: shuffled prompts, all traces of a prompt in the same step.

    A step is closed as soon as it holds ``traces_per_step`` traces; the last one may be smaller.

    Returns:
        The rows of all traces in their order, and where in it each step ends. ``prompts`` numbers the prompt of each
        trace; see :func:`numbered`.
    """
    counts = np.bincount(prompts)
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    shuffled = torch.randperm(len(counts), generator=generator).numpy()
    place = np.empty_like(shuffled)
    place[shuffled] = np.arange(len(shuffled))
    filled = counts[shuffled].cumsum()
    ends, begin = list[int](), 0
    while begin < len(prompts):
        last = np.searchsorted(filled, begin + traces_per_step)  # the prompt that fills the step
        begin = int(filled[min(int(last), len(filled) - 1)])
        ends.append(begin)
    return np.argsort(place[prompts], kind="stable"), ends


def micro_batches(
    examples: Sequence[ScoredTrace], max_tokens: int, by_prompt: bool = False, layout: Layout = "padded"
) -> list[list[ScoredTrace]]:
    """A step split into micro-batches; see :func:`micro_batch_rows`.

    Args:
        examples: the traces of a step (or of a rank's share of it).
        max_tokens: tokens of a micro-batch.
        by_prompt: keep the traces of a prompt together (per-trace weights compare them).
        layout: ``packed`` in a row without padding; else rows are as long as the longest.
    """
    prompts = numbered(e.prompt_id for e in examples).tolist() if by_prompt else range(len(examples))
    groups = micro_batch_rows([len(e) for e in examples], prompts, max_tokens, layout)
    return [[examples[row] for row in group] for group in groups]


def micro_batch_rows(
    sizes: Sequence[int], units: Sequence[int], max_tokens: int, layout: Layout = "padded"
) -> list[list[int]]:
    """Rows of micro-batches of like length with at most ``max_tokens`` tokens each, padding included.

    Args:
        sizes: tokens of each trace.
        units: of each trace the number of what it must stay together with.
        max_tokens: tokens of a micro-batch; a longer single trace stands alone.
        layout: ``packed`` in a row without padding; else rows are as long as the longest.
    """
    together: dict[int, list[int]] = {}
    for row, unit in enumerate(units):
        together.setdefault(unit, []).append(row)
    ordered = sorted(together.values(), key=lambda rows: max(sizes[row] for row in rows), reverse=True)
    split = _packed_ends if layout == "packed" else _padded_ends
    ends = split([[sizes[row] for row in rows] for rows in ordered], max_tokens)
    return [list(chain.from_iterable(ordered[start:end])) for start, end in pairwise([0, *ends])]


def _packed_ends(units: Sequence[Sequence[int]], max_tokens: int) -> list[int]:
    """Where micro-batches of units (their traces' tokens) end when there is no padding: as few as can be, then as even.

    The largest one decides how much memory a step takes.
    """
    totals = [sum(sizes) for sizes in units]

    def ends_for(limit: int) -> list[int]:
        ends, total = list[int](), 0
        for index, tokens in enumerate(totals):
            if index and total + tokens > limit:
                ends.append(index)
                total = 0
            total += tokens
        return [*ends, len(units)] if units else []

    fewest = len(ends_for(max_tokens))
    limit = bisect_left(range(max_tokens), -fewest, key=lambda limit: -len(ends_for(limit)))
    return ends_for(limit)


def _padded_ends(units: Sequence[Sequence[int]], max_tokens: int) -> list[int]:
    """Where micro-batches end, longest units first, so that their tokens and own costs are the fewest in all."""
    longest = [max(sizes) for sizes in units]
    costs, starts = [0], [0]  # of the best split of the first units, and where its last micro-batch starts
    for end in range(1, len(units) + 1):
        rows, best, at = 0, -1, end - 1
        for start in range(end - 1, -1, -1):
            rows += len(units[start])
            padded = longest[start] * rows  # grows with every unit: the first is the longest
            if padded > max_tokens and start < end - 1:
                break
            if best < 0 or costs[start] + padded + OWN_COST < best:
                best, at = costs[start] + padded + OWN_COST, start
        costs.append(best)
        starts.append(at)
    ends, end = list[int](), len(units)
    while end:
        ends.append(end)
        end = starts[end]
    return ends[::-1]
