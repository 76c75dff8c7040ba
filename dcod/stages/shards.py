"""Shards: one protocol for what is fanned out: ingestion by rows, scoring by traces, evaluation by benchmarks.

1. plan: the shards by their names; 2/4 is the second of four. A pipeline runs the stage once for each;
2. part: the stage's ``narrow`` cuts the work down to a shard's. Where it finds none, ``empty.json`` is all the output;
3. join: the stage that the table names in ``joined_by`` makes one output of the parts, ``part0``, ``part1``, ….
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dcod import storage
from dcod.config import Config
from dcod.errors import UserError

if TYPE_CHECKING:
    from dcod.stages.catalogue import Stage  # no more than the name: a change of the table is none of a stage's code

EMPTY = "empty.json"

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Shard:
    """One of ``count`` shards, by its number from 1."""

    number: int
    count: int

    @classmethod
    def of(cls, name: str) -> Shard:
        """The shard of a name.

        Raises:
            UserError: it is not of the form k/n.
        """
        parts = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", name)
        if not parts or int(parts[1]) > int(parts[2]):
            raise UserError(f"shard {name!r}: expected k/n with 1 <= k <= n, such as 2/4")
        return cls(int(parts[1]), int(parts[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def scattered(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """Every ``count``-th item, so that one long source is spread over all shards."""
        return islice(items, self.number - 1, None, self.count)

    def stretch(self, total: int) -> range:
        """The indices of a stretch out of ``total`` items, so that the outputs follow each other in their order."""
        begin, end = ((total * k) // self.count for k in (self.number - 1, self.number))
        return range(begin, end)


@dataclass(frozen=True)
class Work:
    """What a stage is run with: the configuration, the input folders and further arguments."""

    config: Config
    inputs: Mapping[str, Path]
    options: Mapping[str, Any]


def plan(count: int) -> list[str]:
    """The names of so many shards."""
    return [str(Shard(number, count)) for number in range(1, count + 1)]


def part(stage: Stage, name: str, work: Work, scratch: Path) -> Work | None:
    """The work of one shard; None where there is none.

    Args:
        stage: one that is fanned out.
        name: of the shard.
        work: of the whole stage.
        scratch: an empty folder, for an input that is cut.

    Raises:
        UserError: ``name`` is not of the form k/n.
    """
    assert stage.joined_by, f"{stage.name} has no shards"
    narrowed: Work | None = stage.module.narrow(Shard.of(name), work, scratch)
    return narrowed


def write_empty(out: Path) -> None:
    """The output of a shard without work."""
    with storage.output_folder(out) as scratch:
        storage.write_json(scratch / EMPTY, {"empty": True})


def ordered(stage: str, parts: Mapping[str, Path]) -> list[Path]:
    """The outputs of all shards in their order, without those that are empty.

    Raises:
        UserError: all are.
    """
    folders = [parts[name] for name in sorted(parts, key=lambda name: int(name.removeprefix("part")))]
    filled = [folder for folder in folders if not (folder / EMPTY).is_file()]
    if not filled:
        raise UserError(f"{stage}: all {len(folders)} shards are empty")
    return filled
