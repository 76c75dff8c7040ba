"""The family of corrections: from log-probs to log-weights (docs/method.md, section 1).

This file says what each member weighs by; :mod:`dcod.objective.weighting` turns any of it into weights with their
variance under control. `support` weighs every token by itself, as the method that dcod is named after does in kind;
`prefix` and `trace` are importance ratios, `mixed` lies between them; `surprisal` is what is left of them without the
teacher's log-probs, `naturalness` asks only what the student finds likely; `rsr`, `iw_sft`, `iw_opd`, `idft` and
`token_support` are published relatives; `given` are the user's own weights. The last four are controls: a correction
that does not beat them does nothing.

Shape suffixes: B traces, T completion positions (0-based in code), W = T for weights of tokens, 1 of traces.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dcod.config import CorrectionConfig
from dcod.objective.family import across_prompts

LOWEST_LOGPROB = -1e4  # stands for -inf, so that no difference of two becomes NaN
CHOICE_SCALE = 8.0  # of a choice made soft: at gamma_max = 4 the ESS floor decides and not the cap
LARGEST_RANK = 100  # arXiv 2601.14249: a rank counts no further
IDFT_RANGE = (0.1, 2.0)  # arXiv 2602.12222: of the exponent, before it is mixed with 1


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
        progress: share of the training that lies behind, in [0, 1], the same for all [B], or None.
    """

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
    progress: Tensor | None = None

    def pick(self, rows: Tensor) -> StepScores:
        """The traces at ``rows`` (a mask or indices)."""
        known: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        picked: dict[str, Any] = {name: None if value is None else value[rows] for name, value in known.items()}
        return StepScores(**picked)

    @staticmethod
    def concatenate(records: Sequence[StepScores]) -> StepScores:
        """One record of several, padded to the longest."""
        width = max(r.mask.shape[1] for r in records)

        def join(name: str) -> Tensor | None:
            parts = [getattr(r, name) for r in records]
            if any(part is None for part in parts):
                return None
            return torch.cat([F.pad(p, (0, width - p.shape[1])) if p.dim() == 2 else p for p in parts])

        return StepScores(**{f.name: join(f.name) for f in fields(StepScores)})  # type: ignore[arg-type]


LogWeight = Callable[[CorrectionConfig, StepScores], Tensor]  # the log l of the untempered weight [B, W]


def log_ratios(config: CorrectionConfig, record: StepScores) -> Tensor:
    """Per-token log pi - log mu, clipped, 0 outside the mask and behind ``prefix_share`` of a trace [B, T]."""
    assert record.behavior_logprobs is not None
    raw = record.student_logprobs.clamp(min=LOWEST_LOGPROB) - record.behavior_logprobs.clamp(min=LOWEST_LOGPROB)
    counted = record.mask
    if config.prefix_share < 1.0:
        positions = torch.arange(record.mask.shape[1], device=record.mask.device)
        counted = counted & (positions < (config.prefix_share * lengths(record.mask)).ceil())
    return raw.clamp(*clip_range(config)).masked_fill(~counted, 0.0)


def clip_range(config: CorrectionConfig) -> tuple[float, float]:
    """Between what a per-token log-ratio is clipped: [-c, c], or with another upper end."""
    high = config.clip if config.clip_high == "clip" else config.clip_high
    return -config.clip, 0.0 if config.one_sided else high


def surprisals(config: CorrectionConfig, record: StepScores) -> Tensor:
    """Entropy-centred surprisal -log pi - H(pi), clipped to [-c, c], 0 outside the mask [B, T].

    See docs/method.md, section 1.
    """
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


def whole_sum(values: Tensor, mask: Tensor, decay: float) -> Tensor:
    """The (decayed) sum over each trace [B, 1]."""
    if decay == 1.0:
        return values.sum(dim=1, keepdim=True)
    return running_sum(F.pad(values, (0, 1)), F.pad(mask, (0, 1)), decay)[:, -1:]


def lengths(mask: Tensor) -> Tensor:
    """Tokens of each trace [B, 1]."""
    return mask.sum(dim=1, keepdim=True)


def mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over the tokens of each trace [B, 1]."""
    return values.masked_fill(~mask, 0.0).sum(dim=1, keepdim=True) / lengths(mask).clamp(min=1)


def _support(config: CorrectionConfig, record: StepScores) -> Tensor:
    """Log sigmoid((log pi - log mu - bias) / temperature), each token by itself: bounded, so nothing is clipped.

    The teacher's log-probs stand for mu where ``support`` names it; ``support_text`` has -H(pi) in their place.
    """
    if config.name == "support":
        assert record.behavior_logprobs is not None
        expected = record.behavior_logprobs.clamp(min=LOWEST_LOGPROB)
    else:
        assert record.entropies is not None
        expected = -record.entropies
    ratio = record.student_logprobs.clamp(min=LOWEST_LOGPROB) - expected
    return F.logsigmoid((ratio - config.bias) / config.temperature)


def _prefix(config: CorrectionConfig, record: StepScores) -> Tensor:
    return running_sum(log_ratios(config, record), record.mask, config.decay)


def _trace(config: CorrectionConfig, record: StepScores) -> Tensor:
    """Per-token ratios, clipped, where they are known; else the difference of the totals, unclipped."""
    if record.behavior_logprobs is not None:
        return whole_sum(log_ratios(config, record), record.mask, 1.0)
    assert record.behavior_total is not None
    total = record.student_logprobs.clamp(min=LOWEST_LOGPROB).masked_fill(~record.mask, 0.0).sum(1, keepdim=True)
    ratio = total - record.behavior_total[:, None]
    return ratio.clamp(max=0.0) if config.one_sided else ratio


def _trace_mean(config: CorrectionConfig, record: StepScores) -> Tensor:
    """The mean log-ratio of a trace: R without its length, as the sequence ratio of GSPO (arXiv 2507.18071).

    No importance weight: a long trace is not less likely for being long.
    """
    return _trace(config, record) / lengths(record.mask).clamp(min=1)


def _mixed(config: CorrectionConfig, record: StepScores) -> Tensor:
    """l_prefix + rho * l_future: never the product of both weights, which would square the prefix."""
    before = _prefix(config, record)
    steps = log_ratios(config, record)
    future = steps.sum(dim=1, keepdim=True) - running_sum(steps, record.mask, 1.0)
    return before + config.rho * future


def _surprisal(config: CorrectionConfig, record: StepScores) -> Tensor:
    add = running_sum if config.scope == "token" else whole_sum
    return -add(surprisals(config, record), record.mask, config.decay).clamp(min=0.0)


def _iw_sft(config: CorrectionConfig, record: StepScores) -> Tensor:
    """Tau * mean_t log(pi / pi_0): how much likelier a trace has become."""
    assert record.start_logprobs is not None
    low = LOWEST_LOGPROB
    moved = record.student_logprobs.clamp(min=low) - record.start_logprobs.clamp(min=low)
    return config.tau * mean(moved, record.mask)


def _iw_opd(_: CorrectionConfig, record: StepScores) -> Tensor:
    """log(1 + (1 - sum_{k<t} |A_k| / sum_k |A_k|) / 2), A = log mu - log pi: the tokens before the drift first."""
    assert record.behavior_logprobs is not None
    low = LOWEST_LOGPROB
    apart = (record.behavior_logprobs.clamp(min=low) - record.student_logprobs.clamp(min=low)).abs()
    apart = apart.masked_fill(~record.mask, 0.0)
    total = apart.sum(dim=1, keepdim=True)
    before = running_sum(apart, record.mask, 1.0) / total.clamp(min=torch.finfo(apart.dtype).tiny)
    return torch.log1p(0.5 * (1.0 - before))


def _token_support(config: CorrectionConfig, record: StepScores) -> Tensor:
    """What the start gave a token: its probability, or only whether that, or the mass below it, reaches a threshold."""
    if config.rule == "mass":
        assert record.start_mass is not None
        return torch.where(record.start_mass >= config.threshold_of_rule, 0.0, LOWEST_LOGPROB)
    assert record.start_logprobs is not None
    start = record.start_logprobs.clamp(min=LOWEST_LOGPROB)
    if config.rule == "probability":
        return start
    return torch.where(start >= math.log(config.threshold_of_rule), 0.0, LOWEST_LOGPROB)


def _idft(_: CorrectionConfig, record: StepScores) -> Tensor:
    """Log of pi^g, g = 1 + progress (clip(exp(-(log pi + H))) - 1): DFT's weight, milder where a token surprises."""
    assert record.entropies is not None
    logprobs = record.student_logprobs.clamp(min=LOWEST_LOGPROB)
    exponent = (-(logprobs + record.entropies)).exp().clamp(*IDFT_RANGE)
    progress = torch.zeros(len(logprobs)) if record.progress is None else record.progress
    return (1.0 + progress.to(logprobs)[:, None] * (exponent - 1.0)) * logprobs


