"""A student and its SFT twin, trained alike but for what the arm names: are they, and what did the correction bring?

The gate asks the same of the gate split, where it may decide (`promote.twin`); here it is told on the report split,
which nothing was chosen on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dcod import storage
from dcod.config import TrainConfig
from dcod.config.arms import ArmConfig
from dcod.errors import UserError
from dcod.evaluate.results import Results
from dcod.promote.compare import Comparison
from dcod.promote.gate import compared_with_twin

LEVEL = 0.05  # of the one-sided bound, which nothing here is decided by
_NAMED = ("correction", "loss", "focus", "anchor", "learning_rate")  # what an arm may name


def on_report(student: Results, twin: Results) -> list[Comparison]:
    """The student against its twin on the report problems of the primary benchmarks.

    Raises:
        UserError: the two were not evaluated alike.
    """
    return compared_with_twin(student, twin, "report", LEVEL)


def equal_compute(student: Path, twin: Path) -> None:
    """Checks that a twin is plain fine-tuning of the same start on the same traces, with the same seed and settings.

    What an arm names may differ: correction, loss, focus, anchor and rate.

    Raises:
        UserError: it is not, or it cannot be told.
    """
    ours, theirs = _trained(student), _trained(twin)
    train = TrainConfig.model_validate(theirs["config"]["train"])
    if not is_plain(train):
        raise UserError(f"twin {twin}: trained with correction {train.correction.name!r}, loss {train.loss.name!r}")
    for manifest in (ours, theirs):
        for name in _NAMED:
            manifest["config"]["train"].pop(name, None)
    different = [name for name in ("config", "seed", "inputs", "code") if ours[name] != theirs[name]]
    if different:
        raise UserError(f"twin {twin}: not at equal compute, another {', '.join(different)} than {student}")


def is_plain(train: TrainConfig) -> bool:
    """Whether a training is plain fine-tuning."""
    return all(getattr(train, name) == getattr(ArmConfig(name="plain"), name) for name in _NAMED[:-1])


def _trained(folder: Path) -> dict[str, Any]:
    manifest = storage.read_json(folder / "manifest.json", made_by="dcod train")
    if manifest.get("stage") != "train":
        raise UserError(f"{folder}: no manifest of a training; a twin is made with `dcod train`")
    return manifest
