"""What is matched at a state, per token: the log loss, its robust relative, and divergences to a teacher.

Every loss is a function from logits to one number a token. Weights (the correction) multiply it outside.
Divergences compare the student with the teacher's recorded top-k and one tail bucket that holds the rest of
the vocabulary, so that truncated mass stays a distribution (docs/method.md, section 3). They are 0 where both agree.

Shape suffixes: N tokens, V vocabulary, K teacher's top-k.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dcod.config import LossConfig
from dcod.objective.step_scores import StepScores

NO_TOKEN = -1  # fills positions with fewer than K recorded tokens
LOG_TAIL_FLOOR = math.log(1e-8)  # a recorded top-k that sums to 1 still leaves the teacher a tail


@dataclass(frozen=True)
class TopK:
    """A recorded distribution: the likeliest tokens of each position.

    Attributes:
        ids: token ids, ``NO_TOKEN`` where there are fewer than K [N, K].
        logprobs: their log-probs, nats; ignored there [N, K].
    """

    ids: Tensor
    logprobs: Tensor

    def rows(self, part: slice) -> TopK:
        """Some of the positions."""
        return TopK(self.ids[part], self.logprobs[part])

    def to(self, device: torch.device | str) -> TopK:
        """The same on a device."""
        return TopK(self.ids.to(device), self.logprobs.to(device))


def log_loss(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """-log pi(y), nats [N]."""
    return torch.nn.functional.cross_entropy(logits_NV, targets_N, reduction="none")


def generalised_cross_entropy(logits_NV: Tensor, targets_N: Tensor, power: float) -> Tensor:
    """(1 - pi(y)^power) / power [N] (Zhang & Sabuncu 2018, equation 6): pi^power times the log loss' gradient."""
    return -torch.expm1(-power * log_loss(logits_NV, targets_N)) / power


