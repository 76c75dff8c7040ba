"""From the log-weights of a correction to weights that can be trained with (docs/method.md, sections 2 and 4).

Two calls make the weights of one optimizer step. :func:`plan` looks at the records of the whole step (all
ranks, all micro-batches) and chooses gamma by the ESS floor and the normalisers; :func:`weights` applies a
plan to any part of the step. With stored scores the plan is exact; live training uses the previous step's.

The order is the same everywhere: clip, sum, temper (gamma), normalise, truncate, floor, rescale to mean 1.
All weights are detached: `prefix` is the semi-gradient of the on-policy objective, not its full gradient.

Every weight belongs to a group, and is divided by the group's mean: its position bucket, its prompt (at its
position), its bucket of length, or the batch. Means of prompts come from the record itself, since all traces
of a prompt are in it; the others come from the plan.

Shape suffixes: B traces, T completion positions, W = T or 1, G groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dcod.config import CorrectionConfig
from dcod.objective.corrections import CORRECTIONS, IW_SFT_BOUND, Group, group_of
from dcod.objective.step_scores import StepScores, clip_range

BISECTIONS = 30


@dataclass(frozen=True)
class WeightPlan:
    """What a step decided: applied by :func:`weights`, and a part of a checkpoint.

    Attributes:
        gamma: the exponent.
        log_means: log of the mean of exp(gamma * l) per position bucket, length bucket or batch [G]; empty
            where the groups are prompts. NaN for a group that the step did not have.
        scale: the factor that brings the mean weight of a counted token to 1.
        ess: rescaled effective sample size, in [0, 1], of the deciding group(s) at ``gamma``.
        ess_at_max: the same at ``gamma_max``: how much the floor had to hold back.
        ess_per_bucket: rescaled ESS per position bucket (groups of positions only).
    """

    gamma: float = 0.0
    log_means: list[float] = field(default_factory=list)
    scale: float = 1.0
    ess: float = 1.0
    ess_at_max: float = 1.0
    ess_per_bucket: list[float] = field(default_factory=list)


@torch.no_grad()
def plan(config: CorrectionConfig, record: StepScores) -> WeightPlan:
    """Chooses gamma and the normalisers from the records of a whole step.

    gamma is the largest value in [0, gamma_max] at which the untruncated weights keep the rescaled ESS,
    (ESS - 1) / (n - 1), above the floor. The worst position decides for groups of positions, the mean over
    groups of at least two for the others (docs/method.md, section 2). What is compared with nothing is bounded by its
    definition, which has no gamma.
    """
    alive = record.mask.any(dim=1)
    if config.name == "none" or config.gamma_max == 0.0 or not bool(alive.any()):
        return WeightPlan()
    record = record.pick(alive)
    log_weight = CORRECTIONS[config.name](config, record).double()
    kind = group_of(config)
    group, member = _groups(config, kind, record, log_weight.shape[1])

    def ess(gamma: float) -> list[float]:
        return _ess(gamma * log_weight, group, member, kind)

    def deciding(values: list[float]) -> float:
        if not values:
            return 1.0
        return sum(values) / len(values) if kind == "length" else min(values)

    at_max, gamma = deciding(ess(config.gamma_max)), config.gamma_max
    if kind == "none":
        gamma = 1.0
    elif at_max < config.ess_floor:
        low, high = 0.0, config.gamma_max
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if deciding(ess(middle)) >= config.ess_floor else (low, middle)
        gamma = low
    if gamma == 0.0:
        return WeightPlan(ess_at_max=at_max)
    values, log_means = ess(gamma), list[float]()
    if kind in ("position", "length", "batch"):
        sums, counts = _log_sums((gamma * log_weight)[member], group[member])
        log_means = torch.where(counts > 0, sums - counts.log(), math.nan).tolist()
    unscaled = WeightPlan(gamma, log_means, 1.0, deciding(values), at_max, values if kind == "position" else [])
    if kind == "none" and not config.normalise:
        return unscaled
    average = weights(config, unscaled, record)[record.mask].double().mean().item()
    scale = 1.0 / average if average > 0.0 else 1.0  # what has no floor can vanish in a whole step
    return WeightPlan(gamma, log_means, scale, unscaled.ess, at_max, unscaled.ess_per_bucket)


@torch.no_grad()
def weights(config: CorrectionConfig, plan: WeightPlan, record: StepScores) -> Tensor:
    """The weight of every token, 0 outside the mask [B, T], float32.

    Groups of prompts compare the traces of one prompt, so a record must hold all of a prompt's traces of the
    step (the sampler keeps them together); a prompt with one trace gets weight 1.
    gamma = 0 returns exact ones: SFT bit for bit.
    """
    if plan.gamma == 0.0:
        return record.mask.float()
    relative = _normalised(config, plan, record)
    if group_of(config) == "none":
        weight = relative.clamp(max=CORRECTIONS[config.name].bound)
    else:  # lerp(min(r, C), 1, eta) = (1 - eta) * min(r, C) + eta
        weight = torch.lerp(relative.clamp(max=config.truncate), torch.ones_like(relative), config.floor)
    return (weight * plan.scale).float().masked_fill(~record.mask, 0.0)


@torch.no_grad()
def diagnostics(config: CorrectionConfig, plan: WeightPlan, record: StepScores) -> dict[str, float]:
    """What every run must report of a step (docs/method.md, section 4), as plain numbers.

    The drift curve is ``abs_log_ratio_FIRST_LAST`` per octave of positions (the teacher's log-probs are
    known) and ``surprisal_FIRST_LAST`` (always): see :func:`octaves`.
    """
    out = {"gamma": plan.gamma, "ess": plan.ess, "ess_at_gamma_max": plan.ess_at_max, "weight_scale": plan.scale}
    out |= {f"ess_bucket_{index:03d}": value for index, value in enumerate(plan.ess_per_bucket)}
    mask = record.mask
    if not bool(mask.any()):
        return out
    curves = {}
    if record.behavior_logprobs is not None:
        ratio = record.of("student_logprobs") - record.of("behavior_logprobs")
        curves["abs_log_ratio"] = ratio.abs()
        low, high = clip_range(config)
        out["clipped_share"] = ((ratio <= low) | (ratio >= high))[mask].double().mean().item()
    if record.entropies is not None:
        curves["surprisal"] = -record.of("student_logprobs") - record.entropies
        if config.name == "surprisal":
            out["clipped_share"] = (record.surprisals(config).abs() >= config.clip)[mask].double().mean().item()
    for name, values in curves.items():
        out[f"mean_{name}"] = values[mask].mean().item()
        for first, last, columns in octaves(mask.shape[1], config.bucket_width):
            inside = mask[:, columns]
            if bool(inside.any()):
                out[f"{name}_{first:05d}_{last:05d}"] = values[:, columns][inside].mean().item()
    if plan.gamma > 0.0:
        relative = _normalised(config, plan, record)[mask]
        bound = CORRECTIONS[config.name].bound if group_of(config) == "none" else config.truncate
        out["truncated_share"] = (relative > bound).double().mean().item()
        used = weights(config, plan, record)
        out["weight_max"] = used[mask].max().item()
        out |= _feedback(used, record)
    return out


def _feedback(used: Tensor, record: StepScores) -> dict[str, float]:
    """How far the weights of traces lie apart, and how they go with length; over a run, whether live ones feed back."""
    traces = record.mask.any(dim=1)
    each, long = record.mean(used)[traces, 0].double(), record.lengths[traces, 0].double()
    out = {"weight_spread": each.std(correction=0).item()}
    if len(each) > 1 and each.std() > 0 and long.std() > 0:
        out["weight_length_correlation"] = torch.corrcoef(torch.stack([each, long]))[0, 1].item()
    return out


def octaves(width: int, first: int) -> Iterator[tuple[int, int, slice]]:
    """Ranges of positions that double in size: 0-15, 16-31, 32-63, …: few, whatever the length."""
    start, stop = 0, first
    while start < width:
        yield start, stop - 1, slice(start, stop)
        start, stop = stop, 2 * stop


class WeightCounts:
    """Histograms of the weights that training used, one an octave of positions.

    Attributes:
        edges: of the bins, the same for all; larger weights count in the last one [bins + 1].
        counts: tokens per bin, by the octave's name such as ``16-31``.
    """

    def __init__(self, config: CorrectionConfig, bins: int = 48) -> None:
        bound = CORRECTIONS[config.name].bound if group_of(config) == "none" else config.truncate
        top = 1.2 * min(bound, IW_SFT_BOUND)
        self.edges = torch.linspace(0.0, top, bins + 1)
        self.counts: dict[str, Tensor] = {}
        self._first = config.bucket_width

    def add(self, weights_BT: Tensor, mask_BT: Tensor) -> None:
        """Counts the weights of a micro-batch."""
        bins = len(self.edges) - 1
        for first, last, columns in octaves(mask_BT.shape[1], self._first):
            values = weights_BT[:, columns][mask_BT[:, columns]].cpu()
            index = torch.bucketize(values, self.edges[1:-1], right=True)
            before = self.counts.get(f"{first}-{last}", torch.zeros(bins, dtype=torch.long))
            self.counts[f"{first}-{last}"] = before + torch.bincount(index, minlength=bins)

    def merge(self, other: WeightCounts) -> None:
        """Adds the counts of another rank."""
        for name, counts in other.counts.items():
            self.counts[name] = self.counts.get(name, torch.zeros_like(counts)) + counts

    def load(self, plain: dict[str, Any]) -> None:
        """Takes the numbers of :meth:`plain` back."""
        self.counts = {name: torch.tensor(counts) for name, counts in plain["counts"].items()}

    def plain(self) -> dict[str, object]:
        """As numbers that JSON can hold."""
        return {"edges": self.edges.tolist(), "counts": {name: c.tolist() for name, c in self.counts.items()}}


def _groups(config: CorrectionConfig, kind: Group, record: StepScores, width: int) -> tuple[Tensor, Tensor]:
    """The group of every weight, and whether it counts in the group's mean ([B, W], [B, W])."""
    rows, device = len(record.prompts), record.mask.device
    everywhere = torch.ones((rows, width), dtype=torch.bool, device=device)
    columns = torch.arange(width, device=device).expand(rows, width)
    counted = record.mask if width > 1 else everywhere
    if kind == "position":  # ended traces stay in the mean with their last ratio
        return columns // config.bucket_width, everywhere
    if kind == "prompt":
        _, prompt = record.prompts.unique(return_inverse=True)
        return prompt[:, None] * width + columns, everywhere
    if kind == "length":
        bucket = (record.lengths - 1).clamp(min=0) // config.bucket_width
        return bucket.expand(rows, width), counted
    return torch.zeros((rows, width), dtype=torch.long, device=device), counted


