"""Marks by which data sets for fine-tuning take a turn or a row out of the loss: such a turn is context, never taught.

OpenAI and axolotl write ``weight: 0``, axolotl ``train: false``, ms-swift ``loss: false``, torchtune ``masked: true``,
verl and others a ``loss_mask`` with a number a token, TRL ``label: false`` at a completion that is not wanted. A mark
that says neither yes nor no is refused: passing over it would change the objective.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dcod.traces.refusals import RowError

WEIGHTS = ("weight", "loss_weight")  # another number than 0 or 1 is for the correction `given`
_TAUGHT = ("weight", "loss_weight", "loss", "loss_mask", "train", "training", "trainable", "train_on_turn", "learn")
_LEFT_OUT = ("masked", "is_masked", "ignore", "ignored")
# Of a row some of these names say other things: `loss` a figure, `train` a split; so only a plain no counts there.
_OF_ROWS = ("weight", "loss_weight", "train", "training", "trainable", "train_on_turn", "label", "kto_tag")
_MASKS = ("loss_mask", "response_mask", "completion_mask")
_MARKED = frozenset((*_OF_ROWS, *_MASKS))
TURN_MARKS = (*_TAUGHT, *_LEFT_OUT, "mask", "train_detail")  # keys of a turn that are read here


def is_taught(turn: Mapping[str, Any]) -> bool:
    """Whether a turn is to be trained on: yes, unless a mark says no.

    Raises:
        RowError: ``not_taught``, a mark says neither, or takes a part of the turn out.
    """
    said = [_yes(key, turn[key]) for key in _TAUGHT if turn.get(key) is not None]
    said += [not _yes(key, turn[key]) for key in _LEFT_OUT if turn.get(key) is not None]
    if turn.get("mask") is not None:
        raise RowError("not_taught", "mask: does not say whether it takes the turn out; write weight 0 or 1 instead")
    for piece in turn.get("train_detail") or ():
        if isinstance(piece, dict) and piece.get("train") is False:
            raise RowError("not_taught", "train_detail takes a part of the turn out; a turn is taught whole or not")
    return all(said)


def until_taught(turns: Sequence[dict[str, Any]], is_assistant: Sequence[bool]) -> Sequence[dict[str, Any]]:
    """A chat up to the last turn of the assistant's that is taught, where it ends with one that is not.

    Raises:
        RowError: ``not_taught``, where no turn is left.
    """
    if not turns or not is_assistant[-1] or is_taught(turns[-1]):
        return turns
    for index in reversed(range(len(turns) - 1)):
        if is_assistant[index] and is_taught(turns[index]):
            return turns[: index + 1]
    raise RowError(
        "not_taught", "marked not to be trained on (weight 0, train false, a mask): nothing is left to teach"
    )


def check_row(row: Mapping[str, Any]) -> None:
    """Refuses a row that as a whole is not to be trained on, or only at some of its tokens.

    Raises:
        RowError: ``not_taught``.
    """
    if _MARKED.isdisjoint(row):
        return
    for key in _OF_ROWS:
        value = row.get(key)
        if value is False or (key.endswith("weight") and type(value) in (int, float) and value == 0):
            raise RowError("not_taught", f"{key}: {value} marks the row as one that is not to be trained on")
    for key in _MASKS:
        value = row.get(key)
        if isinstance(value, list) and any(not _yes(key, one) for one in value):
            raise RowError("not_taught", f"{key} takes some tokens out; a completion is taught whole or not")


def _yes(key: str, value: Any) -> bool:
    if isinstance(value, list) and value:
        marks = {_yes(key, one) for one in value}
        if len(marks) > 1:
            raise RowError("not_taught", f"{key} takes a part of the turn out; a turn is taught whole or not")
        return marks.pop()
    if key in WEIGHTS and type(value) in (int, float) and value > 0:
        return True
    plain = {"0": False, "1": True, "false": False, "true": True, "0.0": False, "1.0": True}.get(str(value).lower())
    if plain is None:
        raise RowError("not_taught", f"{key}: {value!r:.40} is neither yes nor no (0 or 1): a turn is taught or not")
    return plain
