"""The training loop: weighted supervision on scored traces, on accelerate.

One optimizer step:
  1. plan: gamma and normalisers for the traces of the whole step, over all ranks (dcod.objective.weighting.plan);
  2. split this rank's share into micro-batches of like length;
  3. per micro-batch: body forward, weights, fused head and loss, backward;
  4. clip, step, schedule; a non-finite step is skipped and counted, three in a row stop the run;
  5. report what docs/method.md, section 4, asks for; now and then measure the selection split, keep the best student;
  6. every so often, and when asked to stop, keep a checkpoint, from which the same call goes on.

The loss is sum(weight * -log pi) / (counted tokens of the step over all ranks): a token mean, unchanged by
micro-batching, padding and the number of ranks. examples/loop.py is the same on a single page.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dcod.config import CorrectionConfig, TrainConfig
from dcod.errors import PreemptedError, UserError
from dcod.models.batches import stored_record
from dcod.objective import corrections, weighting
from dcod.objective.losses import LOSSES
from dcod.objective.step_scores import StepScores
from dcod.objective.weighting import WeightPlan
from dcod.progress import track
from dcod.storage.stopping import noticing
from dcod.traces import scored
from dcod.traces.scored import ScoredTrace
from dcod.train import selection
from dcod.train.checkpoints import Checkpoints, load_moments, load_weights
from dcod.train.learner import Learner, learner_for
from dcod.train.selection import Held
from dcod.train.sets import Schedule, TraceSet, trace_set
from dcod.train.state import Result, TrainState
from dcod.train.step import first_size, forward_backward, record_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_SKIPPED_IN_A_ROW = 3
_NOT_KEPT = "nothing is kept: train.checkpoints.uri is empty"

Metrics = Callable[[dict[str, float], int], None]


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

    ways_out = scored.told(scored.WAY_OUT)
    for alternatives in corrections.needs(config.correction):
        if made_in_training(config, traces):
            continue
        fields = [_STORED_AS.get(name, name) for name in alternatives]
        require(f"train.correction.name={config.correction.name}", fields, ways_out.get(alternatives[0], ""))
    if LOSSES[config.loss.name].needs_teacher:
        way_out = "use `log` or `gce`, or record the teacher's top-k log-probs in the student's tokens"
        require(f"train.loss.name={config.loss.name}", ["teacher_top_ids"], way_out)
    if config.anchor:
        require("train.anchor", ["start_top_ids"], "score with score.top_k=32 or so, or set train.anchor=0")


def _check_ready(config: TrainConfig, traces: TraceSet) -> None:
    check(config, traces)
    if made_in_training(config, traces):
        raise UserError("train.correction.name=success: the traces lack their chances, which dcod.score.frozen makes")


def made_in_training(config: TrainConfig, traces: TraceSet) -> bool:
    """Whether the weights are made of what only the training finds out: how often own answers are right."""
    return corrections.prepared(config.correction) == "asked" and traces.missing(["success"]) == len(traces)


_STORED_AS = {"start_logprobs": "student_logprobs"}


def first_weights(traces: Sequence[ScoredTrace] | TraceSet, config: TrainConfig, seed: int) -> dict[str, list[float]]:
    """The weights of :func:`first_epoch` by trace id, all of them in memory."""
    return {example.trace_id: weights for example, weights in first_epoch(traces, config, seed)}


def first_epoch(
    traces: Sequence[ScoredTrace] | TraceSet, config: TrainConfig, seed: int
) -> Iterator[tuple[ScoredTrace, list[float]]]:
    """Every trace with the weights of its tokens in the first epoch: those that :func:`train` uses with stored scores.

    Live weights follow the student; these are what they are before it has learned anything. Those of
    `success` are ones before a student was asked.

    Raises:
        UserError: the traces lack what the correction needs.
    """
    traces = trace_set(traces)
    check(config, traces)
    if made_in_training(config, traces):
        config = config.model_copy(update={"correction": CorrectionConfig()})
    schedule = Schedule(traces, config.model_copy(update={"epochs": 1}), seed)
    for number in range(len(schedule)):
        step = schedule[number]
        record = stored_record(step)
        weights = weighting.weights(config.correction, weighting.plan(config.correction, record), record)
        for example, row in zip(step, weights.tolist(), strict=True):
            yield example, row[: len(example.completion_tokens)]


def train(
    model: PreTrainedModel,
    train_set: Sequence[ScoredTrace] | TraceSet,
    selection_set: Sequence[ScoredTrace] | TraceSet,
    config: TrainConfig,
    seed: int,
    save_best: Callable[[PreTrainedModel], None],
    metrics: Metrics,
    checkpoints: Checkpoints | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Result:
    """Trains ``model`` in place; ``save_best`` is called whenever the selection split improved.

    Without a selection split the last weights are kept. With ``checkpoints``, a run that was stopped goes on where it
    was: its metrics are reported again from the first step, and on a CPU it ends with the same bits. ``tokenizer`` is
    needed where answers select (``train.select``).

    Raises:
        UserError: a need of the correction is missing, or three steps in a row were not finite.
        PreemptedError: SIGTERM came; the state is kept.
    """
    train_set, selection_set = trace_set(train_set), trace_set(selection_set)
    _check_ready(config, train_set)
    learner = learner_for(model, config, seed)
    schedule = Schedule(train_set, config, seed)
    total = len(schedule)
    held = selection.hold(learner, selection_set, train_set, seed, tokenizer)  # as long as it is the start
    state = resume(learner, checkpoints, save_best) or begin(learner, schedule, held)
    report_again(state, metrics)
    measured = {math.ceil(total * k / config.validations) for k in range(1, config.validations + 1)}
    with noticing() as asked:
        for number in track(range(state.step + 1, total + 1), "train"):
            step, progress = schedule[number - 1], (number - 1) / max(1, total - 1)
            # 1. plan
            plan = state.lagged if learner.live else weighting.plan(config.correction, stored_record(step, progress))
            loss, moved, records = forward_backward(learner, step, plan, state, progress)
            # 4. clip, step, schedule (2. and 3. above: split, forward and backward)
            row = update(learner, step, loss, moved, learning_rate(config, number, total), state)
            # 5. report
            row = {"step": number, **row, **report(learner, step, plan, records, state, progress)}
            if held and number in measured:
                row |= selection.validate(learner, held, state, number)
                if state.best_step == number:
                    keep_best(learner, state, save_best, checkpoints)
            state.step = number
            state.history.append(row)
            metrics(_reported(row), number)
            # 6. keep
            stop = learner.any(bool(asked))
            if stop or (number % config.checkpoints.every == 0 and number < total):
                keep(learner, state, checkpoints)
            if stop:
                raise _stopped(f"kept at step {number} of {total}" if checkpoints else _NOT_KEPT)
            if state.without_a_better_one == config.patience:
                break
    if state.best_step == 0:
        state.best_step = state.step
        learner.save(save_best)
    state.weights = learner.histograms()
    return state


def begin(learner: Learner, schedule: Schedule, held: Held | None) -> TrainState:
    """The state before the first step, whose live weights follow the stored scores: those of this very student."""
    state = TrainState(student=learner.facts)
    state.micro_batch_tokens = first_size(learner.config, learner.accelerator.device, learner.ranks)
    if learner.live:
        state.lagged = weighting.plan(learner.config.correction, stored_record(schedule[0]))
    if held:
        state.select = held.told()
        state.start_nll, state.start_accuracy = selection.measure(learner, held, state)
    return state


def resume(
    learner: Learner, checkpoints: Checkpoints | None, save_best: Callable[[PreTrainedModel], None]
) -> TrainState | None:
    """Goes back to the last checkpoint, if there is one; call on every rank (collective).

    Raises:
        UserError: it cannot be read, or ranks found different ones.
    """
    checkpoint = checkpoints.latest() if checkpoints else None
    steps = learner.gathered([checkpoint.state.step if checkpoint else 0])
    if len(set(steps)) > 1:
        raise UserError(
            f"train.checkpoints.uri={learner.config.checkpoints.uri}: ranks find different checkpoints there (steps "
            f"{steps}); it must be a place that all nodes share, such as s3://bucket/prefix"
        )
    if not checkpoints or not checkpoint:
        return None
    state = checkpoint.state
    if state.best_step:
        load_weights(learner.student, checkpoints.best(state.best_step), learner.masters)
        learner.save(save_best)
    load_weights(learner.student, checkpoint.model, learner.masters)
    load_moments(learner.optimizer, checkpoint.optimizer)
    if learner.main:  # it has those of all ranks
        learner.seen.load(state.weights)
    state.student = learner.facts
    return state


def update(
    learner: Learner, step: Sequence[ScoredTrace], loss: float, moved: float, rate: float, state: TrainState
) -> dict[str, float]:
    """Moves the student by the gradients that are there, clipped, unless they or the loss are not finite.

    Args:
        learner: the student on this rank.
        step: the traces of all ranks.
        loss: this rank's part; see :func:`dcod.train.step.forward_backward`.
        moved: as ``loss``.
        rate: the learning rate.
        state: of the run; counts what is skipped.

    Returns:
        The figures of the step, over all ranks.
    """
    norm = learner.clip()
    loss, moved = learner.summed(loss, moved)
    if math.isfinite(loss) and math.isfinite(norm):
        learner.move(rate)
        state.skipped_in_a_row = 0
    else:
        _skip(state, step, learner.config)
    learner.masters.zero_grad()
    tokens = sum(len(e.completion_tokens) for e in step)
    return {
        "loss": loss,
        "grad_norm": norm,
        "learning_rate": rate,
        "traces": len(step),
        "tokens": tokens,
        "staleness": moved / tokens,
        "micro_batch_tokens": state.micro_batch_tokens,
    }


def report(
    learner: Learner,
    step: Sequence[ScoredTrace],
    plan: WeightPlan,
    records: list[StepScores],
    state: TrainState,
    progress: float = 0.0,
) -> dict[str, float]:
    """The figures of a step's weights; what it decides for live weights of the next step goes into the state.

    Raises:
        UserError: no token had any weight.
    """
    correction = learner.config.correction
    record = record_of(learner, step, records, progress)
    if learner.live:
        state.lagged = weighting.plan(correction, record)
    figures = weighting.diagnostics(correction, plan, record)
    if figures.get("weight_max") == 0.0:
        raise UserError(
            f"train: train.correction.name={correction.name} leaves no token of step {state.step + 1} any weight, so "
            "nothing is learnt; see mean_student_probability of the score stage, take another correction"
        )
    return figures


def keep(learner: Learner, state: TrainState, checkpoints: Checkpoints | None) -> None:
    """Writes a checkpoint, where any are wanted; call on every rank (collective)."""
    if checkpoints:
        state.weights = learner.histograms()
        checkpoints.save(state, learner.student, learner.optimizer, learner.masters, write=learner.main)
    learner.accelerator.wait_for_everyone()


def keep_best(
    learner: Learner,
    state: TrainState,
    save_best: Callable[[PreTrainedModel], None],
    checkpoints: Checkpoints | None,
) -> None:
    """Saves the student, and keeps it for who goes on from a checkpoint; call on every rank (collective)."""
    learner.save(save_best)
    if checkpoints:
        checkpoints.save_best(state.best_step, learner.student, learner.masters, write=learner.main)


def report_again(state: TrainState, metrics: Metrics) -> None:
    """Reports all that was measured before a run goes on: the curve is whole for who sees this attempt alone."""
    if math.isfinite(state.start_nll):
        metrics(_reported({"selection_nll": state.start_nll, "selection_accuracy": state.start_accuracy}), 0)
    for row in state.history:
        metrics(_reported(row), int(row["step"]))


def _reported(row: dict[str, float]) -> dict[str, float]:
    return {k: v for k, v in row.items() if k != "step" and math.isfinite(v)}


def _skip(state: TrainState, step: Sequence[ScoredTrace], config: TrainConfig) -> None:
    state.skipped += 1
    state.skipped_in_a_row += 1
    if state.skipped_in_a_row == MAX_SKIPPED_IN_A_ROW:
        names = ", ".join(e.trace_id for e in step[:5])
        raise UserError(
            f"train: loss or gradient not finite in {state.skipped_in_a_row} steps in a row, last with traces "
            f"{names}…; lower train.learning_rate (now {config.learning_rate}) or look at them"
        )


def _stopped(where: str) -> PreemptedError:
    return PreemptedError(f"train: asked to stop; {where}; the same run goes on from there")


def learning_rate(config: TrainConfig, number: int, total: int) -> float:
    """The rate of optimizer step ``number`` of ``total`` (from 1): linear warm-up, then half a cosine.

    Neither end is 0: no step is without effect.
    """
    warmup = math.ceil(config.warmup_share * total)
    if number <= warmup:
        return config.learning_rate * number / warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (number - warmup - 1) / (total - warmup)))


def write_history(path: Path, history: Sequence[dict[str, float]]) -> None:
    """One JSON object a step, non-finite numbers left out."""
    rows = ({k: v for k, v in row.items() if math.isfinite(v)} for row in history)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