def _normalised(config: CorrectionConfig, plan: WeightPlan, record: StepScores) -> Tensor:
    """r: exp(gamma * l) over its group's mean, before truncation [B, T]."""
    tempered = plan.gamma * CORRECTIONS[config.name](config, record).double()
    kind = group_of(config)
    if kind != "none":
        group, _ = _groups(config, kind, record, tempered.shape[1])
        if kind == "prompt":
            alive = record.mask.any(dim=1)
            sums, counts = _log_sums(tempered[alive], group[alive], groups=int(group.max()) + 1)
            means = sums - counts.clamp(min=1).log()
        else:  # a group that the (lagged) plan does not know takes the mean of the nearest one below
            known = torch.tensor(_filled(plan.log_means), dtype=tempered.dtype, device=tempered.device)
            means, group = known, group.clamp(max=len(known) - 1)
        tempered = tempered - means[group]
    return tempered.exp().expand(record.mask.shape)


def _filled(log_means: list[float]) -> list[float]:
    out: list[float] = []
    first = next((known for known in log_means if not math.isnan(known)), 0.0)
    for known in log_means:
        out.append((out[-1] if out else first) if math.isnan(known) else known)
    return out


def _log_sums(values: Tensor, group: Tensor, groups: int | None = None) -> tuple[Tensor, Tensor]:
    """Log-sum-exp and number of the values of each group ([G], [G])."""
    values, group = values.reshape(-1), group.reshape(-1)
    count = groups if groups is not None else int(group.max()) + 1
    peak = values.new_full((count,), -math.inf).scatter_reduce(0, group, values, "amax")
    sums = values.new_zeros(count).scatter_add(0, group, (values - peak[group]).exp())
    return sums.log() + peak, torch.bincount(group, minlength=count).to(values.dtype)


def _ess(tempered: Tensor, group: Tensor, member: Tensor, kind: Group) -> list[float]:
    """Rescaled ESS of every group of at least two; for prompts their mean, at each position."""
    sums, counts = _log_sums(tempered[member], group[member])
    squares, _ = _log_sums(2 * tempered[member], group[member])
    several = counts >= 2
    rescaled = ((2 * sums - squares).exp() - 1) / (counts - 1).clamp(min=1)
    if kind != "prompt":
        return rescaled[several].tolist()
    width = tempered.shape[1]
    table, there = rescaled.view(-1, width), several.view(-1, width)[:, 0]
    return table[there].mean(dim=0).tolist() if bool(there.any()) else []
