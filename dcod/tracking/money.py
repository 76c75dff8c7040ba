"""What a run cost: the hours of its stages at the prices of the configuration, and what its teacher took."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from dcod.config import TrackingConfig

STAGE, RUN = "compute_cost", "cost"  # metrics; a stage that asked a teacher, or nodes, has a `cost` of its own


def of_stage(config: TrackingConfig, seconds: float) -> float:
    """A stage's price; 0 where none is given. One that sees GPUs pays for these, any other for its machine."""
    return config.price(seconds, _gpus())


def of_run(stages: Iterable[Any]) -> float:
    """The sum over a run's stages, as far as they told it: one that was killed did not."""
    return sum(stage.data.metrics.get(name, 0.0) for stage in stages for name in (STAGE, RUN))


def _gpus() -> int:
    torch = sys.modules.get("torch")  # a stage that has not imported it uses none
    return int(torch.cuda.device_count()) if torch is not None and torch.cuda.is_available() else 0
