"""Where the start knows little of its traces: of which corrections and losses nothing is to be expected there.

One list for all who say so: scores of what is configured, `dcod check` and ingestion of what could be set instead,
`auto` of what it tries. On it is what prefers tokens or traces that the student finds likely: a correction whose entry
says that it ``leans``, the losses in ``LEANING``, and `log` with `train.focus`, which is DFT. Measured (docs/method.md,
section 6): in *knows little*, with a mean probability of 0.59, `naturalness` -0.6 points [-5.0, +3.9], with `gce` -7.5
[-11.3, -3.8], `support` -5.9 [-10.0, -1.8]; on a pre-trained student, with 0.49, `naturalness` -6.4 [-11.6, -1.3]. The
others stand beside their kind. Not on it: `support_text`, ahead in the screening there, and `surprisal`, for which a
token that is as likely as could be expected is no worse than an easy one.
"""

from __future__ import annotations

from dcod.config import TrainConfig
from dcod.config.losses import LEANING
from dcod.objective.corrections import CORRECTIONS

# Mean probability of the traces' tokens. Ours: halfway between the situations of the second study where likeness to the
# student brought nothing and where it helped, 0.59 and 0.76 in the mean (single seeds: 0.61 at most, 0.73 at least).
KNOWN = 0.68


def little_known(known: float | None) -> bool:
    """Whether the start knows too little of its traces; not where nobody has scored them.

    Args:
        known: the mean probability that it gives their tokens.
    """
    return known is not None and known < KNOWN


def leaning(train: TrainConfig) -> dict[str, str]:
    """What of a setting leans on what the student finds likely: as it is set, and what to set instead."""
    found = {}
    if CORRECTIONS[train.correction.name].leans:
        found[f"train.correction.name={train.correction.name}"] = "train.correction.name=none"
    if train.loss.name in LEANING:
        found[f"train.loss.name={train.loss.name}"] = "train.loss.name=log"
    if train.focus:
        found[f"train.focus={train.focus:g}"] = "train.focus=0"
    return found


def doubted(train: TrainConfig, known: float | None) -> str:
    """Why nothing is to be expected of one training's correction and loss on such traces; "" where there is no reason.

    Args:
        train: of one student; what it is compared with is another.
        known: the mean probability that the start gives the traces' tokens; None before they are scored.
    """
    if known is None or not little_known(known) or not leaning(train):
        return ""
    return (
        f"the start gives the traces' tokens a mean probability of {known:.2f}, and below {KNOWN:g} what "
        "prefers what the student finds likely gained nothing or lost (docs/method.md, section 6)"
    )
