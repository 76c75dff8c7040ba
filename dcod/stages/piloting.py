"""What the stages around a pilot know of one: its files, what became of an arm, what it costs. Loads no torch."""

from __future__ import annotations

from dcod.config import Config
from dcod.config.arms import PilotConfig
from dcod.retrain import arms as taken_over

ARM, ANSWERS, STUDENT = "arm.json", "answers.parquet", "student"
TAKEN_OVER = "taken_over.json"  # the champion's arm, where that is trained and no arm is tried
DROPPED_AS = "dropped.json"  # which arms get no further seed, and why
TRAINED, LEFT_OUT, FAILED, KEPT, DROPPED, FEW = "trained", "left_out", "failed", "kept", "dropped", "few"
_COST = 0.2  # of the run, that a pilot takes by itself


def share_of(config: Config) -> float:
    """The share of the prompts that each arm trains on.

    ``auto`` takes so much that all arms and seeds together cost a fifth of the run: a quarter of what its students at
    full size are trained on.
    """
    train = config.train
    if train.pilot.share != "auto":
        return train.pilot.share
    return min(1.0, _COST / (1.0 - _COST) * (2 if train.twin else 1) * train.seeds / students_of(config))


def students_of(config: Config) -> int:
    """How many a pilot trains, if every arm is tried."""
    train, arms = config.train, len(config.train.compared)
    gone = len(train.arms) // 2 if train.halves else 0
    return max(1, arms + (arms - gone) * (train.pilot.seeds - 1))


def level_of(pilot: PilotConfig, before: int) -> PilotConfig:
    """The pilot at what it may spend: all pilots of a nightly run's period share the level."""
    return pilot.model_copy(update={"level": taken_over.spent(pilot.level, before)}) if before >= 0 else pilot
