"""`python -m bench.study.second.beside`: what the core left out or came when it was chosen, tried like its screening.

They run in the core's regimes at tuned SFT's setting, on the five seeds of the tuning, paired with SFT there and each
at its best temperature, on validation problems. So nothing here is a result: it says what is worth a place in the next
protocol. Wrong traces exist only where a regime drops them, beside a right one of the same prompt.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from bench.study.second import choice, core
from bench.study.second.cells import Cell, finish
from bench.study.second.entries import ENTRIES, SFT, idle
from bench.study.second.regimes import REGIMES
from bench.study.second.tables import percent, shown, spent, table
from bench.study.tables import read
from dcod import storage

STORED = (
    "support_4_stored",
    "surprisal_stored",
    "naturalness_stored",
)  # beside the live and cross-fitted ones of the core
METHODS = ("success", "success_within", "negatives", *STORED)
RESULTS = Path(__file__).parent / "results" / "core"
HEAD = """# Beside the core

Written by `python -m bench.study.second.beside` from `beside.jsonl` and `tune.jsonl`. Validation problems, five seeds,
at tuned SFT's setting of each regime, each method at its own best temperature; differences in points with 95 % t
intervals over seeds. **No result**: nothing here met a fresh seed.
"""


def cells() -> Iterator[Cell]:
    """What is run."""
    settings = choice.chosen(RESULTS)["settings"][SFT]
    for method in METHODS:
        for regime in core.SITUATIONS:
            if acts(method, regime):
                one = settings[regime]
                yield from (Cell(regime, method, one["rate"], one["epochs"], seed) for seed in choice.TUNING)


def acts(method: str, regime: str) -> bool:
    """Whether there is something for it to act on."""
    return (
        not idle(method, REGIMES[regime])
        and REGIMES[regime].traces > 1
        and (REGIMES[regime].verified or not ENTRIES[method].negatives)
    )


def page(results: Path) -> str:
    """The table."""
    rows = choice.indexed([*read(results / "tune.jsonl"), *read(results / "beside.jsonl")])
    settings, lines = choice.chosen(results)["settings"][SFT], list[list[str]]()
    for method in METHODS:
        for regime in core.SITUATIONS:
            setting = settings[regime]["rate"], settings[regime]["epochs"]
            mine, sft = (choice.at(rows, regime, name, setting) for name in (method, SFT))
            seeds = [seed for seed in choice.TUNING if seed in mine and seed in sft]
            if len(seeds) > 1:
                left, right = (choice.best({setting: [one[s] for s in seeds]}).temperature for one in (mine, sft))
                values = [mine[s]["validation"][left] - sft[s]["validation"][right] for s in seeds]
                accuracy = percent(sum(mine[s]["validation"][left] for s in seeds) / len(seeds))
                found = shown(choice.difference(values))
                lines.append([method, regime, str(len(seeds)), left, accuracy, found])
    told = table(["method", "regime", "seeds", "temperature", "accuracy", "against SFT"], lines)
    return f"{HEAD}\n{spent(read(results / 'beside.jsonl'))}\n{told}"


def main(
    workers: Annotated[int, typer.Option(help="Processes, one thread each.")] = 2,
    minutes: Annotated[float, typer.Option(help="Begin no cell after so many.")] = 1e9,
    work: Path = Path("runs/study"),
) -> None:
    """Runs what is missing, and writes BESIDE.md."""
    finish(cells(), RESULTS / "beside.jsonl", work, workers, time.monotonic() + 60 * minutes)
    storage.write_text(RESULTS / "BESIDE.md", page(RESULTS))


if __name__ == "__main__":
    typer.run(main)
