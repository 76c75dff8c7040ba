"""The training loop: weighted supervision on scored traces, on accelerate.

One optimizer step:
  1. plan: gamma and normalisers for the traces of the whole step, over all ranks (dcod.objective.weighting.plan);
  2. split this rank's share into micro-batches of like length;
  3. per micro-batch: body forward, weights, fused head and loss, backward;
  4. clip, step, schedule; a non-finite step is skipped and counted, three in a row stop the run;
  5. log what docs/method.md, section 4 asks for; now and then measure the selection split and keep the best student;
  6. every so often, and when asked to stop, keep a checkpoint, from which the same call goes on.

The loss is sum(weight * -log pi) / (counted tokens of the step over all ranks): a token mean, unchanged by
micro-batching, padding and the number of ranks.
"""

from __future__ import annotations

import json
import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dcod.config import TrainConfig
from dcod.errors import PreemptedError, UserError
from dcod.models import selfcheck
from dcod.models.batches import Layout, collate, micro_batch_rows, stored_record, to_device
from dcod.models.fused_head import Objective
from dcod.objective import corrections, weighting
from dcod.objective.losses import LOSSES
from dcod.objective.weighting import WeightCounts, WeightPlan
from dcod.progress import track
from dcod.traces.scored import ScoredTrace
from dcod.train import checkpoints, lora, parallel
from dcod.train.checkpoints import Checkpoints
from dcod.train.masters import Masters
from dcod.train.sets import Schedule, TraceSet, trace_set
from dcod.train.step import (
    StudentWithLoss,
    first_size,
    forward_backward,
    gathered,
    halved,
    is_live,
    step_record,
    way_of,
)

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel

MAX_SKIPPED_IN_A_ROW = 3

Metrics = Callable[[dict[str, float], int], None]


@dataclass
class Result:
    """What a training run says at its end.

    Attributes:
        best_step: the step whose checkpoint was kept.
        start_nll, best_nll: mean NLL per token on the selection split, nats.
        skipped: optimizer steps that were not finite.
        history: one row of metrics per step.
        weights: histograms of the weights by position; see :class:`dcod.objective.weighting.WeightCounts`.
        student: how the student was run: its head and the layout of its batches; see :mod:`dcod.models.selfcheck`.
    """

    best_step: int = 0
    start_nll: float = math.nan
    best_nll: float = math.inf
    skipped: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    weights: dict[str, Any] = field(default_factory=dict)
    student: dict[str, Any] = field(default_factory=dict)


def check(config: TrainConfig, traces: Sequence[ScoredTrace] | TraceSet) -> None:
    """Stops before any work when the traces lack what the correction or the loss needs.

    Raises:
        UserError: with the counts, and the way out.
    """
    traces = trace_set(traces)
    if not len(traces):
        raise UserError("train: no training traces; see the quarantine of the ingest stage")

    def require(who: str, any_of: Sequence[str], way_out: str) -> None:
        missing = traces.missing(any_of)
        if missing:
            need = " or ".join(any_of)
            raise UserError(f"{who} needs {need}, which {missing} of {len(traces)} traces lack; {way_out}")

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


_STORED_AS = {"start_logprobs": "student_logprobs"}


def first_weights(traces: Sequence[ScoredTrace] | TraceSet, config: TrainConfig, seed: int) -> dict[str, list[float]]:
    """The weights of every trace in the first epoch, by trace id: those that :func:`train` uses with stored scores.

    Live weights follow the student; these are what they are before it has learned anything.

    Raises:
        UserError: the traces lack what the correction needs.
    """
    traces = trace_set(traces)
    check(config, traces)
    found = {}
    schedule = Schedule(traces, config.model_copy(update={"epochs": 1}), seed)
    for number in range(len(schedule)):
        step = schedule[number]
        record = stored_record(step)
        weights = weighting.weights(config.correction, weighting.plan(config.correction, record), record)
        for example, row in zip(step, weights.tolist(), strict=True):
            found[example.trace_id] = row[: len(example.completion_tokens)]
    return found


@dataclass
class _Progress:
    """What a run carries from step to step, besides weights and optimizer; all of it is in a checkpoint."""

    seen: WeightCounts
    lagged: WeightPlan
    micro_batch_tokens: int
    result: Result = field(default_factory=Result)
    skipped_in_a_row: int = 0
    without_a_better_one: int = 0

    def state(self) -> dict[str, Any]:
        numbers = {**asdict(self.result), "weights": self.seen.plain()}
        own = ("micro_batch_tokens", "skipped_in_a_row", "without_a_better_one")
        return {**numbers, "lagged": asdict(self.lagged), **{name: getattr(self, name) for name in own}}

    def restore(self, state: dict[str, Any]) -> None:
        self.lagged = WeightPlan(**state.pop("lagged"))
        self.seen.load(state.pop("weights"))
        for name in ("micro_batch_tokens", "skipped_in_a_row", "without_a_better_one"):
            setattr(self, name, state.pop(name))
        self.result = Result(**state)


