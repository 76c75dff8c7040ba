"""Which arms suit the traces: of those that a user listed, what would do nothing; of ``auto``, which are tried.

The list of `auto` is :data:`dcod.config.arms.AUTO`. It is short, since each further arm takes a part of what the pilot
can tell apart: what the second study confirmed (docs/method.md, section 6), likeness to the student where a prompt has
several traces, and a loss that trusts a token less where the student finds it unlikely, with it or, where a prompt has
one trace, alone; and the support of each token, of which the screening alone speaks: it was the one gain there for a
student that knows little. Where the scores say that the start is such a student, the others are left out
(:mod:`dcod.objective.doubts`).
"""

from __future__ import annotations

from collections.abc import Mapping

from dcod.config import TrainConfig
from dcod.config.arms import ArmConfig, PilotConfig
from dcod.objective import doubts, feasibility
from dcod.objective.feasibility import Holdings

_OF_SEVERAL = ("naturalness", "naturalness_gce")


def left_out(train: TrainConfig, arm: ArmConfig, holdings: Holdings) -> str:
    """Why an arm is not tried on such traces; "" where it is.

    Args:
        train: with ``arms``.
        arm: one of ``train.compared``.
        holdings: of the traces for training.
    """
    if arm.is_sft:
        return ""
    alone = train.of_arm(arm)
    if why := idle(alone, holdings):
        return why
    if train.arms != "auto":
        return ""
    if why := doubts.doubted(alone, holdings.known):
        return f"{why}; name it in train.arms to try it"
    lone = holdings.alone >= holdings.traces / 2
    if arm.name in _OF_SEVERAL and lone:
        return f"{holdings.alone:,} of {holdings.traces:,} traces are alone with their prompt"
    if arm.name == "gce" and not lone:
        return "most prompts have several traces, so `naturalness_gce` takes its place"
    return ""


def idle(train: TrainConfig, holdings: Holdings) -> str:
    """Why the training that ``train`` itself describes cannot do what it is set to do; "" where it can."""
    grave = [r for r in feasibility.of_setting(train, holdings) if r.level in ("impossible", "idle")]
    return grave[0].text if grave else ""


def too_few(pilot: PilotConfig, problems: Mapping[str, float]) -> str:
    """Why no arm is tried on so few problems, with the way out; "" where they suffice.

    Args:
        pilot: says how many are the least.
        problems: by split: `selection` chooses the temperatures and the rate of plain fine-tuning, `pilot` the arm.
    """
    few = [split for split, count in problems.items() if count < pilot.min_problems]
    if not few:
        return ""
    counts = " and ".join(f"{int(problems[split]):,} {split}" for split in few)
    way = f"set {' and '.join(f'ingest.{split}_share' for split in few)} higher, or bring more prompts"
    if pilot.problems < pilot.min_problems:
        way = f"train.pilot.problems={pilot.problems} asks no more"
    least = f"{pilot.min_problems} of either kind are the least (train.pilot.min_problems)"
    return f"too few problems for a pilot: {counts} problems at most, {least}; {way}"


def too_few_held(train: TrainConfig, holdings: Holdings) -> str:
    """As :func:`too_few`, by the traces that are held back: there are no more problems.

    Where a kind has none at all, the pilot itself refuses; the counts of a sample tell nothing.
    """
    held = {"selection": holdings.selection, "pilot": holdings.pilot}
    return too_few(train.pilot, held) if all(held.values()) and not holdings.sampled else ""


def tried(train: TrainConfig, holdings: Holdings) -> dict[str, str]:
    """All arms but SFT by name, with why one is not tried; "" where it is."""
    return {arm.name: left_out(train, arm, holdings) for arm in train.compared if not arm.is_sft}


def said(train: TrainConfig, holdings: Holdings) -> str:
    """What a run will try, in a line; "" where nothing is compared."""
    arms = tried(train, holdings)
    if not arms:
        return ""
    if few := too_few_held(train, holdings):
        return f"arms: none is tried, {few}"
    names = [arm.name for arm in train.compared if not arms.get(arm.name)]
    out = [f"{name} ({why})" for name, why in arms.items() if why]
    return f"arms: {', '.join(names)}" + (f"; not tried: {'; '.join(out)}" if out else "")
