"""The student as one rank trains it: with its loss, spread over the ranks, and with what moves its weights."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dcod.config import TrainConfig
from dcod.models import selfcheck
from dcod.models.attention import hidden_states, separable
from dcod.models.batches import Batch, Layout
from dcod.models.fused_head import Objective, likeliest, live_loss, weighted_loss
from dcod.models.layouts import exact_layout
from dcod.models.selfcheck import Reading
from dcod.objective.weighting import WeightCounts
from dcod.train import checkpoints, lora, parallel
from dcod.train.masters import Masters

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel


class StudentWithLoss(nn.Module):
    """The student with the loss inside ``forward``, so that DDP and FSDP wrap both.

    Args:
        model: the student.
        reading: how its hidden states become logits; None: found out now.
    """

    def __init__(self, model: PreTrainedModel, reading: Reading | None = None) -> None:
        super().__init__()
        self.model = model
        self.reading = reading or selfcheck.examine(model)

    def forward(
        self,
        batch: Batch,
        weigh: Callable[[Tensor, Tensor | None], Tensor],
        objective: Objective,
        live: bool,
        top_k: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Loss (a sum over counted tokens) of one micro-batch.

        Args:
            batch: the micro-batch, on the model's device.
            weigh: gives the weights [N] of the counted tokens, the normaliser in them; it is handed the
                log-probs and entropies [N] when ``live``, else placeholders.
            objective: the loss at a state.
            live: whether the weights depend on log-probs and entropies of this very pass.
            top_k: give the likeliest tokens of each position, in place of a loss.

        Returns:
            loss, log-probs [N], entropies [N] (live only); with ``top_k`` log-probs and ids [N, K].
        """
        head = self.reading.head(self.model)
        hidden = hidden_states(self.model, batch, self.reading.body)
        if top_k:
            top = likeliest(hidden, head, top_k)
            return top.logprobs, top.ids, None
        if live:
            return live_loss(hidden, head, batch.targets, weigh, objective)
        loss, logprobs = weighted_loss(hidden, head, batch.targets, weigh(torch.empty(0), None), objective)
        return loss, logprobs, None


@dataclass
class Learner:
    """The student as this rank trains it.

    Attributes:
        config: how it is trained.
        accelerator: the ranks.
        wrapped: the student with its loss, as a replica or as this rank's shards.
        student: the student in it.
        masters: the weights that ``optimizer`` moves.
        layout: of micro-batches.
        facts: how the student is run; see :mod:`dcod.models.selfcheck`.
        seen: the weights that this rank has trained with.
    """

    config: TrainConfig
    accelerator: Accelerator
    wrapped: nn.Module
    student: PreTrainedModel
    masters: Masters
    optimizer: Any
    layout: Layout
    facts: dict[str, Any]
    seen: WeightCounts

    @property
    def live(self) -> bool:
        """Whether weights come from the same forward pass."""
        return self.config.correction.weights == "live" and self.config.correction.name != "none"

    @property
    def ranks(self) -> int:
        """How many processes train together."""
        return self.accelerator.num_processes

    @property
    def main(self) -> bool:
        """Whether this rank is the one that writes."""
        return self.accelerator.is_main_process

    def clip(self) -> float:
        """Scales the gradients down to ``train.max_grad_norm``; returns their norm before."""
        return float(parallel.whole(nn.utils.clip_grad_norm_(self.masters.weights, self.config.max_grad_norm)))

    def move(self, rate: float) -> None:
        """One step of the optimizer at a learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.masters.settle()

    def summed(self, *values: float) -> list[float]:
        """Numbers added up over the ranks; call on every rank (collective)."""
        total: Any = self.accelerator.reduce(torch.tensor(values, device=self.accelerator.device), "sum")
        summed: list[float] = total.tolist()
        return summed

    def any(self, flag: bool) -> bool:
        """Whether any rank says so; call on every rank (collective)."""
        return parallel.any_rank(self.accelerator, flag)

    def gathered(self, items: list[Any]) -> list[Any]:
        """The items of all ranks, in the order of the ranks; call on every rank (collective)."""
        if self.ranks == 1:
            return items
        from accelerate.utils import gather_object

        return gather_object(items)

    def histograms(self) -> dict[str, Any]:
        """The weights that all ranks have trained with, as plain numbers; call on every rank (collective)."""
        total = WeightCounts(self.config.correction)
        for seen in self.gathered([self.seen]):
            total.merge(seen)
        return total.plain()

    def save(self, save: Callable[[PreTrainedModel], None]) -> None:
        """Hands rank 0's ``save`` a student that is whole and plain; call on every rank (collective)."""
        if parallel.is_sharded(self.wrapped) or self.config.lora.rank:
            tensors = checkpoints.whole_of(checkpoints.held(self.student, self.masters), self.main)
            if self.main:
                save(lora.plain(self.student, tensors, self.config.lora))
        elif self.main:
            save(self.student)
        self.accelerator.wait_for_everyone()


def learner_for(model: PreTrainedModel, config: TrainConfig, seed: int) -> Learner:
    """Makes a student ready to be trained, in place, on the ranks that there are.

    Raises:
        UserError: the student has no head or layers that can be trained right.
    """
    accelerator = parallel.accelerator_for(config)
    torch.manual_seed(seed)
    with parallel.tried_there(accelerator, model, config) as there:
        reading, layout = way_of(config, model, accelerator.device)
    facts = {**reading.facts(), "layout": layout} | ({} if there else {"tried": "on the CPU"})
    if accelerator.is_main_process:
        selfcheck.say(facts, asked=config.layout)
        if rate := dropout(model):
            print(
                f"student: its dropout ({rate:g}) is on in training, so live weights and staleness hold its noise; "
                "set it to 0 in its config.json to be without",
                file=sys.stderr,
            )
    lora.adapt(model, config.lora)
    wrapped = parallel.distributed(accelerator, StudentWithLoss(model, reading).train(), model, config)
    masters = Masters(p for p in wrapped.parameters() if p.requires_grad)
    adam = torch.optim.AdamW(masters.weights, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    return Learner(
        config=config,
        accelerator=accelerator,
        wrapped=wrapped,
        student=accelerator.unwrap_model(wrapped).model,
        masters=masters,
        optimizer=accelerator.prepare_optimizer(adam),
        layout=layout,
        facts=facts,
        seen=WeightCounts(config.correction),
    )


def dropout(model: PreTrainedModel) -> float:
    """The largest rate at which a student in training drops anything at random."""
    rates = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    named = [value for module in model.modules() for name, value in vars(module).items() if "drop" in name]
    return max([*rates, *(value for value in named if isinstance(value, float))], default=0.0)


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
    low = parallel.low_precision(config)
    reading = selfcheck.examine(model)
    if low:
        reading = selfcheck.at_precision(model, reading, low)
    packed = config.layout == "packed" or (config.layout == "auto" and (device.type == "cuda" or separable(model)))
    return reading, exact_layout(model, reading, "packed" if packed else "padded", low)
