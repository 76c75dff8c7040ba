"""Pilot: one arm, trained on a share of the prompts and asked problems that were held back for that.

1. is there something to do: an arm that the traces do not suit is left out, and says why; so are all where a scheduled
   run takes the champion's arm over;
2. per seed: train on the share, to the last step; nothing is selected;
3. answer the selection problems, which choose the arm's temperature, and the pilot problems, which compare arms, at
   every temperature; grade;
4. write arm.json, answers.parquet and the first seed's student.

All arms of a run have the same start, prompts, order of steps, epochs and seeds. An arm that fails for a reason that
dcod knows is an output that says so, and the others go on. A pilot trains in one process, and its students answer by
the transformers engine: both load in one process after each other.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from dcod import grading, storage
from dcod.config import Config
from dcod.config.arms import ArmConfig
from dcod.engines import Sampling
from dcod.errors import UserError
from dcod.models import fitting, loading
from dcod.objective import arms
from dcod.objective.feasibility import Holdings
from dcod.promote import choice, promote
from dcod.retrain import arms as taken_over
from dcod.score import crossfit
from dcod.score.scores import Scored, check_scored, open_scores
from dcod.stages import remarks
from dcod.stages.arms import settled
from dcod.stages.digests import attempt_digest
from dcod.traces import prompts, read_traces, turns
from dcod.train import loop
from dcod.train.checkpoints import Checkpoints
from dcod.train.sets import TraceSet, part

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from dcod.tracking import Log

ARM, ANSWERS, STUDENT = "arm.json", "answers.parquet", "student"
TAKEN_OVER = "taken_over.json"  # the champion's arm, where that is trained and no arm is tried
SPLITS = ("selection", "pilot")
TRAINED, LEFT_OUT, FAILED, KEPT = "trained", "left_out", "failed", "kept"
COST = 0.2  # of the run, that a pilot takes by itself

SCHEMA = pa.schema(
    [
        ("split", pa.string()),
        ("seed", pa.int32()),
        ("temperature", pa.float64()),
        ("problem_id", pa.string()),
        ("sample", pa.int32()),
        ("outcome", pa.string()),
        ("answer", pa.string()),
        ("gold", pa.string()),
        ("response", pa.string()),
        ("tokens", pa.int32()),
        ("truncated", pa.bool_()),
    ]
)


class Problem(NamedTuple):
    """A prompt that was held back, with its reference answer."""

    split: str
    id: str
    tokens: list[int]
    gold: str


def share_of(config: Config) -> float:
    """The share of the prompts that each arm trains on.

    ``auto`` takes so much that all arms and seeds together cost a fifth of the run: a quarter of what its students at
    full size are trained on.
    """
    train = config.train
    if train.pilot.share != "auto":
        return train.pilot.share
    full = 2 if train.twin else 1
    students = max(1, len(train.compared)) * train.pilot.seeds
    return min(1.0, COST / (1.0 - COST) * full / students)


def run(
    config: Config, out: Path, log: Log, *, scores: Path, student: Path, traces: Path, arm: str
) -> dict[str, float]:
    """Trains and asks one arm; see the module.

    Raises:
        UserError: the scores are of another student, there is no problem to ask, or plain fine-tuning itself fails.
    """
    chosen = config.train.arm(arm)
    held = remarks.held(traces)
    alone = held.alone / held.traces if held.traces else 0.0
    state, why = untried(config, traces, arm, held)
    if state == KEPT:
        shutil.copyfile(traces / promote.ARM, out / TAKEN_OVER)
    if state:
        return _told(out, chosen, state, why, alone)
    tokenizer = prompts.load_tokenizer(student, config.student.chat_template)
    fitting.check_student(student, tokenizer, config.student.max_length)
    digest = prompts.tokenizer_digest(tokenizer)
    check_scored(scores, student, Scored(loading.digest(student), digest))
    problems = _problems(traces, tokenizer, config.train.pilot.problems)
    if chosen.is_sft:
        print(_outlook(config, sum(problem.split == "pilot" for problem in problems)), flush=True)
    try:
        figures = _compared(config, out, log, chosen, problems, scores, student, tokenizer)
    except UserError as error:
        if chosen.is_sft:
            raise
        return _told(out, chosen, FAILED, str(error), alone)
    return _told(out, chosen, TRAINED, "", alone, figures)


def untried(config: Config, traces: Path, arm: str, held: Holdings) -> tuple[str, str]:
    """The state of an arm that is not tried on such traces, and why; empty where it is.

    Args:
        config: the whole configuration.
        traces: a trace set; a scheduled run leaves the champion's arm beside it where that is taken over.
        arm: its name.
        held: what the traces hold.
    """
    if kept := taken_over.read(traces / promote.ARM):
        return KEPT, kept.why
    why = arms.left_out(config.train, config.train.arm(arm), held)
    return (LEFT_OUT, why) if why else ("", "")


def _compared(
    config: Config,
    out: Path,
    log: Log,
    arm: ArmConfig,
    problems: Sequence[Problem],
    scores: Path,
    student: Path,
    tokenizer: PreTrainedTokenizerBase,
) -> dict[str, float]:
    own, pilot, began = settled(config, arm), config.train.pilot, time.monotonic()
    share = share_of(config)
    some = part(open_scores(scores)["train"], share, config.seed)
    limit = _limit(config, some)
    steps, tokens = 0, 0.0
    rows: list[dict[str, Any]] = []
    for seed in range(pilot.seeds):
        folder = out / (STUDENT if seed == 0 else f"{STUDENT}-{seed}")
        history = _trained(own, some, seed, folder, log, scores, student)
        tokenizer.save_pretrained(folder)
        turns.settle(folder, tokenizer)
        steps, tokens = steps + len(history), tokens + sum(row["tokens"] for row in history)
        rows += _asked(own, folder, tokenizer, problems, seed, limit, config)
        if seed:
            shutil.rmtree(folder)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), out / ANSWERS, compression="zstd")
    figures = {
        "share": share,
        "traces": float(len(some)),
        "steps": float(steps),
        "tokens": tokens,
        "seconds": time.monotonic() - began,
        "mean_tokens": sum(row["tokens"] for row in rows) / max(len(rows), 1),
        "truncated": sum(row["truncated"] for row in rows) / max(len(rows), 1),
    }
    accuracies = {f"{split}/{key}": value for split in SPLITS for key, value in _accuracies(rows, split).items()}
    return figures | accuracies


def _outlook(config: Config, problems: int) -> str:
    """What this pilot can tell, before it is run."""
    pilot, train = config.train.pilot, config.train
    count = sum(not arm.is_sft for arm in train.compared)
    seen = choice.detectable(problems, pilot.seeds, count, pilot, pilot.seed_deviation)
    return (
        f"pilot: {count} arms against plain fine-tuning on {problems} problems, {pilot.seeds} seeds: a difference of "
        f"{seen * 100:.0f} points would be found with 80 % power; for less bring more problems (ingest.pilot_share, "
        "train.pilot.problems), more seeds (train.pilot.seeds) or a larger train.pilot.share"
    )


def _trained(
    own: Config, some: TraceSet, seed: int, folder: Path, log: Log, scores: Path, student: Path
) -> list[dict[str, float]]:
    """One student of the arm, kept at ``folder``; its training, step by step."""

    def save(trained: PreTrainedModel) -> None:
        trained.save_pretrained(folder)

    def metrics(row: dict[str, float], step: int) -> None:
        if seed == 0:
            log.metrics(row, step)

    place, kept = own.train.checkpoints, None
    if place.uri:
        sections = {
            "student": own.student.model_dump(mode="json"),
            "train": own.train.model_dump(mode="json", exclude={"checkpoints"}),
            "pilot": [len(some), seed],
        }
        kept = Checkpoints(
            f"{place.uri.rstrip('/')}/{attempt_digest('pilot', own, sections, scores, student)}", place.keep
        )
    tokenizer = prompts.load_tokenizer(student, own.student.chat_template)
    load = partial(loading.load, student, own.student.dtype)
    fitted = crossfit.fitted(some, own.train, own.seed + seed, load, tokenizer, kept)
    result = loop.train(load(), fitted, [], own.train, own.seed + seed, save, metrics, kept)
    crossfit.forget(own.train, kept)
    return result.history


def _asked(
    own: Config,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    seed: int,
    limit: int,
    config: Config,
) -> Iterator[dict[str, Any]]:
    """The graded answers of one student, one row each."""
    from dcod.engines.transformers import TransformersEngine

    engine, pilot = TransformersEngine(folder, tokenizer, own.student.dtype), config.train.pilot
    tokens, batch = [problem.tokens for problem in problems], config.evaluate.batch_size
    for temperature in pilot.temperatures:
        for number in range(pilot.samples if temperature else 1):
            sampling = Sampling(limit, temperature, seed=own.seed, sample=seed * pilot.samples + number)
            written = engine.generate(tokens, sampling, batch)
            given = [(one.text, problem.gold, one.truncated) for one, problem in zip(written, problems, strict=True)]
            grades = grading.grade_many(given, last_number=config.ingest.answers != "marked")
            for problem, one, grade in zip(problems, written, grades, strict=True):
                yield {
                    "split": problem.split, "seed": seed, "temperature": temperature, "problem_id": problem.id,
                    "sample": number, "outcome": grade.outcome, "answer": grade.answer, "gold": problem.gold,
                    "response": one.text, "tokens": len(one.token_ids), "truncated": one.truncated,
                }  # fmt: skip


def _problems(traces: Path, tokenizer: PreTrainedTokenizerBase, most: int) -> list[Problem]:
    """The held-back prompts that have a reference answer, at most so many of either split, by the hash of the prompt.

    Raises:
        UserError: a split has none.
    """
    known: dict[str, dict[str, tuple[list[Any], str]]] = {split: {} for split in SPLITS}
    for trace in read_traces(traces):
        if trace.split in known and trace.gold:
            known[trace.split].setdefault(trace.prompt_id, (trace.prompt, trace.gold))
    for split, held in known.items():
        if not held:
            raise UserError(
                f"pilot: {traces} holds back no {split} problem with a reference answer: give ingest.{split}_share a "
                "part of the problems and the traces their answers, or leave train.arms out"
            )
    return [
        Problem(split, name, prompts.encode_prompt(tokenizer, held[name][0]), held[name][1])
        for split, held in known.items()
        for name in sorted(held)[:most]
    ]


def _limit(config: Config, some: TraceSet) -> int:
    """How long an answer may be: as configured, or as the longest trace that is trained on."""
    if config.train.pilot.max_new_tokens != "auto":
        return config.train.pilot.max_new_tokens
    at_once = range(0, len(some), 256)
    pieces: Iterable[Any] = (some.take(range(begin, min(begin + 256, len(some)))) for begin in at_once)
    return max(len(trace.completion_tokens) for piece in pieces for trace in piece)


def _accuracies(rows: Sequence[dict[str, Any]], split: str) -> dict[str, float]:
    found: dict[float, list[bool]] = {}
    for row in rows:
        if row["split"] == split:
            found.setdefault(row["temperature"], []).append(row["outcome"] == "correct")
    return {f"{temperature:g}": sum(hits) / len(hits) for temperature, hits in found.items()}


def _told(
    out: Path, arm: ArmConfig, state: str, why: str, alone: float, figures: dict[str, float] | None = None
) -> dict[str, float]:
    """Writes what became of the arm; its metrics."""
    told = figures or {}
    fields = {"arm": arm.model_dump(mode="json"), "sft": arm.is_sft, "state": state, "why": why, "figures": told}
    fields["alone"] = alone  # share of the traces that are alone with their prompt
    storage.write_json(out / ARM, fields)
    return told | {"tried": float(state == TRAINED)}
