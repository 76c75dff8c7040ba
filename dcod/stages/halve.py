"""Halve: which arms get no further seed, after a first one of every arm (``train.pilot.halve``).

The worse half of the arms that were tried goes, by their difference to plain fine-tuning on the pilot problems
(:func:`dcod.promote.choice.worse_half`); plain fine-tuning never does. The choice still counts the dropped ones among
the arms that began. What failed in the first round is not tried again. The temperature at which the first students of
an arm were best is that of the further ones, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dcod import storage
from dcod.config import Config
from dcod.promote import choice
from dcod.stages.piloting import DROPPED, DROPPED_AS, FAILED, TRAINED
from dcod.stages.tried import gathered

if TYPE_CHECKING:
    from dcod.tracking import Log


def run(config: Config, out: Path, log: Log, **arms: Path) -> dict[str, float]:
    """Drops arms; see the module.

    Args:
        config: the whole configuration.
        out: an empty folder.
        log: what is dropped goes there.
        **arms: the outputs of the first pilots of all arms, by whatever names.

    Raises:
        UserError: an arm is missing.
    """
    pilots = gathered(config, arms.values())
    gone = {name: (FAILED, str(arm.fields["why"])) for name, arm in pilots.items() if arm.state == FAILED}
    tried = [arm.answers() for arm in pilots.values() if arm.state == TRAINED]
    if tried:  # none where an earlier choice is taken over
        others = sum(not arm.sft for arm in tried)
        for name, gap in choice.worse_half(tried, config.train.pilot).items():
            why = f"{gap * 100:+.1f} points to plain fine-tuning after the first seed, in the worse half of {others}"
            gone[name] = (DROPPED, why)
    storage.write_json(out / DROPPED_AS, {"gone": gone, "best": {arm.name: arm.best for arm in tried}})
    log.text("dropped.txt", "".join(f"{name}: {state}: {why}\n" for name, (state, why) in gone.items()))
    return {"tried": float(len(tried)), "dropped": float(sum(state == DROPPED for state, _ in gone.values()))}
