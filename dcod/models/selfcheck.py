"""A student tried when it is loaded: how its hidden states become logits.

dcod runs a student's body, and its head apart, in chunks (dcod.models.fused_head). That is right only where the model's
own forward pass does the same, so a few random tokens go through both:
  1. a module is the body if its output, put back in its place, gives the model's own logits again;
  2. what the model does behind it, its own head, must treat every position alike;
  3. where that is a product with the output embedding, and a factor, a bias or a soft cap that the model's own numbers
     name, the fused head takes over; else the own head runs in chunks, which is slower;
  4. a model for which none of this holds, or whose logits depend on later tokens, is refused.

Where training runs in a coarser number format (autocast), the fused head is tried in it once more: it must be as near
to the float32 logits as the model's own forward pass is in that format (:func:`at_precision`).

Nothing of the model is changed. All of it is a few short forward passes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dcod.errors import UserError, one_line
from dcod.models import matmul
from dcod.models.heads import Head, OwnHead, logits_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENS = 12  # of the trial; the head itself is tried with the first few
_ROWS = 4
_ROUNDED = 4.0  # times the error of the own forward pass: both are largest errors of a few hundred numbers
_FAINT, _LOUD = 0.01, 300.0  # largest logits of two trials: where a soft cap does nothing, and where it does all
_PLAIN = {nn.Linear.forward, matmul.Linear.forward}


@dataclass(frozen=True)
class Reading:
    """How a student's hidden states become logits; what :func:`examine` found.

    Attributes:
        body: the module whose output its head reads, by its name in the model.
        output: the kind of that output.
        fused: whether the head is a product with the output embedding, with ``scale``, ``bias`` and ``cap``.
        scale: of the products.
        bias: of the output embedding's bias; 0: none is added.
        cap: the soft cap of the logits; 0: none.
        vocabulary: logits a token.
    """

    body: str
    output: type
    fused: bool
    scale: float
    bias: float
    cap: float
    vocabulary: int

    def head(self, model: PreTrainedModel) -> Head | OwnHead:
        """The head, with the model's weights of this moment; call it where they are used."""
        embedding: Any = model.get_output_embeddings()
        if not self.fused or not _plain(embedding):  # an adapter may have come to it
            return OwnHead(lambda hidden: own_logits(model, self, hidden), self.vocabulary)
        weight, bias = embedding.weight, embedding.bias if self.bias else None
        if len(weight) > self.vocabulary:  # a slice costs a copy of the gradient
            weight, bias = weight[: self.vocabulary], bias if bias is None else bias[: self.vocabulary]
        if bias is not None and self.bias != 1:
            bias = bias * self.bias
        return Head(weight, bias, self.scale, self.cap)

    def facts(self) -> dict[str, Any]:
        """For the manifest."""
        if not self.fused:
            return {"head": "the model's own, in chunks"}
        return {"head": "fused", "logit_scale": self.scale, "soft_cap": self.cap, "bias": bool(self.bias)}


def own_logits(model: PreTrainedModel, reading: Reading, hidden_ND: Tensor) -> Tensor:
    """What the model's own forward pass makes of hidden states [N, V]: it runs, its body's output already there."""
    body = model.get_submodule(reading.body)
    given: Any = (hidden_ND[None],) if reading.output is tuple else reading.output(last_hidden_state=hidden_ND[None])
    ids = torch.zeros((1, len(hidden_ND)), dtype=torch.long, device=hidden_ND.device)
    before = body.__dict__.get("forward")
    body.forward = lambda *_, **__: given
    try:
        logits: Tensor = model(input_ids=ids, use_cache=False).logits[0]
    finally:
        del body.forward
        if before is not None:
            body.forward = before
    return logits


def examine(model: PreTrainedModel) -> Reading:
    """Finds out how hidden states become logits, by trying.

    Raises:
        UserError: neither way gives the model's own logits, or it is no causal language model.
    """
    with trial(model):
        ids = random_tokens(model, TOKENS)[None]
        states, own = _observed(model, ids)
        _look_ahead(model, ids, own)
        for name, state in states.items():
            reading = _as_body(model, name, ids, state, own)
            if reading:
                return _fuse(model, reading, state[0])
    raise refusal(model, "dcod finds no body whose hidden states its head turns into logits, position by position")


