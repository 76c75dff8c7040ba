"""Losses, corrections, fused head and plan against float64 on the CPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from dcod.config import CorrectionConfig, LossConfig
from dcod.models import fused_head, heads
from dcod.models.batches import stored_record
from dcod.models.fused_head import Objective
from dcod.objective import weighting
from dcod.objective.corrections import CORRECTIONS
from dcod.objective.losses import LOSSES, TopK, forward_kl
from dcod.objective.step_scores import StepScores
from tests.gpu.students import DEVICE, traces

N, D, V = 150, 64, 320
BOUNDS = {torch.float32: 2e-5, torch.bfloat16: 2e-2}  # of ||ours - reference|| / ||reference||
ANCHOR, NORMALISER = 0.1, 1 / N


def apart(ours: torch.Tensor, reference: torch.Tensor) -> float:
    return float((ours.detach().cpu().double() - reference).norm() / reference.norm())


def drawn(dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Hidden states, head, targets and weights on the CPU, in numbers that the format holds."""
    generator = torch.Generator().manual_seed(0)
    hidden, head = (torch.randn(n, D, generator=generator).to(dtype) / 2 for n in (N, V))
    return hidden, head, torch.randint(V, (N,), generator=generator), torch.rand(N, generator=generator)


def known(seed: int) -> TopK:
    generator = torch.Generator().manual_seed(seed)
    values, ids = torch.randn(N, V, generator=generator).mul(2).log_softmax(-1).topk(6)
    return TopK(ids, values)


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_fused_head_has_the_loss_and_gradients_of_float64(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "chunk_rows", lambda *_: 64)
    hidden, head, targets, weights = drawn(dtype)
    teacher, start, loss = known(1), known(2), LossConfig.model_validate({"name": name})
    exact = [part.double().requires_grad_() for part in (hidden, head)]
    logits = exact[0] @ exact[1].T
    wide = [replace(top, logprobs=top.logprobs.double()) for top in (teacher, start)]
    reference = (weights.double() * LOSSES[name].per_token(loss, logits, targets, wide[0])).sum()
    reference = reference + ANCHOR * NORMALISER * forward_kl(logits, wide[1]).sum()
    reference.backward()
    ours = [part.to(DEVICE).requires_grad_() for part in (hidden, head)]
    objective = Objective(loss, 0.0, ANCHOR, teacher.to(DEVICE), start.to(DEVICE), NORMALISER)
    value, logprobs = fused_head.weighted_loss(*ours, targets.to(DEVICE), weights.to(DEVICE), objective)
    value.backward()
    chosen = logits.detach().log_softmax(-1)[torch.arange(N), targets]
    assert apart(logprobs, chosen) < BOUNDS[dtype]
    assert apart(value, reference.detach()) < BOUNDS[dtype]
    for part, other in zip(ours, exact, strict=True):
        assert part.grad is not None
        assert other.grad is not None
        assert apart(part.grad, other.grad) < BOUNDS[dtype]


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
def test_live_weights_and_scores_are_those_of_float64(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "chunk_rows", lambda *_: 64)
    hidden, head, targets, _ = drawn(dtype)
    exact = hidden.double().requires_grad_()
    logprobs = (exact @ head.double().T).log_softmax(-1)
    entropies = -(logprobs.exp() * logprobs).sum(-1).detach()
    chosen = logprobs[torch.arange(N), targets]
    (-((chosen + entropies).exp().detach() * chosen).sum()).backward()
    ours, told = hidden.to(DEVICE).requires_grad_(), (head.to(DEVICE), targets.to(DEVICE))
    objective = Objective()
    value, found, spread = fused_head.live_loss(ours, *told, lambda p, e: (p + e).exp(), objective)
    value.backward()
    assert ours.grad is not None
    assert exact.grad is not None
    for one, other in ((found, chosen.detach()), (spread, entropies), (ours.grad, exact.grad)):
        assert apart(one, other) < BOUNDS[dtype]
    _, _, top = fused_head.scored(ours.detach(), *told, 5)
    assert apart(top.logprobs, logprobs.detach().topk(5).values) < BOUNDS[dtype]


@pytest.mark.parametrize("name", sorted(CORRECTIONS))
def test_plan_and_weights_are_those_of_float64(name: str) -> None:
    config = CorrectionConfig.model_validate({"name": name, "ess_floor": 0.5, "weights": "live", "threshold": 0.0025})
    record = stored_record(traces(16))

    def moved(change: Any) -> StepScores:
        tensors = {k: change(v) for k, v in vars(record).items() if isinstance(v, torch.Tensor)}
        return replace(record, **tensors)

    exact = moved(lambda v: v.double() if v.is_floating_point() else v)
    ours = moved(lambda v: v.to(DEVICE))
    plan, reference = weighting.plan(config, ours), weighting.plan(config, exact)
    assert plan.gamma == pytest.approx(reference.gamma, rel=1e-4)
    assert plan.ess == pytest.approx(reference.ess, rel=1e-4)
    mine, theirs = weighting.weights(config, plan, ours), weighting.weights(config, reference, exact)
    assert apart(mine, theirs.double()) < 1e-4
