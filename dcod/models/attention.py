"""The body of a student over a batch, and attention within packed traces, one trace at a time.

transformers keeps packed traces apart by a mask over the whole row, whose cost grows with the square of the row, and
which no flash kernel takes. Cutting the row where traces end is cheaper, and causality then needs no mask at all: in
half precision on a GPU by torch's flash attention for rows of several lengths, in one call; else trace by trace.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dcod.errors import one_line
from dcod.models import fitting

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from dcod.models.batches import Batch

_log = logging.getLogger(__name__)

NAME = "dcod_by_trace"
_HALF = (torch.bfloat16, torch.float16)  # what flash kernels take
_KNOWN = {"full_attention", "sliding_attention"}  # kinds of layers whose mask is known here


def hidden_states(model: PreTrainedModel, batch: Batch, body: str = "") -> Tensor:
    """Last hidden states of the positions that predict the counted tokens [N, D]; the body alone runs.

    ``use_cache=False`` is what makes transformers keep packed traces apart, together with position ids that
    start anew and no mask; a test compares every packed trace with itself alone. Where one trace would change the
    rotary positions of the others, each runs alone.

    Args:
        model: the student.
        batch: a micro-batch on its device.
        body: the name of the module that :func:`dcod.models.selfcheck.examine` found; empty: the model's decoder.
    """
    run: Any = model.get_submodule(body) if body else model.get_decoder()
    packed = batch.position_ids is not None and batch.attention_mask is None
    sizes = [len(example) for example in batch.examples]
    if batch.apart or fitting.straddles(model.config, sizes):
        rows = batch.input_ids.split(sizes, dim=1) if packed else batch.input_ids.split(1)
        each = zip(rows, sizes, strict=True)
        alone = [run(input_ids=ids[:, :size], use_cache=False)[0][0] for ids, size in each]
        offsets = torch.tensor([0, *sizes[:-1]], device=batch.rows.device).cumsum(0)
        return torch.cat(alone)[offsets[batch.rows] + batch.columns]
    where = {"attention_mask": batch.attention_mask, "position_ids": batch.position_ids}
    given: dict[str, Any] = {name: value for name, value in where.items() if value is not None}
    if packed and model.config._attn_implementation == NAME:
        given["trace_sizes"] = sizes
    out: Tensor = run(input_ids=batch.input_ids, use_cache=False, **given)[0]
    return out[batch.rows, batch.columns]


def separable(model: PreTrainedModel) -> bool:
    """Whether a model may attend so: by its attention and the kinds of its layers, not yet tried."""
    return model.config._attn_implementation in ("sdpa", NAME) and kinds(model) <= _KNOWN


def kinds(model: PreTrainedModel) -> set[str]:
    """The kinds of its layers, where it names any."""
    return set(getattr(model.config.get_text_config(), "layer_types", None) or ())


def separate(model: PreTrainedModel) -> bool:
    """Makes a model attend so where a batch says how long its traces are; whether it can."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if not separable(model):
        return False
    if model.config._attn_implementation == NAME:
        return True
    AttentionInterface.register(NAME, by_trace)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
    return bool(model.config._attn_implementation == NAME)


