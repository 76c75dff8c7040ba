"""The text of a configuration as plain data, within limits: no text of any size or shape takes long or much memory.

YAML's aliases let a short text stand for billions of values, and its numbers may have any length. What a
:class:`YAMLError` tells of is a slip of the pen; what breaks a limit is a :class:`UserError`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from yaml import YAMLError

from dcod.errors import UserError

CHARACTERS = 2**23  # of a configuration as JSON, which lists the files that were seen
YAML_CHARACTERS = 2**20
VALUES = 100_000  # of a YAML text, each alias counted as often as it stands for something
DEPTH = 32
DIGITS = 100  # characters of a number
_OPENING = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_CLOSING = (yaml.MappingEndEvent, yaml.SequenceEndEvent)
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same in C, where PyYAML was built with it


class _Loader(_Base):
    """YAML in which 1e-4 is a number (YAML 1.1 reads it as text) and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):
            seen = set()
            named = [key for key, _ in node.value if not key.tag.endswith((":merge", ":value"))]
            for key in (self.construct_object(key, deep=True) for key in named):
                if not isinstance(key, (str, int, float, bool, type(None))):
                    raise yaml.constructor.ConstructorError(None, None, "a key is no text", node.start_mark)
                if key in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", node.start_mark)
                seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping

    def number(self, node: yaml.ScalarNode) -> Any:
        """A number that is not too long to be read."""
        _short(node.value)
        return self.construct_yaml_int(node) if node.tag.endswith(":int") else self.construct_yaml_float(node)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(?:\d++\.?\d*+|\.\d++)[eE][-+]?\d+$"), list("-+.0123456789")
)
for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.number)


def read(path: Path) -> str:
    """The text of a file that is not too large.

    Raises:
        UserError: it cannot be read.
    """
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"configuration {path}: not a file; `dcod presets` lists ready ones")
        with path.open("rb") as file:
            data = file.read(4 * CHARACTERS + 1)
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"configuration {path}: cannot be read ({why}); `dcod presets` lists ready ones") from None
    return text


def plain(text: str) -> Any:
    """The data of a YAML or JSON text: mappings, lists and scalars.

    Raises:
        YAMLError: it is neither.
        UserError: it is larger, deeper or longer than a configuration can be.
    """
    _within(len(text), CHARACTERS, "characters")
    try:
        if text.lstrip().startswith("{"):
            try:
                return _json(text)
            except json.JSONDecodeError:
                pass  # YAML's own way with braces
        _within(len(text), YAML_CHARACTERS, "characters of YAML")
        _measure(text)
        return yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
    except UserError:
        raise
    except RecursionError:
        raise UserError(f"a configuration may be {DEPTH} levels deep, and this is deeper") from None
    except (ValueError, KeyError, AttributeError, TypeError, OverflowError) as error:  # such as a 32nd of a month
        raise YAMLError(f"a value that cannot be read ({error})") from None


def _json(text: str) -> Any:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping = dict(items)
        if len(mapping) < len(items):
            names = [name for name, _ in items]
            twice = next(name for name in mapping if names.count(name) > 1)
            raise YAMLError(f"key {twice!r} stands twice")
        return mapping

    return json.loads(
        text,
        object_pairs_hook=pairs,
        parse_int=lambda digits: int(_short(digits)),
        parse_float=lambda digits: float(_short(digits)),
    )


def _measure(text: str) -> None:
    """Refuses a text whose aliases, written out, make too many values, or too deep ones."""
    sizes: dict[str, tuple[int, int]] = {}  # of what an anchor names: values, and levels
    open_: list[tuple[str | None, list[int]]] = [(None, [0, 0])]
    for event in yaml.parse(text, _Loader):
        if isinstance(event, _OPENING):
            _within(len(open_), DEPTH, "levels")
            open_.append((event.anchor, [1, 1]))
            continue
        if isinstance(event, _CLOSING):
            anchor, (size, levels) = open_.pop()
        elif isinstance(event, yaml.AliasEvent):
            if any(event.anchor == name for name, _ in open_):
                raise UserError(f"a configuration holds itself (*{event.anchor:.40}); write it out")
            anchor, (size, levels) = None, sizes.get(event.anchor or "", (1, 1))
        elif isinstance(event, yaml.ScalarEvent):
            anchor, size, levels = event.anchor, 1, 1
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size, levels
        outer = open_[-1][1]
        outer[0], outer[1] = outer[0] + size, max(outer[1], levels + 1)
        _within(outer[0], VALUES, "values")
        _within(len(open_) + levels, DEPTH, "levels")


def _within(count: int, limit: int, what: str) -> None:
    if count > limit:
        raise UserError(f"a configuration may have {limit:,} {what}, and this has more")


def _short(digits: str) -> str:
    if len(digits) > DIGITS:
        raise UserError(f"{digits[:20]}…: a number of {len(digits):,} characters; at most {DIGITS} are read")
    return digits
