"""Output head and weighted loss in one, in chunks of rows: the full [N, V] logits never exist.

The gradient is made in the forward pass (as in Liger-kernel and cut-cross-entropy), because the weights are
detached: each chunk of logits is turned into log-probs, entropies and its own gradient, and dropped.

Where a model's head is known as a function alone (:mod:`dcod.models.heads`), it runs in chunks all the same, and
autograd runs each once more on the way back.

Shape suffixes: N counted tokens of a micro-batch, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dcod.config import LossConfig
from dcod.models import matmul
from dcod.models.heads import Head, Logits, OwnHead, chunks, same_dtype
from dcod.objective.losses import LOSSES, TopK, forward_kl, log_loss
from dcod.objective.step_scores import StepScores

KEPT_CHUNKS = 4  # of live weights, between their statistics and their gradient: memory, for a second pass saved


@dataclass(frozen=True)
class Objective:
    """What the head minimises, per counted token of a micro-batch: w * loss + anchor * KL(start || student).

    Attributes:
        loss: of the state; see :mod:`dcod.objective.losses`.
        focus: alpha; the log loss is multiplied by the detached pi(y)^alpha. 1 is DFT (docs/method.md, section 3).
        anchor: weight of the divergence to the start.
        teacher: the teacher's recorded top-k [N, K], for losses that need it.
        start: the start's recorded top-k [N, K], for the anchor.
        normaliser: of the anchor, which no correction weights: 1 / counted tokens of the step.
    """

    loss: LossConfig = field(default_factory=LossConfig)
    focus: float = 0.0
    anchor: float = 0.0
    teacher: TopK | None = None
    start: TopK | None = None
    normaliser: float = 1.0

    @property
    def plain(self) -> bool:
        """Whether it is the log loss alone."""
        return self.loss.name == "log" and not self.anchor


@dataclass(frozen=True)
class _Softmax:
    """The distributions of a chunk before they are divided by their sum: exp(logits - their largest) [n, V].

    Attributes:
        exps, sums: numerators, and what they add up to [n, 1].
        logprobs: of the targets, nats [n].
        slope: of a soft cap at the logits [n, V], or None.
    """

    exps: Tensor
    sums: Tensor
    logprobs: Tensor
    slope: Tensor | None


def _shifted(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Logits minus the largest of their row, in place, and those of the targets ([n, V], [n, 1])."""
    logits.sub_(logits.amax(dim=1, keepdim=True))
    return logits, logits.gather(1, targets[:, None])


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        head_VD: Tensor,
        bias_V: Tensor | None,
        head: Head,
        targets_N: Tensor,
        weights_N: Tensor,
        objective: Objective,
        kept: list[_Softmax],
    ) -> tuple[Tensor, Tensor]:
        rows = hidden_ND.shape[0]
        logprobs_N = torch.empty(rows, dtype=torch.float32, device=hidden_ND.device)
        grad_hidden_ND = torch.empty_like(hidden_ND)
        precise = torch.promote_types(head_VD.dtype, torch.float32)  # a sum over many chunks
        grad_head_VD: Tensor | None = None
        grad_bias_V = (
            torch.zeros_like(bias_V, dtype=precise) if bias_V is not None and ctx.needs_input_grad[2] else None
        )
        loss = torch.zeros((), dtype=torch.float32, device=hidden_ND.device)
        logits = Logits(hidden_ND, head)
        for part in logits.parts:
            where = targets_N[part], weights_N[part], objective
            if kept:
                slope = kept[0].slope
                value, grad, logprobs_N[part] = _log_gradient(kept.pop(0), *where)
            elif objective.plain:
                value, grad, logprobs_N[part] = _log_gradient(_softmax(logits, part, targets_N[part]), *where)
                slope = logits.slope
            else:
                value, grad, logprobs_N[part] = _any_gradient(logits[part], *where, part)
                slope = logits.slope
            loss += value
            if slope is not None:
                grad.mul_(slope)
            if grad_bias_V is not None:
                grad_bias_V += grad.sum(dim=0)
            if head.scale != 1:
                grad.mul_(head.scale)
            grad = grad.to(head_VD.dtype)
            by_onednn = matmul.applies(grad, head_VD)
            grad_hidden_ND[part] = matmul.product(grad, head_VD.T) if by_onednn else grad @ head_VD
            if not ctx.needs_input_grad[1]:
                continue
            if grad_head_VD is None:
                grad_head_VD = (grad.T @ hidden_ND[part]).to(precise)
            elif grad.dtype == precise:
                grad_head_VD.addmm_(grad.T, hidden_ND[part])
            else:
                grad_head_VD += grad.T @ hidden_ND[part]
        grad_head_VD = None if grad_head_VD is None else grad_head_VD.to(head_VD.dtype)
        if bias_V is not None and grad_bias_V is not None:
            grad_bias_V = grad_bias_V.to(bias_V.dtype)
        ctx.save_for_backward(grad_hidden_ND, grad_head_VD, grad_bias_V)
        ctx.mark_non_differentiable(logprobs_N)
        return loss, logprobs_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # in place: the head's gradient is large, and nothing reads these again
        gradients = [None if grad is None else grad.mul_(grads[0].to(grad.dtype)) for grad in ctx.saved_tensors]
        return (*gradients, None, None, None, None, None)


