"""Output head and weighted loss in one, in chunks of rows: the full [N, V] logits never exist.

The gradient is made in the forward pass (as in Liger-kernel and cut-cross-entropy), because the weights are
detached: each chunk of logits is turned into log-probs, entropies and its own gradient, and dropped. Weights that
depend on the log-probs of this very pass are asked for between the two, traces that are compared with one another in
one chunk, so that the logits are still there; only where those traces do not fit are their logits made twice.

Shape suffixes: N counted tokens of a micro-batch, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dcod.config import LossConfig
from dcod.losses import LOSSES, TopK, forward_kl

CHUNK_BYTES = {"cpu": 64 * 2**20, "cuda": 512 * 2**20}  # the second is a guess: not run on a GPU
LIVE = 3  # chunks of this size times the usual hold the traces that are compared with one another

Weigher = Callable[[slice, Tensor, Tensor], Tensor]


def chunk_rows(vocabulary: int, device: str = "cpu") -> int:
    """Rows per chunk, so that one float32 buffer of logits stays near 64 MiB on a CPU, 512 MiB on a GPU."""
    return max(16, CHUNK_BYTES.get(device, CHUNK_BYTES["cpu"]) // (4 * vocabulary))


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
        ctx: Any,
        hidden_ND: Tensor,
        head_VD: Tensor,
        targets_N: Tensor,
        weights: Tensor | Weigher,
        units: Sequence[slice],
        objective: Objective,
    ) -> tuple[Tensor, Tensor]:
        rows, device = hidden_ND.shape[0], hidden_ND.device
        logprobs_N = torch.empty(rows, dtype=torch.float32, device=device)
        grad_hidden_ND = torch.empty_like(hidden_ND)
        precise = torch.promote_types(head_VD.dtype, torch.float32)  # a sum over many chunks
        grad_head_VD = torch.zeros_like(head_VD, dtype=precise) if ctx.needs_input_grad[1] else None
        loss = torch.zeros((), dtype=torch.float32, device=device)

        def add(part: slice, weights_N: Tensor, chunk: _Chunk) -> None:
            nonlocal loss
            value, grad = chunk.differentiate(targets_N[part], weights_N, objective, part)
            loss += value
            grad = grad.to(head_VD.dtype)
            grad_hidden_ND[part] = grad @ head_VD
            if grad_head_VD is None:
                return
            if grad.dtype == precise:
                grad_head_VD.addmm_(grad.T, hidden_ND[part])
            else:
                grad_head_VD.add_(grad.T @ hidden_ND[part])

        plain = objective.loss.name == "log" and not objective.anchor
        step = chunk_rows(head_VD.shape[0], device.type)
        for unit in units:
            if isinstance(weights, Tensor):
                for part in _parts(unit, step):
                    chunk = _Chunk(hidden_ND[part] @ head_VD.T, targets_N[part], plain, in_place=True)
                    logprobs_N[part] = chunk.logprobs
                    add(part, weights[part], chunk)
                continue
            parts = list(_parts(unit, step if unit.stop - unit.start > LIVE * step else LIVE * step))
            entropies, held = list[Tensor](), None
            for part in parts:
                held = _Chunk(hidden_ND[part] @ head_VD.T, targets_N[part], plain)
                logprobs_N[part] = held.logprobs
                entropies.append(held.entropies())
            weights_N = weights(unit, logprobs_N[unit], torch.cat(entropies))
            for part in parts:
                if len(parts) > 1 or held is None:
                    held = _Chunk(hidden_ND[part] @ head_VD.T, targets_N[part], plain, in_place=True)
                add(part, weights_N[part.start - unit.start : part.stop - unit.start], held)
        ctx.save_for_backward(grad_hidden_ND, None if grad_head_VD is None else grad_head_VD.to(head_VD.dtype))
        ctx.mark_non_differentiable(logprobs_N)
        return loss, logprobs_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden_ND, grad_head_VD = ctx.saved_tensors
        scale = grads[0]
        head = None if grad_head_VD is None else grad_head_VD * scale.to(grad_head_VD.dtype)
        return grad_hidden_ND * scale.to(grad_hidden_ND.dtype), head, None, None, None, None


def _parts(unit: slice, step: int) -> list[slice]:
    return [slice(start, min(start + step, unit.stop)) for start in range(unit.start, unit.stop, step)]


class _Chunk:
    """Logits of some rows, their log-probs, and then the gradient.

    Args:
        logits: [n, V]; taken over.
        targets: token ids [n].
        plain: for the log loss alone, whose gradient is the softmax less the targets.
        in_place: nobody asks for entropies: the logits' own buffer becomes the softmax.
    """

    def __init__(self, logits: Tensor, targets: Tensor, plain: bool, in_place: bool = False) -> None:
        self.logits = logits.float()
        self.plain = plain
        self.log_sum = torch.logsumexp(self.logits, dim=1, keepdim=True)
        self.logprobs = (self.logits.gather(1, targets[:, None]) - self.log_sum)[:, 0]
        self.softmax = None
        if plain:
            shifted = self.logits.sub_(self.log_sum) if in_place else self.logits - self.log_sum
            self.softmax = shifted.exp_()

    def entropies(self) -> Tensor:
        """Nats [n]; not after ``in_place``."""
        softmax = (self.logits - self.log_sum).exp_() if self.softmax is None else self.softmax
        # H = logsumexp - sum p * logit; a logit of -inf has p = 0 and adds nothing.
        finite = self.logits.nan_to_num_(neginf=0.0) if self.plain else self.logits.nan_to_num(neginf=0.0)
        return (self.log_sum[:, 0] - torch.linalg.vecdot(softmax, finite)).clamp_(min=0.0)

    def differentiate(
        self, targets: Tensor, weights: Tensor, objective: Objective, part: slice
    ) -> tuple[Tensor, Tensor]:
        """The loss of these rows and its gradient in the logits [n, V]; used once."""
        coefficient = weights.float()
        if objective.focus:
            coefficient = coefficient * (objective.focus * self.logprobs).exp()
        if self.softmax is None:
            return self._any_loss(targets, coefficient, objective, part)
        # d(-log p)/d logits = softmax - onehot
        ones = torch.ones_like(targets[:, None], dtype=self.softmax.dtype)
        grad = self.softmax.scatter_add_(1, targets[:, None], -ones)
        return -(coefficient * self.logprobs).sum(), grad.mul_(coefficient[:, None])

    def _any_loss(
        self, targets: Tensor, coefficient: Tensor, objective: Objective, part: slice
    ) -> tuple[Tensor, Tensor]:
        """Any loss of dcod.losses and the anchor, by autograd within the chunk."""
        teacher = None if objective.teacher is None else objective.teacher.rows(part)
        with torch.enable_grad():
            logits = self.logits.detach().requires_grad_()
            per_token = LOSSES[objective.loss.name].per_token(objective.loss, logits, targets, teacher)
            loss = (coefficient * per_token).sum()
            if objective.anchor:
                assert objective.start is not None
                scale = objective.anchor * objective.normaliser
                loss = loss + scale * forward_kl(logits, objective.start.rows(part)).sum()
            (grad,) = torch.autograd.grad(loss, logits)
        return loss.detach(), grad


def weighted_loss(
    hidden_ND: Tensor,
    head_VD: Tensor,
    targets_N: Tensor,
    weights: Tensor | Weigher,
    objective: Objective | None = None,
    units: Sequence[slice] = (),
) -> tuple[Tensor, Tensor]:
    """Sum over tokens of the weighted objective, weights and pi^alpha detached (METHOD 4), and the log-probs.

    Args:
        hidden_ND: last hidden states of the positions that predict the targets [N, D].
        head_VD: output embedding [V, D].
        targets_N: token ids [N].
        weights: weight of each token, the loss normaliser already in it [N]; or a function that gives those of a
            unit from its place, log-probs and entropies (nats, float32 [n]), called once a unit.
        objective: the loss at a state; the log loss by default.
        units: rows that are weighed together, one after the other and N in all; by default all rows are one.

    Returns:
        The loss (a sum, float32 scalar, differentiable in ``hidden_ND`` and ``head_VD``) and the detached
        log-probs, nats, float32 [N].
    """
    units = units or [slice(0, hidden_ND.shape[0])]
    hidden_ND, head_VD = _same_dtype(hidden_ND, head_VD)
    with torch.autocast(hidden_ND.device.type, enabled=False):
        loss, logprobs_N = _Fused.apply(hidden_ND, head_VD, targets_N, weights, units, objective or Objective())
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
    for part in _parts(slice(0, rows), chunk_rows(head_VD.shape[0], hidden_ND.device.type)):
        logits = (hidden_ND[part] @ head_VD.T).float()
        values, ids[part] = logits.topk(k, dim=1)
        logprobs[part] = values - torch.logsumexp(logits, dim=1, keepdim=True)
    return TopK(ids, logprobs)


@torch.no_grad()
def token_statistics(hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    """Log-prob of each target and entropy of each distribution, nats, float32 ([N], [N])."""
    hidden_ND, head_VD = _same_dtype(hidden_ND, head_VD)
    chunks = []
    for part in _parts(slice(0, hidden_ND.shape[0]), chunk_rows(head_VD.shape[0], hidden_ND.device.type)):
        chunk = _Chunk(hidden_ND[part] @ head_VD.T, targets_N[part], plain=True)
        chunks.append((chunk.logprobs, chunk.entropies()))
    logprobs, entropies = zip(*chunks, strict=True)
    return torch.cat(logprobs), torch.cat(entropies)
