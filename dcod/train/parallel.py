"""Over several ranks and in less memory: replicas or shards of the student, bfloat16, recomputed activations.

Shards are torch's ``fully_shard`` (FSDP 2), block by block: accelerate's own plug-in takes no CPU ranks, so nothing of
it could be tested without GPUs. Ranks, collectives and replicas are accelerate's. Not run on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from dcod.config import TrainConfig

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel


def accelerator_for(config: TrainConfig) -> Accelerator:
    """The ranks of this training; one where nothing launched several."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()  # it refuses another precision in the same process
    low = config.precision == "bfloat16" and not is_sharded_by(config)  # shards have a policy of their own
    # Unless told that it is for CPUs, it joins no ranks on a machine without a GPU, and each would train alone.
    return Accelerator(mixed_precision="bf16" if low else "no", cpu=not torch.cuda.is_available())


def is_sharded_by(config: TrainConfig) -> bool:
    """Whether the student is split over the ranks; a single rank holds all of it anyway."""
    distributed = torch.distributed
    several = distributed.is_torchelastic_launched() or distributed.is_initialized()
    return config.sharding == "fsdp" and several


def low_precision(config: TrainConfig) -> torch.dtype | None:
    """The number format of the arithmetic, where it is a coarser one than the weights'."""
    return torch.bfloat16 if config.precision == "bfloat16" else None


@contextmanager
def tried_there(accelerator: Accelerator, model: PreTrainedModel, config: TrainConfig) -> Iterator[bool]:
    """The student on the device of this rank, as long as it is tried there; gives whether it is.

    What is to be split over ranks comes back to where it was, and goes to the devices block by block later. Where its
    weights would take more than half of what a device of any rank has free, it is tried on the CPU: its head is the
    same there, and so is what its layers do with their neighbours; the one kernel that a GPU alone has, flash attention
    over packed traces, is tried by itself (:func:`dcod.models.attention.varlen_usable`).
    """
    device, sharded = accelerator.device, is_sharded_by(config)
    home = next(model.parameters()).device
    fits = True
    if sharded and device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        tensors = (*model.parameters(), *model.buffers())
        fits = not any_rank(accelerator, sum(tensor.nbytes for tensor in tensors) > free / 2)
    if fits:
        model.to(device)
    yield fits
    if sharded and fits and home != device:
        model.to(home)  # type: ignore[arg-type]
        if device.type == "cuda":
            torch.cuda.empty_cache()


def any_rank(accelerator: Any, flag: bool) -> bool:
    """Whether a flag is set on any rank; call on every rank (collective)."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.gather(torch.tensor([int(flag)], device=accelerator.device)).any())


def distributed(accelerator: Accelerator, wrapped: nn.Module, model: PreTrainedModel, config: TrainConfig) -> nn.Module:
    """The student with its loss, on the device of this rank, ready to train.

    Args:
        accelerator: from :func:`accelerator_for`.
        wrapped: holds ``model``; its ``forward`` must hold every use of a weight, the output head's as well.
        model: the student.
        config: precision, sharding, activation checkpointing.
    """
    if config.activation_checkpointing:
        renamed = hasattr(model, "activation_checkpointing_enable")  # in transformers 5.23 or a little before
        enable: Any = model.activation_checkpointing_enable if renamed else model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    if not is_sharded_by(config):
        prepared: nn.Module = accelerator.prepare_model(wrapped)
        return prepared
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    # Master weights and the sum over ranks stay in float32; the output keeps the dtype of the loss.
    policy = MixedPrecisionPolicy(param_dtype=low_precision(config), reduce_dtype=torch.float32)
    blocks = set(model._no_split_modules or ())
    for module in list(model.modules()):
        if type(module).__name__ in blocks:
            fully_shard(module, mesh=mesh, mp_policy=policy)
    fully_shard(wrapped, mesh=mesh, mp_policy=policy)
    return wrapped


def settle(module: nn.Module) -> None:
    """Gives back what a forward pass without a backward has gathered: a copy in the arithmetic's precision."""
    if isinstance(module, FSDPModule):
        module.reshard()


def is_sharded(module: nn.Module) -> bool:
    """Whether a module is split over ranks: then gradients leave with every micro-batch, and are never whole here."""
    return isinstance(module, FSDPModule)


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may be spread over ranks, as one; call on every rank (collective)."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def placed(tensor: Tensor, like: Tensor) -> Tensor:
    """This rank's part of a whole tensor, spread as ``like`` is."""
    if not isinstance(like, DTensor):
        return tensor
    mesh: Any = like.device_mesh
    return distribute_tensor(tensor.to(like.device), mesh, like.placements, src_data_rank=None)


def ranks() -> int:
    """How many processes train together; 1 before they have met."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this is."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def gathered(items: list[Any]) -> list[Any]:
    """The items of all ranks, on every rank; waits for all (collective)."""
    if ranks() == 1:
        return items
    from accelerate.utils import gather_object

    return gather_object(items)
