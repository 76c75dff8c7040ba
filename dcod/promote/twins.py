"""A student and its SFT twin, trained alike but for what the arm names: are they, and what did the correction bring?

The gate asks the same of the gate split, where it may decide (`promote.twin`); here it is told on the report split,
which nothing was chosen on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from dcod import storage
from dcod.config import TrainConfig
from dcod.config.arms import NAMED, PilotConfig
from dcod.errors import UserError
from dcod.evaluate.results import Results
from dcod.promote import choice
from dcod.promote.compare import Comparison
from dcod.promote.contest import correctness
from dcod.promote.rules import compared_with_twin

LEVEL = 0.05  # of the one-sided bound, which nothing here is decided by


def on_report(student: Results, twin: Results) -> list[Comparison]:
    """The student against its twin on the report problems of the primary benchmarks.

    Raises:
        UserError: the two were not evaluated alike.
    """
    return compared_with_twin(student, twin, "report", LEVEL)


def over_seeds(ours: Sequence[Results], theirs: Sequence[Results], pilot: PilotConfig) -> list[Comparison]:
    """Students against their twins, seed by seed, on the report problems: intervals over problems and seeds.

    With one seed it is :func:`on_report`. With more, the variance is that of a pilot (:mod:`dcod.promote.choice`): of
    the mean over problems, and of the mean over seeds.

    Args:
        ours: the student's results by seed, the judged one first.
        theirs: the twin's.
        pilot: says by how much a difference spreads between seeds, where few tell it.

    Raises:
        UserError: two were not evaluated alike, or not as many of both were.
    """
    if len(ours) != len(theirs):
        raise UserError(f"train.seeds: {len(ours)} students and {len(theirs)} twins; there must be as many of both")
    by_seed = [on_report(mine, other) for mine, other in zip(ours, theirs, strict=True)]
    if len(by_seed) == 1:
        return by_seed[0]
    whole = []
    for place, first in enumerate(by_seed[0]):
        key, rows = first.benchmark, [one[place] for one in by_seed]
        gaps = [_gaps(mine, other, key) for mine, other in zip(ours, theirs, strict=True)]
        if any(gap.keys() != gaps[0].keys() for gap in gaps):
            raise UserError(f"train.seeds: the students were not asked the same problems of {key}")
        accuracies = {name: sum(getattr(row, name) for row in rows) / len(rows) for name in ("challenger", "baseline")}
        by_problem = np.array([[gap[one] for one in sorted(gap)] for gap in gaps])
        whole.append(choice.over_seeds(replace(first, **accuracies), by_problem, pilot, LEVEL))
    return whole


def _gaps(ours: Results, theirs: Results, key: str) -> dict[str, float]:
    """Ours less theirs, in shares of right answers by problem."""
    mine, other = (correctness(one.by_problem("report")[key]) for one in (ours, theirs))
    return {problem: fmean(values) - fmean(other[problem]) for problem, values in mine.items()}


def equal_compute(student: Path, twin: Path) -> None:
    """Checks that a twin is plain fine-tuning of the same start on the same traces, with the same seed and settings.

    What an arm names may differ, such as the correction and the rate.

    Raises:
        UserError: it is not, or it cannot be told.
    """
    ours, theirs = _trained(student), _trained(twin)
    train = TrainConfig.model_validate(theirs["config"]["train"])
    if not train.is_plain:
        raise UserError(f"twin {twin}: trained with correction {train.correction.name!r}, loss {train.loss.name!r}")
    for manifest in (ours, theirs):
        for name in NAMED:
            manifest["config"]["train"].pop(name, None)
    different = [name for name in ("config", "seed", "inputs", "code") if ours[name] != theirs[name]]
    if different:
        raise UserError(f"twin {twin}: not at equal compute, another {', '.join(different)} than {student}")


def best_rate(twin: Path, sft: TrainConfig, name: str) -> None:
    """Checks that a twin was trained at the rate at which the pilot found plain fine-tuning best.

    Args:
        twin: model folder.
        sft: the training of that arm.
        name: of it.

    Raises:
        UserError: at another; what the rate brings would pass for what the correction brings.
    """
    rate = _trained(twin)["config"]["train"]["learning_rate"]
    if rate != sft.learning_rate:
        raise UserError(
            f"twin {twin}: trained at learning_rate {rate:g}, and the pilot found plain fine-tuning best at "
            f"{sft.learning_rate:g} ({name}); train the twin with --arm sft --choice DIR of `dcod choose`"
        )


def _trained(folder: Path) -> dict[str, Any]:
    manifest = storage.read_json(folder / storage.MANIFEST, made_by="dcod train")
    if manifest.get("stage") != "train":
        raise UserError(f"{folder}: no manifest of a training; a twin is made with `dcod train`")
    return manifest
