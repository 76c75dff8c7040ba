"""What `choose` leaves, choice.json: who was tried, who was chosen and why. Training, gate and pages read it here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from dcod import storage

CHOICE = "choice.json"


class Against(TypedDict):
    """An arm against plain fine-tuning: :class:`dcod.promote.choice.Versus`, as JSON holds it."""

    name: str
    temperature: float
    accuracy: float
    sft: float
    difference: float
    low: float
    high: float
    bound: float
    p_value: float
    better: bool


class Chosen(TypedDict):
    """The statistics' word: :class:`dcod.promote.choice.Choice`, as JSON holds it; no seeds where none was tried."""

    arm: str
    sft: str
    why: str
    against: list[Against]
    problems: int
    seeds: int
    deviation: float
    measured: bool
    detectable: float


class Arm(TypedDict):
    """What became of one arm.

    Attributes:
        arm: its setting (:class:`dcod.config.arms.ArmConfig`).
        sft: whether it is plain fine-tuning.
        state: of :mod:`dcod.stages.piloting`, with the reason in ``why``.
        best: the temperature that the selection problems chose; None where nothing was asked.
        figures: of its answers and trainings, by name.
    """

    arm: dict[str, Any]
    sft: bool
    state: str
    why: str
    best: float | None
    figures: dict[str, float]


class Outcome(TypedDict):
    """All of it.

    Attributes:
        choice: which arm, and why.
        settings: of the chosen arm; ``sft`` those of plain fine-tuning at its best rate, which old files lack.
        at: when, in seconds since 1970; 0 where no arm was tried.
        alone: share of the traces that were alone with their prompt.
        share: of the prompts, that each arm was trained on.
        arms: all of them, in the order of the configuration.
        dropped: those of a first seed alone, as far as that tells.
        report: comparisons on the report problems (:class:`dcod.promote.compare.Comparison`).
        asked: by arm, what its student answered there (:meth:`dcod.evaluate.results.Results.told`).
        examples: pilot problems that plain fine-tuning and the arm answer differently.
        otherwise: at which other temperature report and gate ask; empty where they do not.
    """

    choice: Chosen
    settings: dict[str, Any]
    sft: NotRequired[dict[str, Any]]
    at: float
    alone: float
    share: float
    arms: list[Arm]
    dropped: NotRequired[list[Against]]
    report: list[dict[str, Any]]
    asked: NotRequired[dict[str, list[dict[str, Any]]]]
    examples: list[dict[str, str]]
    otherwise: NotRequired[str]


def read(folder: Path) -> Outcome:
    """The outcome of a pilot.

    Raises:
        UserError: the folder is no output of the stage `choose`.
    """
    return cast(Outcome, storage.read_json(folder / CHOICE, made_by="dcod choose"))
