"""The family of corrections: what each weighs by, and what it asks of the traces (docs/method.md, section 1).

:mod:`dcod.objective.weighting` turns any of it into weights with their variance under control. `support` weighs every
token by itself, as the method that dcod is named after does in kind; `prefix` and `trace` are importance ratios,
`mixed` lies between them; `surprisal` is what is left of them without the teacher's log-probs, `naturalness` asks only
what the student finds likely; `rsr`, `iw_sft`, `iw_opd`, `idft` and `token_support` are published relatives; `given`
are the user's own weights. The last four are controls: a correction that does not beat them does nothing.

What is derived together stands on this page; any other is a file of its own beside it. Formulas call methods of
tensors, and nothing of torch by name, so that who only looks at traces reads the table without torch.

Shape suffixes: B traces, T completion positions (0-based in code), W = T for weights of tokens, 1 of traces.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dcod.config import CorrectionConfig
from dcod.objective.corrections._types import Correction, entry

if TYPE_CHECKING:
    from torch import Tensor

    from dcod.objective.step_scores import StepScores

CHOICE_SCALE = 8.0  # of a choice made soft: at gamma_max = 4 the ESS floor decides and not the cap
LARGEST_RANK = 100  # arXiv 2601.14249: a rank counts no further
IDFT_RANGE = (0.1, 2.0)  # arXiv 2602.12222: of the exponent, before it is mixed with 1
TINY = 2.0**-126  # the smallest normal float32


def _support(config: CorrectionConfig, step: StepScores) -> Tensor:
    """Log sigmoid((log pi - log mu - bias) / temperature), each token by itself: bounded, so nothing is clipped.

    The teacher's log-probs stand for mu where ``support`` names it; ``support_text`` has -H(pi) in their place.
    """
    expected = step.of("behavior_logprobs") if config.name == "support" else -step.of("entropies")
    ratio = (step.of("student_logprobs") - expected - config.bias) / config.temperature
    return ratio.clamp(max=0.0) - (-ratio.abs()).exp().log1p()


def _prefix(config: CorrectionConfig, step: StepScores) -> Tensor:
    return step.before(step.log_ratios(config), config.decay)


def _trace(config: CorrectionConfig, step: StepScores) -> Tensor:
    """Per-token ratios, clipped, where they are known; else the difference of the totals, unclipped."""
    if step.behavior_logprobs is not None:
        return step.total(step.log_ratios(config))
    assert step.behavior_total is not None
    ratio = step.total(step.counted(step.of("student_logprobs"))) - step.behavior_total[:, None]
    return ratio.clamp(max=0.0) if config.one_sided else ratio


def _trace_mean(config: CorrectionConfig, step: StepScores) -> Tensor:
    """The mean log-ratio of a trace: R without its length, as the sequence ratio of GSPO (arXiv 2507.18071).

    No importance weight: a long trace is not less likely for being long.
    """
    return _trace(config, step) / step.lengths.clamp(min=1)


def _mixed(config: CorrectionConfig, step: StepScores) -> Tensor:
    """l_prefix + rho * l_future: never the product of both weights, which would square the prefix."""
    ratios = step.log_ratios(config)
    return _prefix(config, step) + config.rho * (step.total(ratios) - step.before(ratios))


def _surprisal(config: CorrectionConfig, step: StepScores) -> Tensor:
    add = step.before if config.scope == "token" else step.total
    return -add(step.surprisals(config), config.decay).clamp(min=0.0)


def _iw_sft(config: CorrectionConfig, step: StepScores) -> Tensor:
    """Tau * mean_t log(pi / pi_0): how much likelier a trace has become."""
    return config.tau * step.mean(step.of("student_logprobs") - step.of("start_logprobs"))


def _iw_opd(_: CorrectionConfig, step: StepScores) -> Tensor:
    """log(1 + (1 - sum_{k<t} |A_k| / sum_k |A_k|) / 2), A = log mu - log pi: the tokens before the drift first."""
    apart = step.counted((step.of("behavior_logprobs") - step.of("student_logprobs")).abs())
    behind = step.before(apart) / step.total(apart).clamp(min=TINY)
    return (0.5 * (1.0 - behind)).log1p()


def _token_support(config: CorrectionConfig, step: StepScores) -> Tensor:
    """What the start gave a token: its probability, or only whether that, or the mass below it, reaches a threshold."""
    start = step.of("start_mass" if config.rule == "mass" else "start_logprobs")
    if config.rule == "probability":
        return start
    least = config.threshold_of_rule if config.rule == "mass" else math.log(config.threshold_of_rule)
    return ~(start >= least) * step.LOWEST


def _idft(_: CorrectionConfig, step: StepScores) -> Tensor:
    """Log of pi^g, g = 1 + progress (clip(exp(-(log pi + H))) - 1): DFT's weight, milder where a token surprises."""
    logprobs = step.of("student_logprobs")
    exponent = (-(logprobs + step.of("entropies"))).exp().clamp(*IDFT_RANGE)
    progress = 0.0 if step.progress is None else step.progress.to(logprobs)[:, None]
    return (1.0 + progress * (exponent - 1.0)) * logprobs


