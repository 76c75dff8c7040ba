"""What each correction and loss asks of the traces: facts without torch, for whoever looks before it trains.

The formulas are in :mod:`dcod.objective.corrections` and :mod:`dcod.objective.losses`, which take these facts over.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dcod.config import CorrectionConfig

IW_SFT_BOUND = 16.0  # arXiv 2507.12856

Group = Literal["prompt", "position", "length", "batch", "none"]
Needs = tuple[tuple[str, ...], ...]  # of each entry, any one field of a StepScores


@dataclass(frozen=True)
class Member:
    """One correction, before its formula.

    Attributes:
        needs: from a configuration, what it cannot do without.
        group: from a configuration, what its weights are compared within.
        by_token: from a configuration, whether the tokens of a trace may weigh differently.
        bound: the largest weight, before a step is rescaled, of what is compared with nothing.
    """

    needs: Callable[[CorrectionConfig], Needs]
    group: Callable[[CorrectionConfig], Group]
    by_token: Callable[[CorrectionConfig], bool]
    bound: float = IW_SFT_BOUND


def _member(group: Group, *any_of: str, by_token: bool = False, bound: float = IW_SFT_BOUND) -> Member:
    needs: Needs = (any_of,) if any_of else ()
    return Member(lambda _: needs, lambda _: group, lambda _: by_token, bound)


def across_prompts(config: CorrectionConfig) -> bool:
    """Whether `naturalness` compares the traces of different prompts."""
    return config.group not in ("auto", "prompt")


FAMILY: dict[str, Member] = {
    "none": _member("none"),
    "support": _member("none", "behavior_logprobs", by_token=True),
    "support_text": _member("none", "entropies", by_token=True),
    "prefix": _member("position", "behavior_logprobs", by_token=True),
    "trace": _member("prompt", "behavior_logprobs", "behavior_total"),
    "trace_mean": _member("prompt", "behavior_logprobs", "behavior_total"),
    "mixed": _member("position", "behavior_logprobs", by_token=True),
    "surprisal": Member(
        lambda _: (("entropies",),),
        lambda c: "position" if c.scope == "token" else "prompt",
        lambda c: c.scope == "token",
    ),
    "naturalness": Member(
        lambda c: (("entropies",),) if across_prompts(c) else (), lambda _: "prompt", lambda _: False
    ),
    "local_naturalness": _member("prompt", "local_logprobs"),
    "rsr": Member(lambda _: (("start_ranks",), ("start_logprobs",)), lambda _: "prompt", lambda _: False),
    "iw_sft": _member("none", "start_logprobs"),
    "iw_opd": _member("none", "behavior_logprobs", by_token=True),
    "idft": _member("none", "entropies", by_token=True),
    "token_support": Member(
        lambda c: (("start_mass" if c.rule == "mass" else "start_logprobs",),), lambda _: "none", lambda _: True
    ),
    "given": _member("none", "given", bound=math.inf),
    "position_decay": _member("batch", by_token=True),
    "shuffled": Member(
        lambda c: FAMILY[c.base].needs(c), lambda c: FAMILY[c.base].group(c), lambda c: FAMILY[c.base].by_token(c)
    ),
    "length_only": _member("prompt"),
    "student_likelihood_only": _member("prompt"),
}
OF_TEACHER = frozenset({"forward_kl", "reverse_kl", "jsd", "skew_kl", "todi"})  # losses on the teacher's top-k


def needs(config: CorrectionConfig) -> Needs:
    """What the configured correction cannot do without."""
    return FAMILY[config.name].needs(config)


def group_of(config: CorrectionConfig) -> Group:
    """What the weights of a configuration are compared within."""
    own = FAMILY[config.name].group(config)
    return own if config.group == "auto" or own == "none" else config.group
