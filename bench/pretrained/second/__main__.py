"""`python -m bench.pretrained.second`: runs what is missing of a stage and rewrites the tables; see README.md.

`--stage all` is every stage, one after the other, as in the tiny students' protocol.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from bench.device import HELP, Device, beside, used
from bench.pretrained.second import cells, choice, core, tables
from bench.pretrained.second.tasks import TASKS
from bench.study.second.__main__ import Stage, in_order, rows_of
from bench.study.second.cells import Cell
from bench.study.second.entries import SFT
from dcod import storage

RESULTS = Path(__file__).parent / "results"


def pretrained(
    stage: Annotated[Stage, typer.Option()],
    workers: Annotated[int, typer.Option(help="Processes, one thread each, some 4 GB each.")] = 2,
    minutes: Annotated[float, typer.Option(help="Begin no cell after so many.")] = 1e9,
    tasks: Annotated[str, typer.Option(help="By comma; empty: all. For `confirm`.")] = "",
    counts: Annotated[str, typer.Option(help="Traces a prompt, by comma; empty: all.")] = "",
    narrowed: Annotated[bool, typer.Option("--core", help="The part that comes first, in results/core.")] = False,
    device: Annotated[Device, typer.Option(help=HELP)] = Device.AUTO,
    ifeval: Annotated[str, typer.Option(help="IFEval's file of prompts; empty: it is not asked.")] = "",
    work: Path = Path("runs/pretrained"),
    results: Path = RESULTS,
) -> None:
    """Runs a stage of the pre-trained student's second protocol."""
    if narrowed:
        core.narrow()
        results = results / "core" if results == RESULTS else results
    kind = used(device)
    results, work = beside(results, kind), beside(work, kind)
    until = time.monotonic() + 60 * minutes
    tune, confirm = results / "tune.jsonl", results / "confirm.jsonl"

    def run(wanted: Iterable[Cell], into: Path) -> None:
        some = [cell for cell in wanted if not counts or cell.regime.partition("/")[2] in counts.split(",")]
        cells.finish(some, into, work, workers, until, ifeval)

    def at(stage: Stage) -> None:
        if stage is Stage.TUNE_SFT:
            run(choice.tuning([SFT]), tune)
        elif stage is Stage.SCREEN:
            run(choice.screening(rows_of(tune)), tune)
        elif stage is Stage.SHORTLIST:
            storage.write_json(results / "shortlist.json", {"finalists": choice.finalists(rows_of(tune))})
        elif stage is Stage.TUNE:
            run(choice.tuning(choice.committed(results, "shortlist")["finalists"]), tune)
        elif stage is Stage.CHOOSE:
            finalists = choice.committed(results, "shortlist")["finalists"]
            storage.write_json(results / "choice.json", choice.settings(rows_of(tune), finalists))
        elif stage is Stage.CONFIRM:
            wanted = choice.confirmation(choice.committed(results, "choice"))
            names = tasks.split(",") if tasks else list(TASKS)
            run([cell for cell in wanted if cells.parsed(cell.regime)[0] in names], confirm)

    in_order(stage, results, at)
    tables.write(results)
    print(f"wrote {results}/README.md")


if __name__ == "__main__":
    typer.run(pretrained)
