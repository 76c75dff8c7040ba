"""The fused head against plain autograd in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dcod.models import fused_head, heads
from dcod.models.fused_head import Objective
from dcod.score.fields.ranks import ranks


@pytest.mark.parametrize("focus", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("rows", [1, 37])
def test_loss_and_gradients_against_float64(focus: float, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "chunk_rows", lambda vocabulary, device: 8)  # several chunks, the last one short
    torch.manual_seed(rows)
    hidden = torch.randn(rows, 16, requires_grad=True)
    head = torch.randn(101, 16, requires_grad=True)
    targets, weights = torch.randint(101, (rows,)), torch.rand(rows)
    loss, logprobs = fused_head.weighted_loss(hidden, head, targets, weights, Objective(focus=focus))
    (3 * loss).backward()
    exact_hidden, exact_head = (t.detach().double().requires_grad_() for t in (hidden, head))
    exact = torch.log_softmax(exact_hidden @ exact_head.T, -1)[torch.arange(rows), targets]
    exact_loss = -(weights.double() * (focus * exact.detach()).exp() * exact).sum()
    (3 * exact_loss).backward()
    torch.testing.assert_close(logprobs.double(), exact.detach(), atol=1e-4, rtol=1e-5)
    assert float(loss.detach()) == pytest.approx(float(exact_loss.detach()), rel=1e-5)
    for ours, reference in ((hidden.grad, exact_hidden.grad), (head.grad, exact_head.grad)):
        assert ours is not None
        assert reference is not None
        assert float((ours - reference).norm() / reference.norm()) < 1e-5


def test_plain_weights_are_cross_entropy() -> None:
    torch.manual_seed(0)
    hidden, head, targets = torch.randn(9, 8), torch.randn(33, 8), torch.randint(33, (9,))
    loss, _ = fused_head.weighted_loss(hidden, head, targets, torch.full((9,), 1 / 9))
    torch.testing.assert_close(loss, F.cross_entropy(hidden @ head.T, targets))


def test_focus_is_the_gradient_of_the_generalised_cross_entropy() -> None:
    """w * pi^alpha * grad(-log pi) equals the gradient of (1 - pi^alpha) / alpha (docs/method.md, section 3)."""
    torch.manual_seed(0)
    hidden = torch.randn(5, 8, dtype=torch.float64, requires_grad=True)
    head, targets = torch.randn(33, 8, dtype=torch.float64), torch.randint(33, (5,))
    loss, _ = fused_head.weighted_loss(hidden, head, targets, torch.ones(5), Objective(focus=0.7))
    (ours,) = torch.autograd.grad(loss, hidden)
    pi = torch.softmax(hidden @ head.T, -1)[torch.arange(5), targets]
    (exact,) = torch.autograd.grad(((1 - pi**0.7) / 0.7).sum(), hidden)
    torch.testing.assert_close(ours, exact, atol=1e-5, rtol=1e-5)


def test_entropy_of_known_distributions() -> None:
    head = torch.eye(4)
    uniform, certain = torch.zeros(1, 4), torch.tensor([[200.0, 0.0, 0.0, 0.0]])
    logprobs, entropies, _ = fused_head.scored(torch.cat([uniform, certain]), head, torch.tensor([1, 0]), 0)
    torch.testing.assert_close(entropies, torch.tensor([4.0, 1.0]).log())
    torch.testing.assert_close(logprobs, torch.tensor([0.25, 1.0]).log())


@pytest.mark.parametrize("kept", [0, 2, 100])
@pytest.mark.parametrize("focus", [0.0, 1.0])
def test_live_weights_give_the_gradients_of_weights_known_before(
    focus: float, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether distributions are kept from the statistics, made again, or some of either."""
    monkeypatch.setattr(heads, "chunk_rows", lambda vocabulary, device: 8)
    monkeypatch.setattr(fused_head, "KEPT_CHUNKS", kept)
    torch.manual_seed(0)
    hidden, head = torch.randn(37, 16, requires_grad=True), torch.randn(101, 16, requires_grad=True)
    targets, objective = torch.randint(101, (37,)), Objective(focus=focus)
    given: list[torch.Tensor] = []

    def weigh(logprobs: torch.Tensor, entropies: torch.Tensor) -> torch.Tensor:
        given.extend([logprobs.clone(), entropies.clone()])
        return (logprobs + entropies).exp()

    loss, logprobs, entropies = fused_head.live_loss(hidden, head, targets, weigh, objective)
    live = torch.autograd.grad(loss, (hidden, head))
    exact = torch.log_softmax((hidden @ head.T).double(), -1).detach()
    torch.testing.assert_close(given[0].double(), exact[torch.arange(37), targets], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(given[1].double(), -(exact.exp() * exact).sum(1), atol=1e-5, rtol=1e-5)
    assert (given[0] == logprobs).all()
    assert (given[1] == entropies).all()
    known, _ = fused_head.weighted_loss(hidden, head, targets, (logprobs + entropies).exp(), objective)
    assert known.item() == pytest.approx(loss.item(), rel=1e-6)
    for ours, reference in zip(live, torch.autograd.grad(known, (hidden, head)), strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-6, rtol=1e-5)


def test_impossible_tokens_have_no_part_in_the_entropy() -> None:
    head = torch.tensor([[1.0], [1.0], [-torch.inf]])
    _, entropies, _ = fused_head.scored(torch.ones(1, 1), head, torch.tensor([0]), 0)
    torch.testing.assert_close(entropies, torch.tensor([2.0]).log())


def test_ranks_and_the_mass_below_against_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over several chunks, and where a token ties with the target."""
    monkeypatch.setattr(heads, "chunk_rows", lambda vocabulary, device: 8)
    torch.manual_seed(0)
    hidden, head, targets = torch.randn(40, 8), torch.randn(50, 8), torch.randint(50, (40,))
    head[3] = head[4]
    targets[0] = 3
    told: list[dict[str, torch.Tensor]] = []
    logprobs, entropies, _ = fused_head.scored(hidden, head, targets, 0, lambda seen: told.append(ranks(seen)))
    places, mass = (torch.cat([part[name] for part in told]) for name in ("start_ranks", "start_mass"))
    exact = torch.log_softmax(hidden.double() @ head.double().T, 1)
    for row, target in enumerate(targets.tolist()):
        likelier = [v for v in range(50) if exact[row, v] > exact[row, target] + 1e-9]
        assert int(places[row]) == 1 + len(likelier)
        below = sum(float(exact[row, v].exp()) for v in range(50) if v not in likelier)
        assert float(mass[row]) == pytest.approx(below, abs=1e-5)
    plain = fused_head.scored(hidden, head, targets, 0)
    assert torch.equal(logprobs, plain[0])
    assert torch.equal(entropies, plain[1])
