"""What the stages around a pilot know of one: its files, what became of an arm. Loads no torch."""

from __future__ import annotations

from dcod.config.arms import PilotConfig
from dcod.retrain import arms as taken_over

ARM, ANSWERS, STUDENT = "arm.json", "answers.parquet", "student"
TAKEN_OVER = "taken_over.json"  # an earlier choice, where that is trained and no arm is tried
DROPPED_AS = "dropped.json"  # which arms get no further seed and why; the temperatures of all
# FEW: too few problems, or no other arm that suits the traces, so that plain fine-tuning is not trained either
TRAINED, LEFT_OUT, FAILED, KEPT, DROPPED, FEW = "trained", "left_out", "failed", "kept", "dropped", "few"


def level_of(pilot: PilotConfig, before: int) -> PilotConfig:
    """The pilot at what it may spend: all pilots of a nightly run's period share the level."""
    return pilot.model_copy(update={"level": taken_over.spent(pilot.level, before)}) if before >= 0 else pilot
