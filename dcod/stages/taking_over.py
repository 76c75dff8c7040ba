"""Which arm a scheduled run trains: what the last pilot chose, or what the coming one will; `decide` asks.

The rules are :mod:`dcod.retrain.arms`. A night with too few problems, or no arm that suits its traces,
compares nothing, so it is no pilot: it does not spend the level of its period, and what was chosen before stays.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dcod import storage
from dcod.config import Config
from dcod.config.arms import CHOSEN
from dcod.objective import arms as objective
from dcod.objective.feasibility import Holdings
from dcod.promote.decision import Reason
from dcod.retrain import arms, history
from dcod.retrain.decide import RetrainDecision
from dcod.stages import asked
from dcod.traces import Trace
from dcod.tracking.registry import Registry


def settle(
    folder: Path,
    config: Config,
    registry: Registry,
    decision: RetrainDecision,
    picked: Sequence[Trace],
    held: Holdings,
    moved: Sequence[str],
    now: float,
) -> tuple[RetrainDecision, bool]:
    """The decision with what is said of the arms, and whether they are compared.

    Args:
        folder: of the selected traces; beside them is left the arm that is taken over, or how many pilots there were.
        config: the whole configuration.
        registry: with the earlier students.
        decision: to train.
        picked: the selected traces.
        held: what they hold.
        moved: how the new traces differ from those of the last pilot.
        now: seconds since 1970.
    """
    name, section = config.promote.registered_model, config.retrain
    chosen = history.chosen(registry, name)
    why = arms.anew(chosen, config.train, moved, held.alone / held.traces, section.pilot_every, now)
    unfit = "" if chosen is None else objective.left_out(config.train, chosen.arm, held)
    why, few = why or unfit, _too_few(config, picked) or objective.none_left(config.train, held)
    compared = bool(why and not few)
    if chosen is not None and (not why or (few and not unfit and chosen.arm in config.train.compared)):
        date = time.strftime("%Y-%m-%d", time.gmtime(chosen.at))
        young = (
            f"that is younger than {section.pilot_every:g} days (retrain.pilot_every), and the traces have not moved"
        )
        text = f"{chosen.arm.name}, which the pilot of {date} chose, is taken over"
        text += f", though {why}: {few}" if why else f": {young}"
        storage.write_json(folder / CHOSEN, replace(chosen, why=text).to_dict())
    elif few:
        text = f"no arm is compared, though {why}: {few}"
    else:
        text = f"the arms are compared anew: {why}"
        if config.promote.schedule == "repeated":  # all pilots of a period share the level
            before = history.pilots(registry.tracker, name, now - config.promote.period_days * arms.DAY)
            storage.write_json(folder / arms.PILOTS, {"before": before})
    return replace(decision, reasons=(*decision.reasons, Reason("arm", text, True))), compared


def _too_few(config: Config, picked: Sequence[Trace]) -> str:
    """Why a pilot would compare nothing; "" where it would."""
    held = asked.askable(config, picked)
    counts = {split: min(len(some), config.train.pilot.most(split)) for split, some in held.items()}
    return objective.too_few(config.train.pilot, counts)
