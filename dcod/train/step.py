"""One optimizer step's forward and backward: micro-batches, weights, the fused head, over all ranks.

The loss is sum(weight * loss) / (counted tokens of the step over all ranks): a token mean, unchanged by
micro-batching, padding, packing and the number of ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace

import torch
from torch import Tensor

from dcod.config import TrainConfig
from dcod.errors import UserError
from dcod.models.batches import Batch, collate, micro_batches, stored_record, to_device
from dcod.models.fused_head import Objective
from dcod.objective import weighting
from dcod.objective.step_scores import StepScores
from dcod.objective.weighting import WeightCounts, WeightPlan
from dcod.traces.scored import ScoredTrace
from dcod.train.learner import Learner
from dcod.train.parallel import is_sharded
from dcod.train.state import TrainState

_Part = tuple[list[ScoredTrace], StepScores]  # a micro-batch, and its stored scores


def first_size(config: TrainConfig, device: torch.device, ranks: int) -> int:
    """Tokens of the first micro-batches; :func:`halve` makes them fewer where a GPU's memory does not hold them.

    With several ranks, which cannot change it alone, ``auto`` is a size that 80 GB hold for students up to some 2B.
    """
    if config.micro_batch_tokens != "auto":
        return config.micro_batch_tokens
    if device.type != "cuda":
        return 2048
    return 65536 if ranks == 1 else 8192


def halve(state: TrainState, single: bool, ranks: int, largest: int) -> None:
    """Makes micro-batches half as large, after the memory of a GPU did not hold one.

    Args:
        state: of the run.
        single: whether each holds no more than what must stay together.
        ranks: how many train; several cannot change it each for itself.
        largest: traces of the largest one, for the message.

    Raises:
        UserError: they cannot be made smaller, or other ranks would go on without this one.
    """
    if single or ranks > 1:
        raise UserError(
            f"train: out of memory with train.micro_batch_tokens={state.micro_batch_tokens} and at most {largest} "
            "traces at once; lower it, or student.max_length, or use a larger GPU"
        )
    state.micro_batch_tokens //= 2
    torch.cuda.empty_cache()


def rank_share(step: Sequence[ScoredTrace], rank: int, ranks: int) -> list[ScoredTrace]:
    """The traces of a step that one rank works on: whole prompts, balanced by tokens."""
    prompts: dict[str, list[ScoredTrace]] = {}
    for example in step:
        prompts.setdefault(example.prompt_id, []).append(example)
    loads, shares = [0] * ranks, [list[ScoredTrace]() for _ in range(ranks)]
    for group in sorted(prompts.values(), key=lambda g: sum(map(len, g)), reverse=True):
        target = loads.index(min(loads))
        shares[target].extend(group)
        loads[target] += sum(map(len, group))
    return shares[rank]


def forward_backward(
    learner: Learner, step: Sequence[ScoredTrace], plan: WeightPlan, state: TrainState, progress: float = 0.0
) -> tuple[float, float, list[StepScores]]:
    """Forward and backward of one step; halves the micro-batches where a GPU's memory does not hold them.

    The step itself stays the same: it is only split further, and the row of the step says so. ``progress`` is the
    share of the training that lies behind.

    Returns:
        This rank's part of the loss; its sum of |log pi - stored log pi| over the counted tokens, which says how
        far the student has moved since it was scored; and the live records.
    """
    # DDP averages over ranks, so the sum is scaled back
    loss_scale = learner.ranks / sum(len(e.completion_tokens) for e in step)
    share = rank_share(step, learner.accelerator.process_index, learner.ranks)
    while True:
        groups = micro_batches(share, state.micro_batch_tokens, by_prompt=True, layout=learner.layout)
        seen = WeightCounts(learner.config.correction)
        with suppress(torch.OutOfMemoryError):
            parts = [(group, stored_record(group, progress)) for group in groups]
            sums = _accumulate(learner, parts, plan, loss_scale, seen)
            learner.seen.merge(seen)
            return sums
        # here and not while the error is handled, which keeps all that the forward pass has made
        single = all(len({e.prompt_id for e in group}) == 1 for group in groups)
        learner.masters.zero_grad()
        halve(state, single, learner.ranks, max(map(len, groups)))


def _accumulate(
    learner: Learner, parts: list[_Part], plan: WeightPlan, loss_scale: float, seen: WeightCounts
) -> tuple[float, float, list[StepScores]]:
    """Runs the micro-batches of one step, adds their gradients up, and returns as :func:`forward_backward`.

    Args:
        learner: the student on this rank.
        parts: the micro-batches of this rank.
        plan: of the step.
        loss_scale: what a sum over tokens is multiplied by.
        seen: takes in the weights that were used.
    """
    accelerator, config = learner.accelerator, learner.config
    counts = accelerator.gather(torch.tensor([len(parts)], device=accelerator.device))
    micro_batch_count = int(counts.max())
    if not parts:
        raise UserError("train: a rank got no trace of a step; raise train.traces_per_step or use fewer ranks")
    total, moved, records = 0.0, 0.0, list[StepScores]()
    for index in range(micro_batch_count):
        # The backward of replicas and shards waits for all ranks. So a rank with fewer micro-batches than another
        # repeats its last one with a loss of zero, which changes no gradient, until the others are through.
        idle = index >= len(parts)
        (group, stored), scale = (parts[-1], 0.0) if idle else (parts[index], loss_scale)
        batch = to_device(collate(group, layout=learner.layout), accelerator.device)

        def weigh(
            logprobs: Tensor,
            entropies: Tensor | None,
            batch: Batch = batch,
            stored: StepScores = stored,
            scale: float = scale,
            idle: bool = idle,
        ) -> Tensor:
            record = stored
            if learner.live:
                assert entropies is not None
                own, unsure = (batch.spread(values).cpu() for values in (logprobs, entropies))
                record = replace(stored, student_logprobs=own, entropies=unsure)
                if not idle:
                    records.append(record)
            weight = weighting.weights(config.correction, plan, record)
            if not idle:
                seen.add(weight, record.mask)
            return weight.to(batch.mask.device)[batch.mask] * scale

        objective = Objective(config.loss, config.focus, config.anchor, batch.teacher, batch.start, scale)
        last = index == micro_batch_count - 1
        # of all ranks before they leave the coarser weights
        synced = last or is_sharded(learner.wrapped) or learner.masters.apart
        with nullcontext() if synced else accelerator.no_sync(learner.wrapped):
            loss, logprobs, _ = learner.wrapped(batch, weigh, objective, learner.live)
            accelerator.backward(loss)
        learner.masters.collect()
        total += float(loss.detach()) / learner.ranks
        if not idle:
            moved += float((logprobs.cpu() - stored.student_logprobs[stored.mask]).abs().sum())
    return total, moved, records


def record_of(
    learner: Learner, step: Sequence[ScoredTrace], records: list[StepScores], progress: float = 0.0
) -> StepScores:
    """What the step's weights were made of: its stored scores, or the live records of all ranks as one.

    Prompts of live records are renumbered over the whole step. Call on every rank (collective).
    """
    if not learner.live:
        return stored_record(step, progress)
    records = learner.gathered(records)
    offset = 0
    for record in records:
        record.prompts = record.prompts + offset
        offset += len(step)
    return StepScores.concatenate(records)