def _across_prompts(config: CorrectionConfig) -> bool:
    """Whether `naturalness` compares the traces of different prompts."""
    return config.group not in ("auto", "prompt")


def _naturalness(config: CorrectionConfig, step: StepScores) -> Tensor:
    """The mean log-prob of a trace: GRAPE's choice (arXiv 2502.04194) made soft.

    Across prompts the entropy is added to each, so that a hard problem is not mistaken for a strange answer.
    """
    fit = step.of("student_logprobs")
    return CHOICE_SCALE * step.mean(fit + step.of("entropies") if _across_prompts(config) else fit)


def _local_naturalness(_: CorrectionConfig, step: StepScores) -> Tensor:
    """The mean log-prob of a trace whose every sentence was scored after a short window (arXiv 2510.03988)."""
    return CHOICE_SCALE * step.mean(step.of("local_logprobs"))


def _rsr(_: CorrectionConfig, step: StepScores) -> Tensor:
    """-log of the ranks over the surprisals of a trace: the choice of arXiv 2601.14249 (its least) made soft."""
    ranks = step.mean(step.of("start_ranks").clamp(max=LARGEST_RANK))
    surprise = step.mean(-step.of("start_logprobs"))
    return CHOICE_SCALE * (surprise.clamp(min=TINY).log() - ranks.clamp(min=TINY).log())


def _success(_: CorrectionConfig, step: StepScores) -> Tensor:
    """The log of the student's own chance in the manner of the trace: the value of writing so, made a weight (ours)."""
    return step.of("success").log()[:, None]


def _given(_: CorrectionConfig, step: StepScores) -> Tensor:
    """The user's own."""
    return step.of("given").log().clamp(min=step.LOWEST)[:, None]


def _position_decay(config: CorrectionConfig, step: StepScores) -> Tensor:
    """Early tokens first, as strongly as the ESS floor allows: is it only that?"""
    return (-step.positions.float() / config.bucket_width).expand(step.mask.shape)


def _length_only(config: CorrectionConfig, step: StepScores) -> Tensor:
    """Short traces of a prompt first: is it only that?"""
    return -step.lengths.float() / config.bucket_width


def _student_likelihood_only(config: CorrectionConfig, step: StepScores) -> Tensor:
    """Traces that the student finds easy first, whatever the teacher's own probability: is it only that?"""
    return step.total(step.counted(step.student_logprobs.clamp(min=-config.clip)))


def _shuffled(config: CorrectionConfig, step: StepScores) -> Tensor:
    """The log-weights of the next trace of the same prompt: the same spread, on the wrong traces."""
    weight = FAMILY[config.base](config, step)
    moved = weight.clone()
    for prompt in step.prompts.unique():
        rows = (step.prompts == prompt).nonzero()[:, 0]
        moved[rows] = weight[rows.roll(-1)]
    return moved


FAMILY: dict[str, Correction] = {
    "none": entry(lambda _, step: step.student_logprobs.new_zeros((len(step.mask), 1)), "none"),
    "support": entry(_support, "none", "behavior_logprobs", by_token=True, leans=True),
    "support_text": entry(_support, "none", "entropies", by_token=True),
    "prefix": entry(_prefix, "position", "behavior_logprobs", by_token=True),
    "trace": entry(_trace, "prompt", "behavior_logprobs", "behavior_total"),
    "trace_mean": entry(_trace_mean, "prompt", "behavior_logprobs", "behavior_total"),
    "mixed": entry(_mixed, "position", "behavior_logprobs", by_token=True),
    "surprisal": Correction(
        _surprisal,
        lambda _: (("entropies",),),
        lambda c: "position" if c.scope == "token" else "prompt",
        lambda c: c.scope == "token",
    ),
    "naturalness": Correction(
        _naturalness,
        lambda c: (("entropies",),) if _across_prompts(c) else (),
        lambda _: "prompt",
        lambda _: False,
        leans=True,
    ),
    "local_naturalness": entry(_local_naturalness, "prompt", "local_logprobs", leans=True),
    "rsr": Correction(
        _rsr, lambda _: (("start_ranks",), ("start_logprobs",)), lambda _: "prompt", lambda _: False, leans=True
    ),
    "iw_sft": entry(_iw_sft, "none", "start_logprobs"),
    "iw_opd": entry(_iw_opd, "none", "behavior_logprobs", by_token=True),
    "idft": entry(_idft, "none", "entropies", by_token=True, leans=True),
    "token_support": Correction(
        _token_support,
        lambda c: (("start_mass" if c.rule == "mass" else "start_logprobs",),),
        lambda _: "none",
        lambda _: True,
        leans=True,
    ),
    "success": entry(_success, "prompt", "success", asks=True),
    "given": entry(_given, "none", "given", bound=math.inf),
    "position_decay": entry(_position_decay, "batch", by_token=True),
    "shuffled": Correction(
        _shuffled,
        lambda c: FAMILY[c.base].needs(c),
        lambda c: FAMILY[c.base].group(c),
        lambda c: FAMILY[c.base].by_token(c),
    ),
    "length_only": entry(_length_only, "prompt"),
    "student_likelihood_only": entry(_student_likelihood_only, "prompt", leans=True),
}
