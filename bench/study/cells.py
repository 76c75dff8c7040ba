"""The cells of the study and the workers that run them, one process a core."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench.study import lab, methods, tables
from bench.study.methods import CONTROLS, MAIN, MIDDLE, OTHERS, RATES, START
from bench.study.regimes import REGIMES

TUNED = ("several_ways", "noisy", "clean")
FRESH = range(10, 15)  # seeds of the confirmation


@dataclass(frozen=True)
class Cell:
    """One training run of the study."""

    regime: str
    method: str
    rate: float
    seed: int


def main_cells() -> Iterator[Cell]:
    """The starts, and the six main methods: three regimes at five seeds and three rates, the others at three seeds."""
    for seed in range(5):
        yield from (Cell(regime, START, MIDDLE, seed) for regime in REGIMES if regime in TUNED or seed < 3)
        for regime in TUNED:
            yield from (Cell(regime, method, rate, seed) for method in MAIN for rate in RATES)
        for regime in REGIMES:
            if regime not in TUNED and seed < 3:
                yield from (Cell(regime, method, MIDDLE, seed) for method in MAIN)


def other_cells() -> Iterator[Cell]:
    """The rest of the family and the controls, at the middle learning rate and three seeds."""
    for seed in range(3):
        for regime in (*TUNED, "leaps"):
            yield from (Cell(regime, method, MIDDLE, seed) for method in (*OTHERS, *CONTROLS))


def fresh_cells(chosen: list[str], rates: dict[tuple[str, str], float]) -> Iterator[Cell]:
    """The confirmation of the chosen methods against SFT and DFT, at the rates that validation picked."""
    for seed in FRESH:
        for regime in REGIMES:
            for method in ("sft", "dft", *chosen):
                yield Cell(regime, method, rates.get((regime, method), MIDDLE), seed)


def _prepare(regime: str, seed: int, work: str) -> None:
    quiet()
    lab.traces(REGIMES[regime], seed, Path(work))


def _teach(regime: str, work: str) -> None:
    quiet()
    lab.teacher(REGIMES[regime], Path(work))


def _run(cell: Cell, work: str, quick: bool) -> dict[str, Any]:
    quiet()
    began = time.monotonic()
    found = methods.run(cell.regime, cell.method, cell.rate, cell.seed, Path(work), quick)
    return found | {"seconds": round(time.monotonic() - began, 1)}


def quiet() -> None:
    """One thread a worker, and no word of transformers."""
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()


@dataclass(frozen=True)
class Work:
    """What there is to do for cells, as functions that another process can import.

    Attributes:
        teach: makes the teacher of a regime, by its name.
        prepare: makes the traces of a regime and a seed.
        cell: runs a cell; its row holds the cell's fields.
        told: of a row, for the line that says it ended.
    """

    teach: Callable[[str], None]
    prepare: Callable[[str, int], None]
    cell: Callable[[Any], dict[str, Any]]
    told: Callable[[dict[str, Any]], str]


def run(cells: list[Cell], into: Path, work: Path, workers: int, quick: bool = False) -> None:
    """Runs the cells of the first protocol that ``into`` does not hold yet."""
    place = str(work)
    work_through(
        cells,
        into,
        Work(partial(_teach, work=place), partial(_prepare, work=place), partial(_run, work=place, quick=quick), _told),
        workers,
    )


def work_through(cells: Sequence[Any], into: Path, work: Work, workers: int, until: float = math.inf) -> None:
    """Runs the cells that ``into`` does not hold yet; each is written as it ends.

    Args:
        cells: dataclasses with a regime and a seed.
        into: the file of their rows.
        work: what to do.
        workers: processes.
        until: of the monotonic clock; begins no cell afterwards, the next sitting goes on.
    """
    names = [f.name for f in fields(cells[0])] if cells else []
    known = {tuple(row[name] for name in names) for row in tables.read(into)}
    missing = [cell for cell in dict.fromkeys(cells) if tuple(getattr(cell, name) for name in names) not in known]
    into.parent.mkdir(parents=True, exist_ok=True)
    if not missing or time.monotonic() > until:
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        taught = [pool.submit(work.teach, regime) for regime in dict.fromkeys(c.regime for c in missing)]
        for teacher in taught:
            teacher.result()
        pairs = dict.fromkeys((cell.regime, cell.seed) for cell in missing)
        made = [pool.submit(work.prepare, regime, seed) for regime, seed in pairs]
        jobs = [pool.submit(work.cell, cell) for cell in missing]
        count = 0
        for job in as_completed(jobs):
            if job.cancelled():
                continue
            row, count = job.result() | {"date": datetime.now(UTC).date().isoformat(), "machine": machine()}, count + 1
            with into.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{count}/{len(missing)} {work.told(row)}", flush=True)
            if time.monotonic() > until:  # those that have begun still end, and are written
                for other in (*jobs, *made):
                    other.cancel()
        if count < len(missing):
            print(f"{len(missing) - count} cells are left for the next sitting", flush=True)
            return
        for preparation in made:
            preparation.result()


def _told(row: dict[str, Any]) -> str:
    return f"{row['regime']} {row['method']} {row['rate']:g} seed {row['seed']}: sampled {row['sampled_accuracy']:.3f}"


def machine() -> str:
    """What the study ran on."""
    import torch

    card = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    return f"{card}{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
