"""What each correction and loss asks of the traces: facts without torch, for whoever looks before it trains.

The formulas are in :mod:`dcod.objective.corrections` and :mod:`dcod.objective.losses`, which take these facts over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dcod.config import CorrectionConfig

Group = Literal["prompt", "position", "length", "batch", "none"]


@dataclass(frozen=True)
class Member:
    """One correction, before its formula.

    Attributes:
        needs: what it cannot do without: of each entry, any one field of a StepScores.
        group: from a configuration, what its weights are compared within.
        by_token: from a configuration, whether the tokens of a trace may weigh differently.
    """

    needs: tuple[tuple[str, ...], ...]
    group: Callable[[CorrectionConfig], Group]
    by_token: Callable[[CorrectionConfig], bool]


def _member(group: Group, *alternatives: str, by_token: bool = False) -> Member:
    return Member((alternatives,) if alternatives else (), lambda _: group, lambda _: by_token)


FAMILY: dict[str, Member] = {
    "none": _member("none"),
    "support": _member("none", "behavior_logprobs", by_token=True),
    "support_text": _member("none", "entropies", by_token=True),
    "prefix": _member("position", "behavior_logprobs", by_token=True),
    "trace": _member("prompt", "behavior_logprobs", "behavior_total"),
    "trace_mean": _member("prompt", "behavior_logprobs", "behavior_total"),
    "mixed": _member("position", "behavior_logprobs", by_token=True),
    "surprisal": Member(
        (("entropies",),),
        lambda c: "position" if c.scope == "token" else "prompt",
        lambda c: c.scope == "token",
    ),
    "naturalness": _member("prompt"),
    "iw_sft": _member("none", "start_logprobs"),
    "iw_opd": _member("none", "behavior_logprobs", by_token=True),
    "token_support": _member("none", "start_logprobs", by_token=True),
    "position_decay": _member("batch", by_token=True),
    "shuffled": Member((), lambda c: FAMILY[c.base].group(c), lambda c: FAMILY[c.base].by_token(c)),
    "length_only": _member("prompt"),
    "student_likelihood_only": _member("prompt"),
}
OF_TEACHER = frozenset({"forward_kl", "reverse_kl", "jsd", "skew_kl", "todi"})  # losses on the teacher's top-k


def needs(config: CorrectionConfig) -> tuple[tuple[str, ...], ...]:
    """What the configured correction cannot do without; a shuffled one needs what its base needs."""
    return FAMILY[config.base if config.name == "shuffled" else config.name].needs


def group_of(config: CorrectionConfig) -> Group:
    """What the weights of a configuration are compared within."""
    own = FAMILY[config.name].group(config)
    return own if config.group == "auto" or own == "none" else config.group
