"""Pilot: one arm, trained on a share of the prompts and asked problems that were held back for that.

1. is there something to do: an arm that the traces do not suit is left out, and says why; so are all where a scheduled
   run takes the champion's arm over;
2. per seed: train on the share, to the last step; nothing is selected;
3. answer the selection problems, which choose the arm's temperature, and the pilot problems, which compare arms, at
   every temperature; grade;
4. write arm.json, answers.parquet and the first seed's student.

With many arms (``train.pilot.halve``) there are two rounds: a first seed of every arm; then the other seeds of those
that `halve` did not drop.

All arms of a run have the same start, prompts, order of steps, epochs and seeds. An arm that fails for a reason that
dcod knows is an output that says so, and the others go on. A pilot trains in one process, and its students answer by
the transformers engine: both load in one process after each other.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from dcod import grading, storage
from dcod.config import Config
from dcod.config.arms import ArmConfig, PilotConfig
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
DROPPED_AS = "dropped.json"  # which arms get no further seed, and why
SPLITS = ("selection", "pilot")
TRAINED, LEFT_OUT, FAILED, KEPT, DROPPED = "trained", "left_out", "failed", "kept", "dropped"
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
    full, arms = 2 if train.twin else 1, len(train.compared)
    gone = len(train.arms) // 2 if train.halves else 0
    students = max(1, arms + (arms - gone) * (train.pilot.seeds - 1))
    return min(1.0, COST / (1.0 - COST) * full / students)


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
        UserError: the scores are of another student, there is no problem to ask, or plain fine-tuning itself fails.
    """
    chosen = config.train.arm(arm)
    held = remarks.held(traces)
    alone = held.alone / held.traces if held.traces else 0.0
    state, why = untried(config, traces, arm, held, dropped)
    if state == KEPT:
        shutil.copyfile(traces / promote.ARM, out / TAKEN_OVER)
    seeds = range(1) if first else range(0 if dropped is None else 1, config.train.pilot.seeds)
    told = {"arm": chosen.model_dump(mode="json"), "sft": chosen.is_sft, "alone": alone, "seeds": list(seeds)}
    told |= {"before": _before(traces)}
    if state:
        return _told(out, told, state, why)
    tokenizer = prompts.load_tokenizer(student, config.student.chat_template)
    fitting.check_student(student, tokenizer, config.student.max_length)
    digest = prompts.tokenizer_digest(tokenizer)
    check_scored(scores, student, Scored(loading.digest(student), digest))
    problems = _problems(traces, tokenizer, config.train.pilot.problems)
    if chosen.is_sft and dropped is None:
        asked = sum(problem.split == "pilot" for problem in problems)
        print(_outlook(config, level_of(config.train.pilot, _before(traces)), asked), flush=True)
    try:
        figures = _compared(config, out, log, chosen, problems, scores, student, tokenizer, seeds)
    except UserError as error:
        if chosen.is_sft:
            raise
        return _told(out, told, FAILED, str(error))
    return _told(out, told, TRAINED, "", figures)


def untried(config: Config, traces: Path, arm: str, held: Holdings, dropped: Path | None = None) -> tuple[str, str]:
    """The state of an arm that is not tried on such traces, and why; empty where it is.

    Args:
        config: the whole configuration.
        traces: a trace set; a scheduled run leaves the champion's arm beside it where that is taken over.
        arm: its name.
        held: what the traces hold.
        dropped: the output of `halve`, where a first seed came before.
    """
    if kept := taken_over.read(traces / promote.ARM):
        return KEPT, kept.why
    if why := arms.left_out(config.train, config.train.arm(arm), held):
        return LEFT_OUT, why
    gone = storage.read_json(dropped / DROPPED_AS, made_by="dcod run") if dropped else {}
    return tuple(gone.get(arm, ("", "")))


def level_of(pilot: PilotConfig, before: int) -> PilotConfig:
    """The pilot at what it may spend: all pilots of a nightly run's period share the level."""
    return pilot.model_copy(update={"level": taken_over.spent(pilot.level, before)}) if before >= 0 else pilot


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
    scores: Path,
    student: Path,
    tokenizer: PreTrainedTokenizerBase,
    seeds: Sequence[int],
) -> dict[str, float]:
    own, began = settled(config, arm), time.monotonic()
    share = share_of(config)
    some = part(open_scores(scores)["train"], share, config.seed)
    limit = _limit(config, some)
    steps, tokens = 0, 0.0
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        folder = out / (STUDENT if seed == 0 else f"{STUDENT}-{seed}")
        history = _trained(own, some, seed, folder, log, scores, student)
        tokenizer.save_pretrained(folder)
        turns.settle(folder, tokenizer)
        steps, tokens = steps + len(history), tokens + sum(row["tokens"] for row in history)
        rows += _asked(own, folder, tokenizer, problems, seed, limit, config)
        if seed:
            shutil.rmtree(folder)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), out / ANSWERS, compression="zstd")
    cost = {"steps": float(steps), "tokens": tokens, "seconds": time.monotonic() - began}
    return {"share": share, "traces": float(len(some)), **cost, **of_answers(rows)}


def _outlook(config: Config, pilot: PilotConfig, problems: int) -> str:
    """What this pilot can tell, before it is run."""
    train = config.train
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


def of_answers(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Length and cuts of answers, and the share of right ones by split and temperature, such as ``pilot/0.6``."""
    hits: dict[str, list[bool]] = {}
    for row in rows:
        hits.setdefault(f"{row['split']}/{row['temperature']:g}", []).append(row["outcome"] == "correct")
    return {
        "mean_tokens": sum(row["tokens"] for row in rows) / max(len(rows), 1),
        "truncated": sum(row["truncated"] for row in rows) / max(len(rows), 1),
        **{name: sum(each) / len(each) for name, each in hits.items()},
    }


def _told(
    out: Path, told: Mapping[str, Any], state: str, why: str, figures: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Writes what became of the arm: its setting, seeds, and share of traces that are alone; its metrics."""
    storage.write_json(out / ARM, {**told, "state": state, "why": why, "figures": {**(figures or {})}})
    return {**(figures or {}), "tried": float(state == TRAINED)}
