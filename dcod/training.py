"""The training loop: weighted supervision on scored traces, on accelerate.

One optimizer step:
  1. plan: gamma and normalisers for the traces of the whole step, over all ranks (dcod.weighting.plan);
  2. split this rank's share into micro-batches of like length;
  3. per micro-batch: body forward, weights, fused head and loss, backward;
  4. clip, step, schedule; a non-finite step is skipped and counted, three in a row stop the run;
  5. log what METHOD 8 asks for; now and then measure the selection split and keep the best checkpoint.

The loss is sum(weight * -log pi) / (counted tokens of the step over all ranks): a token mean, unchanged by
micro-batching, padding and the number of ranks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dcod import corrections, weighting
from dcod.config import TrainConfig
from dcod.corrections import Record
from dcod.errors import UserError
from dcod.fused import Objective, token_statistics, weighted_loss
from dcod.losses import LOSSES
from dcod.models import hidden_states
from dcod.packing import Batch, Example, collate, micro_batches, steps, stored_record, to_device
from dcod.progress import track
from dcod.weighting import Plan, WeightCounts

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MAX_SKIPPED_IN_A_ROW = 3

Metrics = Callable[[dict[str, float], int], None]


class StudentWithLoss(nn.Module):
    """The student with the fused loss inside ``forward``, so that DDP and FSDP wrap both."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, batch: Batch, weigh: Callable[[Tensor, Tensor | None], Tensor], objective: Objective, live: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Loss (a sum over counted tokens) of one micro-batch.

        Args:
            batch: the micro-batch, on the model's device.
            weigh: gives the weights [N] of the counted tokens, the normaliser in them; it is handed the
                log-probs and entropies [N] when ``live``, else placeholders.
            objective: the loss at a state.
            live: run the head once without gradients first, since the weights depend on its log-probs; the
                body runs once either way.

        Returns:
            loss, log-probs [N], entropies [N] (live only).
        """
        head = self.model.get_output_embeddings().weight
        hidden = hidden_states(self.model, batch)
        logprobs, entropies = torch.empty(0), None
        if live:
            logprobs, entropies = token_statistics(hidden, head, batch.targets)
        loss, final = weighted_loss(hidden, head, batch.targets, weigh(logprobs, entropies), objective)
        return loss, final, entropies


@dataclass
class Result:
    """What a training run says at its end.

    Attributes:
        best_step: the step whose checkpoint was kept.
        start_nll, best_nll: mean NLL per token on the selection split, nats.
        skipped: optimizer steps that were not finite.
        history: one row of metrics per step.
        weights: histograms of the weights by position; see :class:`dcod.weighting.WeightCounts`.
    """

    best_step: int = 0
    start_nll: float = math.nan
    best_nll: float = math.inf
    skipped: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    weights: dict[str, Any] = field(default_factory=dict)


def check(config: TrainConfig, examples: Sequence[Example]) -> None:
    """Stops before any work when the traces lack what the correction or the loss needs.

    Raises:
        UserError: with the counts, and the way out.
    """
    if not examples:
        raise UserError("train: no training traces; see the quarantine of the ingest stage")

    def require(who: str, any_of: Sequence[str], way_out: str) -> None:
        missing = sum(all(getattr(example, name) is None for name in any_of) for example in examples)
        if missing:
            need = " or ".join(any_of)
            raise UserError(f"{who} needs {need}, which {missing} of {len(examples)} traces lack; {way_out}")

    for alternatives in corrections.needs(config.correction):
        fields = [_STORED_AS.get(name, name) for name in alternatives]
        require(
            f"train.correction.name={config.correction.name}",
            fields,
            "use `surprisal` (text only) or `none`, or record the teacher's log-probs in the student's tokens",
        )
    if LOSSES[config.loss.name].needs_teacher:
        way_out = "use `log` or `gce`, or record the teacher's top-k log-probs in the student's tokens"
        require(f"train.loss.name={config.loss.name}", ["teacher_top_ids"], way_out)
    if config.anchor:
        require("train.anchor", ["start_top_ids"], "score with score.top_k=32 or so, or set train.anchor=0")


_STORED_AS = {"behavior_totals": "behavior_total", "start_logprobs": "student_logprobs"}


def alike(examples: Sequence[Example]) -> list[Example]:
    """Traces whose teacher's log-probs are known token by token, or else all by their totals alone.

    A mixture would compare clipped sums with unclipped ones within a prompt.
    """
    partial = any(e.behavior_logprobs is None for e in examples)
    if not partial or all(e.behavior_logprobs is None for e in examples):
        return list(examples)
    out = []
    for example in examples:
        known = example.behavior_logprobs
        total = example.behavior_total if known is None else sum(known)
        out.append(replace(example, behavior_logprobs=None, behavior_total=total))
    return out


def train(
    model: PreTrainedModel,
    train_set: Sequence[Example],
    selection_set: Sequence[Example],
    config: TrainConfig,
    seed: int,
    save_best: Callable[[PreTrainedModel], None],
    metrics: Metrics,
) -> Result:
    """Trains ``model`` in place; ``save_best`` is called whenever the selection split improved.

    Without a selection split the last weights are kept.

    Raises:
        UserError: a need of the correction is missing, or three steps in a row were not finite.
    """
    from accelerate import Accelerator

    check(config, train_set)
    accelerator = Accelerator()
    torch.manual_seed(seed)
    train_set = alike(train_set)
    schedule_of_steps = [
        step for epoch in range(config.epochs) for step in steps(train_set, config.traces_per_step, seed, epoch)
    ]
    total = len(schedule_of_steps)
    wrapped = StudentWithLoss(model).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    wrapped, optimizer = accelerator.prepare(wrapped, optimizer)

    def save(trained: PreTrainedModel) -> None:
        if accelerator.is_main_process:
            save_best(trained)
        accelerator.wait_for_everyone()

    result = Result()
    seen = WeightCounts(config.correction)
    measured = sorted({math.ceil(total * k / config.validations) for k in range(1, config.validations + 1)})
    if selection_set:
        result.start_nll = selection_nll(wrapped, selection_set, config, accelerator.device)
        metrics({"selection_nll": result.start_nll}, 0)
    live = config.correction.weights == "live" and config.correction.name != "none"
    lagged = weighting.plan(config.correction, stored_record(schedule_of_steps[0])) if live else Plan()
    skipped_in_a_row = 0
    for number, step in enumerate(track(schedule_of_steps, "train"), start=1):
        # 1. plan
        plan = lagged if live else weighting.plan(config.correction, stored_record(step))
        counted = sum(len(e.completion_tokens) for e in step)
        # 2. split
        share = rank_share(step, accelerator.process_index, accelerator.num_processes)
        groups = micro_batches(share, config.micro_batch_tokens, by_prompt=True, layout=config.layout)
        # 3. forward and backward; DDP averages over ranks, so the sum is scaled back
        factor = accelerator.num_processes / counted
        loss, moved, records = _accumulate(accelerator, wrapped, groups, config, plan, factor, live, seen)
        # 4. step
        rate = learning_rate(config, number, total)
        for parameter_group in optimizer.param_groups:
            parameter_group["lr"] = rate
        norm = float(accelerator.clip_grad_norm_(parameters, config.max_grad_norm))
        sums = torch.tensor([loss, moved], device=accelerator.device)
        loss, moved = accelerator.reduce(sums, "sum").tolist()
        if math.isfinite(loss) and math.isfinite(norm):
            optimizer.step()
            skipped_in_a_row = 0
        else:
            result.skipped += 1
            skipped_in_a_row += 1
            if skipped_in_a_row == MAX_SKIPPED_IN_A_ROW:
                names = ", ".join(e.trace_id for e in step[:5])
                raise UserError(
                    f"train: loss or gradient not finite in {skipped_in_a_row} steps in a row, last with traces "
                    f"{names}…; lower train.learning_rate (now {config.learning_rate}) or look at them"
                )
        optimizer.zero_grad(set_to_none=True)
        # 5. report
        record = _step_record(step, records, accelerator) if live else stored_record(step)
        row = {"loss": loss, "grad_norm": norm, "learning_rate": rate, "traces": len(step), "tokens": counted}
        row["staleness"] = moved / counted
        row |= weighting.diagnostics(config.correction, plan, record)
        if live:
            lagged = weighting.plan(config.correction, record)
        if selection_set and number in measured:
            row["selection_nll"] = selection_nll(wrapped, selection_set, config, accelerator.device)
            if row["selection_nll"] < result.best_nll:
                result.best_nll, result.best_step = row["selection_nll"], number
                save(accelerator.unwrap_model(wrapped).model)
        metrics({k: v for k, v in row.items() if math.isfinite(v)}, number)
        result.history.append({"step": number, **row})
    if not selection_set or result.best_step == 0:
        result.best_step = total
        save(accelerator.unwrap_model(wrapped).model)
    for other in _gathered(accelerator, [seen])[1:]:
        seen.merge(other)
    result.weights = seen.plain()
    return result


def learning_rate(config: TrainConfig, number: int, total: int) -> float:
    """The rate of optimizer step ``number`` of ``total`` (from 1): linear warm-up, then half a cosine.

    Neither end is 0: no step is without effect.
    """
    warmup = math.ceil(config.warmup_share * total)
    if number <= warmup:
        return config.learning_rate * number / warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (number - warmup - 1) / (total - warmup)))


def rank_share(step: Sequence[Example], rank: int, ranks: int) -> list[Example]:
    """The traces of a step that one rank works on: whole prompts, balanced by tokens."""
    prompts: dict[str, list[Example]] = {}
    for example in step:
        prompts.setdefault(example.prompt_id, []).append(example)
    loads, shares = [0] * ranks, [list[Example]() for _ in range(ranks)]
    for group in sorted(prompts.values(), key=lambda g: sum(map(len, g)), reverse=True):
        target = loads.index(min(loads))
        shares[target].extend(group)
        loads[target] += sum(map(len, group))
    return shares[rank]


@torch.no_grad()
def selection_nll(wrapped: nn.Module, examples: Sequence[Example], config: TrainConfig, device: Any) -> float:
    """Mean NLL per token on the selection split, nats; every rank measures all of it."""
    wrapped.eval()
    total = torch.zeros((), dtype=torch.float64)
    count = 0
    for group in micro_batches(examples, config.micro_batch_tokens, layout=config.layout):
        batch = to_device(collate(group, layout=config.layout), device)
        ones = torch.ones(len(batch.targets), device=device)
        _, logprobs, _ = wrapped(batch, lambda *_, ones=ones: ones, Objective(), False)
        total -= logprobs.double().sum().cpu()
        count += len(batch.targets)
    wrapped.train()
    return float(total / count)


def _accumulate(
    accelerator: Any,
    wrapped: nn.Module,
    groups: list[list[Example]],
    config: TrainConfig,
    plan: Plan,
    factor: float,
    live: bool,
    seen: WeightCounts,
) -> tuple[float, float, list[Record]]:
    """Runs the micro-batches of one step.

    Returns:
        This rank's part of the loss; its sum of |log pi - stored log pi| over the counted tokens, which says how
        far the student has moved since it was scored; and the live records.
    """
    most = int(accelerator.gather(torch.tensor([len(groups)], device=accelerator.device)).max())
    total, moved, records = 0.0, 0.0, list[Record]()
    filler = groups[-1] if groups else None
    for index in range(most):
        group = groups[index] if index < len(groups) else filler
        if group is None:
            raise UserError("train: a rank got no trace of a step; raise train.traces_per_step or use fewer ranks")
        idle = index >= len(groups)  # every rank must take part in every backward
        scale = 0.0 if idle else factor
        batch = to_device(collate(group, layout=config.layout), accelerator.device)
        stored = stored_record(group)

        def weigh(
            logprobs: Tensor,
            entropies: Tensor | None,
            batch: Batch = batch,
            stored: Record = stored,
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
        with nullcontext() if last else accelerator.no_sync(wrapped):
            loss, logprobs, _ = wrapped(batch, weigh, objective, live)
            accelerator.backward(loss)
        total += float(loss.detach()) / accelerator.num_processes
        if not idle:
            moved += float((logprobs.cpu() - stored.student_logprobs[stored.mask]).abs().sum())
    return total, moved, records


def _gathered(accelerator: Any, items: list[Any]) -> list[Any]:
    """The items of all ranks, in the order of the ranks."""
    if accelerator.num_processes == 1:
        return items
    from accelerate.utils import gather_object

    return gather_object(items)


def _step_record(step: Sequence[Example], records: list[Record], accelerator: Any) -> Record:
    """The live records of all ranks as one; prompts are renumbered over the whole step."""
    records = _gathered(accelerator, records)
    offset = 0
    for record in records:
        record.prompts = record.prompts + offset
        offset += len(step)
    return Record.concatenate(records)


def write_history(path: Path, history: Sequence[dict[str, float]]) -> None:
    """One JSON object a step, non-finite numbers left out."""
    rows = ({k: v for k, v in row.items() if math.isfinite(v)} for row in history)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
