"""What a pilot can tell, said before it runs: by `dcod check`, by ingestion and scoring, and by the pilot itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dcod.config import Config
from dcod.config.arms import PilotConfig
from dcod.evaluate import statistics
from dcod.objective import arms
from dcod.objective.feasibility import Holdings, Remark
from dcod.promote import choice

_HOPED = 0.13  # the largest gain that the second study confirmed anywhere
_GAIN = f"{choice.AIMED_GAIN * 100:.0f} points"


def remarks(config: Config, holdings: Holdings, problems: Mapping[str, float]) -> Iterator[Remark]:
    """What is to be said of the pilot of a run: which arms it tries, and what it would find; nothing without arms.

    Args:
        config: the whole configuration.
        holdings: of the traces for training.
        problems: about how many are held back, by split.
    """
    train, pilot = config.train, config.train.pilot
    if not train.arms:
        return
    if pilot.compare == "answers" and not holdings.golds:
        text = "no trace has a reference answer, so no pilot problem can be graded"
        way_out = "bring `gold` with the rows, or set train.pilot.compare=nll, which favours plain fine-tuning"
        yield Remark("impossible", "arms", text, f"{way_out}, or leave train.arms out")
        return
    if few := arms.too_few(pilot, problems):
        yield Remark("warning", "arms", few)
        return
    yield Remark("note", "arms", arms.said(train, holdings))
    if why := arms.none_left(train, holdings):
        yield Remark("idle", "arms", why, arms.WAY_OUT)
        return
    asked, count = min(int(problems["pilot"]), pilot.problems), arms.count(train, holdings)
    low = found(pilot, asked, count) < statistics.POWER
    yield Remark("warning" if low else "note", "pilot", outlook(pilot, asked, count))


def outlook(pilot: PilotConfig, problems: int, count: int) -> str:
    """What a pilot of so many arms can tell, and where that stands on what is aimed at; where it is less, the way out.

    Args:
        pilot: its level, seeds and samples.
        problems: that it asks.
        count: arms that are tried, without plain fine-tuning.
    """
    seen = choice.detectable(problems, pilot.seeds, count, pilot, pilot.seed_deviation)
    hope = f", more than a correction brought anywhere in our study ({_HOPED * 100:.0f})" if seen > _HOPED else ""
    likely, aim = found(pilot, problems, count), f"{choice.AIMED:.0%}"
    text = (
        f"{count} arm{'s' * (count != 1)} against plain fine-tuning on {problems} problems, {pilot.seeds} seeds, "
        f"{pilot.samples} answers each: a difference of {seen * 100:.0f} points would be found with "
        f"{statistics.POWER * 100:.0f} % power{hope}; one of {_GAIN} with {likely:.0%} (the aim is {aim}), and plain "
        f"fine-tuning is kept with {1.0 - pilot.level:.0%} or more where nothing helps (the aim is {aim}), by a "
        "formula that docs/evaluation.md holds against a simulation"
    )
    if likely >= choice.AIMED:
        return text
    return (
        f"{text}; for more bring more problems (ingest.pilot_share, train.pilot.problems), more answers a problem "
        "(train.pilot.samples), more seeds (train.pilot.seeds) or a larger train.pilot.share"
    )


def found(pilot: PilotConfig, problems: int, count: int) -> float:
    """How likely a gain of 10 points is found; see :func:`outlook`."""
    return choice.power(choice.AIMED_GAIN, problems, pilot.seeds, count, pilot, pilot.seed_deviation)


def enough(pilot: PilotConfig, count: int) -> int:
    """The fewest problems on which so many arms find 10 points with 80 % power; 0 where no number does."""
    sizes = range(pilot.min_problems, pilot.problems + 1)
    return next((size for size in sizes if found(pilot, size, count) >= statistics.POWER), 0)
