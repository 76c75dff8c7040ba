"""What a run of training carries from step to step besides tensors, what it says at its end, and how that is kept."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from dcod.errors import UserError
from dcod.objective.weighting import WeightPlan

VERSION = 2  # moves when a key of TrainState, or what a tensor beside it means, does
VERSION_KEY = "version"


@dataclass
class Result:
    """What a training run says at its end.

    Attributes:
        best_step: the step whose checkpoint was kept.
        start_nll, best_nll: mean NLL per token on the selection split, nats.
        start_accuracy, best_accuracy: share of its problems answered right, where that selects.
        best_kl: mean KL(start || student) at its positions, nats.
        select: what selects, and why; see :mod:`dcod.train.selection`.
        skipped: optimizer steps that were not finite.
        history: one row of metrics per step.
        weights: histograms of the weights by position; see :class:`dcod.objective.weighting.WeightCounts`.
        student: how the student was run: its head and the layout of its batches; see :mod:`dcod.models.selfcheck`.
    """

    best_step: int = 0
    start_nll: float = math.nan
    best_nll: float = math.inf
    start_accuracy: float = -math.inf
    best_accuracy: float = -math.inf
    best_kl: float = math.inf
    select: dict[str, Any] = field(default_factory=dict)
    skipped: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    weights: dict[str, Any] = field(default_factory=dict)
    student: dict[str, Any] = field(default_factory=dict)


@dataclass
class TrainState(Result):
    """The state of a run after a step: what its result is so far, and what the next step needs.

    A checkpoint holds all of it, under the names that the fields have here, beside the tensors.

    Attributes:
        step: the last optimizer step that is done; 0 before the first.
        lagged: what the step decided for live weights of the next one.
        micro_batch_tokens: tokens of a micro-batch; fewer than at first where a GPU's memory did not hold one.
        skipped_in_a_row: steps that were not finite, up to the last one.
        without_a_better_one: measurements of the selection split since the best one.
    """

    step: int = 0
    lagged: WeightPlan = field(default_factory=WeightPlan)
    micro_batch_tokens: int = 0
    skipped_in_a_row: int = 0
    without_a_better_one: int = 0

    def to_json(self) -> str:
        """As a checkpoint holds it."""
        return json.dumps({VERSION_KEY: VERSION, **asdict(self)})

    @classmethod
    def from_json(cls, text: str, place: str) -> TrainState:
        """Takes what :meth:`to_json` made.

        Args:
            text: the content of the file.
            place: where it stands, for the message.

        Raises:
            UserError: another version of dcod wrote it, and it holds something else.
        """
        version: Any = None
        try:
            values = json.loads(text)
            version = values.pop(VERSION_KEY, 0)  # the first ones named none
            if version == VERSION and values.keys() == {one.name for one in fields(cls)}:
                return cls(**{**values, "lagged": WeightPlan(**values["lagged"])})
        except (ValueError, TypeError, AttributeError):
            pass
        raise UserError(
            f"{place}: a checkpoint of version {version}, of which this dcod reads version {VERSION} alone; end the "
            "run with the dcod that began it, or set another train.checkpoints.uri, where it begins anew"
        )
