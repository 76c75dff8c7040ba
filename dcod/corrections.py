"""Pure functions from log-probs to supervision weights: METHOD sections 2, 3 and 5; see docs/method.md.

Two calls make the weights of one optimizer step. :func:`plan` looks at the records of the whole step (all
ranks, all micro-batches) and chooses gamma by the ESS floor and the normalisers; :func:`weights` applies a
plan to any part of the step. With stored scores the plan is exact; live training uses the previous step's.

The order is the same everywhere: clip, sum, temper (gamma), normalise, truncate, floor, rescale to mean 1.
All weights are detached: `prefix` is the semi-gradient of the on-policy objective, not its full gradient.

Shape suffixes: B traces, T completion positions (0-based in code), N position buckets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from dcod.config import CorrectionConfig

LOWEST_LOGPROB = -1e4  # stands for -inf, so that no difference of two becomes NaN
BISECTIONS = 30


@dataclass
class Record:
    """What any correction may look at; one record serves them all.

    Attributes:
        student_logprobs: log pi(y_t | s_t), nats [B, T].
        mask: which positions hold a completion token; each row is a run of True from position 0 [B, T].
        prompts: an integer per trace, equal for traces of one prompt [B].
        behavior_logprobs: log mu(y_t | s_t) of the teacher's sampler, nats [B, T], or None.
        entropies: H(pi(. | s_t)), nats [B, T], or None.
    """

    student_logprobs: Tensor
    mask: Tensor
    prompts: Tensor
    behavior_logprobs: Tensor | None = None
    entropies: Tensor | None = None

    @staticmethod
    def concatenate(records: Sequence[Record]) -> Record:
        """One record of several, padded to the longest."""
        width = max(r.mask.shape[1] for r in records)

        def join(name: str) -> Tensor | None:
            parts = [getattr(r, name) for r in records]
            if any(part is None for part in parts):
                return None
            return torch.cat([F.pad(part, (0, width - part.shape[1])) for part in parts])

        logprobs, mask = join("student_logprobs"), join("mask")
        assert logprobs is not None
        assert mask is not None
        return Record(
            logprobs,
            mask,
            torch.cat([r.prompts for r in records]),
            join("behavior_logprobs"),
            join("entropies"),
        )


@dataclass(frozen=True)
class Plan:
    """What a step decided: applied by :func:`weights`, and a part of a checkpoint.

    Attributes:
        gamma: the exponent.
        log_means: log of the mean of exp(gamma * l) per position bucket [N] (token scope; empty otherwise).
        scale: the factor that brings the mean weight of a counted token to 1.
        ess: rescaled effective sample size, in [0, 1], of the deciding group(s) at ``gamma``.
        ess_at_max: the same at ``gamma_max``: how much the floor had to hold back.
        ess_per_bucket: rescaled ESS per position bucket (token scope).
    """

    gamma: float = 0.0
    log_means: list[float] = field(default_factory=list)
    scale: float = 1.0
    ess: float = 1.0
    ess_at_max: float = 1.0
    ess_per_bucket: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Correction:
    """One member of the family.

    Attributes:
        needs: the fields of a :class:`Record` it cannot do without.
        per_token: from a configuration, whether it weights tokens (position buckets) or traces (prompts).
        log_weight: the logarithm l of the untempered weight, [B, T].
    """

    needs: tuple[str, ...]
    per_token: Callable[[CorrectionConfig], bool]
    log_weight: Callable[[CorrectionConfig, Record], Tensor]


def log_ratios(config: CorrectionConfig, record: Record) -> Tensor:
    """Per-token log pi - log mu, clipped to [-c, c] (or [-c, 0] one-sided), 0 outside the mask [B, T]."""
    assert record.behavior_logprobs is not None
    raw = record.student_logprobs.clamp(min=LOWEST_LOGPROB) - record.behavior_logprobs.clamp(min=LOWEST_LOGPROB)
    clipped = raw.clamp(-config.clip, 0.0 if config.one_sided else config.clip)
    return clipped.masked_fill(~record.mask, 0.0)


def surprisals(config: CorrectionConfig, record: Record) -> Tensor:
    """Entropy-centred surprisal -log pi - H(pi), clipped to [-c, c], 0 outside the mask [B, T] (METHOD 5)."""
    assert record.entropies is not None
    raw = -record.student_logprobs.clamp(min=LOWEST_LOGPROB) - record.entropies
    return raw.clamp(-config.clip, config.clip).masked_fill(~record.mask, 0.0)


def running_sum(values: Tensor, mask: Tensor, decay: float) -> Tensor:
    """l_t = decay * l_(t-1) + x_(t-1), l_1 = 0: what came *before* each token [B, T].

    After the end of a trace it stays frozen (the end token included): ended traces stay in the mean.
    """
    if decay == 1.0:
        return F.pad(values.cumsum(dim=1), (1, -1))
    current = values.new_zeros(values.shape[0])
    columns = []
    for t in range(values.shape[1]):
        columns.append(current)
        current = torch.where(mask[:, t], decay * current + values[:, t], current)
    return torch.stack(columns, dim=1) if columns else values


def _whole(values: Tensor, mask: Tensor, decay: float) -> Tensor:
    """The (decayed) sum over each trace, at every position [B, T]."""
    if decay == 1.0:
        total = values.sum(dim=1)
    else:
        padded, mask = F.pad(values, (0, 1)), F.pad(mask, (0, 1))
        total = running_sum(padded, mask, decay)[:, -1]
    return total[:, None].expand_as(values)


def _surprisal(config: CorrectionConfig, record: Record) -> Tensor:
    add = running_sum if config.scope == "token" else _whole
    return -add(surprisals(config, record), record.mask, config.decay).clamp(min=0.0)


CORRECTIONS: dict[str, Correction] = {
    "none": Correction((), lambda _: True, lambda _, r: torch.zeros_like(r.student_logprobs)),
    "prefix": Correction(
        ("behavior_logprobs",),
        lambda _: True,
        lambda c, r: running_sum(log_ratios(c, r), r.mask, c.decay),
    ),
    "trace": Correction(
        ("behavior_logprobs",),
        lambda _: False,
        lambda c, r: _whole(log_ratios(c, r), r.mask, 1.0),
    ),
    "surprisal": Correction(("entropies",), lambda c: c.scope == "token", _surprisal),
}


def missing_fields(config: CorrectionConfig, record: Record) -> list[str]:
    """The fields that the configured correction needs and the record lacks."""
    return [name for name in CORRECTIONS[config.name].needs if getattr(record, name) is None]


@torch.no_grad()
def plan(config: CorrectionConfig, record: Record) -> Plan:
    """Chooses gamma and the normalisers from the records of a whole step.

    gamma is the largest value in [0, gamma_max] at which the untruncated weights keep the rescaled ESS,
    (ESS - 1) / (n - 1), above the floor: the worst position bucket decides for per-token corrections, the
    mean over prompts with several traces for per-trace ones (METHOD 3).
    """
    correction = CORRECTIONS[config.name]
    alive = record.mask.any(dim=1)
    if config.name == "none" or config.gamma_max == 0.0 or not bool(alive.any()):
        return Plan()
    log_weight = correction.log_weight(config, record)[alive].double()
    mask, prompts = record.mask[alive], record.prompts[alive]
    per_token = correction.per_token(config)

    def ess(gamma: float) -> list[float]:
        if per_token:
            return _bucket_ess(gamma * log_weight, config.bucket_width)
        return _prompt_ess(gamma * log_weight[:, 0], prompts)

    def deciding(values: list[float]) -> float:
        if not values:
            return 1.0
        return min(values) if per_token else sum(values) / len(values)

    at_max = deciding(ess(config.gamma_max))
    gamma = config.gamma_max
    if at_max < config.ess_floor:
        low, high = 0.0, config.gamma_max
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if deciding(ess(middle)) >= config.ess_floor else (low, middle)
        gamma = low
    if gamma == 0.0:
        return Plan(ess_at_max=at_max)
    values = ess(gamma)
    log_means = _bucket_log_means(gamma * log_weight, config.bucket_width).tolist() if per_token else []
    unscaled = Plan(gamma, log_means, 1.0, deciding(values), at_max, values if per_token else [])
    kept = Record(
        record.student_logprobs[alive],
        mask,
        prompts,
        None if record.behavior_logprobs is None else record.behavior_logprobs[alive],
        None if record.entropies is None else record.entropies[alive],
    )
    mean = weights(config, unscaled, kept)[mask].double().mean().item()
    return Plan(gamma, log_means, 1.0 / mean, unscaled.ess, at_max, unscaled.ess_per_bucket)


@torch.no_grad()
def weights(config: CorrectionConfig, plan: Plan, record: Record) -> Tensor:
    """The weight of every token, 0 outside the mask [B, T], float32.

    Per-trace corrections compare the traces of one prompt, so a record must hold all of a prompt's traces
    of the step (the sampler keeps them together); a prompt with one trace gets weight 1.
    gamma = 0 returns exact ones: SFT bit for bit.
    """
    mask = record.mask
    if plan.gamma == 0.0:
        return mask.float()
    relative = _normalised(config, plan, record)
    # lerp(min(r, C), 1, eta) = (1 - eta) * min(r, C) + eta
    weight = torch.lerp(relative.clamp(max=config.truncate), torch.ones_like(relative), config.floor)
    return (weight * plan.scale).float().masked_fill(~mask, 0.0)


@torch.no_grad()
def diagnostics(config: CorrectionConfig, plan: Plan, record: Record) -> dict[str, float]:
    """What every run must report of a step (METHOD 8), as plain numbers."""
    out = {"gamma": plan.gamma, "ess": plan.ess, "ess_at_gamma_max": plan.ess_at_max, "weight_scale": plan.scale}
    out |= {f"ess_bucket_{index:03d}": value for index, value in enumerate(plan.ess_per_bucket)}
    mask = record.mask
    if config.name == "none" or not bool(mask.any()):
        return out
    if "behavior_logprobs" in CORRECTIONS[config.name].needs:
        steps = log_ratios(config, record)
        out["mean_abs_log_ratio"] = steps[mask].abs().mean().item()
    else:
        steps = surprisals(config, record)
        out["mean_surprisal"] = steps[mask].mean().item()
    lowest, highest = -config.clip, 0.0 if config.one_sided else config.clip
    touched = (steps[mask] <= lowest) | (steps[mask] >= highest) if highest else steps[mask] <= lowest
    out["clipped_share"] = touched.double().mean().item()
    if plan.gamma > 0.0:
        relative = _normalised(config, plan, record)[mask]
        out["truncated_share"] = (relative > config.truncate).double().mean().item()
        out["weight_max"] = weights(config, plan, record)[mask].max().item()
    return out


def _normalised(config: CorrectionConfig, plan: Plan, record: Record) -> Tensor:
    """r: exp(gamma * l) over its group's mean [B, T], before truncation."""
    correction = CORRECTIONS[config.name]
    tempered = plan.gamma * correction.log_weight(config, record).double()
    if correction.per_token(config):
        means = tempered.new_tensor(plan.log_means)
        bucket = torch.arange(tempered.shape[1], device=tempered.device) // config.bucket_width
        # A trace longer than any of the (lagged) plan falls into its last bucket.
        return (tempered - means[bucket.clamp(max=len(plan.log_means) - 1)]).exp()
    alive = record.mask.any(dim=1)
    per_trace = tempered[:, 0] if tempered.shape[1] else tempered.new_zeros(tempered.shape[0])
    normalised = torch.zeros_like(per_trace)
    if bool(alive.any()):
        log_sums, counts, group = _by_prompt(per_trace[alive], record.prompts[alive])
        normalised[alive] = per_trace[alive] - (log_sums - counts.log())[group]
    return normalised.exp()[:, None].expand_as(tempered)


