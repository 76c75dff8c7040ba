"""`python -m bench.study.second`: runs what is missing of a stage and rewrites the tables; see README.md.

Cells are kept one a line as they end, so a stage that was stopped goes on where it was, in many sittings.
"""

from __future__ import annotations

import time
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
    """In the order in which they run; `shortlist` and `choose` write a file to be committed."""

    TUNE_SFT = "tune-sft"
    SCREEN = "screen"
    SHORTLIST = "shortlist"
    TUNE = "tune"
    CHOOSE = "choose"
    CONFIRM = "confirm"
    TABLES = "tables"


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
    tune, confirm = results / "tune.jsonl", results / "confirm.jsonl"
    if stage is Stage.TUNE_SFT:
        for _ in ("the grid", "what it promoted"):
            cells.finish(plan.tuning([SFT], names, rows_of(tune)), tune, work, workers, until)
    elif stage is Stage.SCREEN:
        screen = choice.screening(results)
        settings = {r: t.setting for r, t in choice.tuned(rows_of(screen), SFT).items() if r in names}
        print(f"not in this dcod: {', '.join(unknown()) or 'none'}")
        print(f"SFT is not tuned yet in: {', '.join(r for r in names if r not in settings) or 'none'}")
        cells.finish(plan.screening(settings), screen, work, workers, until)
    elif stage is Stage.SHORTLIST:
        rows = rows_of(choice.screening(results))
        methods = choice.shortlist(rows)
        means = {m: choice.mean_over_regimes(by) for m, by in choice.screened(rows).items()}
        left_out = [m for m in ENTRIES if means.get(m) is None]
        storage.write_json(results / "shortlist.json", {"methods": methods, "not screened everywhere": left_out})
        print(f"{', '.join(methods)}; not screened everywhere: {', '.join(left_out) or 'none'}; commit shortlist.json")
    elif stage is Stage.TUNE:
        for _ in ("the grid", "what it promoted"):
            cells.finish(plan.tuning(choice.listed(results), names, rows_of(tune)), tune, work, workers, until)
    elif stage is Stage.CHOOSE:
        print(f"{', '.join(choice.choose(rows_of(tune), results))}; commit choice.json before --stage confirm")
    elif stage is Stage.CONFIRM:
        chosen = choice.chosen(results)
        for name in names:
            seeds = choice.seeds_wanted(rows_of(confirm), chosen, name)
            cells.finish(plan.confirmation(tables.settings_of(chosen), seeds, [name]), confirm, work, workers, until)
    tables.write(results)
    print(f"wrote {results}/README.md")


if __name__ == "__main__":
    typer.run(study)
