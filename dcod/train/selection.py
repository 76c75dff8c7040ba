"""What a student is measured by while it learns, on held-back traces, of which no step is taken.

The student that is kept is the best by their mean NLL, or, where ``train.select`` asks for it, by how many of their
problems it answers right by itself, greedily. Beside it, how far it has gone: KL(start || student) at their positions.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import torch

from dcod import grading
from dcod.engines.base import Sampling
from dcod.engines.transformers import TransformersEngine
from dcod.errors import UserError
from dcod.models.batches import collate, micro_batch_rows, micro_batches, to_device
from dcod.models.fused_head import Objective
from dcod.traces.scored import ScoredTrace
from dcod.train import parallel
from dcod.train.learner import Learner
from dcod.train.sets import TraceSet
from dcod.train.state import TrainState
from dcod.train.step import first_size, halve

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FEWEST = 100  # problems with a reference below which accuracy is too coarse to select
MOST = 256  # that are asked
TOP = 32  # of the start's likeliest tokens at a position that are kept; the others are one bucket
_POSITIONS = 8192  # at which KL is measured
_BATCH = 32  # problems that are answered together


@dataclass(frozen=True)
class Quiz:
    """Held-back problems that the student answers.

    Attributes:
        prompts: their tokens.
        golds: their references.
        limit: tokens of an answer, as many as the longest of their traces has.
        engine: writes with the student in training.
    """

    prompts: list[list[int]]
    golds: list[str]
    limit: int
    engine: TransformersEngine


@dataclass(frozen=True)
class Held:
    """The held-back traces of a training.

    Attributes:
        traces: all of them.
        near: those where KL is measured, with the start's likeliest tokens.
        quiz: their problems, where accuracy selects.
        why: why accuracy does not, where it was asked for.
    """

    traces: TraceSet
    near: list[ScoredTrace]
    quiz: Quiz | None
    why: str

    def told(self) -> dict[str, str | int]:
        """What selects, for the manifest."""
        by: dict[str, str | int] = {"by": "accuracy", "problems": len(self.quiz.golds)} if self.quiz else {"by": "nll"}
        return by | ({"why": self.why} if self.why else {})


def hold(
    learner: Learner,
    traces: TraceSet,
    trained: TraceSet,
    seed: int,
    tokenizer: PreTrainedTokenizerBase | None,
) -> Held | None:
    """Looks at the held-back traces while the student is still its start; None without any.

    Args:
        learner: the student on this rank; all ranks call it (collective).
        traces: held back.
        trained: the others, against which the cost of answers is held.
        seed: draws the problems.
        tokenizer: of the student; needed where answers are written.

    Raises:
        UserError: answers are asked for of a student that is split over ranks.
    """
    if not len(traces):
        return None
    quiz, why = _quiz(learner, traces, trained, seed, tokenizer)
    if why and learner.main:
        print(f"train: {why}", file=sys.stderr)
    order = np.argsort(traces.sizes, kind="stable")
    rows = order[:: max(1, math.ceil(int(traces.sizes.sum()) / _POSITIONS))]
    return Held(traces, _likeliest(learner, traces.take(rows.tolist())), quiz, why)


def _quiz(
    learner: Learner, traces: TraceSet, trained: TraceSet, seed: int, tokenizer: PreTrainedTokenizerBase | None
) -> tuple[Quiz | None, str]:
    config = learner.config
    if config.select == "nll" or (config.select == "auto" and tokenizer is None):
        return None, ""
    asked = f"train.select={config.select}"
    if parallel.is_sharded(learner.wrapped):
        if config.select == "accuracy":
            raise UserError(
                f"{asked}: a student that is split over ranks writes no answers while it is trained; set "
                "train.sharding=ddp, or train.select=nll"
            )
        return None, f"{asked}: NLL selects, since the student is split over ranks"
    problems, of = _gradable(traces, seed)
    if len(problems) < FEWEST:
        few = f"{len(problems)} of {of} held-back problems have a reference answer, fewer than {FEWEST}"
        return None, f"{asked}: NLL selects, since {few}"
    limit = max(len(problem.completion_tokens) for problem in problems)
    cost, budget = limit * len(problems) * (config.validations + 1), int(trained.sizes.sum()) * config.epochs // 2
    if config.select == "auto" and cost > budget:
        return None, f"{asked}: NLL selects, since answers are up to {cost:,} tokens, and {budget:,} are affordable"
    assert tokenizer is not None, "answers need a tokenizer"
    engine = TransformersEngine(learner.student, tokenizer)
    return Quiz([p.prompt_tokens for p in problems], [p.gold or "" for p in problems], limit, engine), ""


def _gradable(traces: TraceSet, seed: int) -> tuple[list[ScoredTrace], int]:
    """A trace of each problem that has a reference, up to :data:`MOST` of them, drawn; and how many were looked at."""
    _, first = np.unique(traces.prompts, return_index=True)
    rows = Random(seed).sample(first.tolist(), len(first))
    graded: list[ScoredTrace] = []
    for begin in range(0, len(rows), _BATCH):
        graded += [trace for trace in traces.take(rows[begin : begin + _BATCH]) if (trace.gold or "").strip()]
        if len(graded) >= MOST:
            break
    return graded[:MOST], len(rows)


def measure(learner: Learner, held: Held, state: TrainState) -> tuple[float, float]:
    """Mean NLL per token, nats, and accuracy, where that selects, else -inf; call on every rank (collective)."""
    return selection_nll(learner, held.traces, state), _accuracy(learner, held.quiz) if held.quiz else -math.inf


def validate(learner: Learner, held: Held, state: TrainState, number: int) -> dict[str, float]:
    """Measures the student after a step, and takes note where it is the best so far: then KL is measured, too.

    Equal accuracies are told apart by NLL.

    Returns:
        The figures by name: ``selection_nll``, and where measured ``selection_accuracy`` and ``selection_kl``.
    """
    nll, accuracy = measure(learner, held, state)
    figures = {"selection_nll": nll, "selection_accuracy": accuracy}
    state.without_a_better_one += 1
    if (accuracy, -nll) > (state.best_accuracy, -state.best_nll):
        state.best_nll, state.best_accuracy = nll, accuracy
        state.best_step, state.without_a_better_one = number, 0
        state.best_kl = figures["selection_kl"] = _divergence(learner, held.near, state)
    return {name: value for name, value in figures.items() if value > -math.inf}


@torch.no_grad()
def selection_nll(learner: Learner, traces: TraceSet, state: TrainState) -> float:
    """Mean NLL per token on the selection split, nats; every rank measures all of it.

    Raises:
        UserError: memory does not hold a single trace.
    """
    while True:
        rows = micro_batch_rows(traces.sizes.tolist(), range(len(traces)), state.micro_batch_tokens, learner.layout)
        with suppress(torch.OutOfMemoryError):
            return _nll(learner, traces, rows)
        largest = max(map(len, rows))
        halve(state, largest == 1, learner.ranks, largest)


def _nll(learner: Learner, traces: TraceSet, groups: list[list[int]]) -> float:
    wrapped, device = learner.wrapped.eval(), learner.accelerator.device
    total = torch.zeros((), dtype=torch.float64)
    count = 0
    for rows in groups:
        batch = to_device(collate(traces.take(rows), layout=learner.layout), device)
        ones = torch.ones(len(batch.targets), device=device)
        _, logprobs, _ = wrapped(batch, lambda *_, ones=ones: ones, Objective(), live=False)
        total -= logprobs.double().sum().cpu()
        count += len(batch.targets)
    wrapped.train()
    parallel.settle(wrapped)
    return float(total / count)


def _accuracy(learner: Learner, quiz: Quiz) -> float:
    """The share of problems that are answered right, each rank asking its part."""
    from transformers import GenerationConfig

    model, mine = learner.student, slice(learner.accelerator.process_index, None, learner.ranks)
    own, model.generation_config = model.generation_config, GenerationConfig()  # a model's own is saved with it
    learner.wrapped.eval()
    try:
        written = quiz.engine.generate(quiz.prompts[mine], Sampling(quiz.limit), _BATCH)
    finally:
        model.generation_config = own
        learner.wrapped.train()
    answers = [(each.text, gold, each.truncated) for each, gold in zip(written, quiz.golds[mine], strict=True)]
    grades = grading.grade_many(answers, last_number=True)
    (right,) = learner.summed(float(sum(grade.outcome == "correct" for grade in grades)))
    return right / len(quiz.golds)


@torch.no_grad()
def _likeliest(learner: Learner, traces: Sequence[ScoredTrace]) -> list[ScoredTrace]:
    """Traces with the likeliest tokens of the student as it is; every rank has all of them."""
    wrapped, device = learner.wrapped.eval(), learner.accelerator.device
    copies = []
    tokens = first_size(learner.config, device, learner.ranks)
    top_k = min(TOP, learner.student.config.get_text_config().vocab_size)
    for group in micro_batches(traces, min(tokens, _POSITIONS), layout=learner.layout):
        batch = to_device(collate(group, layout=learner.layout), device)
        logprobs, ids, _ = wrapped(batch, None, Objective(), live=False, top_k=top_k)
        sizes = [len(trace.completion_tokens) for trace in group]
        for trace, top, of in zip(group, ids.cpu().split(sizes), logprobs.cpu().split(sizes), strict=True):
            copies.append(replace(trace, start_top_ids=top.tolist(), start_top_logprobs=of.tolist()))
    wrapped.train()
    parallel.settle(wrapped)
    return copies


@torch.no_grad()
def _divergence(learner: Learner, near: Sequence[ScoredTrace], state: TrainState) -> float:
    """Mean KL(start || student) per position, nats, on the start's likeliest tokens and one bucket for the others."""
    wrapped, device = learner.wrapped.eval(), learner.accelerator.device
    total, count = 0.0, 0
    for group in micro_batches(near, min(state.micro_batch_tokens, _POSITIONS), layout=learner.layout):
        batch = to_device(collate(group, layout=learner.layout), device)
        none = torch.zeros(len(batch.targets), device=device)
        loss, _, _ = wrapped(batch, lambda *_, none=none: none, Objective(anchor=1.0, start=batch.start), live=False)
        total += float(loss)
        count += len(batch.targets)
    wrapped.train()
    parallel.settle(wrapped)
    return total / count
