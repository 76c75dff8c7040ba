"""The fused head with a factor, a bias and a soft cap, and a head known as a function alone, against autograd."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from dcod.config import LossConfig
from dcod.models import fused_head, heads
from dcod.models.fused_head import Objective
from dcod.models.heads import Head, OwnHead
from dcod.objective.losses import LOSSES, TopK

ROWS, WIDTH, VOCABULARY = 37, 16, 61
SHAPES = [(scale, cap, bias) for scale, cap, bias in product((1.0, 0.25), (0.0, 5.0), (False, True))]


def tensors(bias: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    torch.manual_seed(4)
    hidden, weight = torch.randn(ROWS, WIDTH), 3 * torch.randn(VOCABULARY, WIDTH)
    return hidden, weight, torch.randn(VOCABULARY) if bias else None


def plain(hidden: Tensor, weight: Tensor, bias: Tensor | None, scale: float, cap: float) -> Tensor:
    logits = scale * (hidden @ weight.T)
    logits = logits if bias is None else logits + bias
    return cap * (logits / cap).tanh() if cap else logits


def objective(name: str, focus: float = 0.0, anchor: float = 0.0) -> Objective:
    generator = torch.Generator().manual_seed(5)
    values, ids = torch.log_softmax(torch.randn(ROWS, VOCABULARY, generator=generator), 1).topk(6, dim=1)
    return Objective(LossConfig(name=name), focus, anchor, TopK(ids, values), TopK(ids, values), 1 / ROWS)  # type: ignore[arg-type]


def expected(logits: Tensor, targets: Tensor, weights: Tensor, wanted: Objective) -> Tensor:
    """The objective written out, over all logits at once."""
    assert wanted.start is not None
    chosen = torch.log_softmax(logits, 1).gather(1, targets[:, None])[:, 0]
    per_token = LOSSES[wanted.loss.name].per_token(wanted.loss, logits, targets, wanted.teacher)
    loss = (weights * (wanted.focus * chosen.detach()).exp() * per_token).sum()
    if wanted.anchor:
        loss = loss + wanted.anchor * wanted.normaliser * fused_head.forward_kl(logits, wanted.start).sum()
    return loss


def apart(ours: Any, theirs: Any) -> float:
    assert ours is not None
    return float((ours - theirs).norm() / theirs.norm())


@pytest.fixture(autouse=True, params=[8, 1000], ids=["chunks", "whole"])
def rows_of_a_chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "chunk_rows", lambda vocabulary, device: request.param)


@pytest.mark.parametrize("own", [False, True], ids=["fused", "own"])
@pytest.mark.parametrize(("scale", "cap", "bias"), SHAPES)
def test_every_loss_and_its_gradients(scale: float, cap: float, bias: bool, own: bool) -> None:
    hidden, weight, offset = tensors(bias)
    targets, weights = torch.randint(VOCABULARY, (ROWS,)), torch.rand(ROWS)
    assert len(LOSSES) == 8
    for name, focus, anchor in [(name, 0.0, 0.0) for name in LOSSES] + [("log", 0.7, 0.0), ("log", 0.5, 0.3)]:
        wanted = objective(name, focus, anchor)
        leaves = [t.clone().requires_grad_() for t in (hidden, weight, offset) if t is not None]
        exact = [t.double().requires_grad_() for t in (hidden, weight, offset) if t is not None]
        head: Head | OwnHead = Head(leaves[1], leaves[2] if bias else None, scale, cap)
        if own:
            head = OwnHead(
                lambda h, leaves=leaves: plain(h, leaves[1], leaves[2] if bias else None, scale, cap), VOCABULARY
            )
        loss, logprobs = fused_head.weighted_loss(leaves[0], head, targets, weights, wanted)
        (2 * loss).backward()
        logits = plain(exact[0], exact[1], exact[2] if bias else None, scale, cap)
        reference = expected(logits, targets, weights.double(), wanted)
        (2 * reference).backward()
        assert loss.item() == pytest.approx(reference.item(), rel=1e-4), name
        chosen = torch.log_softmax(logits, 1).gather(1, targets[:, None])[:, 0]
        torch.testing.assert_close(logprobs.double(), chosen.detach(), atol=1e-4, rtol=1e-4)
        for ours, theirs in zip(leaves, exact, strict=True):
            assert apart(ours.grad, theirs.grad) < 2e-4, name


@pytest.mark.parametrize("own", [False, True], ids=["fused", "own"])
@pytest.mark.parametrize(("scale", "cap", "bias"), SHAPES)
def test_log_probs_entropies_and_top_k(scale: float, cap: float, bias: bool, own: bool) -> None:
    hidden, weight, offset = tensors(bias)
    targets = torch.randint(VOCABULARY, (ROWS,))
    exact = torch.log_softmax(plain(hidden, weight, offset, scale, cap).double(), 1)
    head: Head | OwnHead = Head(weight, offset, scale, cap)
    if own:
        head = OwnHead(lambda h: plain(h, weight, offset, scale, cap), VOCABULARY)
    logprobs, entropies, top = fused_head.scored(hidden, head, targets, 5)
    torch.testing.assert_close(logprobs.double(), exact.gather(1, targets[:, None])[:, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(entropies.double(), -(exact.exp() * exact).sum(1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(top.logprobs.double(), exact.topk(5, dim=1).values, atol=1e-4, rtol=1e-4)
    assert torch.equal(fused_head.likeliest(hidden, head, 1).ids[:, 0], exact.argmax(1))


@pytest.mark.parametrize("kept", [0, 2, 100])
@pytest.mark.parametrize("own", [False, True], ids=["fused", "own"])
def test_live_weights_are_weights_known_before(own: bool, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_head, "KEPT_CHUNKS", kept)
    hidden, weight, offset = tensors(True)
    assert offset is not None
    targets = torch.randint(VOCABULARY, (ROWS,))
    grads = []
    for live in (True, False):
        leaves = [t.clone().requires_grad_() for t in (hidden, weight, offset)]
        head: Head | OwnHead = Head(leaves[1], leaves[2], 0.5, 5.0)
        if own:
            head = OwnHead(lambda h, leaves=leaves: plain(h, leaves[1], leaves[2], 0.5, 5.0), VOCABULARY)
        if live:
            loss, logprobs, entropies = fused_head.live_loss(
                leaves[0], head, targets, lambda p, h: (p + h).exp(), Objective(focus=0.5)
            )
            weights = (logprobs + entropies).exp()
        else:
            loss, _ = fused_head.weighted_loss(leaves[0], head, targets, weights, Objective(focus=0.5))
        grads.append(torch.autograd.grad(loss, leaves))
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("cap", [0.0, 5.0])
def test_a_masked_vocabulary(cap: float) -> None:
    """A bias of -inf forbids a token; with a soft cap behind it the token is only unlikely, as in the model."""
    hidden, weight, offset = tensors(True)
    assert offset is not None
    offset[7] = -torch.inf
    targets = torch.full((ROWS,), 3)
    hidden, weight = hidden.requires_grad_(), weight.requires_grad_()
    head = Head(weight, offset, 1.0, cap)
    logprobs, entropies, _ = fused_head.scored(hidden, head, targets, 0)
    exact = torch.log_softmax(plain(hidden, weight, offset, 1.0, cap).double(), 1).detach()
    torch.testing.assert_close(logprobs.double(), exact[:, 3], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(entropies.double(), torch.special.entr(exact.exp()).sum(1), atol=1e-4, rtol=1e-4)
    for wanted in (Objective(), objective("gce")):
        loss, _ = fused_head.weighted_loss(hidden, head, targets, torch.ones(ROWS), wanted)
        assert all(bool(grad.isfinite().all()) for grad in torch.autograd.grad(loss, (hidden, weight)))


def test_a_frozen_bias_and_embedding_get_no_gradient() -> None:
    hidden, weight, offset = tensors(True)
    hidden.requires_grad_()
    loss, _ = fused_head.weighted_loss(
        hidden, Head(weight, offset), torch.zeros(ROWS, dtype=torch.long), torch.ones(ROWS)
    )
    loss.backward()
    assert hidden.grad is not None
    assert weight.grad is None


def test_half_precision_is_that_of_the_product(rows_of_a_chunk: None) -> None:
    hidden, weight, offset = tensors(True)
    assert offset is not None
    low = Head(weight.bfloat16(), offset.bfloat16(), 0.25, 5.0)
    logprobs, _, _ = fused_head.scored(hidden.bfloat16(), low, torch.zeros(ROWS, dtype=torch.long), 0)
    exact = torch.log_softmax(plain(hidden, weight, offset, 0.25, 5.0), 1)[:, 0]
    torch.testing.assert_close(logprobs, exact, atol=0.1, rtol=0.05)
