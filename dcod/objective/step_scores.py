"""What a correction may look at: the log-probs of a step's traces, and the sums that formulas are made of.

Shape suffixes: B traces, T completion positions (0-based in code).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dcod.config import CorrectionConfig


@dataclass
class StepScores:
    """What any correction may look at; one record serves them all.

    Attributes:
        student_logprobs: log pi(y_t | s_t), nats [B, T].
        mask: which positions hold a completion token; each row is a run of True from position 0 [B, T].
        prompts: an integer per trace, equal for traces of one prompt [B].
        behavior_logprobs: log mu(y_t | s_t) of the teacher's sampler, nats [B, T], or None.
        behavior_total: log mu(y) of whole traces, nats [B], or None; all that a teacher with another
            tokenizer can give.
        entropies: H(pi(. | s_t)), nats [B, T], or None.
        start_logprobs: log pi_0(y_t | s_t) of the student before training, nats [B, T], or None.
        start_mass: what pi_0(. | s_t) gives y_t and all tokens less likely than it, in [0, 1] [B, T], or None.
        start_ranks: how many tokens pi_0(. | s_t) finds at least as likely as y_t, itself included [B, T], or None.
        local_logprobs: of the student before training, given a short window alone, nats [B, T], or None.
        given: the weight that the user gave each trace [B], or None.
        success: how often the student is right in the manner of each trace, in (0, 1) [B], or None.
        progress: share of the training that lies behind, in [0, 1], the same for all [B], or None.
        demanded: what is recorded on demand alone, by the name of its field [B, T] or [B].
    """

    LOWEST: ClassVar[float] = -1e4  # nats, of which exp is 0: stands for -inf, so that no difference or product is NaN

    student_logprobs: Tensor
    mask: Tensor
    prompts: Tensor
    behavior_logprobs: Tensor | None = None
    behavior_total: Tensor | None = None
    entropies: Tensor | None = None
    start_logprobs: Tensor | None = None
    start_mass: Tensor | None = None
    start_ranks: Tensor | None = None
    local_logprobs: Tensor | None = None
    given: Tensor | None = None
    success: Tensor | None = None
    progress: Tensor | None = None
    demanded: dict[str, Tensor] = field(default_factory=dict)

    def known(self) -> dict[str, Tensor]:
        """What there is, by its name."""
        own = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "demanded"}
        return {name: values for name, values in own.items() if values is not None} | self.demanded

    def pick(self, rows: Tensor) -> StepScores:
        """The traces at ``rows`` (a mask or indices)."""
        return _record({name: values[rows] for name, values in self.known().items()})

    @staticmethod
    def concatenate(records: Sequence[StepScores]) -> StepScores:
        """One record of several, padded to the longest; what one of them lacks is left out."""
        width = max(r.mask.shape[1] for r in records)
        every = [record.known() for record in records]

        def join(name: str) -> Tensor:
            parts = [known[name] for known in every]
            return torch.cat([F.pad(p, (0, width - p.shape[1])) if p.dim() == 2 else p for p in parts])

        return _record({name: join(name) for name in every[0] if all(name in known for known in every)})

    def of(self, name: str) -> Tensor:
        """A field that the correction needs, with :attr:`LOWEST` in the place of anything below it."""
        values: Tensor | None = getattr(self, name, self.demanded.get(name))
        assert values is not None, name
        return values.clamp(min=self.LOWEST)

    @property
    def positions(self) -> Tensor:
        """0, 1, 2, … [T]."""
        return torch.arange(self.mask.shape[1], device=self.mask.device)

    @property
    def lengths(self) -> Tensor:
        """Tokens of each trace [B, 1]."""
        return self.mask.sum(dim=1, keepdim=True)

    def counted(self, values: Tensor) -> Tensor:
        """The same, 0 outside the mask [B, T]."""
        return values.masked_fill(~self.mask, 0.0)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the tokens of each trace [B, 1]."""
        return self.counted(values).sum(dim=1, keepdim=True) / self.lengths.clamp(min=1)

    def before(self, values: Tensor, decay: float = 1.0) -> Tensor:
        """l_t = decay * l_(t-1) + x_(t-1), l_1 = 0: the sum of what came *before* each token [B, T].

        After the end of a trace it stays frozen (the end token included): ended traces stay in the mean.
        """
        return _running(values, self.mask, decay)

    def total(self, values: Tensor, decay: float = 1.0) -> Tensor:
        """The (decayed) sum over each trace [B, 1]."""
        if decay == 1.0:
            return values.sum(dim=1, keepdim=True)
        return _running(F.pad(values, (0, 1)), F.pad(self.mask, (0, 1)), decay)[:, -1:]

    def log_ratios(self, config: CorrectionConfig) -> Tensor:
        """Per-token log pi - log mu, clipped, 0 outside the mask and behind ``prefix_share`` of a trace [B, T]."""
        raw = self.of("student_logprobs") - self.of("behavior_logprobs")
        counted = self.mask
        if config.prefix_share < 1.0:
            counted = counted & (self.positions < (config.prefix_share * self.lengths).ceil())
        return raw.clamp(*clip_range(config)).masked_fill(~counted, 0.0)

    def surprisals(self, config: CorrectionConfig) -> Tensor:
        """Entropy-centred surprisal -log pi - H(pi), clipped to [-c, c], 0 outside the mask [B, T].

        See docs/method.md, section 1.
        """
        raw = -self.of("student_logprobs") - self.of("entropies")
        return self.counted(raw.clamp(-config.clip, config.clip))


def _record(known: Mapping[str, Tensor]) -> StepScores:
    """A record of what there is."""
    own = {each.name for each in fields(StepScores)}
    demanded = {name: values for name, values in known.items() if name not in own}
    named: dict[str, Any] = {name: values for name, values in known.items() if name in own}
    return StepScores(**named, demanded=demanded)


def clip_range(config: CorrectionConfig) -> tuple[float, float]:
    """Between what a per-token log-ratio is clipped: [-c, c], or with another upper end."""
    high = config.clip if config.clip_high == "clip" else config.clip_high
    return -config.clip, 0.0 if config.one_sided else high


def _running(values: Tensor, mask: Tensor, decay: float) -> Tensor:
    if decay == 1.0:
        return F.pad(values.cumsum(dim=1), (1, -1))
    current = values.new_zeros(values.shape[0])
    columns = []
    for t in range(values.shape[1]):
        columns.append(current)
        current = torch.where(mask[:, t], decay * current + values[:, t], current)
    return torch.stack(columns, dim=1) if columns else values
