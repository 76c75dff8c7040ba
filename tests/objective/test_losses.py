"""Losses at a state: pinned values, divergences that vanish where both agree, top-k against the full vocabulary."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dcod.config import LossConfig
from dcod.objective import losses
from dcod.objective.losses import LOSSES, NO_TOKEN, TopK

DIVERGENCES = sorted(name for name, loss in LOSSES.items() if loss.needs_teacher)
V = 7


def of(name: str, logits: torch.Tensor, teacher: TopK, **knobs: float) -> torch.Tensor:
    config = LossConfig.model_validate({"name": name, **knobs})
    return LOSSES[name].per_token(config, logits, torch.zeros(len(logits), dtype=torch.long), teacher)


def top(logprobs: torch.Tensor, k: int) -> TopK:
    values, ids = logprobs.topk(k, dim=1)
    return TopK(ids, values)


def draw(seed: int, rows: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(rows, V, generator=generator, dtype=torch.float64)


def test_hand_written_values() -> None:
    """Student (1/2, 1/4, 1/4), teacher's top-1 is 3/4 on token 0, so both tails are what is left."""
    logits = torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64).log()
    teacher = TopK(torch.tensor([[0]]), torch.tensor([[0.75]], dtype=torch.float64).log())
    forward = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    reverse = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert of("forward_kl", logits, teacher).item() == pytest.approx(forward, rel=1e-12)
    assert of("reverse_kl", logits, teacher).item() == pytest.approx(reverse, rel=1e-12)
    middle = (0.2 * 0.75 + 0.8 * 0.5, 0.2 * 0.25 + 0.8 * 0.5)
    left = 0.75 * math.log(0.75 / middle[0]) + 0.25 * math.log(0.25 / middle[1])
    right = 0.5 * math.log(0.5 / middle[0]) + 0.5 * math.log(0.5 / middle[1])
    assert of("jsd", logits, teacher, beta=0.2).item() == pytest.approx(0.2 * left + 0.8 * right, rel=1e-12)
    assert of("skew_kl", logits, teacher, skew=0.2).item() == pytest.approx(left, rel=1e-12)
    towards = [0.75 / (0.75 + 0.5), 0.25 / (0.25 + 0.5)]  # sigmoid(log mu - log pi) = mu / (mu + pi)
    todi = towards[0] * 0.75 * math.log(0.75 / 0.5) + towards[1] * 0.25 * math.log(0.25 / 0.5)
    todi += (1 - towards[0]) * 0.5 * math.log(0.5 / 0.75) + (1 - towards[1]) * 0.5 * math.log(0.5 / 0.25)
    assert of("todi", logits, teacher).item() == pytest.approx(todi, rel=1e-12)
    mixed = of("todi", logits, teacher, cross_entropy=0.5).item()  # the target of `of` is token 0
    assert mixed == pytest.approx(0.5 * todi + 0.5 * math.log(2), rel=1e-12)
    targets = torch.tensor([1])
    sure = 0.5**2 + 2 * 0.25**2
    assert losses.entropy_adaptive(logits, targets).item() == pytest.approx((1 - 0.25**sure) / sure, rel=1e-12)
    assert losses.log_loss(logits, targets).item() == pytest.approx(math.log(4), rel=1e-12)
    assert losses.generalised_cross_entropy(logits, targets, 0.5).item() == pytest.approx((1 - 0.5) / 0.5, rel=1e-12)


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("k", [1, 3, V])
def test_zero_where_the_student_is_the_teacher(name: str, k: int) -> None:
    logits = draw(0)
    found = of(name, logits, top(torch.log_softmax(logits, 1), k))
    torch.testing.assert_close(found, torch.zeros_like(found), atol=1e-7, rtol=0)


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(DIVERGENCES), st.integers(0, 10_000), st.integers(1, V))
def test_never_negative_and_with_finite_gradients(name: str, seed: int, k: int) -> None:
    logits = draw(seed).requires_grad_()
    found = of(name, logits, top(torch.log_softmax(draw(seed + 1), 1), k))
    assert (found.detach() >= -1e-7).all()
    (grad,) = torch.autograd.grad(found.sum(), logits)
    assert torch.isfinite(grad).all()


def exact(name: str, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """The divergences over the full vocabulary, with torch's own KL."""

    def kl(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return F.kl_div(right, left, log_target=True, reduction="none").sum(1)

    config = LossConfig()
    if name == "forward_kl":
        return kl(teacher, student)
    if name == "reverse_kl":
        return kl(student, teacher)
    if name == "todi":  # its value, not its gradient, is Jeffreys' divergence: s mu - (1 - s) pi = mu - pi
        return kl(teacher, student) + kl(student, teacher)
    share = config.beta if name == "jsd" else config.skew
    middle = (share * teacher.exp() + (1 - share) * student.exp()).log()
    if name == "skew_kl":
        return kl(teacher, middle)
    return share * kl(teacher, middle) + (1 - share) * kl(student, middle)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_top_k_and_tail_grow_to_the_full_vocabulary(name: str) -> None:
    """Merging tokens into a tail can only lose divergence; with all of them nothing is lost."""
    student, teacher = draw(1), torch.log_softmax(draw(2), 1)
    full = exact(name, torch.log_softmax(student, 1), teacher)
    errors = [(full - of(name, student, top(teacher, k))).mean().item() for k in range(1, V + 1)]
    assert all(more <= less + 1e-12 for less, more in itertools.pairwise(errors))
    assert errors[0] > 1e-3
    torch.testing.assert_close(of(name, student, top(teacher, V)), full, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_fillers_change_nothing(name: str) -> None:
    student, teacher = draw(3), torch.log_softmax(draw(4), 1)
    known = top(teacher, 2)
    ids = torch.cat([torch.full((5, 1), NO_TOKEN), known.ids, torch.full((5, 2), NO_TOKEN)], 1)
    values = torch.cat([torch.zeros(5, 1), known.logprobs, torch.zeros(5, 2)], 1)
    torch.testing.assert_close(of(name, student, TopK(ids, values)), of(name, student, known))


def test_generalised_cross_entropy_tends_to_the_log_loss() -> None:
    logits, targets = draw(5), torch.arange(5)
    small = losses.generalised_cross_entropy(logits, targets, 1e-6)
    torch.testing.assert_close(small, losses.log_loss(logits, targets), rtol=1e-4, atol=1e-4)


def test_a_teacher_without_a_tail_stays_finite() -> None:
    """A recorded top-1 of probability one, and a student that is elsewhere."""
    teacher = TopK(torch.tensor([[0]]), torch.tensor([[0.0]]))
    for name in DIVERGENCES:
        found = of(name, torch.tensor([[-30.0, 0.0, 0.0]]), teacher)
        assert torch.isfinite(found).all(), name
