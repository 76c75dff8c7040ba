"""Chances of success, asked for: what becomes of each manner of solving when this student writes in it.

1. fine-tune the start plainly on all traces for training (no correction, the plain log loss, else as the student);
2. ask it the problems that are held back to choose checkpoints, some times each, and verify its answers;
3. a trace gets the chance of success in its manner (:mod:`dcod.score.success`), and keeps it while the student learns.

Answers and checkpoints are kept, so that a killed run goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from dcod import grading
from dcod.config import TrainConfig
from dcod.engines import Sampling, seed_for
from dcod.engines.transformers import TransformersEngine
from dcod.errors import UserError
from dcod.objective.corrections import prepared
from dcod.objective.feasibility import HELD_BACK
from dcod.score import preparing
from dcod.score.preparing import Preparation
from dcod.score.scores import StoredTraces
from dcod.score.success import Success
from dcod.traces.scored import ScoredTrace
from dcod.train import parallel
from dcod.train.sets import Schedule, TraceSet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ATTEMPTS, TEMPERATURE = 4, 0.6  # answers a problem
MOST = 256  # problems
_EVERY = 1024  # traces that are looked at together
_BATCH = 64
_LABEL = "train.correction.name=success"


def asked(traces: TraceSet, held: TraceSet, by: Preparation) -> StoredTraces:
    """Training traces with the chance of success in the manner of each; call on every rank (collective).

    Args:
        traces: as the start scored them.
        held: traces of the problems that are held back.
        by: how the student is trained, and where its answers are kept.

    Raises:
        UserError: too few problems with a reference are held back, the student is to be split over ranks, or as
            :func:`loop.train`.
        PreemptedError: SIGTERM came while it trained; what is done is kept.
    """
    problems, longest = _problems(held, by.seed)
    if parallel.is_sharded_by(by.config):
        raise UserError(f"{_LABEL}: a student that is split over ranks writes no answers; set train.sharding=ddp")
    from transformers import GenerationConfig

    with by.parts() as parts:
        if 0 not in parts.done():
            if parallel.rank() == 0:
                steps = len(Schedule(traces, by.config.plain(), by.seed))
                print(f"train: {_LABEL}: {steps} plain steps first, to ask that student", file=sys.stderr)
            engine = by.student(traces, 0)
            engine.model.generation_config = GenerationConfig()  # no penalties of its own
            by.put(parts, 0, _answers(engine, problems, longest, by.seed))
        parallel.gathered([])  # nobody reads before all is written
        return _with_chances(traces, preparing.read(parts, 0), by.tokenizer)


def check(config: TrainConfig, held: TraceSet, seed: int) -> None:
    """Refuses a training that would find too few problems to ask.

    Raises:
        UserError: as said.
    """
    if prepared(config.correction) == "asked":
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

    def written(mine: range) -> list[ScoredTrace]:
        seeds = tuple(seed_for(seed, every[place][0].prompt_id, every[place][1]) for place in mine)
        told = [every[place][0] for place in mine]
        said = engine.generate(
            [each.prompt_tokens for each in told], Sampling(longest, TEMPERATURE, seeds=seeds), _BATCH
        )
        answers = [(one.text, each.gold or "", one.truncated) for each, one in zip(told, said, strict=True)]
        grades = grading.grade_many(answers, last_number=True)
        return [
            ScoredTrace(
                each.trace_id, each.prompt_id, each.prompt_tokens, one.token_ids, [], [],
                success=float(grade.outcome == "correct"),
            )
            for each, one, grade in zip(told, said, grades, strict=True)
        ]  # fmt: skip

    return preparing.shared(len(every), written)


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

    def pieces() -> Iterator[list[ScoredTrace]]:
        for begin in range(0, len(traces), _EVERY):
            some = traces.take(range(begin, min(begin + _EVERY, len(traces))))
            chances = known.chances([text(each) for each in some])
            yield [replace(each, success=chance) for each, chance in zip(some, chances, strict=True)]

    return preparing.stored(pieces())
