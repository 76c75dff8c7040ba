"""Pilot: one arm, trained on a share of the prompts and asked problems that were held back for that.

1. is there something to do: an arm that the traces do not suit is left out, and says why; so are all where a scheduled
   run takes an earlier choice over; with too few selection or pilot problems to tell anything, or no arm that suits the
   traces, nothing is trained;
2. per seed: train on the share, to the last step; nothing is selected; answer the selection problems at every
   temperature, which chooses the arm's; grade (:mod:`dcod.stages.asked`);
3. answer the pilot problems, which compare arms, at that temperature alone;
4. write arm.json, answers.parquet and the first seed's student.

With many arms (``train.pilot.halve``) there are two rounds: a first seed of every arm; then the other seeds of those
that `halve` did not drop, at the temperature of the first.

All arms of a run have the same start, prompts, order of steps, epochs and seeds. An arm that fails for a reason that
dcod knows is an output that says so, and the others go on; plain fine-tuning at the run's rate must not fail. A pilot
trains in one process, and its students answer by the transformers engine: both load in one process after each other.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from dcod import storage
from dcod.config import Config
from dcod.config.arms import CHOSEN, SFT, ArmConfig
from dcod.errors import UserError
from dcod.evaluate import statistics
from dcod.models import fitting, loading
from dcod.objective import arms
from dcod.objective.feasibility import Holdings
from dcod.objective.price import Cost, Speed, cost_of, on_cpu
from dcod.progress import MARK
from dcod.promote import foreseen
from dcod.retrain import arms as taken_over
from dcod.score import frozen
from dcod.score.preparing import Preparation
from dcod.score.scores import Scored, check_scored, open_scores
from dcod.stages import asked, manifests, remarks
from dcod.stages.arms import settled
from dcod.stages.asked import Problem
from dcod.stages.digests import attempt_place
from dcod.stages.piloting import (
    ANSWERS,
    ARM,
    DROPPED_AS,
    FAILED,
    FEW,
    KEPT,
    LEFT_OUT,
    STUDENT,
    TAKEN_OVER,
    TRAINED,
    level_of,
)
from dcod.traces import prompts, turns
from dcod.train import loop
from dcod.train.checkpoints import Checkpoints
from dcod.train.sets import TraceSet, part

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from dcod.tracking import Log


def run(
    config: Config,
    out: Path,
    log: Log,
    *,
    scores: Path,
    student: Path,
    traces: Path,
    arm: str,
    first: bool = False,
    dropped: Path | None = None,
) -> dict[str, float]:
    """Trains and asks one arm; see the module.

    Args:
        config: the whole configuration.
        out: an empty folder.
        log: the first student's training goes there.
        scores: the scored traces.
        student: where training begins.
        traces: with the problems that were held back.
        arm: its name.
        first: only the first seed.
        dropped: the output of `halve`: only the other seeds, and none of an arm that it dropped.

    Raises:
        UserError: the scores are of another student, there is no problem to ask, or ``sft`` itself fails.
    """
    chosen, held = config.train.arm(arm), remarks.held(traces, scores)
    alone = held.alone / held.traces if held.traces else 0.0
    state, why = untried(config, traces, arm, held, dropped)
    if state == KEPT:
        shutil.copyfile(traces / CHOSEN, out / TAKEN_OVER)
    seeds = range(1) if first else range(0 if dropped is None else 1, config.train.pilot.seeds)
    told = {"arm": chosen.model_dump(mode="json"), "sft": chosen.is_sft, "alone": alone, "seeds": list(seeds)}
    told["before"] = _before(traces)
    if state:
        return _told(out, told, state, why)
    tokenizer = prompts.of_student(student, config.student)
    fitting.check_student(student, tokenizer, config.student.max_length)
    check_scored(scores, student, Scored(loading.digest(student), prompts.tokenizer_digest(tokenizer)))
    problems = asked.problems(config, traces, tokenizer)
    counts = {split: sum(problem.split == split for problem in problems) for split in asked.SPLITS}
    if few := arms.too_few(config.train.pilot, counts):
        return _told(out, told, FEW, few)
    idle = [one.name for one in config.train.compared if arms.left_out(config.train, one, held)]
    splits = open_scores(scores)
    sizes = splits["train"].sizes
    cost = cost_of(config, int(sizes.sum()), len(sizes), asked.cost(config, tokenizer, problems), idle)
    if chosen.name == SFT and dropped is None:  # that speaks for all
        _say(config, counts, cost, arms.count(config.train, held), _before(traces), _speed(config, scores))
    try:
        figures = _compared(
            config, out, log, chosen, problems, (splits, cost), scores, student, tokenizer, seeds, dropped
        )
    except UserError as error:
        if chosen.name == SFT:  # at another rate it is one arm of several
            raise
        return _told(out, told, FAILED, str(error))
    return _told(out, told, TRAINED, "", figures)


def _say(config: Config, counts: Mapping[str, int], cost: Cost, tried: int, before: int, speed: Speed | None) -> None:
    """What the pilot can tell, and what it costs."""
    own = level_of(config.train.pilot, before)
    print(f"{MARK}pilot: {foreseen.outlook(own, counts['pilot'], tried)}", flush=True)
    print(MARK + cost.said(config, counts, speed), flush=True)


def untried(config: Config, traces: Path, arm: str, held: Holdings, dropped: Path | None = None) -> tuple[str, str]:
    """The state of an arm that is not tried on such traces, and why; empty where it is.

    Args:
        config: the whole configuration.
        traces: a trace set; a scheduled run leaves an earlier choice beside it where that is taken over.
        arm: its name.
        held: what the traces hold.
        dropped: the output of `halve`, where a first seed came before.
    """
    if kept := taken_over.read(traces / CHOSEN):
        return KEPT, kept.why
    if few := arms.too_few_held(config.train, held):
        return FEW, few
    if why := arms.left_out(config.train, config.train.arm(arm), held):
        return LEFT_OUT, why
    if why := arms.none_left(config.train, held):
        return FEW, why
    return tuple(_halved(dropped)["gone"].get(arm, ("", ""))) if dropped else ("", "")


def _halved(dropped: Path) -> dict[str, Any]:
    return dict(storage.read_json(dropped / DROPPED_AS, made_by="dcod run"))


def _ways(config: Config, arm: str, dropped: Path | None) -> Sequence[float]:
    """The temperatures at which the selection problems are asked: in a second round that of the first alone."""
    return [_halved(dropped)["best"][arm]] if dropped else config.train.pilot.temperatures


def _before(traces: Path) -> int:
    """How many pilots a nightly run's period had; -1: it is none, and has the level for itself."""
    path = traces / taken_over.PILOTS
    return int(storage.read_json(path, made_by="dcod run")["before"]) if path.is_file() else -1


