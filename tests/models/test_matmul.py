"""Products by oneDNN against float64, as layers, in the fused head, and where they do not apply."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dcod.models import loading, matmul
from dcod.models.fused_head import Objective, live_loss, weighted_loss


@pytest.fixture(params=[True, False], ids=["oneDNN", "torch"])
def onednn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways on every machine; oneDNN has the operator everywhere, it is only not faster everywhere."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch was built without oneDNN")
    monkeypatch.setattr(matmul, "faster", lambda: request.param)
    return request.param


def apart(ours: Tensor | None, reference: Tensor | None) -> float:
    assert ours is not None
    assert reference is not None
    return float((ours.double() - reference).norm() / reference.norm())


@pytest.mark.parametrize("shape", [(5, 24), (3, 7, 24), (1, 1, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_and_its_gradients(onednn: bool, shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 40, bias=bias))
    exact = copy.deepcopy(model).double()
    matmul.adopt(model)
    assert isinstance(model[0], matmul.Linear) is onednn
    given = torch.randn(shape)
    ours, theirs = given.clone().requires_grad_(), given.double().requires_grad_()
    out, reference = model(ours), exact(theirs)
    assert out.shape == reference.shape
    towards = torch.randn(out.shape)
    (out * towards).sum().backward()
    (reference * towards.double()).sum().backward()
    assert apart(out, reference) < 1e-6
    assert apart(ours.grad, theirs.grad) < 1e-6
    for one, other in zip(model.parameters(), exact.parameters(), strict=True):
        assert apart(one.grad, other.grad) < 1e-6


def test_gradients_of_any_strides(onednn: bool) -> None:
    """A sum's gradient is expanded, a transpose's is not contiguous."""
    layer = nn.Linear(6, 4)
    exact = copy.deepcopy(layer).double()
    matmul.adopt(model := nn.Sequential(layer))
    given = torch.randn(6, 9)
    ours, theirs = given.clone().requires_grad_(), given.double().requires_grad_()
    model(ours.T).sum().backward()
    exact(theirs.T).sum().backward()
    assert apart(ours.grad, theirs.grad) < 1e-6
    assert apart(layer.weight.grad, exact.weight.grad) < 1e-6
    model(ours[:, ::2].T).T.square().sum().backward()


def test_what_it_does_not_apply_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "faster", lambda: True)
    monkeypatch.setattr(matmul, "product", lambda *_: pytest.fail("not for these"))
    layer = nn.Linear(6, 4)
    matmul.adopt(model := nn.Sequential(layer))
    assert model(torch.ones(0, 6)).shape == (0, 4)
    assert model(torch.ones(1, 6)).shape == (1, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(torch.ones(2, 6)).dtype == torch.bfloat16
    for dtype in (torch.float64, torch.bfloat16):
        assert model.to(dtype)(torch.ones(2, 6, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("live", [True, False])
def test_the_fused_head(onednn: bool, live: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcod.models.heads.chunk_rows", lambda *_: 16)
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(150, 12, generator=generator).requires_grad_()
    head = torch.randn(70, 12, generator=generator).requires_grad_()
    targets, weights = torch.randint(70, (150,), generator=generator), torch.rand(150, generator=generator)
    if live:
        loss, logprobs, _ = live_loss(hidden, head, targets, lambda *_: weights, Objective())
    else:
        loss, logprobs = weighted_loss(hidden, head, targets, weights)
    loss.backward()
    exact = [value.detach().double().requires_grad_() for value in (hidden, head)]
    reference = (exact[0] @ exact[1].T).log_softmax(-1).gather(1, targets[:, None])[:, 0]
    total = -(reference * weights.double()).sum()
    total.backward()
    assert apart(logprobs, reference.detach()) < 1e-6
    assert loss.item() == pytest.approx(total.item(), rel=1e-6)
    assert apart(hidden.grad, exact[0].grad) < 1e-5
    assert apart(head.grad, exact[1].grad) < 1e-5


def test_a_loaded_student(onednn: bool, tiny_student: Path, tmp_path: Path) -> None:
    """Tied embeddings stay tied, and what is saved is an ordinary model."""
    model = loading.load(tiny_student)
    assert any(type(module) is matmul.Linear for module in model.modules()) is onednn
    assert all(isinstance(m, nn.Linear) for m in model.modules() if type(m) is matmul.Linear)
    model.save_pretrained(tmp_path)
    same = loading.load(tmp_path)
    ids = torch.arange(1, 20)[None]
    assert torch.equal(model(ids).logits, same(ids).logits)


def test_it_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCOD_ONEDNN", "0")
    assert not matmul.faster.__wrapped__()


def test_a_torch_whose_operator_is_gone_or_other_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One line of log and plain torch, on the processor where oneDNN would be the faster one."""
    monkeypatch.delenv("DCOD_ONEDNN", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: True)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "vendor_id : AuthenticAMD")

    def gone(*_: Tensor) -> Tensor:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_linear_pointwise'")

    def crashed(*_: Tensor) -> Tensor:
        raise RuntimeError("expected 7 arguments\nbut got 6 from https://u:PLANTED@host")

    changed = [gone, crashed, lambda a, b: a @ b.T + 1e-3, lambda a, b: (a @ b.T).T, lambda a, b: a @ b.T * torch.nan]
    for product in changed:
        caplog.clear()
        monkeypatch.setattr(matmul, "product", product)
        matmul.usable.cache_clear()
        assert not matmul.faster.__wrapped__()
        (record,) = caplog.records
        assert "its own instead" in record.getMessage()
        assert "\n" not in record.getMessage()
        assert "PLANTED" not in record.getMessage()
    monkeypatch.undo()
    matmul.usable.cache_clear()


def test_the_operator_of_this_torch_is_usable() -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch was built without oneDNN")
    assert matmul.usable.__wrapped__()
