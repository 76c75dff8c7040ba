"""Which arm a scheduled run trains: what the last pilot chose, or what a new one chooses; and why.

What a pilot chose lies beside each version in the registry that was trained so, also of a student that was refused. It
is taken over while it is young and the traces are as they were; ``decide`` writes it beside the traces that it selects,
and the pilots find it there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcod import storage
from dcod.config import TrainConfig
from dcod.config.arms import SFT, ArmConfig

DAY = 86_400
_PLAIN = ArmConfig(name=SFT)
PILOTS = "pilots.json"  # beside the selected traces of a nightly run: how many pilots its period had


@dataclass(frozen=True)
class Kept:
    """What a pilot chose.

    Attributes:
        arm: the chosen one.
        at: when, seconds since 1970; 0 where the pilot tried no arm.
        alone: share of the traces that were alone with their prompt then.
        why: it is taken over; empty as long as nobody decided that.
        sft: plain fine-tuning, at the rate at which the pilot found it best.
    """

    arm: ArmConfig
    at: float
    alone: float
    why: str = ""
    sft: ArmConfig = _PLAIN

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        arm, sft = (one.model_dump(mode="json") for one in (self.arm, self.sft))
        return {"arm": arm, "sft": sft, "at": self.at, "alone": self.alone, "why": self.why}


def read(path: Path) -> Kept | None:
    """What a file holds; None where there is none."""
    if not path.is_file():
        return None
    kept: Mapping[str, Any] = storage.read_json(path, made_by="dcod choose")
    arm = ArmConfig.model_validate(kept["arm"])
    noted = kept.get("sft")  # a champion of an older dcod has none
    sft = ArmConfig.model_validate(noted) if noted else _PLAIN
    return Kept(arm, kept["at"], kept["alone"], kept.get("why", ""), arm if arm.is_sft else sft)


def anew(kept: Kept | None, train: TrainConfig, moved: Sequence[str], alone: float, days: float, now: float) -> str:
    """Why the arms are to be compared again; "" where what was chosen is taken over.

    Args:
        kept: what the last pilot chose.
        train: with the arms.
        moved: what the monitors say of the traces since then.
        alone: share of the new traces that are alone with their prompt.
        days: after so many a choice is too old (``retrain.pilot_every``).
        now: seconds since 1970.
    """
    if kept is None:
        return "no pilot chose an arm yet"
    if kept.arm not in train.compared:
        return f"{kept.arm.name}, which the last pilot chose, is not in train.arms any more, or is set otherwise"
    if moved:
        return f"the traces have moved: {moved[0]}"
    if (alone >= 0.5) != (kept.alone >= 0.5):
        return f"{alone:.0%} of the traces are alone with their prompt now, {kept.alone:.0%} were at the last pilot"
    age = (now - kept.at) / DAY
    return f"the last pilot was {age:.0f} days ago (retrain.pilot_every={days:g})" if age >= days else ""


def spent(level: float, before: int) -> float:
    """What a pilot may spend of the level of its period.

    Args:
        level: of all pilots of the period together: the chance that any leaves plain fine-tuning for noise.
        before: how many of them there were; the first gets half, and all that could ever come get the whole.
    """
    return level / ((before + 1) * (before + 2))