def _buckets(tempered: Tensor, width: int) -> Tensor:
    """[B, T] as one row of all its elements a bucket, padded with -inf [N, B * width]."""
    rows, length = tempered.shape
    count = math.ceil(length / width)
    padded = F.pad(tempered, (0, count * width - length), value=-math.inf)
    return padded.view(rows, count, width).transpose(0, 1).reshape(count, rows * width)


def _bucket_sizes(tempered: Tensor, width: int) -> Tensor:
    rows, length = tempered.shape
    edges = torch.arange(0, length, width, device=tempered.device, dtype=tempered.dtype)
    return (length - edges).clamp(max=width) * rows


def _bucket_log_means(tempered: Tensor, width: int) -> Tensor:
    sizes = _bucket_sizes(tempered, width)
    return torch.logsumexp(_buckets(tempered, width), dim=1) - sizes.log()


def _bucket_ess(tempered: Tensor, width: int) -> list[float]:
    """Rescaled ESS of every position bucket; ended traces count with their frozen weight."""
    if tempered.shape[0] < 2:
        return []
    values = _buckets(tempered, width)
    log_ess = 2 * torch.logsumexp(values, dim=1) - torch.logsumexp(2 * values, dim=1)
    sizes = _bucket_sizes(tempered, width)
    return ((log_ess.exp() - 1) / (sizes - 1)).tolist()


def _prompt_ess(tempered: Tensor, prompts: Tensor) -> list[float]:
    """Rescaled ESS of every prompt with at least two traces."""
    log_sums, counts, _ = _by_prompt(tempered, prompts)
    log_squares, _, _ = _by_prompt(2 * tempered, prompts)
    several = counts >= 2
    ess = (2 * log_sums - log_squares)[several].exp()
    return ((ess - 1) / (counts[several] - 1)).tolist()


def _by_prompt(values: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-sum-exp and count per prompt, and the group of each trace."""
    _, group, counts = prompts.unique(return_inverse=True, return_counts=True)
    peak = values.new_full((len(counts),), -math.inf).scatter_reduce(0, group, values, "amax")
    sums = values.new_zeros(len(counts)).scatter_add(0, group, (values - peak[group]).exp())
    return sums.log() + peak, counts.to(values.dtype), group
