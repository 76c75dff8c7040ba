"""A configuration read from a file or a text, with overrides; what is wrong in it is told in one line."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from dcod.config import settings
from dcod.config.base import SECRET
from dcod.config.losses import WITHDRAWN
from dcod.config.reference import parts, section_in
from dcod.config.schema import Config
from dcod.errors import UserError, one_line

_TOLD = 20  # mistakes that are told at once
_SHOWN = reprlib.Repr()  # a value that is wrong, however large
_SHOWN.maxstring = _SHOWN.maxother = 200
_SHOWN.maxlevel = 3
_NAME = 80  # characters of a name that is compared with others
_ELSEWHERE = {  # what other trainers call it
    "lr": "train.learning_rate",
    "num_train_epochs": "train.epochs",
    "batch_size": "train.traces_per_step",
    "per_device_train_batch_size": "train.traces_per_step or train.micro_batch_tokens",
    "max_seq_length": "student.max_length",
    "model_name_or_path": "student.model",
    "dataset": "ingest.sources",
}


def load_config(path: Path, overrides: Iterable[str] = ()) -> Config:
    """Reads a YAML or JSON file and applies ``section.key=value`` overrides.

    Raises:
        UserError: the file is missing or broken, or any key or value is not allowed.
    """
    return parse_config(settings.read(path), overrides, origin=str(path))


def parse_config(text: str, overrides: Iterable[str] = (), origin: str = "configuration") -> Config:
    """As :func:`load_config`, from text."""
    try:
        data = settings.plain(text) or {}
    except settings.YAMLError as error:
        raise UserError(f"{origin}: not valid YAML: {_cut(_place(one_line(error)), 400)}") from None
    except UserError as error:
        raise UserError(f"{origin}: {error}") from None
    if not isinstance(data, dict):
        raise UserError(f"{origin}: expected a mapping of sections, got {type(data).__name__}")
    for override in overrides:
        _apply(data, override)
    data = {key: {} if value is None else value for key, value in data.items()}
    try:
        return _offered(Config.model_validate(data), origin)
    except ValidationError as error:
        mistakes = error.errors()
        told = [_explain(item) for item in mistakes[:_TOLD]]
        more = [f"and {len(mistakes) - _TOLD} more"] if len(mistakes) > _TOLD else []
        raise UserError(f"{origin}: " + "; ".join([*told, *more])) from None


def _offered(config: Config, origin: str) -> Config:
    """Refuses corrections that are withdrawn; studies and tests name them from Python."""
    own = [("train.correction.name", config.train.correction.name)]
    own += [(f"train.arms, {arm.name}: correction.name", arm.correction.name) for arm in config.train.compared]
    for place, name in own:
        if name in WITHDRAWN:
            raise UserError(f"{origin}: {place}: {name} {WITHDRAWN[name]}")
    return config


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise UserError(f"override {_cut(repr(override), 200)}: expected section.key=value, for example train.epochs=3")
    node: Any = data
    *parents, last = key.split(".")
    if len(parents) >= settings.DEPTH:
        raise UserError(f"override {_cut(repr(override), 200)}: more than {settings.DEPTH} levels")
    for depth, part in enumerate(parents):
        node = _child(node, part, ".".join(parents[: depth + 1]), override)
    if last == "system_prompt" and value.strip()[:1] not in ("'", '"'):
        value = json.dumps(value)  # prose as it stands: no `#` ends it
    try:
        parsed = settings.plain(value) if value.strip() else ""  # `uri=` is the empty text; `uri=null` is none
    except settings.YAMLError:
        parsed = value
    except UserError as error:
        raise UserError(f"override {_cut(key, 200)}: {error}") from None
    if isinstance(node, list):
        node[_index(node, last, override)] = parsed
    else:
        node[last] = parsed


def _child(node: Any, part: str, path: str, override: str) -> Any:
    if isinstance(node, list):
        child = node[_index(node, part, override)]
    else:
        child = node.setdefault(part, {})
        if child is None:  # an empty section
            child = node[part] = {}
    if not isinstance(child, (dict, list)):
        raise UserError(f"override {_cut(repr(override), 200)}: {path} is a value, not a section")
    return child


def _index(node: list[Any], part: str, override: str) -> int:
    if not (part.isascii() and part.isdigit() and len(part) < 9) or int(part) >= len(node):
        raise UserError(
            f"override {_cut(repr(override), 200)}: {_cut(repr(part), 80)} is not an index of a list with "
            f"{len(node)} entries"
        )
    return int(part)


def _explain(item: Any) -> str:
    place = ".".join(_cut(str(part) if str(part).isprintable() else repr(part), 80) for part in item["loc"])
    place = place or "top level"
    if item["type"] == "extra_forbidden":
        return f"{place}: unknown key{_meant(item['loc'])} known here: {', '.join(_fields_at(item['loc'][:-1]))}"
    if item["type"] in ("model_type", "model_attributes_type"):
        first = next(iter(_section_at(item["loc"]).model_fields))
        told = isinstance(item["input"], str) and item["loc"][:1] != ("notify",)  # its address is a secret
        value = _cut(one_line(item["input"]), 40) if told else "…"
        return f"{place}: expected keys below it, such as {place}.{first}={value}{_got(item)}"
    message = _cut(one_line(item["msg"].removeprefix("Value error, ")), 400)
    return f"{place}: {message}{_got(item)}{_way_out(item)}"


def _got(item: Any) -> str:
    whole = item["type"] == "value_error" and isinstance(item["input"], dict)  # a section: the message names the keys
    shown = item["type"] not in ("missing", SECRET) and item["loc"][:1] != ("notify",) and not whole
    return f" (got {one_line(_SHOWN.repr(item['input']))})" if shown else ""


def _way_out(item: Any) -> str:
    """What else is to be said of a value that is not allowed."""
    if item["type"] == "list_type" and item["input"] == "":
        return "; [] is an empty list"
    if item["type"] == "list_type":
        path = ".".join(map(str, item["loc"]))
        return next((f"; for example {key.override}" for part in parts() for key in part.keys if key.path == path), "")
    if item["type"] == "literal_error" and isinstance(item["input"], str):
        near = _nearest(item["input"], re.findall(r"'([^']+)'", item["ctx"]["expected"]))
        return f"; did you mean {near}?" if near else ""
    return ""


def _meant(loc: tuple[int | str, ...]) -> str:
    """The key that an unknown one may stand for: one beside it, or one of that very name elsewhere."""
    name = str(loc[-1])
    paths = [key.path for part in parts() for key in part.keys]
    elsewhere = [path for path in paths if path.rpartition(".")[2] == name and ".0." not in path]
    near = _ELSEWHERE.get(name) or _nearest(name, _fields_at(loc[:-1]))
    if near or elsewhere:
        return f"; did you mean {near or ' or '.join(elsewhere[:3])}?"
    return ";"


def _nearest(name: str, allowed: Sequence[str]) -> str:
    return next(iter(get_close_matches(name[:_NAME], allowed, n=1, cutoff=0.6)), "")


def _place(text: str) -> str:
    """A YAML error without the name of no file."""
    return text.replace('in "<unicode string>", ', "at ").replace('in "<byte string>", ', "at ")


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}…"


def _fields_at(loc: tuple[int | str, ...]) -> list[str]:
    return sorted(_section_at(loc).model_fields)


def _section_at(loc: tuple[int | str, ...]) -> type[BaseModel]:
    model: type[BaseModel] = Config
    for part in loc:  # numbers and names of entries are no fields
        field: FieldInfo | None = None if isinstance(part, int) else model.model_fields.get(part)
        model = (section_in(field) if field else None) or model
    return model