def by_trace(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    trace_sizes: Sequence[int] | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """The SDPA attention of transformers, by trace where ``trace_sizes`` says where they end.

    Args:
        module: the attention layer.
        query: [1, heads, S, D]; ``key`` and ``value`` may have fewer heads.
        key: see ``query``.
        value: see ``query``.
        attention_mask: for all that is not packed. Of it traces longer than a sliding window take their own part
            alone: whether it keeps traces apart is the model's affair, and some do not (AFMoE). So where it is not of
            true and false alone.
        trace_sizes: tokens of each packed trace, S in all; None: not packed.
        **rest: as transformers passes it.

    Returns:
        [1, S, heads, D], and no attention weights.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    # A layer that is not told of a window may have one in its mask alone (Qwen2-MoE).
    window = rest.get("sliding_window", getattr(getattr(module, "config", None), "sliding_window", None))
    # A mask of numbers says more than where traces end, perhaps something that is trained (Doge).
    weighted = attention_mask is not None and attention_mask.dtype != torch.bool
    if trace_sizes is None:
        whole, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **rest)
        return whole, None
    own_mask = attention_mask if weighted or (window and max(trace_sizes) > window) else None
    low = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else query.dtype
    if own_mask is None and query.is_cuda and low in _HALF and not rest.get("dropout") and varlen_usable(query.device):
        return _by_varlen(query.to(low), key.to(low), value.to(low), tuple(trace_sizes), rest.get("scaling")), None
    masks = [None] * len(trace_sizes) if own_mask is None else _cut(own_mask, trace_sizes)
    cut = zip(*(part.split(list(trace_sizes), dim=2) for part in (query, key, value)), masks, strict=True)
    return torch.cat([sdpa_attention_forward(module, q, k, v, own, **rest)[0] for q, k, v, own in cut], dim=1), None


def _cut(mask: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """The part of a mask [.., S, S] in which each trace sees itself."""
    rows = mask.split(list(sizes), dim=-2)
    return [row.split(list(sizes), dim=-1)[at].contiguous() for at, row in enumerate(rows)]


def _by_varlen(query: Tensor, key: Tensor, value: Tensor, sizes: tuple[int, ...], scale: float | None) -> Tensor:
    """As :func:`by_trace` of a packed row, in one call: [1, heads, S, D] to [1, S, heads, D]."""
    from torch.nn.attention import varlen

    ends, longest = _ends(sizes, query.device), max(sizes)
    q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))
    # before torch 2.12 fewer heads of keys are simply allowed
    grouped: dict[str, Any] = (
        {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen.varlen_attn).parameters else {}
    )
    out: Any = varlen.varlen_attn(q, k, v, ends, ends, longest, longest, scale=scale, window_size=(-1, 0), **grouped)
    return out[None]


@lru_cache(maxsize=4)
def _ends(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    """Where traces end, from 0 [N + 1]; every layer of a micro-batch asks for the same."""
    with torch.inference_mode(False):  # kept for a later batch of the same sizes, which may be trained on
        return torch.tensor([0, *sizes], dtype=torch.int32).cumsum(0, dtype=torch.int32).to(device)


@lru_cache(maxsize=8)
def varlen_usable(device: torch.device) -> bool:
    """Whether torch's flash attention for rows of several lengths is there and right, forward and backward.

    Tried on two short traces against the plain attention of each, in float32; told in the log where it fails.
    """
    sizes = (24, 40)
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cuda", enabled=False):
            generator = torch.Generator().manual_seed(0)
            shapes = ((1, 4, sum(sizes), 64), (1, 2, sum(sizes), 64), (1, 2, sum(sizes), 64))
            drawn = [torch.randn(shape, generator=generator) for shape in (*shapes, (1, sum(sizes), 4, 64))]
            *parts, grad = (part.to(device, torch.bfloat16) for part in drawn)
            ours: list[Any] = [part.clone().requires_grad_() for part in parts]
            theirs: list[Any] = [part.float().requires_grad_() for part in parts]
            made = _by_varlen(ours[0], ours[1], ours[2], sizes, None)
            pieces = []
            for q, k, v in zip(*(part.split(list(sizes), dim=2) for part in theirs), strict=True):
                keys, values = (part.repeat_interleave(2, dim=1) for part in (k, v))
                pieces.append(torch.nn.functional.scaled_dot_product_attention(q, keys, values, is_causal=True))
            known = torch.cat(pieces, dim=2).transpose(1, 2)
            made.backward(grad)
            known.backward(grad.float())
            pairs: list[Any] = [(made, known), *((a.grad, b.grad) for a, b in zip(ours, theirs, strict=True))]
            off = max(float((a.float() - b).norm() / b.norm()) for a, b in pairs)
        why = "" if off < 0.02 else f"off by {off:.2g}"
    except Exception as error:  # whatever another torch, card or driver may raise
        why = one_line(error) or type(error).__name__
    if why:
        _log.warning("torch %s: no flash attention over packed traces (%.200s); one at a time", torch.__version__, why)
    return not why