def _compared(
    config: Config,
    out: Path,
    log: Log,
    arm: ArmConfig,
    problems: Sequence[Problem],
    taught: tuple[Mapping[str, TraceSet], Cost],
    scores: Path,
    student: Path,
    tokenizer: PreTrainedTokenizerBase,
    seeds: Sequence[int],
    dropped: Path | None,
) -> dict[str, float]:
    """One arm's students, trained and asked.

    ``taught``: the scored traces by split, and what the pilot costs; ``dropped``: as of :func:`run`.
    """
    own, began, ways = settled(config, arm), time.monotonic(), _ways(config, arm.name, dropped)
    splits, whole = taught
    some = part(splits["train"], whole.share, config.seed)
    lengths = _lengths(some)
    limit = max(lengths) if config.train.pilot.max_new_tokens == "auto" else config.train.pilot.max_new_tokens
    speaks = arm.name == SFT and 0 in seeds
    pace = _Pace(sum(lengths) * config.train.epochs if speaks else 0, whole)
    steps, tokens = 0, 0.0
    rows: list[dict[str, Any]] = []
    folders = {seed: out / (STUDENT if seed == 0 else f"{STUDENT}-{seed}") for seed in seeds}
    held = {split: [problem for problem in problems if problem.split == split] for split in asked.SPLITS}
    for seed, folder in folders.items():
        speed = pace if seed == 0 else _Pace(0, whole)
        history = _trained(own, (some, splits["selection"]), seed, folder, log, scores, student, speed)
        tokenizer.save_pretrained(folder)
        turns.settle(folder, tokenizer)
        steps, tokens = steps + len(history), tokens + sum(row["tokens"] for row in history)
        rows += asked.answers(own, folder, tokenizer, held["selection"], seed, limit, config, ways)
    best = asked.best_of(rows)
    for seed, folder in folders.items():
        rows += asked.answers(own, folder, tokenizer, held["pilot"], seed, limit, config, [best])
        if seed:
            shutil.rmtree(folder)
    pq.write_table(pa.Table.from_pylist(rows, schema=asked.SCHEMA), out / ANSWERS, compression="zstd")
    cost = {"steps": float(steps), "tokens": tokens, "seconds": time.monotonic() - began}
    begun = statistics.openings([problem.trace for problem in held["pilot"]])
    told = {"share": whole.share, "traces": float(len(some)), "traces_openings": begun}
    return {**told, **cost, **asked.of_answers(rows)}


