"""The values of a mapping: what a row has at the paths, templates and choices that it names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from dcod.config.mapping import Constant, Joined, MapConfig, Picked, ProblemMap, Star, Template, Value
from dcod.traces.chunks import ChunkError, is_chunked, spoken
from dcod.traces.mapping import paths
from dcod.traces.mapping.paths import MissingError, Place, UnevenError
from dcod.traces.refusals import TEXT, RowError

_HOLE = re.compile(r"\{([^{}]+)\}")
_TRACE = (
    *("prompt", "system", "completion", "thought", "gold", "teacher", "licence", "temperature", "top_p", "attempts"),
    *("finish_reason", "stop_reason", "logprobs_mode", "tokenizer_digest", "messages", "token_ids", "logprobs"),
)
_ANSWERS = ("completion", "thought", "messages", "finish_reason")  # which an engine's response holds
_PROBLEM = ("problem", "answer", "id")
M = TypeVar("M", MapConfig, ProblemMap)


def texts_of(value: Value) -> list[str]:
    """The paths in a value of a mapping."""
    if isinstance(value, str):
        return [value] if value else []
    if isinstance(value, list):
        return value
    if isinstance(value, Template):
        return [path for path, _ in holes(value)]
    if isinstance(value, Joined):
        return value.join
    return [value.pick, value.at] if isinstance(value, Picked) else []


def holes(template: Template) -> list[tuple[str, str]]:
    """The paths in a template, each with the form that it takes, empty for none."""
    return [hole.partition("|")[::2] for hole in _HOLE.findall(template.text)]


def paths_of(chosen: MapConfig | ProblemMap) -> dict[str, list[str]]:
    """The paths of a mapping, by what they are of."""
    by_field = {
        name: texts_of(getattr(chosen, name)) for name in (_TRACE if isinstance(chosen, MapConfig) else _PROBLEM)
    }
    by_field["flags"] = chosen.flags if isinstance(chosen, MapConfig) else []
    by_field["where"] = [path for one in chosen.where for path in one]
    by_field["join"] = [join.on for join in chosen.join]
    return {name: texts for name, texts in by_field.items() if texts}


def answers_of(maps: Sequence[MapConfig]) -> list[str]:
    """The columns in which mappings find answers, without those that they leave out knowingly."""
    of = [{path for name in _ANSWERS for path in paths_of(one).get(name, ())} for one in maps]
    found = {paths.parse(path).column for each in of for path in each}
    return sorted(found - {column for one in maps for column in one.ignore})


@dataclass(frozen=True)
class Mapped(Generic[M]):
    """A row while it is mapped: ``place`` is what the stars stand for."""

    row: Mapping[str, Any]
    chosen: M
    place: Place = ()

    def value(self, name: str) -> Any:
        """What the mapping says of a field; None where that is null.

        Raises:
            RowError: ``no_path``, ``uneven_lists``, or a part of a text is none.
        """
        said: Value = getattr(self.chosen, name)
        try:
            return self._value(said)
        except MissingError as error:
            raise RowError("no_path", f"{name}: {error}") from None
        except RowError as error:
            raise RowError(error.code, f"{name}: {error.message}") from None
        except UnevenError as error:
            if self.chosen.uneven == "null":
                return None
            raise RowError("uneven_lists", f"{name}: {error}; `uneven: null` takes it as nothing") from None

    def text(self, name: str) -> str:
        """The same as text; empty for null.

        Raises:
            RowError: as :meth:`value`, or it is none.
        """
        value = self.value(name)
        try:
            return text_of(value)
        except RowError as error:
            named = ", ".join(texts_of(getattr(self.chosen, name)))
            raise RowError(error.code, f"{name}: {named}: {error.message}" if named else error.message) from None

    def _value(self, said: Value) -> Any:
        if isinstance(said, str):
            return self.at(said) if said else None
        if isinstance(said, list):
            return next((value for text in said if (value := self.tried(text)) not in (None, "")), None)
        if isinstance(said, Constant):
            return said.value
        if isinstance(said, Star):
            star = "".join(map(str, self.place[said.star - 1 : said.star]))
            return said.names.get(star, star) or None
        if isinstance(said, Picked):
            items, number = self.at(said.pick), self.at(said.at)
            number = number[0] if isinstance(number, list) and len(number) == 1 else number
            if not isinstance(items, list) or type(number) is not int or not 0 <= number < len(items):
                raise MissingError(f"{said.pick}: no item {number!r:.40} in it")
            return items[number]
        if isinstance(said, Joined):
            parts = [text_of(part) for text in said.join for part in self.all(text)]
            return said.by.join(part for part in parts if part.strip())
        return _HOLE.sub(lambda hole: self._hole(*hole[1].partition("|")[::2]), said.text).strip()

    def _hole(self, text: str, form: str) -> str:
        value = self.all(text) if paths.parse(text).stars > len(self.place) else self.at(text)
        try:
            if not isinstance(value, list):
                return text_of(value)
            marks = [f"({chr(65 + number)}) " if form == "letters" else "" for number in range(len(value))]
            return "\n".join(f"{mark}{text_of(item)}" for mark, item in zip(marks, value, strict=True))
        except RowError as error:
            raise RowError(error.code, f"{text}: {error.message}") from None

    def at(self, text: str) -> Any:
        """What stands at a path; None also where it is missing and may be."""
        path = paths.parse(text)
        try:
            return paths.at(self.row, path, self.place)
        except MissingError:
            if path.optional:
                return None
            raise

    def tried(self, text: str) -> Any:
        """What stands at a path; None where it is missing."""
        try:
            return self.at(text)
        except MissingError:
            return None

    def all(self, text: str) -> list[Any]:
        """All that a path finds: the items of a list of which it is one."""
        path = paths.parse(text)
        if path.stars > len(self.place):
            return [value for place, value in paths.spread(self.row, path) if place[: len(self.place)] == self.place]
        value = self.at(text)
        return [] if value is None else [value]


def starred(texts: Sequence[str]) -> str:
    """The first path with a star; without any, the first."""
    return next((text for text in texts if paths.parse(text).stars), texts[0] if texts else "")


def places(row: Mapping[str, Any], lead: str) -> list[Place]:
    """What the stars of a path stand for in a row; one empty place for a path without any.

    Raises:
        RowError: ``no_path``.
    """
    if not lead or not paths.parse(lead).stars:
        return [()]
    try:
        return [place for place, _ in paths.spread(row, paths.parse(lead))]
    except MissingError as error:
        raise RowError("no_path", str(error)) from None


def text_of(value: Any) -> str:
    """A value as text; its thought, where parts tell them apart, in think tags.

    Raises:
        RowError: it is none.
    """
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int, float, list)):
        raise RowError("bad_field", f"expected text, got {type(value).__name__} {value!r:.60}")
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        value = value[0]
    if isinstance(value, list) and (not is_chunked(value) or all(isinstance(part, str) for part in value)):
        raise RowError(
            "bad_field", f"expected text, got a list of {len(value)}; [*] makes a trace of each, [0] takes one"
        )
    try:
        said = spoken(value).tagged()
    except ChunkError as error:
        raise RowError("bad_field", str(error)) from None
    if len(said) > TEXT:
        raise RowError("too_long", f"{len(said)} characters, at most {TEXT} are read")
    return said
