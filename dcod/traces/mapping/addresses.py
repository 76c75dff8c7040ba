"""Where a source's mapping stands: beside its path, in its address (``FILE?prompt=a&completion=b``), or in a preset.

A value of an address is a path; ``==text`` (``teacher==gpt``) a constant, commas in ``ignore`` and ``flags`` a list.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import yaml
from pydantic import ValidationError

from dcod.config.mapping import MapConfig, Maps, SourceConfig, split
from dcod.errors import UserError, one_line
from dcod.traces.mapping import paths, values

FOLDER = Path(__file__).parent / "presets"
_LISTS = ("ignore", "flags")


@dataclass(frozen=True)
class Preset:
    """A ready mapping.

    Attributes:
        name: of its file.
        title: the sets that it is for.
        auto: what it is for is a tool's output, known by its columns; a set of somebody's is only offered.
        columns: that a row of it has, all of them; each a path.
        maps: what it does.
    """

    name: str
    title: str
    auto: bool
    columns: tuple[str, ...]
    maps: tuple[MapConfig, ...]


@dataclass(frozen=True)
class Address:
    """A source: its path alone, and the mappings of its rows as JSON, empty for none."""

    path: str
    map: str = ""


@cache
def presets() -> dict[str, Preset]:
    """All presets by name."""
    return {path.stem: read(path) for path in sorted(FOLDER.glob("*.yaml"))}


@lru_cache(4096)
def candidates(names: tuple[str, ...], auto: bool) -> tuple[Preset, ...]:
    """The presets that a row with these columns may be of: tools' outputs, or sets; the most special first."""
    fitting = [
        preset
        for preset in presets().values()
        if preset.auto == auto and all(_may_have(names, paths.parse(path)) for path in preset.columns)
    ]
    return tuple(sorted(fitting, key=lambda preset: -len(preset.columns)))


def _may_have(names: tuple[str, ...], path: paths.Path) -> bool:
    first = path.steps[0]
    return any(first.names.fullmatch(name) for name in names) if first.names else first.key in names


def read(path: Path) -> Preset:
    """A preset from its file."""
    data: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    maps = data["map"] if isinstance(data["map"], list) else [data["map"]]
    return Preset(
        path.stem,
        data["title"],
        data.get("auto", False),
        tuple(data["columns"]),
        tuple(MapConfig.model_validate(one) for one in maps),
    )


def address(source: str | SourceConfig, default: Maps = "") -> Address:
    """A source of the configuration.

    Raises:
        UserError: its mapping is none, or names no preset.
    """
    if isinstance(source, SourceConfig):
        return Address(source.path, text_of(source.map or default))
    path, query = split(source)
    return Address(path, text_of(_of_query(source, query) if query else default))


def text_of(maps: Maps) -> str:
    """Mappings as JSON, checked; empty for none.

    Raises:
        UserError: a preset is unknown, or a path is none.
    """
    if isinstance(maps, str):
        if not maps:
            return ""
        if maps not in presets():
            near = difflib.get_close_matches(maps, presets(), 1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"ingest map {maps!r:.80}: no such preset{meant}; known: {', '.join(presets())}")
        chosen: Sequence[MapConfig] = presets()[maps].maps
    else:
        chosen = maps
    for one in chosen:
        for text in (text for texts in values.paths_of(one).values() for text in texts):
            paths.parse(text)
    return json.dumps([one.model_dump(mode="json", exclude_defaults=True) for one in chosen])


@lru_cache(256)
def name_of(text: str) -> str:
    """The preset whose mappings these are, as JSON; empty for none."""
    return next((name for name in presets() if text_of(name) == text), "")


def _of_query(source: str, query: str) -> Maps:
    """The mapping that an address says."""
    given = parse_qsl(query, keep_blank_values=True)
    names = [name for name, _ in given]
    if names == ["map"]:
        return given[0][1]
    unknown = sorted(set(names) - set(MapConfig.model_fields))
    if unknown or len(set(names)) < len(names):
        wrong = f"unknown option {', '.join(unknown)}" if unknown else "an option stands twice"
        raise UserError(f"source {source}: {wrong}; known: map, {', '.join(MapConfig.model_fields)}")
    chosen: dict[str, Any] = {}
    for name, text in given:
        if name in _LISTS:
            chosen[name] = text.split(",")
        elif text.startswith("="):
            chosen[name] = {"value": text[1:]}
        else:
            chosen[name] = {"text": text} if "{" in text else text
    try:
        return [MapConfig.model_validate(chosen)]
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"source {source}: {first['loc'][0]}: {one_line(first['msg'])[:200]}") from None
