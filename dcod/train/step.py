"""One optimizer step's forward and backward: micro-batches, weights, the fused head, over all ranks.

The loss is sum(weight * loss) / (counted tokens of the step over all ranks): a token mean, unchanged by
micro-batching, padding, packing and the number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from dcod.config import TrainConfig
from dcod.errors import UserError
from dcod.models.attention import hidden_states, separable
from dcod.models.batches import Batch, Layout, collate, micro_batches, stored_record, to_device
from dcod.models.fused_head import Objective, live_loss, weighted_loss
from dcod.models.layouts import exact_layout
from dcod.models.selfcheck import Reading, at_precision, examine
from dcod.objective import weighting
from dcod.objective.corrections import StepScores
from dcod.objective.weighting import WeightCounts, WeightPlan
from dcod.traces.scored import ScoredTrace
from dcod.train.masters import Masters
from dcod.train.parallel import is_sharded, low_precision

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Progress(Protocol):
    """What a step changes besides gradients."""

    seen: WeightCounts
    micro_batch_tokens: int


class StudentWithLoss(nn.Module):
    """The student with the loss inside ``forward``, so that DDP and FSDP wrap both.

    Args:
        model: the student.
        reading: how its hidden states become logits; None: found out now.
    """

    def __init__(self, model: PreTrainedModel, reading: Reading | None = None) -> None:
        super().__init__()
        self.model = model
        self.reading = reading or examine(model)

    def forward(
        self, batch: Batch, weigh: Callable[[Tensor, Tensor | None], Tensor], objective: Objective, live: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Loss (a sum over counted tokens) of one micro-batch.

        Args:
            batch: the micro-batch, on the model's device.
            weigh: gives the weights [N] of the counted tokens, the normaliser in them; it is handed the
                log-probs and entropies [N] when ``live``, else placeholders.
            objective: the loss at a state.
            live: whether the weights depend on log-probs and entropies of this very pass.

        Returns:
            loss, log-probs [N], entropies [N] (live only).
        """
        head = self.reading.head(self.model)
        hidden = hidden_states(self.model, batch, self.reading.body)
        if live:
            return live_loss(hidden, head, batch.targets, weigh, objective)
        loss, logprobs = weighted_loss(hidden, head, batch.targets, weigh(torch.empty(0), None), objective)
        return loss, logprobs, None


def way_of(config: TrainConfig, model: PreTrainedModel, device: torch.device) -> tuple[Reading, Layout]:
    """How the student is run: its head, and how micro-batches are laid out, each where it is exact for this student.

    Both are tried as training runs, in its number format too; see ``models.selfcheck`` and ``models.layouts``. Shards
    are computed in bfloat16 without autocast, which is tried with it: the products are the same.

    Args:
        config: ``auto`` is packed, which is faster on a GPU, and on a CPU where attention can be made to work within
            traces.
        model: the student.
        device: where it will train.

    Raises:
        UserError: no way is right for it.
    """
    low = low_precision(config)
    reading = examine(model)
    if low:
        reading = at_precision(model, reading, low)
    packed = config.layout == "packed" or (config.layout == "auto" and (device.type == "cuda" or separable(model)))
    return reading, exact_layout(model, reading, "packed" if packed else "padded", low)


def first_size(config: TrainConfig, device: torch.device, ranks: int) -> int:
    """Tokens of the first micro-batches; :func:`halved` makes them fewer where a GPU's memory does not hold them.

    With several ranks, which cannot change it alone, ``auto`` is a size that 80 GB hold for students up to some 2B.
    """
    if config.micro_batch_tokens != "auto":
        return config.micro_batch_tokens
    if device.type != "cuda":
        return 2048
    return 65536 if ranks == 1 else 8192


def halved(progress: Progress, single: bool, ranks: int, most: int) -> None:
    """Half as large micro-batches, after the memory of a GPU did not hold one.

    Raises:
        UserError: they hold no more than what must stay together, or other ranks would go on without this one.
    """
    if single or ranks > 1:
        raise UserError(
            f"train: out of memory with train.micro_batch_tokens={progress.micro_batch_tokens} and at most {most} "
            "traces at once; lower it, or student.max_length, or use a larger GPU"
        )
    progress.micro_batch_tokens //= 2
    torch.cuda.empty_cache()


