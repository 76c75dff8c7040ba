"""A cell of the second protocol, and how one is run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.study import lab
from bench.study.cells import Work, quiet, work_through
from bench.study.measure import nll
from bench.study.second import measure, negatives
from bench.study.second.entries import ENTRIES, START, config
from bench.study.second.lab import as_scored_by, complete, near_share, traces
from bench.study.second.regimes import find
from dcod.engines.transformers import TransformersEngine
from dcod.models import loading
from dcod.traces.scored import ScoredTrace
from dcod.train import loop

FRESH = 10  # the first of the fresh seeds
LOCAL_WINDOW = 8  # characters: about a step

Setting = tuple[float, int]  # rate and epochs
Row = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One training run, or the start as it is (rate 0). Seeds from ``FRESH`` on meet the test problems, others not."""

    regime: str
    method: str
    rate: float
    epochs: int
    seed: int


def finish(cells: Iterable[Cell], into: Path, work: Path, workers: int, until: float) -> None:
    """Runs what ``into`` lacks; begins no cell after ``until``, of the monotonic clock."""
    place = str(work)
    jobs = Work(partial(_teach, work=place), partial(_prepare, work=place), partial(_run, work=place), _told)
    work_through(list(cells), into, jobs, workers, until)


def row_of(cell: Cell, work: Path, part: int = 1) -> Row:
    """Trains and measures one student.

    Args:
        cell: which.
        work: where teachers, starts and traces are kept.
        part: only so many-th of the problems, for tests.
    """
    began, regime = time.monotonic(), find(cell.regime)
    sets = lab.traces(regime, cell.seed, work)
    if cell.method == START:
        found = measure.known(sets["train"])
        found |= _measured(lab.start(regime, cell.seed, work), cell, sets["selection"], work, part)
    else:
        found = _trained(cell, sets["selection"], work, part)
    return {**asdict(cell), **found, "seconds": round(time.monotonic() - began, 1)}


def _trained(cell: Cell, held: list[ScoredTrace], work: Path, part: int) -> Row:
    regime, began = find(cell.regime), time.monotonic()
    made = config(cell.method, regime, cell.rate, cell.epochs)
    examples = traces(regime, ENTRIES[cell.method].data, cell.seed, work)
    start = lab.start(regime, cell.seed, work)
    complete(examples, made.correction, lambda: TransformersEngine(start, lab.tokenizer()), LOCAL_WINDOW)
    model = loading.load(start)
    result = loop.train(model, examples, [], made, cell.seed, save_best=lambda _: None, metrics=lambda *_: None)
    found: Row = {"training": round(time.monotonic() - began, 1), "traces": len(examples), **told(result)}
    if ENTRIES[cell.method].negatives:
        wrong = negatives.wrong(regime, cell.seed, work)
        found["pairs"] = negatives.unteach(model, examples, wrong, cell.rate, cell.seed, regime.traces_per_step)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        found |= _measured(Path(folder), cell, held, work, part)
        if regime.far and made.correction.name != "none":
            found["near_weight_first"] = near_share(loop.first_weights(examples, made, cell.seed), regime)
            after = as_scored_by(Path(folder), examples) if made.correction.weights == "live" else examples
            found["near_weight_last"] = near_share(loop.first_weights(after, made, cell.seed), regime)
    return found


def told(result: loop.Result) -> Row:
    """What a training says of its weights: mean gamma and ESS, and how both ends of it differ (feedback)."""
    rows = result.history
    out: Row = {f"mean_{name}": sum(row[name] for row in rows) / len(rows) for name in ("gamma", "ess")}
    part = max(1, len(rows) // 10)
    for name in ("weight_spread", "weight_length_correlation"):
        ends = [[row[name] for row in some if name in row] for some in (rows[:part], rows[-part:])]
        if all(ends):
            out[name] = [sum(values) / len(values) for values in ends]
    return out


def _measured(student: Path, cell: Cell, held: list[ScoredTrace], work: Path, part: int) -> Row:
    engine, regime = TransformersEngine(student, lab.tokenizer()), find(cell.regime)
    if cell.seed < FRESH:
        return {"held_out_nll": nll(engine, held), **measure.validation(engine, regime, cell.seed, part)}
    found = measure.tested(engine, regime, cell.seed, part)
    return {"held_out_nll": nll(engine, held), **found, **measure.excess_error(engine, regime, cell.seed, held, work)}


def _teach(regime: str, work: str) -> None:
    quiet()
    one = find(regime)
    for each in (one, one.far):
        if each:
            lab.teacher(each, Path(work))


def _prepare(regime: str, seed: int, work: str) -> None:
    quiet()
    lab.traces(find(regime), seed, Path(work))


def _run(cell: Cell, work: str) -> Row:
    quiet()
    return row_of(cell, Path(work))


def _told(row: Row) -> str:
    figures = row.get("test") or row["validation"]
    shown = " ".join(f"{100 * value:.1f}" for value in figures.values())
    return f"{row['regime']} {row['method']} {row['rate']:g} x {row['epochs']} seed {row['seed']}: {shown}"
