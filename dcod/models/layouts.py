"""Which layouts of a batch are exact for a student: tried on a few random traces, each alone and beside others.

Attention keeps traces apart when it is told to, and padding out. A convolution or a state that runs along the row is
told nothing by position ids, so what follows a trace in a packed row sees it. And whatever a layer does with padding,
left or right, shows when a row of a batch is compared with the same row alone.

What a layer does only beyond some length (a sliding window, a chunk, the most keys that it looks at) a short trace
would never show. So these lengths are drawn in to a few tokens and all is tried once more (:func:`drawn_in`). Where
that changes nothing, or a layer is of a kind that is not known here, traces are not packed: rows of their own need no
trial.

All of it is tried in the student's own number format, where rounding hides least. Where training computes in a coarser
one (autocast), perhaps by another kernel, the layout is tried in it as well: beside others a trace may be as far from
what it is alone in its own format as it is alone in the coarser one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from dcod.errors import one_line
from dcod.models import attention, fitting
from dcod.models.attention import hidden_states
from dcod.models.batches import Layout, collate, to_device
from dcod.models.selfcheck import Reading, as_exact, close, random_tokens, refusal, trial
from dcod.traces.scored import ScoredTrace

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Padding = Literal["left", "equal", "none"]
SIZES = (9, 4, 14)  # tokens of the traces of a trial
TRIALS = 2  # a tie in a router may break by rounding, and then not again; a leak is always there
_STEPS = 3  # that are generated
_BORDER = 6  # tokens that lengths are drawn in to: some traces of a trial are shorter, some longer
# Of configurations and modules: the lengths from which on a layer does something else.
_LENGTHS = {"attention_chunk_size", "attention_window", "attention_window_size", "floor_scale", "index_topk",
            "keep_window_size", "log_scaling_n_floor", "sliding_window", "sliding_window_size"}  # fmt: skip
_SHOWN = {"full_attention", "sliding_attention", "chunked_attention"}  # kinds of layers that these lengths say all of
_ALONE = 20.0  # times the rounding of one product: what layers add up to when rows have another shape


def exact_layout(model: PreTrainedModel, reading: Reading, wanted: Layout, low: torch.dtype | None = None) -> Layout:
    """The wanted layout where it is exact, else the fastest that is: padded, padded with a mask, or row by row.

    Attention is made to work within packed traces, where it can and is exact; see :mod:`dcod.models.attention`.

    Args:
        model: the student, on the device where it is used.
        reading: how its hidden states become logits.
        wanted: the fastest layout that is asked for.
        low: the number format of autocast, where it is used under it.
    """
    ways: list[Layout] = ["padded", "masked"]
    if wanted == "packed":
        ways.insert(0, "packed")
        if attention.separate(model):
            if is_exact(model, reading, "packed", low):
                return "packed"
            model.set_attn_implementation("sdpa")
    return next((way for way in ways if is_exact(model, reading, way, low)), "apart")


def is_exact(model: PreTrainedModel, reading: Reading, layout: Layout, low: torch.dtype | None = None) -> bool:
    """Whether traces in one batch have the hidden states that each has alone, whatever stands beside them."""

    def holds() -> bool:
        return any(_tried(model, reading, layout) for _ in range(TRIALS)) and (
            low is None or any(_tried_at(model, reading, layout, low) for _ in range(TRIALS))
        )

    if layout == "packed" and not attention.kinds(model) <= _SHOWN:
        return False
    with trial(model):
        if not holds():
            return False
        example = _trace(model, max(SIZES))
        usual = _states(model, reading, [example], "padded")[0]
        with drawn_in(model) as lengths:
            if not lengths:
                return True
            if _moved(model, reading, example, usual):
                return holds()
    return layout != "packed" or attention.kinds(model) == {"full_attention"}


@contextmanager
def drawn_in(model: PreTrainedModel, rotary_border: bool = False) -> Iterator[bool]:
    """Windows and the like are a few tokens wide in here, so that a short trial goes beyond; whether there are any.

    Args:
        model: the student.
        rotary_border: the length as well from which on its rotary positions are others.
    """
    from transformers import PreTrainedConfig

    parts = {id(part): part for module in model.modules() if (part := getattr(module, "config", None)) is not None}
    configs = [part for part in parts.values() if isinstance(part, PreTrainedConfig)]
    places = [(vars(part), _LENGTHS) for part in (*configs, *model.modules())]
    rotary = [part for config in configs for part in fitting.rotary(config)]
    if rotary_border or any("llama_4_scaling_beta" in part for part in rotary):  # else read once, when it is made
        places += [(part, {"original_max_position_embeddings"}) for part in (*rotary, *map(vars, configs))]
    found = [
        (place, name, value)
        for place, names in places
        for name, value in place.items()
        if name in names and type(value) is int and value > _BORDER
    ]
    try:
        for place, name, _ in found:
            place[name] = _BORDER
        yield bool(found)
    finally:
        for place, name, value in found:
            place[name] = value


def _moved(model: PreTrainedModel, reading: Reading, trace: ScoredTrace, usual: Tensor) -> bool:
    """Whether a trace is now something else than usual."""
    try:
        return not torch.equal(_states(model, reading, [trace], "padded")[0], usual)
    except Exception:  # whatever a layer makes of a length that it was not made for
        return False


def _tried(model: PreTrainedModel, reading: Reading, layout: Layout) -> bool:
    traces, *mixtures = _drawn(model)
    try:
        together = _states(model, reading, traces, layout)
        for trace, state in zip(traces, together, strict=True):
            (alone,) = _states(model, reading, [trace], "padded")
            if not close(state, alone, alone.dtype, _ALONE):
                return False
        for kept, mixed in enumerate(mixtures):
            changed = _states(model, reading, mixed, layout)
            if not all(close(changed[i], together[i], together[i].dtype) for i in range(kept, len(SIZES), 2)):
                return False
    except Exception:  # whatever a layer makes of a layout that it does not know
        return False
    return True


def _tried_at(model: PreTrainedModel, reading: Reading, layout: Layout, low: torch.dtype) -> bool:
    """As :func:`_tried`, under autocast: each trace against itself alone without it."""
    traces, *mixtures = _drawn(model)
    try:
        exact = [_states(model, reading, [trace], "padded")[0] for trace in traces]
        with torch.autocast(exact[0].device.type, low):
            alone = [_states(model, reading, [trace], "padded")[0] for trace in traces]
            together = _states(model, reading, traces, layout)
            first, second = (_states(model, reading, mixed, layout) for mixed in mixtures)
    except Exception:  # whatever a layer makes of a layout that it does not know
        return False
    mixed = [(first, second)[place % 2][place] for place in range(len(SIZES))]  # each beside changed ones
    return all(as_exact(torch.cat(list(some)), torch.cat(alone), torch.cat(exact)) for some in (together, mixed))


def _drawn(model: PreTrainedModel) -> tuple[list[ScoredTrace], list[ScoredTrace], list[ScoredTrace]]:
    """Traces of a trial, and twice the same with every other one changed: the second, then the first and the third."""
    traces, others = ([_trace(model, size) for size in SIZES] for _ in range(2))
    first, second = ([(traces if at % 2 == kept else others)[at] for at in range(len(SIZES))] for kept in (0, 1))
    return traces, first, second


def _trace(model: PreTrainedModel, size: int) -> ScoredTrace:
    tokens = random_tokens(model, size).tolist()
    return ScoredTrace("", "", tokens[:1], tokens[1:], [], [])


def _states(
    model: PreTrainedModel, reading: Reading, traces: Sequence[ScoredTrace], layout: Layout
) -> Sequence[Tensor]:
    device = next(model.parameters()).device
    batch = to_device(collate(traces, layout=layout), device)
    states = hidden_states(model, batch, reading.body)
    return states.split([len(trace.completion_tokens) for trace in traces])


def exact_padding(model: Any, pad: int) -> Padding:
    """Which prompts generation writes to in one batch as to each alone: left-padded, of equal length, or none."""
    with trial(model):
        ways: dict[Padding, tuple[int, ...]] = {"left": SIZES, "equal": SIZES[:1] * 3}
        for way, sizes in ways.items():
            if any(_written_alike(model, pad, sizes, _STEPS) for _ in range(TRIALS)):
                with drawn_in(model) as lengths:
                    if not lengths or any(_written_alike(model, pad, sizes, _STEPS) for _ in range(TRIALS)):
                        return way
    return "none"


def check_writing(model: Any, pad: int) -> None:
    """Holds a few greedy steps against the forward pass, which scores and trains.

    Raises:
        UserError: the model cannot generate, or writes otherwise than that pass says.
    """
    with trial(model):
        try:
            agree = any(_as_scored(model, pad, SIZES[0], _STEPS) for _ in range(TRIALS))
        except Exception as error:
            reason = f"its own generation fails ({one_line(error)[:120]})"
            raise refusal(model, reason) from error
    if not agree:
        raise refusal(model, "its generation numbers or keeps tokens otherwise than the forward pass that scores them")


def writes_across(model: Any, pad: int) -> bool:
    """Whether generation goes by the forward pass where the rotary positions of a text change at some length."""
    with trial(model), drawn_in(model, rotary_border=True):
        try:
            return any(_as_scored(model, pad, _BORDER - 1, _STEPS + 1) for _ in range(TRIALS))
        except Exception:  # whatever a layer makes of such a length
            return False


def _as_scored(model: Any, pad: int, size: int, steps: int) -> bool:
    ids = random_tokens(model, size)[None]
    out = _generate(model, ids, torch.ones_like(ids), pad, steps)
    made = next(model.parameters()).dtype
    for step, logits in enumerate(out.logits):
        whole = model(input_ids=out.sequences[:, : size + step], use_cache=False).logits[0, -1]
        if not close(logits[0], whole, made, _ALONE):
            return False
    return True


def _written_alike(model: Any, pad: int, sizes: Sequence[int], steps: int) -> bool:
    rows = [random_tokens(model, size) for size in sizes]
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad, device=rows[0].device)
    for row, tokens in zip(ids, rows, strict=True):
        row[width - len(tokens) :] = tokens
    made = next(model.parameters()).dtype  # generate() gives float32 whatever the arithmetic was
    mask = torch.stack([torch.arange(width) >= width - len(tokens) for tokens in rows]).long().to(ids.device)
    try:
        together = _generate(model, ids, mask, pad, steps).logits
        for index, tokens in enumerate(rows):
            alone = _generate(model, tokens[None], torch.ones_like(tokens[None]), pad, steps).logits
            for ours, theirs in zip(together, alone, strict=False):  # one may have ended
                if not close(ours[index], theirs[0], made, _ALONE):
                    return False
                if ours[index].argmax() != theirs[0].argmax():  # a tie: from here on they write different texts
                    break
    except Exception:  # whatever a layer makes of a padded row
        return False
    return True


def _generate(model: Any, ids: Tensor, mask: Tensor, pad: int, steps: int) -> Any:
    """A few greedy steps, with the logits [B, V] of each."""
    return model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=steps, min_new_tokens=steps, do_sample=False,
        pad_token_id=pad, output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
