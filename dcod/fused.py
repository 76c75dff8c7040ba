"""Output head and weighted loss in one, in chunks of rows: the full [N, V] logits never exist.

The gradient is made in the forward pass (as in Liger-kernel and cut-cross-entropy), because the weights are
detached: each chunk of logits is turned into log-probs, entropies and its own gradient, and dropped.

Shape suffixes: N counted tokens of a micro-batch, D hidden size, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dcod.config import LossConfig
from dcod.losses import LOSSES, TopK, forward_kl, log_loss

CHUNK_BYTES = 64 * 2**20


def chunk_rows(vocabulary: int) -> int:
    """Rows per chunk, so that one float32 buffer of logits stays near 64 MiB."""
    return max(16, CHUNK_BYTES // (4 * vocabulary))


@dataclass(frozen=True)
class Objective:
    """What the head minimises, per counted token of a micro-batch: w * loss + anchor * KL(start || student).

    Attributes:
        loss: of the state; see :mod:`dcod.losses`.
        focus: alpha; the log loss is multiplied by the detached pi(y)^alpha. 1 is DFT (METHOD 4).
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


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor, weights_N: Tensor, objective: Objective
    ) -> tuple[Tensor, Tensor]:
        rows = hidden_ND.shape[0]
        logprobs_N = torch.empty(rows, dtype=torch.float32, device=hidden_ND.device)
        grad_hidden_ND = torch.empty_like(hidden_ND)
        precise = torch.promote_types(head_VD.dtype, torch.float32)  # a sum over many chunks
        grad_head_VD = torch.zeros_like(head_VD, dtype=precise) if ctx.needs_input_grad[1] else None
        loss = torch.zeros((), dtype=torch.float32, device=hidden_ND.device)
        plain = objective.loss.name == "log" and not objective.anchor
        step = chunk_rows(head_VD.shape[0])
        for start in range(0, rows, step):
            part = slice(start, start + step)
            logits = (hidden_ND[part] @ head_VD.T).float()
            differentiate = _log_chunk if plain else _any_chunk
            value, grad, logprobs_N[part] = differentiate(logits, targets_N[part], weights_N[part], objective, part)
            loss += value
            grad = grad.to(head_VD.dtype)
            grad_hidden_ND[part] = grad @ head_VD
            if grad_head_VD is None:
                continue
            if grad.dtype == precise:
                grad_head_VD.addmm_(grad.T, hidden_ND[part])
            else:
                grad_head_VD += grad.T @ hidden_ND[part]
        ctx.save_for_backward(grad_hidden_ND, None if grad_head_VD is None else grad_head_VD.to(head_VD.dtype))
        ctx.mark_non_differentiable(logprobs_N)
        return loss, logprobs_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden_ND, grad_head_VD = ctx.saved_tensors
        scale = grads[0]
        head = None if grad_head_VD is None else grad_head_VD * scale.to(grad_head_VD.dtype)
        return grad_hidden_ND * scale.to(grad_hidden_ND.dtype), head, None, None, None


def _log_chunk(
    logits: Tensor, targets: Tensor, weights: Tensor, objective: Objective, _: slice
) -> tuple[Tensor, Tensor, Tensor]:
    """The log loss by hand: the logits' own buffer becomes the gradient."""
    target = targets[:, None]
    chosen = logits.gather(1, target)
    log_sum = torch.logsumexp(logits, dim=1, keepdim=True)
    logprob = (chosen - log_sum)[:, 0]
    coefficient = weights.float()
    if objective.focus:
        coefficient = coefficient * (objective.focus * logprob).exp()
    loss = -(coefficient * logprob).sum()
    # d(-log p)/d logits = softmax - onehot
    grad = logits.sub_(log_sum).exp_()
    grad.scatter_add_(1, target, -torch.ones_like(chosen))
    return loss, grad.mul_(coefficient[:, None]), logprob


def _any_chunk(
    logits: Tensor, targets: Tensor, weights: Tensor, objective: Objective, part: slice
) -> tuple[Tensor, Tensor, Tensor]:
    """Any loss of dcod.losses and the anchor, by autograd within the chunk."""
    teacher = None if objective.teacher is None else objective.teacher.rows(part)
    with torch.enable_grad():
        logits = logits.detach().requires_grad_()
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
        (grad,) = torch.autograd.grad(loss, logits)
    return loss.detach(), grad, logprob


def weighted_loss(
    hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor, weights_N: Tensor, objective: Objective | None = None
) -> tuple[Tensor, Tensor]:
    """Sum over tokens of the weighted objective, weights and pi^alpha detached (METHOD 4), and the log-probs.

    Args:
        hidden_ND: last hidden states of the positions that predict the targets [N, D].
        head_VD: output embedding [V, D].
        targets_N: token ids [N].
        weights_N: weight of each token, the loss normaliser already in it [N].
        objective: the loss at a state; the log loss by default.

    Returns:
        The loss (a sum, float32 scalar, differentiable in ``hidden_ND`` and ``head_VD``) and the detached
        log-probs, nats, float32 [N].
    """
    hidden_ND, head_VD = _same_dtype(hidden_ND, head_VD)
    with torch.autocast(hidden_ND.device.type, enabled=False):
        loss, logprobs_N = _Fused.apply(hidden_ND, head_VD, targets_N, weights_N, objective or Objective())
    return loss, logprobs_N


def _same_dtype(hidden_ND: Tensor, head_VD: Tensor) -> tuple[Tensor, Tensor]:
    """Both as autocast wants them, else as the hidden states are: cast once, not once a chunk."""
    device = hidden_ND.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_ND.dtype
    return hidden_ND.to(dtype), head_VD.to(dtype)


@torch.no_grad()
def likeliest(hidden_ND: Tensor, head_VD: Tensor, k: int) -> TopK:
    """The k likeliest tokens of each position and their log-probs [N, K]."""
    hidden_ND, head_VD = _same_dtype(hidden_ND, head_VD)
    rows = hidden_ND.shape[0]
    ids = torch.empty((rows, k), dtype=torch.long, device=hidden_ND.device)
    logprobs = torch.empty((rows, k), dtype=torch.float32, device=hidden_ND.device)
    step = chunk_rows(head_VD.shape[0])
    for start in range(0, rows, step):
        part = slice(start, start + step)
        logits = (hidden_ND[part] @ head_VD.T).float()
        values, ids[part] = logits.topk(k, dim=1)
        logprobs[part] = values - torch.logsumexp(logits, dim=1, keepdim=True)
    return TopK(ids, logprobs)


@torch.no_grad()
def token_statistics(hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    """Log-prob of each target and entropy of each distribution, nats, float32 ([N], [N])."""
    hidden_ND, head_VD = _same_dtype(hidden_ND, head_VD)
    rows = hidden_ND.shape[0]
    logprobs_N = torch.empty(rows, dtype=torch.float32, device=hidden_ND.device)
    entropies_N = torch.empty_like(logprobs_N)
    step = chunk_rows(head_VD.shape[0])
    for start in range(0, rows, step):
        part = slice(start, start + step)
        logits = (hidden_ND[part] @ head_VD.T).float()
        log_sum = torch.logsumexp(logits, dim=1)
        logprobs_N[part] = logits.gather(1, targets_N[part, None])[:, 0] - log_sum
        # H = logsumexp - sum p * logit; a logit of -inf has p = 0 and adds nothing.
        probabilities = (logits - log_sum[:, None]).exp()
        entropies_N[part] = log_sum - torch.linalg.vecdot(probabilities, logits.nan_to_num(neginf=0.0))
    return logprobs_N, entropies_N.clamp_(min=0.0)
