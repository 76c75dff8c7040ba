"""`python -m bench.study`: runs what is missing of the study and rewrites its tables and plots.

Cells are kept one a line in results/cells.jsonl as they end, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.device import HELP, Device, beside, used
from bench.study import tables
from bench.study.cells import Cell, fresh_cells, main_cells, other_cells, run
from bench.study.methods import MIDDLE

RESULTS = Path(__file__).parent / "results"


def study(
    quick: Annotated[bool, typer.Option(help="Three methods in two regimes, one seed: a few minutes.")] = False,
    stage: Annotated[str, typer.Option(help="main, others, fresh or all")] = "all",
    chosen: Annotated[str, typer.Option(help="Methods to confirm on fresh seeds, by comma.")] = tables.CHOSEN,
    workers: int = 2,
    device: Annotated[Device, typer.Option(help=HELP)] = Device.AUTO,
    work: Path = Path("runs/study"),
    results: Path = RESULTS,
) -> None:
    """Runs the study."""
    kind = used(device)
    results, work = beside(results, kind), beside(work, kind)
    if quick:
        cells = [Cell(r, m, MIDDLE, 0) for r in ("several_ways", "clean") for m in ("sft", "dft", "trace")]
        into = work / "quick.jsonl"
        into.unlink(missing_ok=True)
        run(cells, into, work, workers)
        print(tables.against_committed(tables.read(into), tables.read(results / "cells.jsonl")))
        return
    cells_file = results / "cells.jsonl"
    if stage in ("main", "all"):
        run(list(main_cells()), cells_file, work, workers)
    if stage in ("others", "all"):
        run(list(other_cells()), cells_file, work, workers)
    if stage in ("fresh", "all"):
        rates = tables.chosen_rates(tables.read(cells_file))
        run(list(fresh_cells(chosen.split(","), rates)), results / "fresh.jsonl", work, workers)
    tables.write(results)
    print(f"wrote {results}/README.md")


if __name__ == "__main__":
    typer.run(study)
