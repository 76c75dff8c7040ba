"""Chances of success, asked for: what becomes of each manner of solving when this student writes in it.

1. fine-tune the start plainly on all traces for training (no correction, the plain log loss, else as the student);
2. ask it the problems that are held back to choose checkpoints, some times each, and verify its answers;
3. a trace gets the chance of success in its manner (:mod:`dcod.score.success`), and keeps it while the student learns.

Answers and checkpoints are kept, so that a killed run goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from dcod import grading, storage
from dcod.config import TrainConfig
from dcod.engines import Sampling, seed_for
from dcod.engines.transformers import TransformersEngine
from dcod.errors import UserError
from dcod.score import scores
from dcod.score.parts import Kept, Parts
from dcod.score.scores import StoredTraces
from dcod.score.success import Success
from dcod.traces.scored import ScoredTrace
from dcod.train import loop, parallel
from dcod.train.sets import Schedule, TraceSet

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ATTEMPTS, TEMPERATURE = 4, 0.6  # answers a problem
FEWEST, MOST = 16, 256  # problems
_EVERY = 1024  # traces that are looked at together
_BATCH = 64
_LABEL = "train.correction.name=success"


def asked(
    traces: TraceSet,
    held: TraceSet,
    config: TrainConfig,
    seed: int,
    load: Callable[[], PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    kept: Kept | None,
) -> StoredTraces:
    """Training traces with the chance of success in the manner of each; call on every rank (collective).

    Args:
        traces: as the start scored them.
        held: traces of the problems that are held back.
        config: of the training.
        seed: of it.
        load: gives the start, anew.
        tokenizer: of the start.
        kept: where to go on from; None: nowhere.

    Raises:
        UserError: too few problems with a reference are held back, the student is to be split over ranks, or as
            :func:`loop.train`.
        PreemptedError: SIGTERM came; what is done is kept.
    """
    problems = _problems(held, seed)
    if parallel.is_sharded_by(config):
        raise UserError(f"{_LABEL}: a student that is split over ranks writes no answers; set train.sharding=ddp")
    with ExitStack() as stack:
        parts = kept.parts if kept else Parts(str(stack.enter_context(storage.scratch())))
        if 0 not in parts.done():
            plain = config.plain()
            if parallel.rank() == 0:
                steps = len(Schedule(traces, plain, seed))
                print(f"train: {_LABEL}: {steps} plain steps first, to ask that student", file=sys.stderr)
            model = load()
            loop.train(
                model, traces, [], plain, seed, lambda _: None, lambda *_: None, kept.checkpoints(0) if kept else None
            )
            own = _answers(TransformersEngine(model.eval(), tokenizer), problems, seed)
            if not kept or parallel.rank() == 0:  # of all ranks, where they share the place
                parts.put(0, own, ["train"] * len(own))
        parallel.gathered([])  # nobody reads before all is written
        with parts.file(0) as path:
            own = scores.read_scores(path.parent)["train"]
        return _with_chances(traces, own, tokenizer)


def _problems(held: TraceSet, seed: int) -> list[ScoredTrace]:
    """A trace of each problem that has a reference, drawn, :data:`MOST` at most."""
    _, first = np.unique(held.prompts, return_index=True)
    drawn = Random(seed).sample(first.tolist(), len(first))
    problems = [problem for problem in held.take(drawn) if (problem.gold or "").strip()][:MOST]
    if len(problems) < FEWEST:
        raise UserError(
            f"{_LABEL} asks the problems that are held back, and {len(problems)} of them have a reference answer; "
            f"{FEWEST} are the fewest: set ingest.selection_share higher, or bring more prompts with answers"
        )
    return problems


def _answers(engine: TransformersEngine, problems: list[ScoredTrace], seed: int) -> list[ScoredTrace]:
    """The student's answers; ``success`` is 1 of one that is whole and right, else 0. Each rank asks its part."""
    limit = max(len(problem.completion_tokens) for problem in problems)
    every = [(problem, attempt) for problem in problems for attempt in range(ATTEMPTS)]
    mine = range(parallel.rank(), len(every), parallel.ranks())
    seeds = tuple(seed_for(seed, every[place][0].prompt_id, every[place][1]) for place in mine)
    told = [every[place][0].prompt_tokens for place in mine]
    written = engine.generate(told, Sampling(limit, TEMPERATURE, seeds=seeds), _BATCH)
    answers = [
        (said.text, every[place][0].gold or "", said.truncated) for place, said in zip(mine, written, strict=True)
    ]
    own = []
    for place, said, grade in zip(mine, written, grading.grade_many(answers, last_number=True), strict=True):
        right = float(grade.outcome == "correct")
        bare = replace(every[place][0], completion_tokens=said.token_ids, student_logprobs=[], entropies=[])
        own.append((place, replace(bare, success=right)))
    whole = dict(parallel.gathered(own))
    return [whole[place] for place in range(len(every))]


def _with_chances(traces: TraceSet, own: list[ScoredTrace], tokenizer: PreTrainedTokenizerBase) -> StoredTraces:
    def text(trace: ScoredTrace) -> str:
        return str(tokenizer.decode(trace.completion_tokens, skip_special_tokens=True))

    known = Success([text(each) for each in own], [each.success == 1.0 for each in own])
    if parallel.rank() == 0:
        print(f"train: {_LABEL}: {known.mean:.0%} of {len(own)} answers are right", file=sys.stderr)
    out = StoredTraces()
    for begin in range(0, len(traces), _EVERY):
        some = traces.take(range(begin, min(begin + _EVERY, len(traces))))
        chances = known.chances([text(each) for each in some])
        examples = [replace(each, success=chance) for each, chance in zip(some, chances, strict=True)]
        for batch in scores.table(examples, ["train"] * len(examples)).to_batches():
            out.append(batch)
    out.close()
    return out