def at_precision(model: PreTrainedModel, reading: Reading, low: torch.dtype) -> Reading:
    """The reading as training uses it under autocast: with the own head where the fused one would be less exact there.

    Args:
        model: the student, where it will train.
        reading: what :func:`examine` found without autocast.
        low: the number format of autocast.
    """
    if not reading.fused:
        return reading
    with trial(model):
        ids = random_tokens(model, TOKENS)[None]
        exact = model(input_ids=ids, use_cache=False).logits[0]
        with torch.autocast(ids.device.type, low):
            own = model(input_ids=ids, use_cache=False).logits[0]
            hidden = model.get_submodule(reading.body)(input_ids=ids, use_cache=False)[0][0]
            ours = logits_of(hidden, reading.head(model))
    return reading if as_exact(ours, own, exact) else replace(reading, fused=False)


def say(facts: Mapping[str, Any], asked: str = "auto") -> None:
    """One line to standard error for each way that is not the usual one, in which a student is run."""
    said = []
    if facts["head"] != "fused":
        said.append("its head is more than a product, a factor, a bias and a cap, so its own runs in chunks: slower")
    if asked == "packed" and facts["layout"] != "packed":
        said.append(f"traces packed in a row would see one another, so batches are {facts['layout']}")
    elif facts["layout"] in ("masked", "apart"):
        said.append(f"rows of a batch would see padding, so they are {facts['layout']}, which is slower")
    if "tried" in facts:
        said.append(f"its weights leave no room on this device before they are split, so it was tried {facts['tried']}")
    for line in said:
        print(f"student: {line}", file=sys.stderr)


def refusal(model: PreTrainedModel, reason: str) -> UserError:
    """The one line about a student that cannot be taken."""
    kind = model.config.model_type
    where = getattr(model.config, "_name_or_path", "") or type(model).__name__
    return UserError(f"student {where}: the architecture {kind} is not supported: {reason}; take another student")


@contextmanager
def trial(model: PreTrainedModel) -> Iterator[None]:
    """A model to be tried: without dropout or gradients, and with random numbers that nobody else sees."""
    training = [module for module in model.modules() if module.training]
    device = next(model.parameters()).device
    for module in training:
        module.training = False
    try:
        devices = [device] if device.type == "cuda" else []
        with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices):
            torch.manual_seed(0)
            yield
    finally:
        for module in training:
            module.training = True


def random_tokens(model: PreTrainedModel, count: int) -> Tensor:
    """Token ids of no special meaning [count]."""
    special = {value for name, value in numbers(model.config.to_dict()) if "token" in name and value >= 0}
    size = min(_vocabulary(model), 1000 + len(special))
    usual = torch.tensor([token for token in range(min(size, 5), size) if token not in special] or [0])
    drawn = usual[torch.randint(len(usual), (count,))]
    return drawn.to(next(model.parameters()).device)


def close(ours: Tensor, theirs: Tensor, dtype: torch.dtype, slack: float = 1.0) -> bool:
    """Whether two results differ by no more than rounding in a number format, or by ``slack`` times of it."""
    if ours.shape != theirs.shape:
        return False
    ours, theirs = ours.float(), theirs.float()
    known = theirs.isfinite()
    if not torch.equal(ours[~known], theirs[~known]) or not known.any():  # a masked vocabulary is -inf in both
        return False
    size = theirs[known].abs().max().clamp(min=1e-3)
    return bool((ours[known] - theirs[known]).abs().max() <= slack * _steps(dtype) * torch.finfo(dtype).eps * size)


def _steps(dtype: torch.dtype) -> int:
    """Of a number format, that a product may be off by: it adds up many, and half precision rounds coarsely."""
    return 64 if dtype == torch.float32 else 4


