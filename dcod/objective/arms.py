"""Which arms suit the traces: of those that a user listed, what would do nothing; of ``auto``, which are tried.

The list of `auto` is :data:`dcod.config.arms.AUTO`. It is short, since each further arm takes a part of what the pilot
can tell apart: what the second study confirmed (docs/method.md, section 6), likeness to the student where a prompt has
several traces, and a loss that trusts a token less where the student finds it unlikely, with it or, where a prompt has
one trace, alone; and the support of each token, of which the screening alone speaks: it was the one gain there for a
student that knows little. Where the scores say that the start is such a student, the others are left out
(:mod:`dcod.objective.doubts`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dcod.config import Config, TrainConfig
from dcod.config.arms import ArmConfig, PilotConfig
from dcod.objective import doubts, feasibility
from dcod.objective.feasibility import Holdings, Remark

WAY_OUT = "take train.arms=auto, bring what they need, or set train.allow_idle=true, which keeps what does nothing"
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
    if why := idle(alone, holdings, meant=train.allow_idle):
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


def idle(train: TrainConfig, holdings: Holdings, *, meant: bool = False) -> str:
    """Why the training that ``train`` itself describes cannot do what it is set to do; "" where it can.

    Args:
        train: without arms.
        holdings: of the traces for training.
        meant: one that does nothing is asked for (``train.allow_idle``); what cannot run never is.
    """
    grave = ("impossible",) if meant else ("impossible", "idle")
    found = [remark for remark in feasibility.of_setting(train, holdings) if remark.level in grave]
    return found[0].text if found else ""


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


def count(train: TrainConfig, holdings: Holdings) -> int:
    """How many arms are tried, without SFT."""
    return sum(not why for why in tried(train, holdings).values())


def none_left(train: TrainConfig, holdings: Holdings) -> str:
    """Why nothing can be compared: no arm is left beside SFT; "" where one is, or SFT itself at another rate."""
    out = tried(train, holdings)
    if not out or not all(out.values()) or len(train.compared) > len(out) + 1:
        return ""
    return f"no arm but plain fine-tuning suits these traces: {'; '.join(f'{n} ({why})' for n, why in out.items())}"


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


def otherwise(config: Config) -> Iterator[Remark]:
    """Where a pilot trains or answers otherwise than the run that it decides for."""
    train = config.train
    if not train.arms:
        return
    nodes, split = config.cluster.train.num_nodes, train.sharding == "fsdp"
    if nodes > 1 or split:
        set_to = "train.sharding=fsdp" if split else f"cluster.train.num_nodes={nodes}"
        yield Remark(
            "warning",
            "pilot",
            f"{set_to} is not a pilot's: it trains in one process on one GPU at most, which must hold the whole "
            "student, its gradients and its optimizer",
            "where that does not fit, set train.lora.rank=16, take a smaller student, or leave train.arms out",
        )
    if config.evaluate.engine.name != "transformers" and train.pilot.compare == "answers":
        yield Remark(
            "warning",
            "pilot",
            f"evaluate.engine.name={config.evaluate.engine.name} is not a pilot's: its students answer by "
            "transformers, slower, and its price counts a token written as one learnt, as measured on a CPU",
            "lower train.pilot.problems, train.pilot.samples or train.pilot.temperatures where it takes too long",
        )