def is_live(config: TrainConfig) -> bool:
    """Whether weights come from the same forward pass."""
    return config.correction.weights == "live" and config.correction.name != "none"


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
    accelerator: Any,
    wrapped: nn.Module,
    masters: Masters,
    step: Sequence[ScoredTrace],
    layout: Layout,
    config: TrainConfig,
    plan: WeightPlan,
    progress: Progress,
) -> tuple[float, float, list[StepScores]]:
    """Forward and backward of one step; halves the micro-batches where a GPU's memory does not hold them.

    The step itself stays the same: it is only split further, and the row of the step says so.
    """
    # DDP averages over ranks, so the sum is scaled back
    factor = accelerator.num_processes / sum(len(e.completion_tokens) for e in step)
    share = rank_share(step, accelerator.process_index, accelerator.num_processes)
    while True:
        groups = micro_batches(share, progress.micro_batch_tokens, by_prompt=True, layout=layout)
        seen = WeightCounts(config.correction)
        with suppress(torch.OutOfMemoryError):
            found = _accumulate(accelerator, wrapped, masters, groups, layout, config, plan, factor, seen)
            progress.seen.merge(seen)
            return found
        # here and not while the error is handled, which keeps all that the forward pass has made
        single = all(len({e.prompt_id for e in group}) == 1 for group in groups)
        masters.zero_grad()
        halved(progress, single, accelerator.num_processes, max(map(len, groups)))


def _accumulate(
    accelerator: Any,
    wrapped: nn.Module,
    masters: Masters,
    groups: list[list[ScoredTrace]],
    layout: Layout,
    config: TrainConfig,
    plan: WeightPlan,
    factor: float,
    seen: WeightCounts,
) -> tuple[float, float, list[StepScores]]:
    """Runs the micro-batches of one step.

    Returns:
        This rank's part of the loss; its sum of |log pi - stored log pi| over the counted tokens, which says how
        far the student has moved since it was scored; and the live records.
    """
    live = is_live(config)
    most = int(accelerator.gather(torch.tensor([len(groups)], device=accelerator.device)).max())
    total, moved, records = 0.0, 0.0, list[StepScores]()
    filler = groups[-1] if groups else None
    for index in range(most):
        group = groups[index] if index < len(groups) else filler
        if group is None:
            raise UserError("train: a rank got no trace of a step; raise train.traces_per_step or use fewer ranks")
        idle = index >= len(groups)  # every rank must take part in every backward
        scale = 0.0 if idle else factor
        batch = to_device(collate(group, layout=layout), accelerator.device)
        stored = stored_record(group)

        def weigh(
            logprobs: Tensor,
            entropies: Tensor | None,
            batch: Batch = batch,
            stored: StepScores = stored,
            scale: float = scale,
        ) -> Tensor:
            record = stored
            if live:
                assert entropies is not None
                spread = {"student_logprobs": logprobs, "entropies": entropies}
                record = replace(stored, **{name: batch.spread(values).cpu() for name, values in spread.items()})
                if scale:
                    records.append(record)
            weight = weighting.weights(config.correction, plan, record)
            if scale:
                seen.add(weight, record.mask)
            return weight.to(batch.mask.device)[batch.mask] * scale

        objective = Objective(config.loss, config.focus, config.anchor, batch.teacher, batch.start, scale)
        last = index == most - 1
        synced = last or is_sharded(wrapped) or masters.apart  # of all ranks before they leave the coarser weights
        with nullcontext() if synced else accelerator.no_sync(wrapped):
            loss, logprobs, _ = wrapped(batch, weigh, objective, live)
            accelerator.backward(loss)
        masters.collect()
        total += float(loss.detach()) / accelerator.num_processes
        if not idle:
            moved += float((logprobs.cpu() - stored.student_logprobs[stored.mask]).abs().sum())
    return total, moved, records


def gathered(accelerator: Any, items: list[Any]) -> list[Any]:
    """The items of all ranks, in the order of the ranks."""
    if accelerator.num_processes == 1:
        return items
    from accelerate.utils import gather_object

    return gather_object(items)


def step_record(step: Sequence[ScoredTrace], records: list[StepScores], accelerator: Any) -> StepScores:
    """The live records of all ranks as one; prompts are renumbered over the whole step."""
    records = gathered(accelerator, records)
    offset = 0
    for record in records:
        record.prompts = record.prompts + offset
        offset += len(step)
    return StepScores.concatenate(records)