def train(
    model: PreTrainedModel,
    train_set: Sequence[ScoredTrace] | TraceSet,
    selection_set: Sequence[ScoredTrace] | TraceSet,
    config: TrainConfig,
    seed: int,
    save_best: Callable[[PreTrainedModel], None],
    metrics: Metrics,
    kept: Checkpoints | None = None,
) -> Result:
    """Trains ``model`` in place; ``save_best`` is called whenever the selection split improved.

    Without a selection split the last weights are kept. With ``kept``, a run that was stopped goes on where it
    was: its metrics are reported again from the first step, and on a CPU it ends with the same bits.

    Raises:
        UserError: a need of the correction is missing, or three steps in a row were not finite.
        PreemptedError: SIGTERM came; the state is kept.
    """
    train_set, selection_set = trace_set(train_set), trace_set(selection_set)
    check(config, train_set)
    accelerator = parallel.accelerator_for(config)
    torch.manual_seed(seed)
    schedule = Schedule(train_set, config, seed)
    total = len(schedule)
    with parallel.tried_there(accelerator, model, config) as there:
        reading, layout = way_of(config, model, accelerator.device)
    facts = {**reading.facts(), "layout": layout} | ({} if there else {"tried": "on the CPU"})
    if accelerator.is_main_process:
        selfcheck.say(facts, asked=config.layout)
    lora.adapt(model, config.lora)
    wrapped = parallel.distributed(accelerator, StudentWithLoss(model, reading).train(), model, config)
    parameters = [p for p in wrapped.parameters() if p.requires_grad]
    masters = Masters(parameters)
    optimizer = torch.optim.AdamW(
        masters.weights, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    optimizer = accelerator.prepare_optimizer(optimizer)
    student = accelerator.unwrap_model(wrapped).model
    main = accelerator.is_main_process

    def save() -> None:
        if parallel.is_sharded(wrapped) or config.lora.rank:
            tensors = checkpoints.whole_of(checkpoints.held(student, masters), main)
            if main:
                save_best(lora.plain(student, tensors, config.lora))
        elif main:
            save_best(student)
        accelerator.wait_for_everyone()

    def keep(number: int) -> None:
        if kept:
            kept.save(number, student, optimizer, progress.state(), masters, write=main)
        accelerator.wait_for_everyone()

    measured = {math.ceil(total * k / config.validations) for k in range(1, config.validations + 1)}
    live = is_live(config)
    first = weighting.plan(config.correction, stored_record(schedule[0])) if live else WeightPlan()
    progress = _Progress(WeightCounts(config.correction), first, 0)
    progress.micro_batch_tokens = first_size(config, accelerator.device, accelerator.num_processes)
    done = 0
    found = kept.latest() if kept else None
    _agree(accelerator, found.step if found else 0, config)
    if kept and found:
        done = found.step
        progress.restore(found.state)
        if progress.result.best_step:
            checkpoints.load_weights(student, kept.best(progress.result.best_step), masters)
            save()
        checkpoints.load_weights(student, found.model, masters)
        checkpoints.load_moments(optimizer, found.optimizer)
    elif selection_set:
        progress.result.start_nll = selection_nll(wrapped, selection_set, layout, progress, accelerator)
    result = progress.result
    result.student = facts
    if selection_set:
        metrics({"selection_nll": result.start_nll}, 0)
    for row in result.history:
        metrics(_reported(row), int(row["step"]))
    with _asked_to_stop() as asked:
        for number in track(range(done + 1, total + 1), "train"):
            step = schedule[number - 1]
            # 1. plan
            plan = progress.lagged if live else weighting.plan(config.correction, stored_record(step))
            counted = sum(len(e.completion_tokens) for e in step)
            # 2. and 3. split, forward and backward
            loss, moved, records = forward_backward(accelerator, wrapped, masters, step, layout, config, plan, progress)
            # 4. step
            rate = learning_rate(config, number, total)
            for parameter_group in optimizer.param_groups:
                parameter_group["lr"] = rate
            norm = float(parallel.whole(nn.utils.clip_grad_norm_(masters.weights, config.max_grad_norm)))
            sums = torch.tensor([loss, moved], device=accelerator.device)
            loss, moved = accelerator.reduce(sums, "sum").tolist()
            if math.isfinite(loss) and math.isfinite(norm):
                optimizer.step()
                masters.settle()
                progress.skipped_in_a_row = 0
            else:
                _skip(progress, step, config)
            masters.zero_grad()
            # 5. report
            record = step_record(step, records, accelerator) if live else stored_record(step)
            row = {"loss": loss, "grad_norm": norm, "learning_rate": rate, "traces": len(step), "tokens": counted}
            row["staleness"] = moved / counted
            row["micro_batch_tokens"] = progress.micro_batch_tokens
            row |= weighting.diagnostics(config.correction, plan, record)
            if live:
                progress.lagged = weighting.plan(config.correction, record)
            if selection_set and number in measured:
                row["selection_nll"] = selection_nll(wrapped, selection_set, layout, progress, accelerator)
                progress.without_a_better_one += 1
                if row["selection_nll"] < result.best_nll:
                    result.best_nll, result.best_step = row["selection_nll"], number
                    progress.without_a_better_one = 0
                    save()
                    if kept:
                        kept.save_best(number, student, masters, write=main)
            result.history.append({"step": number, **row})
            metrics(_reported(row), number)
            # 6. keep
            stop = parallel.any_rank(accelerator, bool(asked))
            if stop or (number % config.checkpoints.every == 0 and number < total):
                keep(number)
            if stop:
                kind = (
                    f"kept at step {number} of {total}" if kept else "nothing is kept: train.checkpoints.uri is empty"
                )
                raise PreemptedError(f"train: asked to stop; {kind}; the same run goes on from there")
            if progress.without_a_better_one == config.patience:
                break
    if not selection_set or result.best_step == 0:
        result.best_step = len(result.history)
        save()
    for other in gathered(accelerator, [progress.seen])[1:]:
        progress.seen.merge(other)
    result.weights = progress.seen.plain()
    return result


def _reported(row: dict[str, float]) -> dict[str, float]:
    return {k: v for k, v in row.items() if k != "step" and math.isfinite(v)}


def _skip(progress: _Progress, step: Sequence[ScoredTrace], config: TrainConfig) -> None:
    progress.result.skipped += 1
    progress.skipped_in_a_row += 1
    if progress.skipped_in_a_row == MAX_SKIPPED_IN_A_ROW:
        names = ", ".join(e.trace_id for e in step[:5])
        raise UserError(
            f"train: loss or gradient not finite in {progress.skipped_in_a_row} steps in a row, last with traces "
            f"{names}…; lower train.learning_rate (now {config.learning_rate}) or look at them"
        )


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """A list that SIGTERM fills, instead of ending the process in the middle of a step."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def _agree(accelerator: Any, step: int, config: TrainConfig) -> None:
    """All ranks must go on from the same step."""
    known = gathered(accelerator, [step])
    if len(set(known)) > 1:
        raise UserError(
            f"train.checkpoints.uri={config.checkpoints.uri}: ranks find different checkpoints there (steps {known}); "
            "it must be a place that all nodes share, such as s3://bucket/prefix"
        )


def learning_rate(config: TrainConfig, number: int, total: int) -> float:
    """The rate of optimizer step ``number`` of ``total`` (from 1): linear warm-up, then half a cosine.

    Neither end is 0: no step is without effect.
    """
    warmup = math.ceil(config.warmup_share * total)
    if number <= warmup:
        return config.learning_rate * number / warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (number - warmup - 1) / (total - warmup)))


@torch.no_grad()
def selection_nll(
    wrapped: nn.Module, traces: TraceSet, layout: Layout, progress: _Progress, accelerator: Accelerator
) -> float:
    """Mean NLL per token on the selection split, nats; every rank measures all of it.

    Raises:
        UserError: memory does not hold a single trace.
    """
    while True:
        rows = micro_batch_rows(traces.sizes.tolist(), range(len(traces)), progress.micro_batch_tokens, layout)
        with suppress(torch.OutOfMemoryError):
            return _nll(wrapped, traces, rows, layout, accelerator.device)
        most = max(map(len, rows))
        halved(progress, most == 1, accelerator.num_processes, most)


def _nll(wrapped: nn.Module, traces: TraceSet, groups: list[list[int]], layout: Layout, device: torch.device) -> float:
    wrapped.eval()
    total = torch.zeros((), dtype=torch.float64)
    count = 0
    for rows in groups:
        batch = to_device(collate(traces.take(rows), layout=layout), device)
        ones = torch.ones(len(batch.targets), device=device)
        _, logprobs, _ = wrapped(batch, lambda *_, ones=ones: ones, Objective(), False)
        total -= logprobs.double().sum().cpu()
        count += len(batch.targets)
    wrapped.train()
    parallel.settle(wrapped)
    return float(total / count)


def write_history(path: Path, history: Sequence[dict[str, float]]) -> None:
    """One JSON object a step, non-finite numbers left out."""
    rows = ({k: v for k, v in row.items() if math.isfinite(v)} for row in history)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
