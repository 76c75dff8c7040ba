"""Where a token stands among all tokens, by likelihood, and the mass below it."""

from __future__ import annotations

from torch import Tensor

from dcod.models.fused_head import Seen
from dcod.score.fields._types import Way


def ranks(seen: Seen) -> dict[str, Tensor]:
    """How many tokens are at least as likely as each, itself included; the probability of it and all less likely."""
    likelier = seen.logits > seen.chosen
    mass = seen.exps.masked_fill(likelier, 0.0).sum(dim=1) / seen.sums[:, 0]
    return {"start_ranks": 1 + likelier.sum(dim=1), "start_mass": mass}


WAY = Way(("start_ranks", "start_mass"), of_logits=ranks, key="ranks")