def _softmax(all_logits: Logits, part: slice, targets: Tensor) -> _Softmax:
    """The logits' own buffer becomes the distributions."""
    logits, chosen = _shifted(all_logits[part], targets)
    exps = logits.exp_()
    sums = exps.sum(dim=1, keepdim=True)
    return _Softmax(exps, sums, (chosen - sums.log())[:, 0], all_logits.slope)


def _log_gradient(
    softmax: _Softmax, targets: Tensor, weights: Tensor, objective: Objective
) -> tuple[Tensor, Tensor, Tensor]:
    """The log loss by hand: the distributions' own buffer becomes the gradient."""
    logprob, coefficient = softmax.logprobs, weights.float()
    if objective.focus:
        coefficient = coefficient * (objective.focus * logprob).exp()
    loss = -(coefficient * logprob).sum()
    # d(-log p)/d logits = softmax - onehot
    coefficient = coefficient[:, None]
    grad = softmax.exps.mul_(coefficient / softmax.sums)
    return loss, grad.scatter_add_(1, targets[:, None], -coefficient), logprob


def _any_gradient(
    logits: Tensor, targets: Tensor, weights: Tensor, objective: Objective, part: slice
) -> tuple[Tensor, Tensor, Tensor]:
    """Any loss of dcod.objective.losses and the anchor, by autograd within the chunk."""
    with torch.enable_grad():
        logits = logits.detach().requires_grad_()
        loss, logprob = _chunk_loss(logits, targets, weights, objective, part)
        (grad,) = torch.autograd.grad(loss, logits)
    return loss.detach(), grad, logprob


def _chunk_loss(
    logits: Tensor, targets: Tensor, weights: Tensor, objective: Objective, part: slice
) -> tuple[Tensor, Tensor]:
    """The weighted loss of a chunk, and its detached log-probs [n]."""
    teacher = None if objective.teacher is None else objective.teacher.rows(part)
    per_token = LOSSES[objective.loss.name].per_token(objective.loss, logits, targets, teacher)
    logprob = -log_loss(logits, targets).detach()
    coefficient = weights.float()
    if objective.focus:
        coefficient = coefficient * (objective.focus * logprob).exp()
    loss = (coefficient * per_token).sum()
    if objective.anchor:
        assert objective.start is not None
        scale = objective.anchor * objective.normaliser
        loss = loss + scale * forward_kl(logits, objective.start.rows(part)).sum()
    return loss, logprob


