"""Whether the parts of a model folder fit one another, asked before any work: weights and config.json, tokenizer and
embeddings, lengths and positions. A folder that is not whole is refused with what is wrong in it, never filled up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcod.errors import UserError, one_line

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

_NAMED = 3  # of a list that may be long
# Names of the most positions, where transformers does not know them as the first; -1 and absent: no such limit.
_POSITIONS = ("max_position_embeddings", "max_seq_len", "max_target_positions")
# Positions are numbered from behind the padding token in these: so many embeddings are never reached.
_NUMBERED_FROM_PADDING = {"camembert", "data2vec-text", "roberta", "roberta-prelayernorm", "xlm-roberta",
                          "xlm-roberta-xl", "xmod"}  # fmt: skip
_CODES = ("F8", "F4", "I", "U")  # of kinds of tensors in safetensors that are no weights as they stand
_MEDIA = ("image", "audio", "video", "boi", "eoi", "boa", "eoa")  # in names of tokens that stand for no text


def check_tensors(folder: Path, kind: str, info: Mapping[str, Any]) -> None:
    """Refuses weights that are not those of the configuration.

    Tied weights, buffers that are computed, and what the architecture itself passes over are in no list.

    Args:
        folder: of the model.
        kind: the class that its config.json names.
        info: what transformers says after loading: keys that are missing, unexpected and of another shape.

    Raises:
        UserError: with the names of the tensors.
    """
    wrong = []
    if info["missing_keys"]:
        wrong.append(f"missing {some(sorted(info['missing_keys']))}")
    if info["mismatched_keys"]:
        shapes = sorted((name, list(stored), list(wanted)) for name, stored, wanted in info["mismatched_keys"])
        wrong.append(f"of another shape {some(f'{name} {stored} for {wanted}' for name, stored, wanted in shapes)}")
    if info["unexpected_keys"]:
        wrong.append(f"unexpected {some(sorted(info['unexpected_keys']))}")
    if wrong:
        raise UserError(
            f"student {folder}: its safetensors are not the weights of its config.json ({kind}): {'; '.join(wrong)}; "
            "fetch or save the model again, whole"
        )


def check_architecture(folder: Path, kind: str, named: Sequence[str]) -> None:
    """Refuses a config.json that contradicts itself: families with tensors of the same names compute other things.

    Args:
        folder: of the model.
        kind: the class that its ``model_type`` stands for.
        named: the classes under ``architectures``; one that writes no text says nothing.

    Raises:
        UserError: as said.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    known = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    others = [name for name in named if name in known]
    if others and kind not in others:
        raise UserError(
            f"student {folder}: config.json names the architecture {some(others)}, but its model_type is that of "
            f"{kind}; take the config.json that belongs to the weights"
        )


def check_finite(folder: Path, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Refuses weights that are no numbers.

    Raises:
        UserError: with the names of the tensors.
    """
    import torch

    numbers = ((n, v.float() if v.dtype.itemsize < 2 else v) for n, v in tensors if v.is_floating_point())
    broken = [n for n, value in numbers if not bool(torch.isfinite(value).all())]
    if broken:
        raise UserError(
            f"student {folder}: infinite or not a number in {some(sorted(broken))}; take an earlier checkpoint of it"
        )


def check_codes(folder: Path, model: Any = None) -> bool:
    """Refuses codes where weights belong: small whole numbers, or those of 8 bits, that nothing turns into weights.

    Args:
        folder: of the model.
        model: as transformers has loaded it; None: another program will, which may know further kinds of codes.

    Returns:
        Whether config.json says that codes are stored.

    Raises:
        UserError: with the names of the tensors, or the kind that config.json names.
    """
    from safetensors import safe_open
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING as KNOWN

    told = json.loads((folder / "config.json").read_bytes())
    own = told.get("quantization_config") or (told.get("text_config") or {}).get("quantization_config")
    codes, why = list[str](), "no quantization_config says their scales"
    if own and model is not None:
        method = own.get("quant_method") or ("bitsandbytes" if "load_in_8bit" in own or "load_in_4bit" in own else None)
        codes = [name for name, value in model.state_dict().items() if value.dtype in _eight_bits()]
        why = "they stay codes here"
        if method not in KNOWN:
            codes, why = ["its weights"], f"transformers does not know the quant_method {method!r} of its config.json"
    elif not own:
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, "pt") as file:
                kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            codes += [n for n, kind in kinds.items() if kind.startswith(_CODES) and n.endswith(("weight", "_proj"))]
    if codes:
        raise UserError(
            f"student {folder}: {some(codes)}: codes, not weights, and {why}; take the model in bfloat16, or have it "
            "dequantized and saved"
        )
    return bool(own)


def _eight_bits() -> set[Any]:
    import torch

    return {kind for name, kind in vars(torch).items() if name.startswith(("float8", "float4"))}


def some(names: Iterable[str]) -> str:
    """The first few of some names, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return f"{', '.join(listed[:_NAMED])}{more}"


def positions(folder: Path) -> int | None:
    """The most tokens that a model was made for, prompt and completion together; None where there is no such limit.

    Rotary positions could be computed beyond, but the model never learned them: only a scaling that config.json
    declares adds to them. A dynamic one does not: beyond, a token's position depends on the longest text so far.

    Raises:
        UserError: config.json cannot be read.
    """
    config = _config(folder)
    known = (getattr(config, name, None) for name in _POSITIONS)
    most = next((value for value in known if isinstance(value, int) and value > 0), None)
    if most is None:
        return None
    if config.model_type in _NUMBERED_FROM_PADDING:
        most -= (config.pad_token_id or 0) + 1
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None)
    rope = rope if isinstance(rope, Mapping) else {}
    kind, factor = rope.get("rope_type", rope.get("type")), rope.get("factor") or 1
    if kind == "yarn":
        most = max(most, int((rope.get("original_max_position_embeddings") or most / factor) * factor))
    return int(most * factor) if kind == "linear" else most  # as vLLM derives it


