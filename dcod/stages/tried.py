"""What the pilots of one arm left, joined: of all seeds at once, or of a first seed and of the further ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from dcod import storage
from dcod.config import Config
from dcod.errors import UserError
from dcod.promote.choice import ArmAnswers
from dcod.stages.asked import of_answers
from dcod.stages.piloting import ANSWERS, ARM, TRAINED

_SUMS = ("steps", "tokens", "seconds")


@dataclass(frozen=True)
class Tried:
    """One arm.

    Attributes:
        folder: of its first seed, whose student stays.
        fields: its arm.json, with the figures of all its seeds.
        folders: all of its outputs that hold answers.
    """

    folder: Path
    fields: Mapping[str, Any]
    folders: tuple[Path, ...]

    @property
    def name(self) -> str:
        """Of the arm."""
        return str(self.fields["arm"]["name"])

    @property
    def state(self) -> str:
        """What became of it."""
        return str(self.fields["state"])

    @property
    def sft(self) -> bool:
        """Whether it is plain fine-tuning, at whatever rate."""
        return bool(self.fields["sft"])

    def answers(self) -> ArmAnswers:
        """What its students answered, as the statistics take it."""
        return answers_of(self.folders, self.fields)


def gathered(config: Config, folders: Iterable[Path]) -> dict[str, Tried]:
    """The arms by name, in the order of the configuration.

    Raises:
        UserError: one is missing, or its first seed is.
    """
    by_name: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
    for folder in folders:
        fields = storage.read_json(folder / ARM, made_by="dcod pilot")
        by_name.setdefault(fields["arm"]["name"], []).append((folder, fields))
    names = [arm.name for arm in config.train.compared]
    firsts = {name for name, parts in by_name.items() if any(0 in fields["seeds"] for _, fields in parts)}
    if missing := [name for name in names if name not in firsts]:
        raise UserError(f"choose: no pilot of {', '.join(missing)}")
    return {name: _joined(by_name[name]) for name in names}


def _joined(parts: list[tuple[Path, dict[str, Any]]]) -> Tried:
    (folder, fields), *further = sorted(parts, key=lambda part: part[1]["seeds"][:1] != [0])
    whole = (folder,) if fields["state"] == TRAINED else ()
    for place, more in further:
        if fields["state"] != TRAINED:
            break
        if more["state"] != TRAINED:
            fields = {**fields, "state": more["state"], "why": more["why"]}
            break
        whole = (*whole, place)
        figures = {**fields["figures"], **{key: fields["figures"][key] + more["figures"][key] for key in _SUMS}}
        fields = {**fields, "seeds": [*fields["seeds"], *more["seeds"]], "figures": figures}
    if len(whole) > 1:
        columns = ["split", "seed", "temperature", "sample", "value", "tokens", "truncated", "response"]
        rows = [row for place in whole for row in pq.read_table(place / ANSWERS, columns=columns).to_pylist()]
        fields = {**fields, "figures": {**fields["figures"], **of_answers(rows)}}
    return Tried(folder, fields, whole)


def answers_of(folders: Iterable[Path], fields: Mapping[str, Any]) -> ArmAnswers:
    """What a pilot's students answered, as the statistics take it.

    Args:
        folders: of the pilot's outputs.
        fields: its arm.json.
    """
    columns = ["split", "seed", "temperature", "problem_id", "value"]
    hits: dict[tuple[str, float], dict[tuple[int, str], list[float]]] = {}
    for folder in folders:
        for row in pq.read_table(folder / ANSWERS, columns=columns).to_pylist():
            group = hits.setdefault((row["split"], row["temperature"]), {})
            group.setdefault((row["seed"], row["problem_id"]), []).append(row["value"])
    selection, pilot = {}, {}
    wanted = {temperature for split, temperature in hits if split == "pilot"}
    for (split, temperature), group in hits.items():
        if temperature not in wanted:
            continue
        seeds, problems = sorted({seed for seed, _ in group}), sorted({problem for _, problem in group})
        shares = np.array([[np.mean(group[seed, problem]) for problem in problems] for seed in seeds])
        if split == "selection":
            selection[temperature] = float(shares.mean())
        else:
            pilot[temperature] = shares
    return ArmAnswers(fields["arm"]["name"], fields["sft"], selection, pilot)
