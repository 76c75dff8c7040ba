"""Again: the student, or its twin by plain fine-tuning, with another seed; and its answers to the report problems.

Another order of the traces makes another student. With ``train.seeds`` > 1 the answer to "did the correction help?" is
over seeds as well as problems (:func:`dcod.promote.twins.over_seeds`). The gate judges the first seed's student; of the
others only the answers stay.

1. nothing, where a pilot chose plain fine-tuning: there is nothing to compare;
2. train as the stage `train` does, with the seed of the run plus the number;
3. ask the report problems;
4. keep again.json, the results and the training's history; the weights go.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from dcod import storage
from dcod.config import Config
from dcod.config.arms import SFT
from dcod.errors import UserError
from dcod.promote import twins
from dcod.stages import arms, manifests, reported, train
from dcod.stages.seeds import FILE, RESULTS, STUDENT, names

if TYPE_CHECKING:
    from dcod.tracking import Log

HISTORY = "training.jsonl"


def run(
    config: Config, out: Path, log: Log, *, scores: Path, student: Path, arm: str, choice: Path | None = None
) -> dict[str, float]:
    """Trains and asks one further student; see the module.

    Args:
        config: the whole configuration.
        out: an empty folder.
        log: its training goes there.
        scores: the scored traces.
        student: where training begins.
        arm: one of :func:`dcod.stages.seeds.names`.
        choice: of the pilot that chose the student's arm.

    Raises:
        UserError: ``arm`` is none of them; or as :func:`dcod.stages.train.run`.
    """
    which, number = _parsed(config, arm)
    corrected = arms.of_training(config, "", choice)
    told = {"arm": which, "seed": number}
    if twins.is_plain(corrected.train):
        storage.write_json(out / FILE, told | {"compared": False})
        return {"trained": 0.0}
    own = corrected if which == STUDENT else arms.of_training(config, SFT)
    place = out / STUDENT
    place.mkdir()
    own = own.model_copy(update={"seed": config.seed + number})
    figures = train.run(own, place, log, scores=scores, student=student)
    manifests.write(place, told, figures)  # so that the folder is a student as `train` leaves one
    results = reported.results_of(config, place, out / RESULTS)
    (place / HISTORY).rename(out / HISTORY)
    shutil.rmtree(place)
    storage.write_json(out / FILE, told | {"compared": True})
    shown = {f"{row.benchmark}/report/accuracy": row.accuracy for row in results.on("report")}
    return {"trained": 1.0, **figures, **shown}


def _parsed(config: Config, arm: str) -> tuple[str, int]:
    there = names(config.train.seeds)
    if arm not in there:
        raise UserError(f"again: {arm!r} is no further student; train.seeds={config.train.seeds} has {there or 'none'}")
    which, _, number = arm.partition(" ")
    return which, int(number)
