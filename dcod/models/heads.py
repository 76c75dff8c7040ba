"""What a model does from hidden states to logits, chunk by chunk.

A head is a product with the output embedding, and what some models do to the logits behind it: a factor, a bias, a soft
cap. Where a model does anything else, its own head is called. :mod:`dcod.models.selfcheck` finds out which it is.

Shape suffixes: N counted tokens of a micro-batch, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dcod.models import matmul

CHUNK_BYTES = {"cpu": 64 * 2**20, "cuda": 512 * 2**20}  # the second is a guess: not run on a GPU


@dataclass(frozen=True)
class Head:
    """From hidden states to logits: cap * tanh((scale * hidden @ weight.T + bias) / cap).

    Attributes:
        weight: output embedding [V, D].
        bias: added to the scaled products [V], or None.
        scale: of the products.
        cap: the soft cap; 0: none.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    cap: float = 0.0

    @property
    def vocabulary(self) -> int:
        """V."""
        return self.weight.shape[0]


@dataclass(frozen=True)
class OwnHead:
    """A head that is known as a function alone.

    Attributes:
        logits: from hidden states [n, D] to logits [n, V], row by row, differentiable.
        vocabulary: V.
    """

    logits: Callable[[Tensor], Tensor]
    vocabulary: int


def chunk_rows(vocabulary: int, device: str = "cpu") -> int:
    """Rows per chunk, so that one float32 buffer of logits stays near ``CHUNK_BYTES`` of the device."""
    return max(16, CHUNK_BYTES.get(device, CHUNK_BYTES["cpu"]) // (4 * vocabulary))


def chunks(rows: int, vocabulary: int, device: str) -> list[slice]:
    """The chunks of some rows, as slices."""
    step = chunk_rows(vocabulary, device)
    return [slice(start, start + step) for start in range(0, rows, step)]


class Logits:
    """Logits of chunks of rows, float32; in one buffer on the way, since fresh memory is slow on a CPU.

    Attributes:
        parts: the chunks.
        slope: what a soft cap leaves of a gradient at the last chunk's logits [n, V]; None without one.
    """

    def __init__(self, hidden_ND: Tensor, head: Head | OwnHead) -> None:
        self.parts = chunks(hidden_ND.shape[0], head.vocabulary, hidden_ND.device.type)
        self.slope: Tensor | None = None
        self._hidden, self._head = hidden_ND, head
        self._buffer: Tensor | None = None

    def __getitem__(self, part: slice) -> Tensor:
        """The chunk's logits; the next call overwrites them."""
        head, hidden = self._head, self._hidden[part]
        if isinstance(head, OwnHead):
            return head.logits(hidden).float()
        logits = self._product(hidden, head.weight)
        if head.scale != 1:
            logits.mul_(head.scale)
        if head.bias is not None:
            logits.add_(head.bias)
        if head.cap:
            logits.div_(head.cap).tanh_()
            self.slope = 1 - logits.square()
            logits.mul_(head.cap)
        return logits

    def _product(self, hidden: Tensor, weight_VD: Tensor) -> Tensor:
        if hidden.dtype != torch.float32:
            return (hidden @ weight_VD.T).float()
        if matmul.applies(hidden, weight_VD):
            return matmul.product(hidden, weight_VD)
        if self._buffer is None:
            rows = max(len(self._hidden[one]) for one in self.parts)
            self._buffer = torch.empty((rows, len(weight_VD)), dtype=torch.float32, device=hidden.device)
        return torch.mm(hidden, weight_VD.T, out=self._buffer[: hidden.shape[0]])


@torch.no_grad()
def logits_of(hidden_ND: Tensor, head: Head | OwnHead) -> Tensor:
    """The logits of some rows, as they are made here, in one piece, float32 [N, V]; under autocast as in training."""
    if isinstance(head, OwnHead):
        return head.logits(hidden_ND).float()
    hidden_ND, head = same_dtype(hidden_ND, head)
    with torch.autocast(hidden_ND.device.type, enabled=False):
        return Logits(hidden_ND, head)[slice(0, len(hidden_ND))]


def same_dtype(hidden_ND: Tensor, head: Tensor | Head) -> tuple[Tensor, Head]:
    """Both as autocast wants them, else as the hidden states are: cast once, not once a chunk."""
    head = Head(head) if isinstance(head, Tensor) else head
    device = hidden_ND.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_ND.dtype
    return hidden_ND.to(dtype), replace(head, weight=head.weight.to(dtype))