def as_exact(ours: Tensor, own: Tensor, exact: Tensor) -> bool:
    """Whether a result in a coarser format is as near to the exact one as rounding explains.

    How much rounding explains is measured: by what the format does to ``own``, the same numbers made the usual way.
    """
    known = exact.isfinite()
    if not known.any() or not torch.equal(ours.isfinite(), known):
        return False
    size = exact[known].float().abs().max().clamp(min=1e-3)
    off, rounding = ((some.float() - exact.float())[known].abs().max() for some in (ours, own))
    return bool(off <= _ROUNDED * (rounding + _steps(exact.dtype) * torch.finfo(exact.dtype).eps * size))


def numbers(config: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """All numbers of a configuration, nested ones too, with their names."""
    items = config.items() if isinstance(config, dict) else enumerate(config)
    for name, value in items:
        where = f"{path}.{name}"
        if isinstance(value, (dict, list, tuple)):
            yield from numbers(value, where)
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            yield where, float(value)


def _vocabulary(model: PreTrainedModel) -> int:
    weight: Any = getattr(model.get_input_embeddings(), "weight", None)
    sizes = [getattr(model.config.get_text_config(), "vocab_size", None), None if weight is None else len(weight)]
    return min(size for size in sizes if size)


def _plain(embedding: Any) -> bool:
    """Whether an output embedding is a product with its weight, and nothing that was put around it."""
    return isinstance(embedding, nn.Linear) and type(embedding).forward in _PLAIN and not embedding._forward_hooks


def _candidates(model: PreTrainedModel) -> dict[str, nn.Module]:
    """Modules that may be the body, the likeliest first."""
    names = {id(module): name for name, module in model.named_modules()}
    modules: dict[str, nn.Module] = {}
    try:
        first = [model.get_decoder()]
    except (AttributeError, NotImplementedError, TypeError):
        first = []
    near = [child for one in model.children() for child in (one, *one.children())]
    for module in (*first, model.base_model, *near):
        name = names.get(id(module), "")
        if name and module is not model.get_output_embeddings():
            modules.setdefault(name, module)
    return modules


def _observed(model: PreTrainedModel, ids: Tensor) -> tuple[dict[str, tuple[Tensor, type]], Tensor]:
    """Hidden states [S, D] that modules which run once put out, with the kind of output; and the own logits [S, V]."""
    seen: dict[str, list[Any]] = {}
    hooks = []
    for name, module in _candidates(model).items():
        seen[name] = []
        hooks.append(module.register_forward_hook(lambda _, __, out, kept=seen[name]: kept.append(out)))
    try:
        own = model(input_ids=ids, use_cache=False).logits
    except Exception as error:
        raise refusal(model, f"its own forward pass fails ({one_line(error)[:120]})") from error
    finally:
        for hook in hooks:
            hook.remove()
    if own.dim() != 3 or own[0].isnan().any():
        raise refusal(model, "its own logits are not one number a token of the vocabulary")
    states = {}
    for name, outputs in seen.items():
        state = outputs[0] if len(outputs) == 1 else None
        state = state if isinstance(state, Tensor) or state is None else state[0]
        if isinstance(state, Tensor) and state.dim() == 3 and state.shape[:2] == ids.shape:
            kind = type(outputs[0])
            states[name] = (state[0], kind)
    return states, own[0]


def _look_ahead(model: PreTrainedModel, ids: Tensor, own: Tensor) -> None:
    """Refuses a model whose logits at a token depend on later ones, or on nothing but chance."""
    half = ids.shape[1] // 2
    other = torch.cat([ids[:, :half], random_tokens(model, ids.shape[1] - half)[None]], dim=1)
    changed = model(input_ids=other, use_cache=False).logits[0, :half]
    if not close(changed, own[:half], next(model.parameters()).dtype, slack=10.0):
        raise refusal(model, "its logits at a token depend on later tokens, so it is no causal language model")


def _as_body(model: PreTrainedModel, name: str, ids: Tensor, state: tuple[Tensor, type], own: Tensor) -> Reading | None:
    """The module of a name as the body, with the own head behind it; None where that is not right."""
    hidden, kind = state
    reading = Reading(name, kind, False, 1.0, 0.0, 0.0, own.shape[1])
    some = torch.arange(len(hidden) - 1, -1, -2, device=hidden.device)  # others, and in another order
    try:
        alone = model.get_submodule(name)(input_ids=ids, use_cache=False)[0][0]
        pairs = (
            (alone, hidden),
            (own_logits(model, reading, hidden), own),
            (own_logits(model, reading, hidden[some]), own[some]),
        )
        return reading if all(close(ours, theirs, hidden.dtype) for ours, theirs in pairs) else None
    except Exception:  # whatever a module makes of what it does not expect
        return None


def _fuse(model: PreTrainedModel, own: Reading, hidden: Tensor) -> Reading:
    """The same with a fused head, where there is one that gives the own logits."""
    embedding: Any = model.get_output_embeddings()
    if not _plain(embedding):
        return own
    mine = {id(embedding.weight), id(embedding.bias)}
    rows = hidden[:_ROWS]
    with torch.enable_grad():
        touched = {id(leaf) for leaf in _leaves(own_logits(model, own, rows))}
    if not touched <= mine or own.vocabulary > len(embedding.weight):
        return own  # more is trained in the head than the fused one gives a gradient
    product = logits_of(rows, Head(embedding.weight[: own.vocabulary]))
    largest = product.abs().max().clamp(min=1e-6)
    faint, loud = rows * (_FAINT / largest), rows * (_LOUD / largest)
    still = own_logits(model, own, torch.zeros_like(rows[:1])).float()
    apart = 1e-3 if rows.dtype == torch.float32 else 1e-2
    slope = _slope(product * (_FAINT / largest), own_logits(model, own, faint).float() - still)
    scale = _known(slope, _scales(model), apart)
    cap = _known(own_logits(model, own, loud * 100).abs().max().item(), _constants(model), apart)
    for bias in (0.0,) if embedding.bias is None else (1.0, scale, 0.0):
        for try_cap in {0.0, cap}:
            fused = Reading(own.body, own.output, True, scale, bias, try_cap, own.vocabulary)
            pairs = ((logits_of(h, fused.head(model)), own_logits(model, own, h)) for h in (rows, loud))
            if scale and all(close(ours, theirs, rows.dtype) for ours, theirs in pairs):
                return fused
    return own


def _leaves(logits: Tensor) -> Iterator[Tensor]:
    """The tensors that a gradient of the logits would reach."""
    waiting, seen = [logits.grad_fn], set[Any]()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        waiting += [following for following, _ in node.next_functions]


def _slope(product: Tensor, logits: Tensor) -> float:
    """The factor from one to the other, by least squares."""
    product, logits = product.double(), logits.double()
    known = logits.isfinite()
    return float((product[known] * logits[known]).sum() / product[known].square().sum())


def _constants(model: PreTrainedModel) -> set[float]:
    """The numbers that a model may do arithmetic with: those of its configuration and of its modules."""
    own = [value for module in (model, model.base_model) for value in vars(module).values()]
    given = [value for _, value in numbers(model.config.to_dict())]
    return {abs(float(v)) for v in (*given, *own) if isinstance(v, (int, float)) and not isinstance(v, bool) and v}


def _scales(model: PreTrainedModel) -> set[float]:
    """Factors that can be made of :func:`_constants`."""
    known = _constants(model)
    width = float(getattr(model.config.get_text_config(), "hidden_size", 1))
    made = {1.0, *known, *(1 / one for one in known)}
    return made | {one / width for one in known} | {width / one for one in known} | {width**0.5, width**-0.5}


def _known(value: float, constants: set[float], apart: float) -> float:
    """The constant that a measured number stands for; 0 for none."""
    near = min(constants, key=lambda one: abs(one - abs(value)), default=0.0)
    return math.copysign(near, value) if abs(near - abs(value)) <= apart * abs(value) else 0.0
