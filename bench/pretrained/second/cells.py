"""A cell of the pre-trained student's second protocol: one training, and what is measured of it problem by problem."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from bench.pretrained.second import guards, lab
from bench.pretrained.second.tasks import TASKS, answer_of
from bench.study.cells import Work, quiet, work_through
from bench.study.second.cells import FRESH, Cell, Row, told
from bench.study.second.entries import ENTRIES, START
from bench.study.second.lab import complete
from bench.study.second.measure import known
from dcod.config import TrainConfig
from dcod.engines import Completion, Sampling
from dcod.engines.transformers import TransformersEngine
from dcod.models import loading

LOCAL_WINDOW = 32  # tokens
VALIDATION, TEST, SAMPLED = 160, 240, 40  # problems; of the test the first SAMPLED are asked 8 times
GUARDED = (FRESH, FRESH + 1)  # the seeds whose students are asked IFEval
LATE = {"0.3": 0.3, "0.6": 0.6, "1.0": 1.0}


def finish(
    cells: Iterable[Cell],
    into: Path,
    work: Path,
    workers: int,
    until: float,
    ifeval: str = "",
    late: Sequence[str] = tuple(LATE),
) -> None:
    """Runs what ``into`` lacks; begins no cell after ``until``, of the monotonic clock; ``late``: temperatures."""
    place = str(work)
    run = partial(_run, work=place, ifeval=ifeval, late=tuple(late))
    jobs = Work(partial(_teach, work=place), partial(_prepare, work=place), run, _told)
    work_through(list(cells), into, jobs, workers, until)


def row_of(cell: Cell, work: Path, ifeval: str = "", late: Sequence[str] = tuple(LATE)) -> Row:
    """Trains and measures one student; ``ifeval`` is the file of its prompts, empty: not asked."""
    began, (task, per_prompt) = time.monotonic(), parsed(cell.regime)
    if cell.method == START:
        found = known(lab.traces(task, per_prompt, cell.seed, work)) | measured(lab.base(), cell, ifeval, late)
        return {**asdict(cell), **found, "seconds": round(time.monotonic() - began)}
    entry = ENTRIES[cell.method]
    examples = lab.of_entry(task, per_prompt, entry.data, cell.seed, work)
    prepared = time.monotonic()
    correction = TrainConfig.model_validate(dict(entry.train)).correction
    complete(examples, correction, lambda: TransformersEngine(lab.base(), lab.tokenizer()), LOCAL_WINDOW)
    model = loading.load(lab.base())
    result = lab.fit(model, examples, cell.seed, cell.rate, cell.epochs, **entry.train)
    found = {"traces_kept": len(examples), "tokens": sum(len(e.completion_tokens) for e in examples)}
    found |= {"training": round(time.monotonic() - prepared), **told(result)}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        del model, result
        found |= measured(Path(folder), cell, ifeval, late)
    return {**asdict(cell), **found, "seconds": round(time.monotonic() - began)}


def measured(student: Path, cell: Cell, ifeval: str = "", late: Sequence[str] = tuple(LATE)) -> Row:
    """Right or not, problem by problem; the styles of the greedy answers, and how often each was right."""
    engine, task = TransformersEngine(student, lab.tokenizer()), TASKS[parsed(cell.regime)[0]]
    fresh = cell.seed >= FRESH
    count, part = (TEST, "test") if fresh else (VALIDATION, "validation")
    drawn = task.problems(count, lab.seed_of(parsed(cell.regime)[1], cell.seed), part)  # type: ignore[arg-type]
    prompts = [lab.ask(problem) for problem in drawn]

    def answers(count: int, samples: int, temperature: float) -> list[Completion]:
        asked = [prompt for prompt in prompts[:count] for _ in range(samples)]
        return engine.generate(asked, Sampling(task.max_new_tokens, temperature=temperature, seed=cell.seed), lab.BATCH)

    def hits(written: list[Completion], samples: int) -> list[int]:
        each = [lab.right(drawn[place // samples], one) for place, one in enumerate(written)]
        return [sum(each[i : i + samples]) for i in range(0, len(each), samples)]

    greedy = answers(len(drawn), 1, 0.0)
    right = hits(greedy, 1)
    styles = Counter(task.style_of(one.text) or "none" for one in greedy)
    fine = Counter(task.style_of(one.text) or "none" for one, hit in zip(greedy, right, strict=True) if hit)
    out: Row = {"greedy": right, "styles": dict(styles), "styles_right": dict(fine)}
    out |= {"truncated": sum(one.truncated for one in greedy), **guards.steady(greedy)}
    if not fresh:
        sampled = hits(answers(len(drawn), 2, 0.6), 2)
        return out | {"sampled": {"0.6": sampled}, "validation": {"greedy": share(right, 1), "0.6": share(sampled, 2)}}
    if ifeval and cell.seed in GUARDED:
        out |= guards.followed(engine, ifeval)
    written = {name: answers(SAMPLED, 8, temperature) for name, temperature in LATE.items() if name in late}
    out["sampled"] = {name: hits(some, 8) for name, some in written.items()}
    out["majority"] = {
        name: [_voted(some[i * 8 : i * 8 + 8]) == drawn[i].answer for i in range(SAMPLED)]
        for name, some in written.items()
    }
    out["test"] = {"greedy": share(right, 1)} | {name: share(some, 8) for name, some in out["sampled"].items()}
    return out


def parsed(regime: str) -> tuple[str, int]:
    """The task, and how many traces are asked for of each of its prompts: ``legs/4``."""
    task, _, count = regime.partition("/")
    return task, int(count)


def share(counts: list[int], samples: int) -> float:
    """The share of right answers."""
    return sum(counts) / len(counts) / samples


def _voted(written: list[Completion]) -> str:
    """The answer given most often; of two, the one given first."""
    given = [answer for one in written if (answer := "" if one.truncated else answer_of(one.text))]
    return max(given, key=given.count) if given else ""


def _teach(regime: str, work: str) -> None:
    quiet()
    lab.teacher(parsed(regime)[0], Path(work))


def _prepare(regime: str, seed: int, work: str) -> None:
    quiet()
    lab.traces(*parsed(regime), seed, Path(work))


def _run(cell: Cell, work: str, ifeval: str, late: Sequence[str]) -> Row:
    quiet()
    torch.manual_seed(cell.seed)
    return row_of(cell, Path(work), ifeval, late)


def _told(row: Row) -> str:
    shown = " ".join(f"{100 * value:.1f}" for value in (row.get("test") or row["validation"]).values())
    what = f"{row['regime']} {row['method']} {row['rate']:g} x {row['epochs']} seed {row['seed']}"
    return f"{what}: {shown} ({row['seconds']} s)"