def entropy_adaptive(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """(1 - pi(y)^a) / a [N], a = sum_v pi(v)^2 detached (DEFT, arXiv 2602.11424).

    The generalised cross-entropy whose power is the student's own chance of drawing the same token twice: near the
    log loss where it is unsure, near 1 - pi(y) where it is sure.
    """
    logprobs_NV = torch.log_softmax(logits_NV, dim=-1)
    power_N = torch.logsumexp(2 * logprobs_NV.detach(), dim=-1).exp()
    chosen_N = logprobs_NV.gather(1, targets_N[:, None])[:, 0]
    return -torch.expm1(power_N * chosen_N) / power_N


def buckets(logits_NV: Tensor, teacher: TopK) -> tuple[Tensor, Tensor]:
    """Log-probs of student and teacher on the top-k and the tail, nats ([N, K + 1] each)."""
    present = teacher.ids != NO_TOKEN
    ids = teacher.ids.clamp(min=0)
    logprobs_NV = torch.log_softmax(logits_NV, dim=-1)
    student = logprobs_NV.gather(1, ids).masked_fill(~present, StepScores.LOWEST)
    # amax: a filler stands for token 0 and must not uncover it
    covered = torch.zeros_like(logits_NV, dtype=torch.uint8).scatter_reduce_(1, ids, present.byte(), "amax").bool()
    rest = logprobs_NV.masked_fill(covered, -math.inf)
    none_left = covered.all(dim=1, keepdim=True)
    student_tail = torch.logsumexp(rest.masked_fill(none_left, 0.0), dim=1, keepdim=True)
    student_tail = student_tail.masked_fill(none_left, StepScores.LOWEST).clamp(min=StepScores.LOWEST)
    known = teacher.logprobs.to(logits_NV.dtype).masked_fill(~present, StepScores.LOWEST)
    mass = known.exp().sum(dim=1, keepdim=True).clamp(max=1.0)
    teacher_tail = torch.log1p(-mass).clamp(min=LOG_TAIL_FLOOR).masked_fill(none_left, StepScores.LOWEST)
    return torch.cat([student, student_tail], 1), torch.cat([known, teacher_tail], 1)


def _divergence(left: Tensor, right: Tensor) -> Tensor:
    """KL(left || right) of log-probs [N, K + 1], nats [N]."""
    return (left.exp() * (left - right)).sum(dim=1)


def _mixture(left: Tensor, right: Tensor, share: float) -> Tensor:
    return torch.logaddexp(left + math.log(share), right + math.log1p(-share))


def forward_kl(logits_NV: Tensor, teacher: TopK) -> Tensor:
    """KL(teacher || student) on top-k and tail, nats [N]."""
    student, known = buckets(logits_NV, teacher)
    return _divergence(known, student)


def reverse_kl(logits_NV: Tensor, teacher: TopK) -> Tensor:
    """KL(student || teacher) on top-k and tail, nats [N]."""
    student, known = buckets(logits_NV, teacher)
    return _divergence(student, known)


def jsd(logits_NV: Tensor, teacher: TopK, beta: float) -> Tensor:
    """Generalised Jensen-Shannon divergence [N]: beta KL(teacher || m) + (1 - beta) KL(student || m), m the mixture.

    With m = beta teacher + (1 - beta) student (Agarwal et al. 2024, equation 3).
    """
    student, known = buckets(logits_NV, teacher)
    middle = _mixture(known, student, beta)
    return beta * _divergence(known, middle) + (1 - beta) * _divergence(student, middle)


def skew_kl(logits_NV: Tensor, teacher: TopK, skew: float) -> Tensor:
    """KL(teacher || skew teacher + (1 - skew) student), nats [N] (DistiLLM, Ko et al. 2024, equation 4)."""
    student, known = buckets(logits_NV, teacher)
    return _divergence(known, _mixture(known, student, skew))


def todi(logits_NV: Tensor, targets_N: Tensor, teacher: TopK, cross_entropy: float) -> Tensor:
    """Forward KL where the teacher has more, reverse KL where the student has, entry by entry [N].

    sum_v s mu log(mu / pi) + (1 - s) pi log(pi / mu), s = sigmoid(log mu - log pi) detached (ToDi, arXiv 2505.16297),
    on top-k and tail; ``cross_entropy`` is the share of the log loss beside it (0.5 in the authors' code, which also
    divides all logits by a temperature of 2: recorded log-probs of a top-k do not allow that).
    """
    student, known = buckets(logits_NV, teacher)
    share = torch.sigmoid(known - student).detach()
    forward, reverse = known.exp() * (known - student), student.exp() * (student - known)
    divergence = (share * forward + (1 - share) * reverse).sum(dim=1)
    return torch.lerp(divergence, log_loss(logits_NV, targets_N), cross_entropy) if cross_entropy else divergence


@dataclass(frozen=True)
class Loss:
    """One loss.

    Attributes:
        needs_teacher: whether it compares with a recorded distribution.
        per_token: from configuration, logits [N, V], targets [N] and the teacher's top-k to one number a token [N].
    """

    needs_teacher: bool
    per_token: Callable[[LossConfig, Tensor, Tensor, TopK | None], Tensor]


def _of_teacher(function: Callable[[LossConfig, Tensor, Tensor, TopK], Tensor]) -> Loss:
    def per_token(config: LossConfig, logits_NV: Tensor, targets_N: Tensor, teacher: TopK | None) -> Tensor:
        assert teacher is not None
        return function(config, logits_NV, targets_N, teacher)

    return Loss(True, per_token)


LOSSES: dict[str, Loss] = {
    "log": Loss(False, lambda _, logits, targets, __: log_loss(logits, targets)),
    "gce": Loss(False, lambda c, logits, targets, _: generalised_cross_entropy(logits, targets, c.power)),
    "deft": Loss(False, lambda _, logits, targets, __: entropy_adaptive(logits, targets)),
    "forward_kl": _of_teacher(lambda _, logits, __, teacher: forward_kl(logits, teacher)),
    "reverse_kl": _of_teacher(lambda _, logits, __, teacher: reverse_kl(logits, teacher)),
    "jsd": _of_teacher(lambda c, logits, _, teacher: jsd(logits, teacher, c.beta)),
    "skew_kl": _of_teacher(lambda c, logits, _, teacher: skew_kl(logits, teacher, c.skew)),
    "todi": _of_teacher(lambda c, logits, targets, teacher: todi(logits, targets, teacher, c.cross_entropy)),
}
