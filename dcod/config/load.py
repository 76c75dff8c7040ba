"""A configuration read from a file or a text, with overrides; what is wrong in it is told in one line."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from dcod.config import settings
from dcod.config.base import SECRET
from dcod.config.schema import Config
from dcod.errors import UserError, one_line

_TOLD = 20  # mistakes that are told at once
_SHOWN = reprlib.Repr()  # a value that is wrong, however large
_SHOWN.maxstring = _SHOWN.maxother = 200
_SHOWN.maxlevel = 3


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
        raise UserError(f"{origin}: not valid YAML: {_cut(one_line(error), 400)}") from None
    except UserError as error:
        raise UserError(f"{origin}: {error}") from None
    if not isinstance(data, dict):
        raise UserError(f"{origin}: expected a mapping of sections, got {type(data).__name__}")
    for override in overrides:
        _apply(data, override)
    data = {key: {} if value is None else value for key, value in data.items()}
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        told = [_explain(item) for item in error.errors()]
        more = [f"and {len(told) - _TOLD} more"] if len(told) > _TOLD else []
        raise UserError(f"{origin}: " + "; ".join([*told[:_TOLD], *more])) from None


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
        known = ", ".join(_fields_at(item["loc"][:-1]))
        return f"{place}: unknown key; known here: {known}"
    message = _cut(one_line(item["msg"].removeprefix("Value error, ")), 400)
    shown = item["type"] not in ("missing", SECRET) and item["loc"][:1] != ("notify",)
    got = f" (got {one_line(_SHOWN.repr(item['input']))})" if shown else ""
    empty = "; [] is an empty list" if item["type"] == "list_type" and item["input"] == "" else ""
    return f"{place}: {message}{got}{empty}"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}…"


def _fields_at(loc: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Config
    for part in loc:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        annotation = model.model_fields[part].annotation
        inner = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and issubclass(a, BaseModel)]
        if inner:
            model = inner[0]
    return sorted(model.model_fields)
