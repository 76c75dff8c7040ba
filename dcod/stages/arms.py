"""Which setting a training runs with: what ``train`` says itself, a named arm, or the arm that was chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dcod.config import Config
from dcod.config.arms import SFT, ArmConfig
from dcod.errors import UserError
from dcod.promote import outcome
from dcod.stages import seeds


def of_training(config: Config, arm: str = "", choice: Path | None = None) -> Config:
    """The configuration of one training, without what it is compared with.

    Args:
        config: the whole configuration.
        arm: the name of an arm; empty for what was chosen, or what ``train`` says. ``sft`` with a choice is plain
            fine-tuning at the rate at which the pilot found it best: a twin at another would lend the rate's effect
            to the correction.
        choice: the output of the stage `choose`.

    Raises:
        UserError: there is no such arm, or the choice is none.
    """
    if choice is not None and arm in ("", SFT):
        told = outcome.read(choice)
        return settled(config, ArmConfig.model_validate(told["sft"] if arm else told["settings"]))
    if arm:
        check_arm(config, arm)
        return settled(config, config.train.arm(arm))
    return config.model_copy(update={"train": config.train.alone()})


def narrowed(verb: str, config: Config, arm: str, inputs: dict[str, Path], options: dict[str, Any]) -> Config:
    """The configuration of a stage in a pipeline: of a training the one arm's, else as it is.

    Args:
        verb: of the stage.
        config: the whole configuration.
        arm: that is tried or trained; of any other stage empty.
        inputs: a training's choice is taken out of them.
        options: the arm of a pilot is put into them, and that of a further seed, with whether it has nothing to do.

    Raises:
        UserError: as :func:`of_training`.
    """
    if verb == "pilot":
        options["arm"] = arm
    if verb == "again":
        which, number = seeds.parsed(config, arm)
        choice = inputs.pop("choice", None)
        corrected = of_training(config, "", choice)
        options |= {"arm": arm, "idle": corrected.train.is_plain}
        own = corrected if which == seeds.STUDENT else of_training(config, SFT, choice)
        return own.model_copy(update={"seed": config.seed + number})
    return of_training(config, arm, inputs.pop("choice", None)) if verb == "train" else config


def check_arm(config: Config, arm: str) -> None:
    """Refuses a name that is no arm's.

    Raises:
        UserError: with the names that are.
    """
    names = [SFT, *(one.name for one in config.train.compared if one.name != SFT)]
    if arm not in names:
        raise UserError(f"arm {arm!r}: not in train.arms; there are {', '.join(names)}")


def settled(config: Config, arm: ArmConfig) -> Config:
    """The configuration of a training of one arm."""
    return config.model_copy(update={"train": config.train.of_arm(arm)})
