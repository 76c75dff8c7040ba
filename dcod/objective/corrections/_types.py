"""What one correction is: a formula, what it needs, and what its weights are compared within."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dcod.config import CorrectionConfig

if TYPE_CHECKING:
    from torch import Tensor

    from dcod.objective.step_scores import StepScores

IW_SFT_BOUND = 16.0  # arXiv 2507.12856

Group = Literal["prompt", "position", "length", "batch", "none"]
Needs = tuple[tuple[str, ...], ...]  # of each entry, any one field of a StepScores, or one recorded on demand


@dataclass(frozen=True)
class Correction:
    """One member of the family; called with a configuration and a step's scores, it gives log-weights.

    Attributes:
        log_weight: the log l of the untempered weight [B, W].
        needs: from a configuration, what it cannot do without.
        group: from a configuration, what its weights are compared within.
        by_token: from a configuration, whether the tokens of a trace may weigh differently.
        bound: the largest weight, before a step is rescaled, of what is compared with nothing.
        leans: whether it prefers what the student finds likely (:mod:`dcod.objective.doubts`).
        asks: whether it weighs by the answers of a plain student, which is trained and asked first.
    """

    log_weight: Callable[[CorrectionConfig, StepScores], Tensor]
    needs: Callable[[CorrectionConfig], Needs]
    group: Callable[[CorrectionConfig], Group]
    by_token: Callable[[CorrectionConfig], bool]
    bound: float = IW_SFT_BOUND
    leans: bool = False
    asks: bool = False

    def __call__(self, config: CorrectionConfig, step: StepScores) -> Tensor:
        """The log-weights [B, W]."""
        return self.log_weight(config, step)


def entry(
    log_weight: Callable[[CorrectionConfig, StepScores], Tensor],
    group: Group,
    *any_of: str,
    by_token: bool = False,
    bound: float = IW_SFT_BOUND,
    leans: bool = False,
    asks: bool = False,
) -> Correction:
    """An entry whose facts no other key decides; it needs one of the fields ``any_of``."""
    fields: Needs = (any_of,) if any_of else ()
    return Correction(log_weight, lambda _: fields, lambda _: group, lambda _: by_token, bound, leans, asks)
