"""dcod's weights in somebody else's trainer: transformers' ``Trainer``, TRL's ``SFTTrainer``, or a loop of one's own.

A trainer hands its loss two things, what the model put out and ``labels``. So the weights travel in the labels: a label
is a whole number of 64 bits, the token's id in the lower half and its weight, a float32, in the upper one. What is not
counted is -100, as everywhere, so that trainers count tokens as they do. docs/weights.md shows it in use.

Shape suffixes: B traces, S tokens of prompt and completion, N counted tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from dcod.errors import UserError

IGNORED = -100
_COLUMNS = ("input_ids", "completion_mask", "weights")
_HALF = 32


@dataclass(frozen=True)
class WeightedCollator:
    """Rows of `dcod weights` as a batch, for ``data_collator=`` of a trainer.

    The trainer must keep the rows as they are: ``remove_unused_columns=False``, and in TRL
    ``dataset_kwargs={"skip_prepare_dataset": True}``.

    Attributes:
        pad_token_id: what fills up shorter rows; it never counts.
    """

    pad_token_id: int = 0

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """A batch: ``input_ids``, ``attention_mask``, ``labels`` with weights, ``shift_labels`` without [B, S] each.

        ``shift_labels`` are for the figures that TRL takes beside the loss.

        Raises:
            UserError: a row lacks a column, or its columns are not of one length.
        """
        sizes = [_size(row) for row in rows]
        ids = torch.full((len(rows), max(sizes)), self.pad_token_id)
        attention, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
        for place, (row, size) in enumerate(zip(rows, sizes, strict=True)):
            tokens = torch.as_tensor(row["input_ids"])
            counted = torch.as_tensor(row["completion_mask"]).bool()
            weights = torch.as_tensor(row["weights"], dtype=torch.float32)
            ids[place, :size], attention[place, :size] = tokens, 1
            labels[place, :size] = torch.where(counted, with_weights(tokens, weights), IGNORED)
        shifted = torch.full_like(ids, IGNORED)
        shifted[:, :-1] = torch.where(labels[:, 1:] == IGNORED, IGNORED, ids[:, 1:])
        return {"input_ids": ids, "attention_mask": attention, "labels": labels, "shift_labels": shifted}


def compute_loss_func(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
    """The sum of -w log π(y) over the counted tokens, by their number: for ``compute_loss_func=`` of a trainer.

    With weights of 1 it is the trainer's own loss. Gradient accumulation and several devices are the trainer's matter:
    it says by ``num_items_in_batch`` how many tokens the whole step has.

    Args:
        outputs: of the model, with ``logits`` [B, S, V].
        labels: of :class:`WeightedCollator` [B, S].
        num_items_in_batch: the counted tokens of the step; None for those of this batch.

    Raises:
        UserError: the labels carry no weights, since another collator made them.
    """
    logits = outputs["logits"] if isinstance(outputs, Mapping) else outputs.logits
    following = labels[:, 1:].to(logits.device)
    counted = following != IGNORED
    targets_N, weights_N = without_weights(following[counted])
    losses_N = cross_entropy(logits[:, :-1][counted].float(), targets_N, reduction="none")
    count = counted.sum() if num_items_in_batch is None else torch.as_tensor(num_items_in_batch).to(logits.device)
    return (weights_N * losses_N).sum() / count.clamp(min=1)


def with_weights(tokens: Tensor, weights: Tensor) -> Tensor:
    """Token ids and their weights, none of them negative, as labels of 64 bits."""
    if bool((weights < 0).any()) or not bool(weights.isfinite().all()):
        raise UserError("a weight is negative or not finite; write the weights again with `dcod weights`")
    bits = weights.float().abs().contiguous().view(torch.int32).long()  # abs: -0.0 has a bit that 0.0 has not
    return (bits + 1 << _HALF) | tokens.long()


def without_weights(labels_N: Tensor) -> tuple[Tensor, Tensor]:
    """The token ids [N] and weights [N] of labels, the inverse of :func:`with_weights`.

    Raises:
        UserError: some carry no weight.
    """
    upper = labels_N >> _HALF
    if bool((upper < 1).any()):
        raise UserError("labels without weights: give the trainer data_collator=WeightedCollator(…) as well")
    return labels_N & ((1 << _HALF) - 1), (upper - 1).int().view(torch.float32)


def _size(row: Mapping[str, Any]) -> int:
    """The tokens of a row, whose columns are held to each other."""
    missing = [name for name in _COLUMNS if row.get(name) is None]
    if missing:
        raise UserError(
            f"a row has no {' and no '.join(missing)}: take rows of `dcod weights`, and let the trainer keep their "
            "columns with remove_unused_columns=False"
        )
    sizes = {name: len(row[name]) for name in _COLUMNS}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{size} {name}" for name, size in sizes.items())
        raise UserError(
            f"a row has {told}: something cut it; give TRL dataset_kwargs={{'skip_prepare_dataset': True}}, and set "
            "the longest trace with student.max_length of `dcod ingest`"
        )
    return sizes["input_ids"]
