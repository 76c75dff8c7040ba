"""LoRA through peft: low-rank updates of the linear layers are trained, and merged when a student is saved.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from dcod.config import LoraConfig
from dcod.errors import UserError, one_line
from dcod.train.checkpoints import buffers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "default"


def adapt(model: PreTrainedModel, config: LoraConfig) -> Any:
    """Puts trainable updates, at first zero, into ``model``; all else is frozen. Rank 0 of the configuration: nothing.

    Returns:
        peft's tuner, or None.

    Raises:
        UserError: the model has no layer of a name in ``config.targets``, or one whose weight another layer shares:
            merged, the update would change both.
    """
    if not config.rank:
        return None
    from peft import LoraConfig as PeftConfig
    from peft import LoraModel

    targets = config.targets if isinstance(config.targets, str) else list(config.targets)
    wanted = PeftConfig(r=config.rank, lora_alpha=config.alpha, target_modules=targets, task_type="CAUSAL_LM")
    shared = _shared(model)
    try:
        tuner = LoraModel(model, {NAME: wanted}, NAME)
    except ValueError as error:
        raise UserError(f"train.lora.targets={config.targets}: {one_line(error)[:200]}") from None
    for name in tuner.targeted_module_names:
        if name in shared:
            raise UserError(
                f"train.lora.targets={config.targets}: {' and '.join(shared[name])} have one weight, so an update of "
                f"{name} would change both once it is merged; leave it out"
            )
    return tuner


def _shared(model: PreTrainedModel) -> dict[str, list[str]]:
    """Of each layer whose weight another has too (a head may be tied to the embeddings), the names of all that do."""
    holders: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            holders.setdefault(id(parameter), []).append(name)
    return {name: names for names in holders.values() for name in names if len(names) > 1}


def plain(model: PreTrainedModel, tensors: Mapping[str, Tensor], config: LoraConfig) -> PreTrainedModel:
    """A student of plain layers on the CPU, with ``tensors`` in it and its updates merged.

    Args:
        model: the student that was trained, for its kind; not changed.
        tensors: all that it holds, whole, by the names it has there; see :func:`dcod.train.checkpoints.held`. What is
            trained may be finer than the student: it is merged as it is, and rounded once.
        config: as in :func:`adapt`.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    kinds = {name.replace(".base_layer", ""): t.dtype for name, t in model.state_dict().items()}
    dtype = torch.float32 if config.rank else model.dtype  # of what is merged
    with no_init_weights():
        fresh: Any = AutoModelForCausalLM.from_config(model.config, dtype=dtype)
    fresh.tie_weights()
    tuner = adapt(fresh, config)
    with torch.no_grad():
        for name, parameter in [*fresh.named_parameters(), *buffers(fresh).items()]:
            value = tensors[name]
            finer = config.rank and value.is_floating_point()
            parameter.data = value.to(dtype if finer else value.dtype, copy=True)
        merged: Any = fresh if tuner is None else tuner.merge_and_unload()
        for name, value in merged.state_dict(keep_vars=True).items():
            value.data = value.data.to(kinds[name])
    merged.config.dtype = model.config.dtype
    merged.generation_config = model.generation_config
    return merged
