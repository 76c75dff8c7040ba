"""Corrections found by name: those of one page, and each that is a file of this folder."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Literal

from dcod.config import CorrectionConfig, TrainConfig
from dcod.objective.corrections._family import FAMILY
from dcod.objective.corrections._types import Correction, Group, Needs


def _files() -> dict[str, Correction]:
    """The ``CORRECTION`` of each file, by its name; dcod/config/losses.py finds the names alike."""
    names = (item.name for item in pkgutil.iter_modules([str(Path(__file__).parent)]))
    return {
        name: importlib.import_module(f"{__package__}.{name}").CORRECTION
        for name in sorted(names)
        if not name.startswith("_")
    }


CORRECTIONS: dict[str, Correction] = {**FAMILY, **_files()}


def needs(config: CorrectionConfig) -> Needs:
    """What the configured correction cannot do without."""
    return CORRECTIONS[config.name].needs(config)


def group_of(config: CorrectionConfig) -> Group:
    """What the weights of a configuration are compared within."""
    own = CORRECTIONS[config.name].group(config)
    return own if config.group == "auto" or own == "none" else config.group


def prepared(config: CorrectionConfig) -> Literal["asked", "cross", ""]:
    """What plain students do first, which learn as much as the training to come; "" where there are none."""
    if CORRECTIONS[config.name].asks:
        return "asked"
    return "cross" if config.weights == "cross" and config.name != "none" else ""


def needed(train: TrainConfig) -> frozenset[str]:
    """All fields that the corrections of a training and of its arms may look at."""
    used = (train.correction, *(arm.correction for arm in train.compared))
    return frozenset(name for each in used for any_of in needs(each) for name in any_of)
