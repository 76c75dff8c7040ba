"""Every key of the configuration, with what it does: for `dcod config`, its schema, and docs/configuration.md."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dcod.config.base import MOST
from dcod.config.schema import Config

WIDTH = 100  # of a comment in YAML
REQUIRED = "required"
_BOUNDS = (  # in the schema of a number, its words
    ("minimum", "from {}"),
    ("exclusiveMinimum", "above {}"),
    ("maximum", "to {}"),
    ("exclusiveMaximum", "below {}"),
)


@dataclass(frozen=True)
class Key:
    """One key that a user may set.

    Attributes:
        path: with the sections above it, such as ``train.epochs``; of a list's entries the first, 0; of named ones one.
        description: one sentence.
        allowed: in words.
        default: as JSON, or :data:`REQUIRED`.
        example: a value that is allowed and is not the default, where one could be named.
    """

    path: str
    description: str
    allowed: str
    default: str
    example: Any

    @property
    def override(self) -> str:
        """The example as an argument of the command line, quoted for a shell where need be."""
        plain_text = isinstance(self.example, str) and yaml.safe_load(self.example) == self.example
        text = self.example if plain_text else json.dumps(self.example, ensure_ascii=False)
        plain = f"{self.path}={text}"
        return f"'{plain}'" if any(sign in plain for sign in ' []{}"?*&$') else plain


@dataclass(frozen=True)
class Part:
    """A section: its path ("" for the top level), what it is for, and its keys."""

    path: str
    description: str
    keys: tuple[Key, ...]


@cache
def parts() -> tuple[Part, ...]:
    """All sections, in their order, each before those inside it."""
    return tuple(_parts(Config, Config().model_dump(mode="json"), ""))


def section_in(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a field holds, alone (then it is its type), in a list or by name; None of several forms."""
    inner = (field.annotation, *get_args(field.annotation))
    sections = [kind for kind in inner if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return sections[0] if len(sections) == 1 else None


def schema() -> dict[str, Any]:
    """The configuration as JSON Schema, by which editors complete and check."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Config.model_json_schema(),
        "title": "Configuration of dcod",
    }


def commented(values: dict[str, Any], *, model: type[BaseModel] = Config, indent: str = "") -> str:
    """Values as YAML, above each key what it does.

    Args:
        values: of a section; keys that are absent are left out.
        model: its type.
        indent: of all lines.
    """
    lines: list[str] = []
    for name, field in model.model_fields.items():
        if name not in values:
            continue
        inner, value = section_in(field), values[name]
        single = inner is not None and inner is field.annotation
        about = field.description or (inner.__doc__ if inner else "") or ""
        if single or not lines:
            lines.append("")
        lines += textwrap.wrap(about, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
        if inner and single:
            lines += [f"{indent}{name}:", commented(value, model=inner, indent=f"{indent}  ").strip("\n")]
        else:
            plain = not set("\x85\u2028\u2029") & set(str(value))  # YAML's further ends of a line
            text = yaml.safe_dump({name: value}, allow_unicode=plain, sort_keys=False, width=1000).strip()
            lines += textwrap.indent(text, indent).splitlines()
    return "\n".join(lines).strip("\n") + "\n"


def changed(values: dict[str, Any], default: dict[str, Any]) -> dict[str, Any]:
    """The values that are not the default."""
    differing = {}
    for name, value in values.items():
        other = default.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            if inside := changed(value, other):
                differing[name] = inside
        elif value != other:
            differing[name] = value
    return differing


def markdown() -> str:
    """The page docs/configuration.md."""
    count = sum(len(part.keys) for part in parts())
    lines = [
        "# Configuration",
        "",
        "<!-- Written by `make golden` from the descriptions in dcod/config; do not edit. -->",
        "",
        f"All {count} keys. Set them in a YAML file (`--config mine.yaml`) or on the command line "
        "(`train.epochs=3`); the command line wins. `dcod config --config mine.yaml` prints what a run would use, "
        "with these texts as comments.",
        "`dcod presets NAME` prints a file to begin with, and `dcod init` writes one for your data.",
        "",
        "Editors complete and check the keys by their JSON Schema. `dcod init` writes it beside the configuration, as "
        "`.dcod.schema.json` (hidden, so that no folder of traces reads it), and names it in the first line, "
        "`# yaml-language-server: $schema=.dcod.schema.json`. Keep the two together; after an upgrade of dcod, "
        "`dcod config --schema > .dcod.schema.json` writes it anew. The same two make any other file complete, such as "
        "one from `dcod presets NAME`; the schema is also "
        "[published here](dcod.schema.json).",
        "",
        "Passwords and keys are never part of a configuration: they come from the environment.",
    ]
    for part in parts():
        if not part.keys:
            continue
        title = f"`{part.path}`" if part.path else "Top level"
        lines += ["", f"## {title}", "", part.description, "", "| key | default | allowed | what it does | example |"]
        lines.append("|---|---|---|---|---|")
        lines += [
            f"| `{key.path.rpartition('.')[2]}` | {_cell(key.default)} | {_escaped(key.allowed)} | "
            f"{_escaped(key.description)} | {_cell(key.override)} |"
            for key in part.keys
        ]
    return "\n".join(lines) + "\n"


def _parts(model: type[BaseModel], defaults: dict[str, Any], path: str) -> Iterator[Part]:
    properties = model.model_json_schema()["properties"]
    keys, inside = list[Key](), list[Iterator[Part]]()
    for name, field in model.model_fields.items():
        place, inner = f"{path}.{name}".lstrip("."), section_in(field)
        value = defaults.get(name)
        if inner and isinstance(value, dict) and isinstance(field.default, BaseModel):
            inside.append(_parts(inner, value, place))
            continue
        if inner:  # in a list, or by names of which the example has one
            first = "0" if isinstance(value, list) else next(iter((field.examples or [{"NAME": {}}])[0]))
            inside.append(_parts(inner, _defaults(inner), f"{place}.{first}"))
        default = REQUIRED if name not in defaults else json.dumps(value, ensure_ascii=False)
        example = field.examples[0] if field.examples else _another(properties[name], value)
        allowed = "see below" if inner else _words(properties[name])
        keys.append(Key(place, (field.description or "").strip(), allowed, default, example))
    yield Part(path, " ".join((model.__doc__ or "").split()).replace("``", "`"), tuple(keys))
    for section in inside:
        yield from section


def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    """Of a section that stands in a list, and may have keys that must be given."""
    defaults = {name: field.get_default(call_default_factory=True) for name, field in model.model_fields.items()}
    plain = {
        name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        for name, value in defaults.items()
    }
    return {name: value for name, value in plain.items() if not model.model_fields[name].is_required()}


def _another(schema: dict[str, Any], default: Any) -> Any:
    """A value that shows how a key is set: another choice where there are choices, else the default."""
    choices = [choice for form in schema.get("anyOf", [schema]) for choice in form.get("enum", [])]
    if schema.get("type") == "boolean":
        return not default
    return next((choice for choice in choices if choice != default), default)


def _words(schema: dict[str, Any]) -> str:
    """What a JSON Schema allows, in words."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_words(form) for form in schema["anyOf"]))
    if "$ref" in schema:
        return "a mapping of keys"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{choice}`" if choice else "empty" for choice in schema["enum"])
    kind = schema.get("type", "")
    if kind in ("integer", "number"):
        bounds = [words.format(f"{schema[name]:,g}") for name, words in _BOUNDS if abs(schema.get(name, MOST)) < MOST]
        return " ".join(["whole number" if kind == "integer" else "number", *bounds])
    if kind == "array":
        return f"list of {_words(schema.get('items', {}))}"
    if kind == "object":
        return "mapping of text to text"
    return {"boolean": "`true`, `false`", "string": "text"}.get(kind, kind)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _cell(text: str) -> str:
    return f"`{_escaped(text)}`" if text else ""