def _own_loss(
    hidden_ND: Tensor, head: OwnHead, targets_N: Tensor, weights_N: Tensor, objective: Objective
) -> tuple[Tensor, Tensor]:
    """As :func:`weighted_loss`, by autograd: each chunk's logits are made again on the way back."""

    def chunk(hidden: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        return _chunk_loss(head.logits(hidden).float(), targets_N[part], weights_N[part], objective, part)

    pairs = [
        checkpoint(chunk, hidden_ND[part], part, use_reentrant=False)
        for part in chunks(hidden_ND.shape[0], head.vocabulary, hidden_ND.device.type)
    ]
    losses, logprobs = zip(*pairs, strict=True)
    return torch.stack(losses).sum(), torch.cat(logprobs)


def weighted_loss(
    hidden_ND: Tensor,
    head: Tensor | Head | OwnHead,
    targets_N: Tensor,
    weights_N: Tensor,
    objective: Objective | None = None,
) -> tuple[Tensor, Tensor]:
    """Sum over tokens of the weighted objective, and the log-probs; weights and pi^alpha are detached.

    See docs/method.md, section 3.

    Args:
        hidden_ND: last hidden states of the positions that predict the targets [N, D].
        head: output embedding [V, D], or a head that does more.
        targets_N: token ids [N].
        weights_N: weight of each token, the loss normaliser already in it [N].
        objective: the loss at a state; the log loss by default.

    Returns:
        The loss (a sum, float32 scalar, differentiable in ``hidden_ND`` and the head) and the detached
        log-probs, nats, float32 [N].
    """
    objective = objective or Objective()
    if isinstance(head, OwnHead):
        return _own_loss(hidden_ND, head, targets_N, weights_N, objective)
    hidden_ND, head = same_dtype(hidden_ND, head)
    with torch.autocast(hidden_ND.device.type, enabled=False):
        return _fused_loss(hidden_ND, head, targets_N, weights_N, objective, [])


def _fused_loss(
    hidden_ND: Tensor, head: Head, targets_N: Tensor, weights_N: Tensor, objective: Objective, kept: list[_Softmax]
) -> tuple[Tensor, Tensor]:
    loss, logprobs_N = _Fused.apply(hidden_ND, head.weight, head.bias, head, targets_N, weights_N, objective, kept)
    return loss, logprobs_N


def live_loss(
    hidden_ND: Tensor,
    head: Tensor | Head | OwnHead,
    targets_N: Tensor,
    weigh: Callable[[Tensor, Tensor], Tensor],
    objective: Objective,
) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`weighted_loss`, with weights that ``weigh`` makes of the log-probs and entropies [N] of this pass.

    Distributions of the first chunks are kept until the weights are known; the head runs again for the others.

    Returns:
        The loss, and the detached log-probs and entropies, nats, float32 [N].
    """
    if isinstance(head, OwnHead):
        logprobs_N, entropies_N, _ = _statistics(hidden_ND.detach(), head, targets_N, 0)
        loss, logprobs_N = _own_loss(hidden_ND, head, targets_N, weigh(logprobs_N, entropies_N), objective)
        return loss, logprobs_N, entropies_N
    hidden_ND, head = same_dtype(hidden_ND, head)
    with torch.autocast(hidden_ND.device.type, enabled=False):
        keep = KEPT_CHUNKS if objective.plain else 0
        logprobs_N, entropies_N, kept = _statistics(hidden_ND.detach(), head, targets_N, keep)
        weights_N = weigh(logprobs_N, entropies_N)
        loss, logprobs_N = _fused_loss(hidden_ND, head, targets_N, weights_N, objective, kept)
    return loss, logprobs_N, entropies_N


@torch.no_grad()
def likeliest(hidden_ND: Tensor, head: Tensor | Head | OwnHead, k: int) -> TopK:
    """The k likeliest tokens of each position and their log-probs [N, K]."""
    targets = torch.zeros(len(hidden_ND), dtype=torch.long, device=hidden_ND.device)
    return scored(hidden_ND, head, targets, k)[2]


@dataclass(frozen=True)
class Seen:
    """The distributions of some tokens, to be looked at and left as they are.

    Attributes:
        logits: less the largest of each, in float32 [n, V].
        exps: their exponentials, and ``sums`` of them, so that exps / sums are the probabilities [n, V], [n, 1].
        chosen: the logits of the targets [n, 1].
    """

    logits: Tensor
    exps: Tensor
    sums: Tensor
    chosen: Tensor


@torch.no_grad()
def scored(
    hidden_ND: Tensor,
    head: Tensor | Head | OwnHead,
    targets_N: Tensor,
    k: int,
    look: Callable[[Seen], None] | None = None,
) -> tuple[Tensor, Tensor, TopK]:
    """Log-prob of each target and entropy of each distribution, nats, float32 ([N], [N]), and the k likeliest tokens.

    These [N, K] come from the same logits, which ``look`` is shown in their order, some tokens at a time.
    """
    shape, device = (len(hidden_ND), k), hidden_ND.device
    top = TopK(torch.empty(shape, dtype=torch.long, device=device), torch.empty(shape, device=device))
    if not isinstance(head, OwnHead):
        hidden_ND, head = same_dtype(hidden_ND, head)
    logprobs_N, entropies_N, _ = _statistics(hidden_ND, head, targets_N, 0, top, look)
    return logprobs_N, entropies_N, top


@torch.no_grad()
def _statistics(
    hidden_ND: Tensor,
    head: Head | OwnHead,
    targets_N: Tensor,
    keep: int,
    top: TopK | None = None,
    look: Callable[[Seen], None] | None = None,
) -> tuple[Tensor, Tensor, list[_Softmax]]:
    """Log-probs, entropies, and the distributions of the first ``keep`` chunks; fills ``top``, and lets ``look``."""
    logprobs_N = torch.empty(hidden_ND.shape[0], dtype=torch.float32, device=hidden_ND.device)
    entropies_N = torch.empty_like(logprobs_N)
    kept: list[_Softmax] = []
    all_logits = Logits(hidden_ND, head)
    scratch: Tensor | None = None
    for index, part in enumerate(all_logits.parts):
        logits, chosen = _shifted(all_logits[part], targets_N[part])
        if index < keep:
            exps = logits.exp()
        else:
            scratch = torch.empty_like(logits) if scratch is None else scratch
            exps = torch.exp(logits, out=scratch[: len(logits)])
        sums = exps.sum(dim=1, keepdim=True)
        logprobs_N[part] = (chosen - sums.log())[:, 0]
        if top is not None and top.ids.shape[1]:
            values, top.ids[part] = logits.topk(top.ids.shape[1], dim=1)
            top.logprobs[part] = values - sums.log()
        if look is not None:
            look(Seen(logits, exps, sums, chosen))
        # H = log(sum) - sum p * logit
        entropies_N[part] = (
            sums[:, 0].log() - torch.linalg.vecdot(exps, logits.clamp_(min=StepScores.LOWEST)) / sums[:, 0]
        )
        if index < keep:
            kept.append(_Softmax(exps, sums, logprobs_N[part], all_logits.slope))
    return logprobs_N, entropies_N.clamp_(min=0.0), kept
