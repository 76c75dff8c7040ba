"""`python -m bench.study.second`: runs what is missing of a stage and rewrites the tables; see README.md.

Cells are kept one a line as they end, so a stage that was stopped goes on where it was, in many sittings. `--stage all`
is every stage, one after the other; a shortlist or choice that is there already stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bench.device import HELP, Device, beside, used
from bench.study.second import cells, choice, core, midsize, plan, tables
from bench.study.second.entries import ENTRIES, SFT, unknown
from bench.study.second.regimes import REGIMES
from bench.study.tables import read
from dcod import storage

RESULTS = Path(__file__).parent / "results"


def rows_of(path: Path) -> choice.Index:
    """The cells of a file."""
    return choice.indexed(read(path))


class Stage(StrEnum):
    """In the order in which they run; `shortlist` and `choose` write a file to be committed. `all` is all of them."""

    TUNE_SFT = "tune-sft"
    SCREEN = "screen"
    SHORTLIST = "shortlist"
    TUNE = "tune"
    CHOOSE = "choose"
    CONFIRM = "confirm"
    TABLES = "tables"
    ALL = "all"


CHOICES = {Stage.SHORTLIST: "shortlist.json", Stage.CHOOSE: "choice.json"}  # what a stage writes, once


def in_order(stage: Stage, results: Path, run: Callable[[Stage], None]) -> None:
    """Runs a stage; for `all` every one whose choice is not there yet."""
    for one in list(Stage)[:-1] if stage is Stage.ALL else [stage]:
        if stage is not Stage.ALL or not (results / CHOICES.get(one, "-")).exists():
            run(one)


@dataclass(frozen=True)
class Sitting:
    """What stages run on.

    Attributes:
        results: the folder of cells and choices.
        work: what cells make and share, such as starts and traces.
        workers: processes.
        until: no cell begins after this time of the monotonic clock.
        names: regimes.
    """

    results: Path
    work: Path
    workers: int
    until: float
    names: list[str]

    def run(self, stage: Stage) -> None:
        """Runs a stage; see README.md."""
        results, names = self.results, self.names
        tune, confirm = results / "tune.jsonl", results / "confirm.jsonl"
        if stage is Stage.TUNE_SFT:
            for _ in ("the grid", "what it promoted"):
                self._finish(plan.tuning([SFT], names, rows_of(tune)), tune)
        elif stage is Stage.SCREEN:
            screen = choice.screening(results)
            settings = {r: t.setting for r, t in choice.tuned(rows_of(screen), SFT).items() if r in names}
            print(f"not in this dcod: {', '.join(unknown()) or 'none'}")
            print(f"SFT is not tuned yet in: {', '.join(r for r in names if r not in settings) or 'none'}")
            self._finish(plan.screening(settings), screen)
        elif stage is Stage.SHORTLIST:
            rows = rows_of(choice.screening(results))
            methods = choice.shortlist(rows)
            means = {m: choice.mean_over_regimes(by) for m, by in choice.screened(rows).items()}
            left_out = [m for m in ENTRIES if means.get(m) is None]
            storage.write_json(results / "shortlist.json", {"methods": methods, "not screened everywhere": left_out})
            print(f"{', '.join(methods)}; not screened everywhere: {', '.join(left_out) or 'none'}")
            print("commit shortlist.json")
        elif stage is Stage.TUNE:
            for _ in ("the grid", "what it promoted"):
                self._finish(plan.tuning(choice.listed(results), names, rows_of(tune)), tune)
        elif stage is Stage.CHOOSE:
            print(f"{', '.join(choice.choose(rows_of(tune), results))}; commit choice.json before --stage confirm")
        elif stage is Stage.CONFIRM:
            chosen = choice.chosen(results)
            for name in names:
                seeds = choice.seeds_wanted(rows_of(confirm), chosen, name)
                self._finish(plan.confirmation(tables.settings_of(chosen), seeds, [name]), confirm)

    def _finish(self, wanted: Iterable[cells.Cell], into: Path) -> None:
        cells.finish(wanted, into, self.work, self.workers, self.until)


def study(
    stage: Annotated[Stage, typer.Option()],
    workers: Annotated[int, typer.Option(help="Processes, one thread each.")] = 2,
    minutes: Annotated[float, typer.Option(help="Begin no cell after so many.")] = 1e9,
    regimes: Annotated[str, typer.Option(help="By comma; empty: all.")] = "",
    device: Annotated[Device, typer.Option(help=HELP)] = Device.AUTO,
    only_core: Annotated[
        bool, typer.Option("--core", help="Five regimes and nineteen entries; see README.md.")
    ] = False,
    only_midsize: Annotated[
        bool, typer.Option("--midsize", help="One later regime, whose student has 30 million weights; for a GPU.")
    ] = False,
    work: Path = Path("runs/study"),
    results: Path = RESULTS,
) -> None:
    """Runs a stage of the second protocol."""
    if only_core:
        core.narrow()
        results = results / "core"
    elif only_midsize:
        midsize.narrow()
        results = results / midsize.NAME
    kind = used(device)
    results, work = beside(results, kind), beside(work, kind)
    until = time.monotonic() + 60 * minutes
    names = regimes.split(",") if regimes else list(REGIMES)
    in_order(stage, results, Sitting(results, work, workers, until, names).run)
    tables.write(results)
    print(f"wrote {results}/README.md")


if __name__ == "__main__":
    typer.run(study)
