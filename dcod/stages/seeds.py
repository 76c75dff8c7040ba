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


def read(folder: Path | None, which: str) -> list[Results]:
    """The results of the further students in order of their seeds; none where nothing was compared.

    Args:
        folder: what :func:`run` made; None: there is none.
        which: ``student`` or ``sft``.
    """
    if folder is None:
        return []
    told = [(storage.read_json(path, made_by="dcod run"), path.parent) for path in folder.glob(f"*/{FILE}")]
    wanted = sorted((one["seed"], place) for one, place in told if one["arm"] == which and one["compared"])
    return [load_results(place / RESULTS) for _, place in wanted]
