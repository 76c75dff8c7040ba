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
from dcod.objective.feasibility import HELD_BACK
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
MOST = 256  # problems
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
        PreemptedError: SIGTERM came while it trained; what is done is kept.
    """
    problems, longest = _problems(held, seed)
    if parallel.is_sharded_by(config):
        raise UserError(f"{_LABEL}: a student that is split over ranks writes no answers; set train.sharding=ddp")
    from transformers import GenerationConfig

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
            model.generation_config = GenerationConfig()  # no penalties of its own
            own = _answers(TransformersEngine(model.eval(), tokenizer), problems, longest, seed)
            if not kept or parallel.rank() == 0:  # of all ranks, where they share the place
                parts.put(0, own, ["train"] * len(own))
        parallel.gathered([])  # nobody reads before all is written
        with parts.file(0) as path:
            own = scores.read_scores(path.parent)["train"]
        return _with_chances(traces, own, tokenizer)


def check(config: TrainConfig, held: TraceSet, seed: int) -> None:
    """Refuses a training that would find too few problems to ask.

    Raises:
        UserError: as said.
    """
    if config.correction.name == "success":
        _problems(held, seed)


def _problems(held: TraceSet, seed: int) -> tuple[list[ScoredTrace], int]:
    """A trace of each of :data:`MOST` problems that have a reference, drawn; and the longest of all their traces."""
    prompts = np.asarray(held.prompts)
    found: list[ScoredTrace] = []
    longest = 0
    names = np.unique(prompts).tolist()
    # Other ones than `train.select` draws, where there are more.
    for name in Random(seed + 1).sample(names, len(names)):
        traces = held.take(np.flatnonzero(prompts == name).tolist())
        if (known := next((trace for trace in traces if (trace.gold or "").strip()), None)) is None:
            continue
        found.append(known)
        longest = max(longest, *(len(trace.completion_tokens) for trace in traces))
        if len(found) == MOST:
            break
    if len(found) < HELD_BACK:
        raise UserError(
            f"{_LABEL} asks the problems that are held back, and {len(found)} of them have a reference answer; "
            f"{HELD_BACK} are the fewest: set ingest.selection_share higher, or bring more prompts with answers"
        )
    return found, longest


def _answers(engine: TransformersEngine, problems: list[ScoredTrace], longest: int, seed: int) -> list[ScoredTrace]:
    """The student's answers; ``success`` is 1 of one that is whole and right, else 0. Each rank asks its part."""
    every = [(problem, attempt) for problem in problems for attempt in range(ATTEMPTS)]
    mine = range(parallel.rank(), len(every), parallel.ranks())
    seeds = tuple(seed_for(seed, every[place][0].prompt_id, every[place][1]) for place in mine)
    told = [every[place][0].prompt_tokens for place in mine]
    written = engine.generate(told, Sampling(longest, TEMPERATURE, seeds=seeds), _BATCH)
    answers = [
        (said.text, every[place][0].gold or "", said.truncated) for place, said in zip(mine, written, strict=True)
    ]
    own = []
    for place, said, grade in zip(mine, written, grading.grade_many(answers, last_number=True), strict=True):
        problem, right = every[place][0], float(grade.outcome == "correct")
        answer = ScoredTrace(problem.trace_id, problem.prompt_id, problem.prompt_tokens, said.token_ids, [], [])
        own.append((place, replace(answer, success=right)))
    whole = dict(parallel.gathered(own))
    return [whole[place] for place in range(len(every))]


def _with_chances(traces: TraceSet, own: list[ScoredTrace], tokenizer: PreTrainedTokenizerBase) -> StoredTraces:
    def text(trace: ScoredTrace) -> str:
        return str(tokenizer.decode(trace.completion_tokens, skip_special_tokens=True))

    right, problems = [each.success == 1.0 for each in own], [each.prompt_id for each in own]
    known = Success([text(each) for each in own], right, problems)
    if parallel.rank() == 0:
        print(
            f"train: {_LABEL}: {known.mean:.0%} of {len(own)} answers are right, {known.contrasts} of them to problems "
            "that were also missed",
            file=sys.stderr,
        )
    if not known.contrasts:
        raise UserError(
            f"{_LABEL}: of the plain student's {len(own)} answers {known.mean:.0%} are right, and no problem was "
            "solved in one and missed in another, so no manner can be told from another; take other problems, or "
            "another correction"
        )
    out = StoredTraces()
    for begin in range(0, len(traces), _EVERY):
        some = traces.take(range(begin, min(begin + _EVERY, len(traces))))
        chances = known.chances([text(each) for each in some])
        examples = [replace(each, success=chance) for each, chance in zip(some, chances, strict=True)]
        for batch in scores.table(examples, ["train"] * len(examples)).to_batches():
            out.append(batch)
    out.close()
    return out
