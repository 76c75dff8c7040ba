"""Float32 copies of coarser weights, which the optimizer moves: a student in bfloat16 learns at small rates, too.

A bfloat16 number has eight bits: an update below about 0.2 % of a weight is lost in it, every time again. So the
optimizer moves copies in float32, and after each step the student's weights are those copies, rounded. Gradients are
added up over micro-batches in float32 as well. The student that is measured is the rounded one, which is what is
saved. A weight that is float32 already is its own master: nothing of this happens to it.

Micikevicius et al., "Mixed Precision Training", 2018.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Masters:
    """The weights that an optimizer moves.

    Args:
        parameters: what is trained, as it lies on this rank.

    Attributes:
        weights: as many, in their order; float32.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self.weights = [p if p.dtype == torch.float32 else nn.Parameter(p.detach().float()) for p in self._parameters]
        self._coarse = [(p, w) for p, w in zip(self._parameters, self.weights, strict=True) if p is not w]
        self._known = {id(p): w for p, w in self._coarse}

    @property
    def apart(self) -> bool:
        """Whether there are copies at all."""
        return bool(self._coarse)

    def of(self, parameter: Tensor) -> Tensor:
        """The master of a weight: itself where it is none of the coarser ones."""
        return self._known.get(id(parameter), parameter)

    def collect(self) -> None:
        """Takes the gradients of a backward over, and adds them to those that are there."""
        for parameter, master in self._coarse:
            if parameter.grad is not None:
                if master.grad is None:
                    master.grad = parameter.grad.float()
                else:  # in place: on a GPU this is bound by memory
                    master.grad += parameter.grad
                parameter.grad = None

    @torch.no_grad()
    def settle(self) -> None:
        """Makes the student's weights those of the masters, rounded."""
        for parameter, master in self._coarse:
            parameter.copy_(master)

    def zero_grad(self) -> None:
        """Forgets all gradients."""
        for tensor in (*self._parameters, *self.weights):
            tensor.grad = None