def _naturalness(config: CorrectionConfig, record: StepScores) -> Tensor:
    """The mean log-prob of a trace: GRAPE's choice (arXiv 2502.04194) made soft.

    Across prompts the entropy is added to each, so that a hard problem is not mistaken for a strange answer.
    """
    fit = record.student_logprobs.clamp(min=LOWEST_LOGPROB)
    if across_prompts(config):
        assert record.entropies is not None
        fit = fit + record.entropies
    return CHOICE_SCALE * mean(fit, record.mask)


def _local_naturalness(_: CorrectionConfig, record: StepScores) -> Tensor:
    """The mean log-prob of a trace whose every sentence was scored after a short window (arXiv 2510.03988)."""
    assert record.local_logprobs is not None
    return CHOICE_SCALE * mean(record.local_logprobs.clamp(min=LOWEST_LOGPROB), record.mask)


def _rsr(_: CorrectionConfig, record: StepScores) -> Tensor:
    """-log of the ranks over the surprisals of a trace: the choice of arXiv 2601.14249 (its least) made soft."""
    assert record.start_ranks is not None
    assert record.start_logprobs is not None
    ranks = mean(record.start_ranks.clamp(max=LARGEST_RANK), record.mask)
    surprise = mean(-record.start_logprobs.clamp(min=LOWEST_LOGPROB), record.mask)
    tiny = torch.finfo(surprise.dtype).tiny
    return CHOICE_SCALE * (surprise.clamp(min=tiny).log() - ranks.clamp(min=tiny).log())


def _given(_: CorrectionConfig, record: StepScores) -> Tensor:
    """The user's own."""
    assert record.given is not None
    return record.given.log().clamp(min=LOWEST_LOGPROB)[:, None]


def _position_decay(config: CorrectionConfig, record: StepScores) -> Tensor:
    """Early tokens first, as strongly as the ESS floor allows: is it only that?"""
    positions = torch.arange(record.mask.shape[1], device=record.mask.device, dtype=torch.float32)
    return (-positions / config.bucket_width).expand(record.mask.shape)


def _length_only(config: CorrectionConfig, record: StepScores) -> Tensor:
    """Short traces of a prompt first: is it only that?"""
    return -lengths(record.mask).float() / config.bucket_width


def _student_likelihood_only(config: CorrectionConfig, record: StepScores) -> Tensor:
    """Traces that the student finds easy first, whatever the teacher's own probability: is it only that?"""
    return record.student_logprobs.clamp(min=-config.clip).masked_fill(~record.mask, 0.0).sum(1, keepdim=True)


def _shuffled(config: CorrectionConfig, record: StepScores) -> Tensor:
    """The log-weights of the next trace of the same prompt: the same spread, on the wrong traces."""
    weight = CORRECTIONS[config.base](config, record)
    source = torch.arange(len(record.prompts), device=weight.device)
    for prompt in record.prompts.unique():
        rows = (record.prompts == prompt).nonzero()[:, 0]
        source[rows] = rows.roll(-1)
    return weight[source]


CORRECTIONS: dict[str, LogWeight] = {
    "none": lambda _, record: torch.zeros_like(record.student_logprobs[:, :1]),
    "support": _support,
    "support_text": _support,
    "prefix": _prefix,
    "trace": _trace,
    "trace_mean": _trace_mean,
    "mixed": _mixed,
    "surprisal": _surprisal,
    "naturalness": _naturalness,
    "local_naturalness": _local_naturalness,
    "rsr": _rsr,
    "iw_sft": _iw_sft,
    "iw_opd": _iw_opd,
    "idft": _idft,
    "token_support": _token_support,
    "given": _given,
    "position_decay": _position_decay,
    "shuffled": _shuffled,
    "length_only": _length_only,
    "student_likelihood_only": _student_likelihood_only,
}  # what each needs and is compared within stands in dcod.objective.family
