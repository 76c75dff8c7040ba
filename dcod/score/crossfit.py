"""Cross-fitted scores: each half of the prompts as a student scores it that was fine-tuned on the other half.

Weights that are made of them know what fine-tuning will make likely, have seen none of the traces that they weigh, and
stay: live ones feed back, since what is a little likelier gets more weight and so becomes likelier.

1. fine-tune the start on one half (no correction, the plain log loss, else as the student), and let it score the other;
2. the other way round; scored parts and checkpoints are kept, so that a killed run goes on;
3. put the halves together in the order of the set.

For the correction `success` each also answers prompts of the half that it has not seen, and a trace gets the chance of
success in its manner (:mod:`dcod.score.success`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from dcod import grading, storage
from dcod.config import CorrectionConfig, LossConfig, TrainConfig
from dcod.engines import Sampling, seed_for
from dcod.engines.transformers import TransformersEngine
from dcod.errors import UserError
from dcod.score import scores
from dcod.score.parts import Parts
from dcod.score.scores import StoredTraces
from dcod.score.success import Success
from dcod.traces.scored import ScoredTrace
from dcod.train import loop, parallel
from dcod.train.checkpoints import Checkpoints
from dcod.train.sets import Rows, Schedule, TraceSet

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EVERY = 1024  # traces of a part
ATTEMPTS, ASKED = 4, 256  # own answers a prompt, of so many prompts of a half at most
_ANSWERS = 90_000_000  # the first number of the parts with own answers
_BATCH_TOKENS, _BATCH = 4096, 64


@dataclass(frozen=True)
class Kept:
    """Where a cross-fitting keeps what is done: ``uri`` is that of the checkpoints of its run."""

    uri: str
    keep: int

    @property
    def parts(self) -> Parts:
        """The scored parts."""
        return Parts(f"{self.uri}-cross")

    def checkpoints(self, half: int) -> Checkpoints:
        """Of the student that scores a half."""
        return Checkpoints(f"{self.uri}-cross-{half}", self.keep)

    def clear(self) -> None:
        """Forgets all of it."""
        for each in (self.parts, self.checkpoints(0), self.checkpoints(1)):
            each.clear()


def wanted(config: TrainConfig) -> bool:
    """Whether the weights are to come from cross-fitted scores."""
    return config.correction.weights == "cross" and config.correction.name != "none"


def fitted(
    traces: TraceSet,
    config: TrainConfig,
    seed: int,
    load: Callable[[], PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    kept: Checkpoints | None,
) -> TraceSet:
    """As :func:`crossed` where that is wanted, beside the checkpoints of the training; else the traces as they are."""
    if not wanted(config):
        return traces
    return crossed(traces, config, seed, load, tokenizer, Kept(kept.uri, kept.keep) if kept else None)


def forget(config: TrainConfig, kept: Checkpoints | None) -> None:
    """Drops the checkpoints of a training whose student is kept, and those of its cross-fitting."""
    if kept:
        kept.clear()
        if wanted(config):
            Kept(kept.uri, kept.keep).clear()


def crossed(
    traces: TraceSet,
    config: TrainConfig,
    seed: int,
    load: Callable[[], PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    kept: Kept | None,
) -> StoredTraces:
    """Training traces with the log-probs and entropies of students of the other half; call on every rank (collective).

    Args:
        traces: as the start scored them.
        config: of the training.
        seed: of it.
        load: gives the start, anew.
        tokenizer: of the start.
        kept: where to go on from; None: nowhere.

    Raises:
        UserError: there is one prompt alone, the student is to be split over ranks, or as :func:`loop.train`.
        PreemptedError: SIGTERM came; what is done is kept.
    """
    sides = np.asarray(traces.prompts) % 2
    label = "train.correction.weights=cross"
    if not sides.any():
        raise UserError(
            f"{label} fits on half of the prompts, and there is one alone; use stored, or bring more prompts"
        )
    if parallel.is_sharded_by(config):
        raise UserError(f"{label}: a student that is split over ranks is not cross-fitted; set train.sharding=ddp")
    answers = config.correction.name == "success"
    plain = {"correction": CorrectionConfig(), "loss": LossConfig(), "focus": 0.0, "anchor": 0.0, "select": "nll"}
    config = config.model_copy(update=plain)
    with ExitStack() as stack:
        parts = kept.parts if kept else Parts(str(stack.enter_context(storage.scratch())))
        done = parts.done()
        for half in (0, 1):
            due = [n for n in _numbers(sides, half) if 2 * n + half not in done]
            ask = answers and _ANSWERS + half not in done
            if not due and not ask:
                continue
            others = Rows(traces, np.flatnonzero(sides != half))
            steps, all_steps = (len(Schedule(some, config, seed)) for some in (others, traces))
            _say(
                f"{label}: {steps} steps on half of the prompts, to score the other, beside the {all_steps} to come",
                half,
            )
            model = load()
            store = kept.checkpoints(half) if kept else None
            loop.train(model, others, [], config, seed, lambda _: None, lambda *_: None, store)
            engine = TransformersEngine(model.eval(), tokenizer)
            for number in due:
                examples = _scored(engine, traces.take(_rows(sides, half, number).tolist()))
                if not kept or _rank() == 0:  # of all ranks, where they share the place
                    parts.put(2 * number + half, examples, ["train"] * len(examples))
            if ask:
                own = _own_answers(engine, traces, np.flatnonzero(sides == half), seed)
                if not kept or _rank() == 0:
                    parts.put(_ANSWERS + half, own, ["train"] * len(own))
        _gathered([])  # nobody reads before all is written
        return _joined(parts, sides, _known(parts, tokenizer) if answers else None)


def _say(text: str, half: int) -> None:
    if _rank() == 0:
        print(f"train: {text} ({half + 1} of 2)", file=sys.stderr)


def _numbers(sides: NDArray[Any], half: int) -> list[int]:
    """The parts with traces of a half."""
    return np.unique(np.flatnonzero(sides == half) // EVERY).tolist()


def _rows(sides: NDArray[Any], half: int, number: int) -> NDArray[np.int64]:
    """The rows of a half in a part."""
    begin = number * EVERY
    return begin + np.flatnonzero(sides[begin : begin + EVERY] == half)


def _scored(engine: TransformersEngine, examples: list[ScoredTrace]) -> list[ScoredTrace]:
    """The examples with new scores, each rank scoring its share of them."""
    mine = range(_rank(), len(examples), _ranks())
    scored = [replace(examples[place]) for place in mine]
    engine.annotate(scored, _BATCH_TOKENS)
    whole = dict(_gathered(list(zip(mine, scored, strict=True))))
    return [whole[place] for place in range(len(examples))]


def _own_answers(engine: TransformersEngine, traces: TraceSet, rows: NDArray[Any], seed: int) -> list[ScoredTrace]:
    """Answers to prompts of a half that have a reference, at temperature 1; ``success`` is 1 of a right one, else 0."""
    _, first = np.unique(np.asarray(traces.prompts)[rows], return_index=True)
    drawn = traces.take(Random(seed).sample(rows[first].tolist(), len(first)))
    problems = [problem for problem in drawn if (problem.gold or "").strip()][:ASKED]
    limit = max((len(problem.completion_tokens) for problem in problems), default=1)
    asked = [problem for problem in problems for _ in range(ATTEMPTS)]
    mine = range(_rank(), len(asked), _ranks())
    seeds = tuple(seed_for(seed, asked[place].prompt_id, place % ATTEMPTS) for place in mine)
    written = engine.generate(
        [asked[place].prompt_tokens for place in mine], Sampling(limit, 1.0, seed=seed, seeds=seeds), _BATCH
    )
    grades = grading.grade_many(
        [(said.text, asked[place].gold or "", said.truncated) for place, said in zip(mine, written, strict=True)],
        last_number=True,
    )
    own = [
        replace(
            asked[place], completion_tokens=said.token_ids, student_logprobs=[], entropies=[],
            success=float(grade.outcome == "correct"),
        )
        for place, said, grade in zip(mine, written, grades, strict=True)
    ]  # fmt: skip
    whole = dict(_gathered(list(zip(mine, own, strict=True))))
    return [whole[place] for place in range(len(asked))]


def _known(parts: Parts, tokenizer: PreTrainedTokenizerBase) -> tuple[Success, Callable[[ScoredTrace], str]]:
    """What the own answers of both halves say, and how a trace becomes text."""
    own = [each for half in (0, 1) for each in _part(parts, _ANSWERS + half)]
    if not own:
        raise UserError("train.correction.name=success: no prompt has a reference answer to verify own answers by")

    def text(trace: ScoredTrace) -> str:
        return str(tokenizer.decode(trace.completion_tokens, skip_special_tokens=True))

    known = Success([text(each) for each in own], [each.success == 1.0 for each in own])
    if _rank() == 0:
        print(f"train: success: {len(own)} own answers, {known.mean:.0%} of them right", file=sys.stderr)
    return known, text


def _joined(
    parts: Parts, sides: NDArray[Any], known: tuple[Success, Callable[[ScoredTrace], str]] | None
) -> StoredTraces:
    out = StoredTraces()
    for number in range(-(-len(sides) // EVERY)):
        halves: list[Iterator[ScoredTrace]] = [iter(_read(parts, sides, half, number)) for half in (0, 1)]
        examples = [next(halves[side]) for side in sides[number * EVERY : (number + 1) * EVERY]]
        if known:
            chances = known[0].chances([known[1](each) for each in examples])
            examples = [replace(each, success=chance) for each, chance in zip(examples, chances, strict=True)]
        for batch in scores.table(examples, ["train"] * len(examples)).to_batches():
            out.append(batch)
    out.close()
    return out


def _read(parts: Parts, sides: NDArray[Any], half: int, number: int) -> list[ScoredTrace]:
    if number not in _numbers(sides, half):
        return []
    return _part(parts, 2 * number + half)


def _part(parts: Parts, number: int) -> list[ScoredTrace]:
    with parts.file(number) as path:
        return scores.read_scores(path.parent)["train"]


def _ranks() -> int:
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def _rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def _gathered(items: list[Any]) -> list[Any]:
    if _ranks() == 1:
        return items
    from accelerate.utils import gather_object

    return gather_object(items)
