"""Checkpoints of a training run: complete or absent, the last few kept, in a folder or under s3://.

A checkpoint at a step holds all that decides what comes after it: weights, optimizer, random state, position
in the data (the step: the order follows from the seed), lagged statistics, and what was reported so far. So a
run that was killed and started again ends with the very same weights, bit for bit on a CPU.

A store has one folder a checkpoint, ``step-00000012``, and one a best student, ``best-00000012``, that the checkpoint
names. Everything is safetensors and JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dcod.storage.parts import Parts
from dcod.train.masters import Masters
from dcod.train.parallel import placed, whole
from dcod.train.state import TrainState

MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
_STEP, _BEST = "step-", "best-"
RANDOM_KEY = "random"  # torch's random state, beside the optimizer's tensors


@dataclass
class Checkpoint:
    """What :func:`Checkpoints.latest` gives back.

    Attributes:
        model, optimizer: tensors by name, as :func:`weights_of` and :func:`moments_of` name them.
        state: the rest; the step is in it.
    """

    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: TrainState


class Checkpoints:
    """The checkpoints of one run.

    Args:
        uri: a folder or ``s3://bucket/prefix`` of this run alone.
        keep: how many are kept.
    """

    def __init__(self, uri: str, keep: int = 2) -> None:
        self.uri, self.keep = uri, keep
        self._parts = Parts(uri, mark=STATE)

    def save(
        self, state: TrainState, model: nn.Module, optimizer: Any, masters: Masters | None = None, write: bool = True
    ) -> None:
        """Keeps what is there after a step; a kill in the middle leaves the checkpoints before.

        Args:
            state: of the run after this step.
            model: the student.
            optimizer: what moves it.
            masters: what the optimizer moves, where that is finer than the student's own.
            write: whether this rank does; all ranks call it, since each may hold a part (collective).
        """
        from safetensors.torch import save_file

        weights, moments = weights_of(model, write, masters), moments_of(optimizer, write)
        if not write:
            return
        with self._parts.put(f"{_STEP}{state.step:08d}") as folder:
            save_file(weights, folder / MODEL)
            save_file(moments, folder / OPTIMIZER)
            (folder / STATE).write_text(state.to_json(), encoding="utf-8")
        self._prune(state.best_step)

    def save_best(self, step: int, model: nn.Module, masters: Masters | None = None, write: bool = True) -> None:
        """Keeps the best student so far, as :meth:`save` does; the next checkpoint names it."""
        from safetensors.torch import save_file

        weights = weights_of(model, write, masters)
        if not write:
            return
        with self._parts.put(_best(step)) as folder:
            save_file(weights, folder / MODEL)
            (folder / STATE).write_text("{}", encoding="utf-8")

    def latest(self) -> Checkpoint | None:
        """The last complete checkpoint.

        Raises:
            UserError: another version of dcod wrote it.
        """
        from safetensors.torch import load_file

        steps = self._steps()
        if not steps:
            return None
        folder = self._parts.get(steps[-1])
        return Checkpoint(load_file(folder / MODEL), load_file(folder / OPTIMIZER), self._state(steps[-1]))

    def best(self, step: int) -> dict[str, Tensor]:
        """The weights of the best student, which a checkpoint names."""
        from safetensors.torch import load_file

        return load_file(self._parts.get(_best(step)) / MODEL)

    def clear(self) -> None:
        """Forgets the run: its student is kept elsewhere now."""
        self._parts.clear()

    def _prune(self, best: int) -> None:
        for name in self._steps()[: -self.keep]:
            self._parts.remove(name)
        # The checkpoints that are left may name the best of their time: it is older than the newest or equal.
        named = {_best(best), *(_best(self._state(name).best_step) for name in self._steps())}
        for name in self._parts.names():
            if name.startswith(_BEST) and name not in named:
                self._parts.remove(name)

    def _steps(self) -> list[str]:
        return [name for name in self._parts.names() if name.startswith(_STEP)]

    def _state(self, name: str) -> TrainState:
        """The plain part alone: no tensor is fetched for it."""
        text = self._parts.get(f"{name}/{STATE}").read_text(encoding="utf-8")
        return TrainState.from_json(text, f"{self._parts.uri}/{name}")


def _best(step: int) -> str:
    return f"{_BEST}{step:08d}"


def weights_of(model: nn.Module, keep: bool = True, masters: Masters | None = None) -> dict[str, Tensor]:
    """Trained parameters and buffers by name, shared ones once; call on every rank (collective).

    Args:
        model: the student.
        keep: whether this rank wants them; else an empty dict, so that not every rank holds a copy.
        masters: what the optimizer moves, where that is finer than the student's own.
    """
    entries = held(model, masters)
    return whole_of(((name, t) for name, t in entries if t.requires_grad or not isinstance(t, nn.Parameter)), keep)


def held(model: nn.Module, masters: Masters | None = None) -> Iterator[tuple[str, Tensor]]:
    """All that a student holds: parameters, frozen ones too, and the buffers that are saved, such as a router's bias.

    Args:
        model: the student.
        masters: as in :func:`weights_of`.
    """
    for name, parameter in model.named_parameters():
        yield name, masters.of(parameter) if masters else parameter
    yield from buffers(model).items()


def buffers(model: nn.Module) -> dict[str, Tensor]:
    """The buffers that belong to the weights; others are computed anew wherever the model is loaded."""
    saved = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name in saved}


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], masters: Masters | None = None) -> None:
    """Puts what :func:`weights_of` took back in place."""
    with torch.no_grad():
        for name, tensor in held(model, masters):
            if tensor.requires_grad or not isinstance(tensor, nn.Parameter):
                tensor.copy_(placed(tensors[name], tensor))
    if masters:
        masters.settle()


def moments_of(optimizer: Any, keep: bool = True) -> dict[str, Tensor]:
    """The optimizer's state by parameter number and name, and torch's random state; as :func:`weights_of`."""
    state = optimizer.state_dict()["state"]
    entries = ((f"{index}.{name}", value) for index, entry in state.items() for name, value in entry.items())
    return whole_of(entries, keep) | ({RANDOM_KEY: torch.get_rng_state()} if keep else {})


def load_moments(optimizer: Any, tensors: Mapping[str, Tensor]) -> None:
    """Puts the optimizer's state and torch's random state back."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key != RANDOM_KEY:
            number, name = key.split(".", 1)
            like = parameters[int(number)]
            state.setdefault(int(number), {})[name] = placed(value, like) if value.shape == like.shape else value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(tensors[RANDOM_KEY])


def whole_of(tensors: Iterable[tuple[str, Tensor]], keep: bool) -> dict[str, Tensor]:
    """Tensors that may be spread over ranks, whole and on the CPU; call on every rank (collective).

    Args:
        tensors: by name.
        keep: as in :func:`weights_of`.
    """
    out = {}
    for name, tensor in tensors:
        value = whole(tensor)
        if keep:
            out[name] = (value.cpu() if value is not tensor else value).contiguous()
    return out
