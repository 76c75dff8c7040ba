"""A pilot, as a sample of the traces foretells it: what `dcod check` says of it, and what `dcod init` sets up."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from dcod.check import timing
from dcod.check.sample import Sample
from dcod.config import Config
from dcod.evaluate import statistics
from dcod.objective import arms
from dcod.objective.feasibility import Remark
from dcod.promote import foreseen

SHARES = (0.1, 0.15, 0.2)  # of the prompts, offered as problems of either kind: the first that suffices
_MORE = 1.2  # times the selection problems that are needed: their split is a hash, and with less it often falls short


@dataclass(frozen=True)
class Offer:
    """A pilot of ``train.arms=auto``.

    Attributes:
        selection: share of the prompts, for problems that choose temperatures.
        share: of the prompts, for those that compare arms.
        problems: about how many of these there are.
        arms: that are tried.
        found: how likely a gain of 10 points is found.
        prompts: about how many, with reference answers, suffice for :data:`statistics.POWER`.
    """

    selection: float
    share: float
    problems: int
    arms: int
    found: float
    prompts: int

    @property
    def suffices(self) -> bool:
        """Whether it is worth its price."""
        return self.found >= statistics.POWER

    def __str__(self) -> str:
        return (
            f"some {self.problems:,} pilot problems (ingest.pilot_share={self.share:g}), on which "
            f"{self.arms} arms are compared, find a gain of 10 points with probability {self.found:.2f}"
        )


def remarks(config: Config, taken: Sample) -> Iterator[Remark]:
    """What is to be said of a run's pilot: its arms, what it would find, its price, and what it cannot do."""
    asked = timing.problems(config, taken)
    yield from foreseen.remarks(config, taken.holdings(), asked)
    if cost := timing.pilot(config, taken):
        yield Remark("note", "pilot", cost.in_tokens(config, asked))
    yield from arms.otherwise(config)


def offer(config: Config, taken: Sample) -> Offer:
    """The pilot with the smallest of :data:`SHARES` that suffices, else with the largest."""
    train, pilot = config.train.model_copy(update={"arms": "auto"}), config.train.pilot
    prompts = taken.total / taken.rows * len({one.prompt_id for one in taken.traces if one.gold})
    count = arms.count(train, taken.holdings())
    enough = foreseen.enough(pilot, count)
    selection, share = (
        next((one for one in SHARES if one * prompts >= least), SHARES[-1])
        for least in (_MORE * pilot.min_problems, enough)
    )
    problems = min(pilot.problems, round(share * prompts))
    found = foreseen.found(pilot, problems, count)
    return Offer(selection, share, problems, count, found, 10 * math.ceil(enough / SHARES[-1] / 10))
