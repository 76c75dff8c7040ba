"""Paths into a row: parsed once, then followed; a star stands for every item of a list, or every column of a name.

Own code, since what a path finds is needed with the places of its stars: so that lists beside each other, and columns
of like names, are read in step (CONTRIBUTING.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from dcod.errors import UserError

_NEXT_STEP = re.compile(r'\.?(?:"((?:[^"\\]|\\.)*)"|\[(\*|-?\d{1,9}|[\w.-]+=[^\]]*)\]|([^.\["]+))')
_STARS = {"*": "(.+)", "#": r"(\d+)"}
Place = tuple[int | str, ...]  # what each star of a path stands for
MOST = 4096  # items that a row may give


class MissingError(Exception):
    """A row has no such path; the message says what stood there."""


class UnevenError(Exception):
    """A list beside another has no item at its place."""


class Step(NamedTuple):
    """One step: a key, a position, the item whose key has a value; or a star, with the names that it takes."""

    kind: str
    key: str = ""
    number: int = 0
    names: re.Pattern[str] | None = None


class Path(NamedTuple):
    """A parsed path; ``optional`` where it may be missing."""

    text: str
    steps: tuple[Step, ...]
    optional: bool

    @property
    def stars(self) -> int:
        """How many."""
        return sum(step.kind == "each" for step in self.steps)

    @property
    def column(self) -> str:
        """The first key as it is written."""
        return self.steps[0].key


@lru_cache(4096)
def parse(text: str) -> Path:
    """A path from its text.

    Raises:
        UserError: it is none.
    """
    optional = text.endswith("?")
    rest, steps, place = text.removesuffix("?"), list[Step](), 0
    while place < len(rest):
        match = _NEXT_STEP.match(rest, place)
        if match is None:
            break
        steps.append(_step(*match.groups()))
        place = match.end()
    if place < len(rest) or not steps or steps[0].kind == "index":
        raise UserError(f"path {text!r:.100}: expected keys and positions such as a.b[0] or a[*].b, from a column on")
    return Path(text, tuple(steps), optional)


def _step(quoted: str | None, inside: str | None, bare: str | None) -> Step:
    if quoted is not None:
        return Step("key", re.sub(r"\\(.)", r"\1", quoted))
    if inside == "*":
        return Step("each")
    if inside is not None and "=" in inside:
        key, _, value = inside.partition("=")
        return Step("where", f"{key}={value}")
    if inside is not None:
        return Step("index", number=int(inside))
    assert bare is not None
    if "*" in bare or "#" in bare:
        parts = (_STARS.get(part) or re.escape(part) for part in re.split(r"([*#])", bare))
        pattern = "".join(parts)
        return Step("each", bare, names=re.compile(pattern))
    return Step("key", bare)


def spread(row: Any, path: Path) -> Iterator[tuple[Place, Any]]:
    """All that a path finds, each with what its stars stand for; nulls are left out.

    Raises:
        MissingError: a key that is no star's is not there.
    """
    yield from _spread(row, path, 0, ())


def _spread(value: Any, path: Path, begin: int, place: Place) -> Iterator[tuple[Place, Any]]:
    for number in range(begin, len(path.steps)):
        step = path.steps[number]
        if value is None:
            return
        if step.kind == "each":
            for star, inner in _stars(value, step, path):
                yield from _spread(inner, path, number + 1, (*place, star))
            return
        value = _follow(value, step, path)
    if value is not None:
        yield place, value


def at(row: Any, path: Path, place: Place) -> Any:
    """What stands at a path where its stars are those of another; further stars take the first that is there.

    Raises:
        MissingError: as :func:`spread`.
        UnevenError: a list has no item at that place.
    """
    value, seen = row, 0
    for step in path.steps:
        if value is None:
            return None
        if step.kind != "each":
            value = _follow(value, step, path)
            continue
        star = place[seen] if seen < len(place) else None
        seen += 1
        if star is None:
            value = next((inner for _, inner in _stars(value, step, path)), None)
        elif isinstance(star, int):
            value = entered(value)
            if not isinstance(value, list):
                raise MissingError(f"{path.text}: expected a list, got {_shown(value)}")
            if star >= len(value):
                raise UnevenError(f"{path.text}: {len(value)} items, none at {star + 1}")
            value = value[star]
        else:
            value = _follow(value, Step("key", _named(step, star)), path)
    return value


def _stars(value: Any, step: Step, path: Path) -> list[tuple[int | str, Any]]:
    value = entered(value)
    if step.names is None:
        if not isinstance(value, list):
            raise MissingError(f"{path.text}: expected a list, got {_shown(value)}")
        return list(enumerate(value))
    if not isinstance(value, dict):
        raise MissingError(f"{path.text}: expected an object, got {_shown(value)}")
    matches = [(match, inner) for key, inner in value.items() if (match := step.names.fullmatch(str(key)))]
    return [("\x1f".join(match.groups()), inner) for match, inner in matches]


def _named(step: Step, star: str) -> str:
    parts = iter(star.split("\x1f"))
    return re.sub(r"[*#]", lambda _: next(parts, ""), step.key)


def _follow(value: Any, step: Step, path: Path) -> Any:
    value = entered(value)
    if step.kind == "key":
        if not isinstance(value, dict):
            raise MissingError(f"{path.text}: expected an object with {step.key!r}, got {_shown(value)}")
        if step.key not in value:
            raise MissingError(
                f"{path.text}: no {step.key!r:.60} there, but {', '.join(map(str, value))[:200] or 'nothing'}"
            )
        return value[step.key]
    if not isinstance(value, list):
        raise MissingError(f"{path.text}: expected a list, got {_shown(value)}")
    if step.kind == "index":
        if not -len(value) <= step.number < len(value):
            raise MissingError(f"{path.text}: {len(value)} items, none at [{step.number}]")
        return value[step.number]
    key, _, wanted = step.key.partition("=")
    items = [item for item in value if isinstance(item, dict) and str(item.get(key)) == wanted]
    if not items:
        raise MissingError(f"{path.text}: no item with {step.key}")
    return items[0]


def entered(value: Any) -> Any:
    """A value as something that has keys or items: text of JSON as what it says, a struct of lists as a list."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {value!r:.60}"
