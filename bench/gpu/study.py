"""`python -m bench.gpu.study`: the study's laboratory on this device: whether its cells are worth a GPU.

Seconds of a teacher, a start, traces, and of a cell of SFT and one of `naturalness`, in the second protocol's
*noisy_filtered* and with everything that a cell measures; and the pace of its mid-size student, from a few steps.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from bench.gpu import shapes
from bench.gpu.shapes import Step
from bench.study import lab
from bench.study.cells import quiet
from bench.study.regimes import Size
from bench.study.second import cells
from bench.study.second.cells import Cell
from bench.study.second.entries import SFT
from bench.study.second.regimes import LATER, REGIMES

SMALL, MIDSIZE = "noisy_filtered", "midsize"
STEPS = 40  # of the mid-size student's start, timed; as many warm up
# In seconds of a CPU: an untrained teacher is never right, so nothing is filtered.
QUICK: dict[str, Any] = {"verified": False, "teacher_steps": 2, "start_steps": 2, "train_problems": 8, "traces": 2,
                         "test_problems": 7}  # fmt: skip


def pace(step: Step) -> dict[str, Any]:
    """Of the mid-size student: how many weights, steps a second, and what its whole start takes by that."""
    regime = LATER[MIDSIZE]
    size, steps, batch = (Size(32, 2, 64), 2, 4) if step.quick else (regime.student, STEPS, regime.start_batch)
    rng, model = Random(0), lab.network(size, seed=100)
    texts = [(p.text, regime.basics(rng, p)) for p in lab.problems(regime, 2 * steps * batch, lab.START)]
    examples, took = lab.unscored(lab.written(texts)), list[float]()
    for part in (examples[: steps * batch], examples[steps * batch :]):
        began = time.perf_counter()
        lab.fit(model, part, steps, batch, regime.start_rate, seed=0)
        shapes.wait(step.device)
        took.append(time.perf_counter() - began)
    rate = steps / took[1]
    return {
        "weights": model.num_parameters(),
        "steps_per_second": round(rate, 2),
        "whole_start_seconds": round(regime.start_steps / rate, 1),
    }


def small(step: Step, work: Path) -> None:
    """The parts of a cell, each put as it ends."""
    regime = REGIMES[SMALL] = replace(REGIMES[SMALL], **(QUICK if step.quick else {}))
    parts = {
        "teacher": lambda: lab.teacher(regime, work),
        "start": lambda: lab.start(regime, 0, work),
        "traces": lambda: lab.traces(regime, 0, work),
    }
    for name, make in parts.items():
        began = time.perf_counter()
        make()
        step.put(name, {"seconds": round(time.perf_counter() - began, 1)})
    for method in (SFT, "naturalness"):
        row = cells.row_of(Cell(SMALL, method, 2e-3, 2, 0), work)
        step.put(f"cell of {method}", {name: row[name] for name in ("seconds", "training", "traces", "validation")})


def main() -> None:
    """Both; the mid-size student first, which a GPU is for."""
    quiet()
    step = Step()
    step.put("mid-size student", pace(step))
    with tempfile.TemporaryDirectory() as folder:
        small(step, Path(folder))


if __name__ == "__main__":
    main()