def rotary(config: Any) -> list[dict[str, Any]]:
    """What a configuration says of its rotary positions: once, or for each kind of layers."""
    said = getattr(config.get_text_config(decoder=True), "rope_parameters", None)
    said = said if isinstance(said, Mapping) else {}
    nested = [part for part in said.values() if isinstance(part, dict)]
    return nested or [said] if isinstance(said, dict) else nested


def rotary_border(config: Any) -> tuple[str, int] | None:
    """The kind of rotary positions that change for all tokens with the longest position of a batch, and beyond which.

    ``longrope`` has two sets of frequencies, below and above. Those of ``dynamic`` above it depend on the longest text
    that was seen before.
    """
    text = config.get_text_config(decoder=True)
    found = list[tuple[str, int]]()
    for part in rotary(config):
        kind = part.get("rope_type", part.get("type"))
        most = (
            part.get("original_max_position_embeddings") if kind == "longrope" else getattr(text, _POSITIONS[0], None)
        )
        found += [(kind, most)] if kind in ("longrope", "dynamic") and most else []
    return min(found, key=lambda one: one[1], default=None)


def straddles(config: Any, sizes: Sequence[int]) -> bool:
    """Whether some texts of a batch lie within :func:`rotary_border` and some beyond: these change the others."""
    border = rotary_border(config)
    return border is not None and min(sizes) <= border[1] < max(sizes)


def embeddings(folder: Path) -> int | None:
    """How many tokens have an embedding; None where config.json does not say.

    Raises:
        UserError: config.json cannot be read.
    """
    size = getattr(_config(folder), "vocab_size", None)
    return size if isinstance(size, int) and size > 0 else None


def check_student(folder: Path, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[str]:
    """Refuses a student whose tokenizer, embeddings, positions and ``student.max_length`` do not go together.

    Returns:
        As :func:`check_tokenizer`.

    Raises:
        UserError: with what does not fit.
    """
    room = positions(folder)
    if room is not None and max_length > room:
        border = rotary_border(_config(folder))
        dynamic = " (not a dynamic one: the longest text would change all)" if border and border[0] == "dynamic" else ""
        raise UserError(
            f"student.max_length={max_length}: student {folder} has {room} positions; set student.max_length={room} "
            f"or less, or declare a scaling of its positions{dynamic} in config.json"
        )
    return check_tokenizer(folder, tokenizer)


def check_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Refuses a tokenizer with tokens that have no embedding.

    Returns:
        Tokens without embedding that stand for pictures or sound, which text-only siblings of such models have: they
        are no fault until a text holds one.

    Raises:
        UserError: with the tokens.
    """
    rows = embeddings(folder)
    vocabulary = tokenizer.get_vocab()
    beyond = sorted((index, token) for token, index in vocabulary.items() if rows is not None and index >= rows)
    media = _media(tokenizer)
    wrong = [f"{token!r} ({index})" for index, token in beyond if token not in media]
    if wrong:
        raise UserError(
            f"student {folder}: its tokenizer has tokens up to {beyond[-1][0]}, the model embeddings for {rows}, so "
            f"none for {some(wrong)}; resize the model (model.resize_token_embeddings) and save it, or take the "
            "tokenizer that belongs to it"
        )
    return [token for _, token in beyond]


def check_room(folder: Path, needed: int, what: str, way_out: str) -> None:
    """Refuses work that needs more tokens than the model has positions.

    Args:
        folder: of the model.
        needed: tokens of a prompt and what is written to it.
        what: needs them.
        way_out: for the message.

    Raises:
        UserError: as said.
    """
    room = positions(folder)
    if room is not None and needed > room:
        raise UserError(f"{what}: {needed} tokens are needed, {folder} has {room} positions; {way_out}")


def check_tokens(folder: Path, encoded: Sequence[Sequence[int]], what: str) -> None:
    """Refuses prompts with a token that has no embedding.

    Raises:
        UserError: as said.
    """
    rows = embeddings(folder)
    last = max((max(tokens) for tokens in encoded if tokens), default=0)
    if rows is not None and last >= rows:
        raise UserError(
            f"{what}: token {last} of a prompt has no embedding in {folder}, which has {rows}; take it out of the text"
        )


def _media(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    named: dict[str, Any] = dict(getattr(tokenizer, "init_kwargs", None) or {})
    further = named.get("extra_special_tokens")
    named |= further if isinstance(further, dict) else {}
    return {str(token) for name, token in named.items() if name.endswith("_token") and name.startswith(_MEDIA)}


def _config(folder: Path) -> Any:
    path = folder / "config.json"
    try:
        mark = path.stat().st_mtime_ns
    except OSError as error:
        raise UserError(
            f"student {folder}: no config.json in it ({error.strerror}), so it is not a model folder"
        ) from None
    return _read(folder, mark)


@lru_cache(8)
def _read(folder: Path, _: int) -> Any:
    """The configuration of what writes text, which multimodal models keep a level deeper."""
    from transformers import AutoConfig

    try:
        config: Any = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        return config.get_text_config(decoder=True)
    except Exception as error:  # a file of others: whatever is wrong with it is told, not thrown
        reason = one_line(error)[:200]
        raise UserError(
            f"student {folder}: its config.json cannot be read ({type(error).__name__}: {reason})"
        ) from None