def _speed(config: Config, scores: Path) -> Speed | None:
    """How fast scoring read the student, where a pilot trains it on such a device, in the same number format."""
    other = config.student.dtype == "float32" and config.train.precision != "float32"
    if other or not (scores / storage.MANIFEST).is_file():
        return None
    told = manifests.read(scores)["facts"].get("student", {}).get("speed")
    return Speed(**told) if told and told["device"] == loading.device_name() else None


class _Pace:
    """Says, as the first steps have shown the speed, how long a pilot takes; 0 tokens: nothing.

    ``tokens`` are those of the completions that one student learns, as the steps count them. Answers are counted on a
    CPU, where it is known what they cost.
    """

    AFTER = 3  # steps; the first one is slower, and is left out

    def __init__(self, tokens: int, cost: Cost) -> None:
        self.tokens, self.seen, self.began = tokens, 0.0, 0.0
        self.answers = on_cpu(loading.device_name())
        self.trainings = cost.whole / cost.learnt if self.answers else float(cost.students + cost.before)

    def step(self, row: Mapping[str, float], number: int) -> None:
        """Takes one step in."""
        if number == 1:
            self.began = time.monotonic()
        elif self.began and number <= self.AFTER:
            self.seen += row["tokens"]
        if number == self.AFTER and self.seen and self.tokens:
            minutes = (time.monotonic() - self.began) / self.seen * self.tokens * self.trainings / 60
            print(
                f"{MARK}pilot: at this speed {minutes:,.1f} minutes of training"
                f"{' and answering' if self.answers else ' (answering not counted)'}, one student after another",
                flush=True,
            )


def _trained(
    own: Config,
    sets: tuple[TraceSet, TraceSet],
    seed: int,
    folder: Path,
    log: Log,
    scores: Path,
    student: Path,
    pace: _Pace,
) -> list[dict[str, float]]:
    """One student of the arm, kept at ``folder``; its training, step by step. ``sets``: taught and held back."""
    some, held = sets

    def save(trained: PreTrainedModel) -> None:
        trained.save_pretrained(folder)

    def metrics(row: dict[str, float], step: int) -> None:
        pace.step(row, step)
        if seed == 0:
            log.metrics(row, step)

    wanted = own.train.checkpoints
    decides = {"train": own.train.model_dump(mode="json", exclude={"checkpoints"}), "pilot": [len(some), seed]}
    place = attempt_place(wanted.uri, "pilot", own, decides, scores, student)
    kept = Checkpoints(place, wanted.keep) if place else None
    tokenizer = prompts.of_student(student, own.student)
    load = partial(loading.load, student, own.student.dtype)
    fitted = frozen.fitted(some, held, Preparation(own.train, own.seed + seed, load, tokenizer, kept))
    result = loop.train(load(), fitted, [], own.train, own.seed + seed, save, metrics, kept)
    frozen.forget(own.train, kept)
    return result.history


def _lengths(some: TraceSet) -> list[int]:
    """Tokens of every completion."""
    at_once = range(0, len(some), 256)
    pieces: Iterable[Any] = (some.take(range(begin, min(begin + 256, len(some)))) for begin in at_once)
    return [len(trace.completion_tokens) for piece in pieces for trace in piece]


def _told(
    out: Path, told: Mapping[str, Any], state: str, why: str, figures: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Writes what became of the arm: its setting, seeds, and share of traces that are alone; its metrics."""
    storage.write_json(out / ARM, {**told, "state": state, "why": why, "figures": {**(figures or {})}})
    return {**(figures or {}), "tried": float(state == TRAINED)}
