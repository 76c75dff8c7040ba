"""Seeds: the answers of all further students in one folder, for the gate to read (``train.seeds``)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from dcod import storage
from dcod.config import Config
from dcod.config.arms import SFT
from dcod.errors import UserError
from dcod.evaluate.results import Results, load_results

if TYPE_CHECKING:
    from dcod.tracking import Log


FILE, RESULTS, STUDENT = "again.json", "results", "student"  # of one further student


def names(seeds: int) -> list[str]:
    """The further students of ``train.seeds``, as the stage `again` takes them: ``student 1``, ``sft 1``, …"""
    return [f"{which} {number}" for number in range(1, seeds) for which in (STUDENT, SFT)]


def parsed(config: Config, arm: str) -> tuple[str, int]:
    """Of which kind a further student is, and its number: ``student`` or ``sft``, from 1.

    Raises:
        UserError: it is none of :func:`names`.
    """
    there = names(config.train.seeds)
    if arm not in there:
        raise UserError(f"again: {arm!r} is no further student; train.seeds={config.train.seeds} has {there or 'none'}")
    which, _, number = arm.partition(" ")
    return which, int(number)


def run(config: Config, out: Path, log: Log, **students: Path) -> dict[str, float]:
    """Puts the outputs of `again` together.

    Args:
        config: the whole configuration.
        out: an empty folder.
        log: who was compared goes there.
        **students: the outputs of all further students, by whatever names.

    Raises:
        UserError: one of ``train.seeds`` is missing.
    """
    compared = 0
    for folder in students.values():
        told = storage.read_json(folder / FILE, made_by="dcod run")
        place = out / f"{told['arm']} {told['seed']}"
        place.mkdir()
        shutil.copyfile(folder / FILE, place / FILE)
        if told["compared"]:
            shutil.copytree(folder / RESULTS, place / RESULTS)
            compared += 1
    if missing := [name for name in names(config.train.seeds) if not (out / name).is_dir()]:
        raise UserError(f"seeds: no training of {', '.join(missing)}")
    log.text("seeds.txt", "".join(f"{path.name}\n" for path in sorted(out.iterdir())))
    return {"students": float(compared)}


def pairs(folder: Path | None) -> tuple[list[tuple[Results, Results]], str]:
    """The results of further students and their twins, of each seed that has both, in the order of the seeds.

    Args:
        folder: what :func:`run` made; None: there is none.

    Returns:
        The pairs, and what is missing, with why; empty where nothing is.
    """
    if folder is None:
        return [], ""
    told = [(storage.read_json(path, made_by="dcod run"), path.parent) for path in sorted(folder.glob(f"*/{FILE}"))]
    there = {(one["arm"], one["seed"]): place / RESULTS for one, place in told if one["compared"]}
    missing = "; ".join(f"{place.name}: {one['why']}" for one, place in told if not one["compared"])
    whole = sorted({seed for _, seed in there if {(STUDENT, seed), (SFT, seed)} <= there.keys()})
    return [(load_results(there[STUDENT, seed]), load_results(there[SFT, seed])) for seed in whole], missing
