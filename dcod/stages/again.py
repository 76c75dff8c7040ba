"""Again: the student, or its twin by plain fine-tuning, with another seed; and its answers to the report problems.

Another order of the traces makes another student. With ``train.seeds`` > 1 the answer to "did the correction help?" is
over seeds as well as problems (:func:`dcod.promote.twins.over_seeds`). The gate judges the first seed's student; of the
others only the answers stay.

1. nothing, where plain fine-tuning is the student's own arm: there is nothing to compare;
2. train as the stage `train` does; the configuration is that of this one training, its seed among it
   (:func:`dcod.stages.arms.narrowed`), so that more seeds or other arms do not void it;
3. ask the report problems;
4. keep again.json, the results and the training's history; the weights go.

A training that fails for a reason that dcod knows is an output that says so: the judged student is judged without it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from dcod import storage
from dcod.config import Config
from dcod.errors import UserError
from dcod.progress import MARK
from dcod.stages import manifests, reported, train
from dcod.stages.seeds import FILE, RESULTS, STUDENT

if TYPE_CHECKING:
    from dcod.tracking import Log

HISTORY = "training.jsonl"


def run(
    config: Config, out: Path, log: Log, *, scores: Path, student: Path, arm: str, idle: bool = False
) -> dict[str, float]:
    """Trains and asks one further student; see the module.

    Args:
        config: ``train`` and ``seed`` are those of this training.
        out: an empty folder.
        log: its training goes there.
        scores: the scored traces.
        student: where training begins.
        arm: one of :func:`dcod.stages.seeds.names`.
        idle: there is nothing to compare.
    """
    which, _, number = arm.partition(" ")
    told = {"arm": which, "seed": int(number)}
    if idle:
        storage.write_json(out / FILE, told | {"compared": False, "why": "plain fine-tuning is the student's own arm"})
        return {"trained": 0.0}
    place = out / STUDENT
    place.mkdir()
    try:
        figures = train.run(config, place, log, scores=scores, student=student)
        manifests.write(place, told, figures)  # so that the folder is a student as `train` leaves one
        results = reported.results_of(config, place, out / RESULTS)
    except UserError as error:
        for folder in (place, out / RESULTS):
            shutil.rmtree(folder, ignore_errors=True)
        print(f"{MARK}{arm}: {error}", flush=True)
        storage.write_json(out / FILE, told | {"compared": False, "why": str(error)})
        return {"trained": 0.0}
    (place / HISTORY).rename(out / HISTORY)
    shutil.rmtree(place)
    storage.write_json(out / FILE, told | {"compared": True, "why": ""})
    shown = {f"{row.benchmark}/report/accuracy": row.accuracy for row in results.on("report")}
    return {"trained": 1.0, **figures, **shown}


settle = train.settle  # its checkpoints go once the answers are kept
