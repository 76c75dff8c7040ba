"""Float32 matrix products on a CPU, by oneDNN where torch's own are slower.

torch multiplies float32 matrices with MKL, which has no AVX-512 code for processors that are not Intel's. oneDNN has:
on an AMD EPYC it is 2.2 times as fast, forward and backward (docs/performance.md). For float32 torch offers it through
one operator, that of its compiler's fused layers, which knows no gradient; so the gradient is written down here.

Whether it is used follows from the processor and from the operator, which is tried once, never from a clock: a run that
goes on must get the same bits.
`DCOD_ONEDNN=0` in the environment turns it off.
"""

from __future__ import annotations

import logging
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dcod.errors import one_line

_log = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def faster() -> bool:
    """Whether oneDNN is the faster one on this machine."""
    if os.environ.get("DCOD_ONEDNN") == "0" or torch.cuda.is_available() or not torch.backends.mkldnn.is_available():
        return False
    try:
        processor = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "AuthenticAMD" in processor and torch.backends.cpu.get_cpu_capability() == "AVX512" and usable()


@lru_cache(maxsize=1)
def usable() -> bool:
    """Whether torch's operator is there and multiplies; it is private, and another version may have changed it.

    Tried on a small product of each layout that is asked of it, against float64; told in the log where it fails.
    """
    rows_NI = torch.arange(-7.0, 8.0).reshape(3, 5) / 4
    weight_OI = torch.arange(10.0).reshape(2, 5).sin()
    try:
        pairs = ((rows_NI, weight_OI), (rows_NI.T, weight_OI[:, :3]), (rows_NI, weight_OI.T.contiguous().T))
        off = max(float((product(a, b).double() - a.double() @ b.double().T).abs().max()) for a, b in pairs)
        why = "" if off < 1e-5 else f"off by {off:.2g}"
    except Exception as error:  # whatever another torch may raise
        why = one_line(error) or type(error).__name__
    if why:
        _log.warning("oneDNN's products are not usable in torch %s (%.200s): its own instead", torch.__version__, why)
    return not why


def adopt(model: nn.Module) -> None:
    """Makes the linear layers of a model use :func:`product`, where that is faster; nothing else of them changes."""
    if faster():
        for module in model.modules():
            if type(module) is nn.Linear:  # no class that has a forward of its own
                module.__class__ = Linear


def applies(*tensors: Tensor) -> bool:
    """Whether :func:`product` is to be used for some tensors."""
    return faster() and all(t.dtype == torch.float32 and t.device.type == "cpu" and t.numel() for t in tensors)


def product(rows_NI: Tensor, weight_OI: Tensor) -> Tensor:
    """``rows @ weight.T`` [N, O], without a gradient; see :func:`applies`."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(_dense(rows_NI), _dense(weight_OI), None, "none", [], "")
    return result


class Linear(nn.Linear):
    """A linear layer that uses :func:`product` for what it applies to."""

    def forward(self, input: Tensor) -> Tensor:
        """As torch's."""
        one_row = input.numel() == input.shape[-1]  # a product with a vector, where MKL is faster
        if one_row or torch.is_autocast_enabled("cpu") or not applies(input, self.weight):
            return super().forward(input)
        rows: Tensor = _Product.apply(input.reshape(-1, input.shape[-1]), self.weight)
        out = rows.view(*input.shape[:-1], -1)
        return out if self.bias is None else out + self.bias


class _Product(torch.autograd.Function):
    """:func:`product` with its gradient, which is two more of them."""

    @staticmethod
    def forward(ctx: Any, rows_NI: Tensor, weight_OI: Tensor) -> Tensor:
        ctx.save_for_backward(rows_NI, weight_OI)
        return product(rows_NI, weight_OI)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (grad_NO,), (rows_NI, weight_OI) = grads, ctx.saved_tensors
        rows = product(grad_NO, weight_OI.T) if ctx.needs_input_grad[0] else None
        weight = product(grad_NO.T, rows_NI.T) if ctx.needs_input_grad[1] else None
        return rows, weight


def _dense(matrix: Tensor) -> Tensor:
    """As the operator takes it: contiguous, or the transpose of a contiguous one."""
    return matrix if matrix.is_contiguous() or matrix.T.is_contiguous() else matrix.contiguous()
