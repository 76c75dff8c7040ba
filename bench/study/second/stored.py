"""`python -m bench.study.second.stored`: do weights that stay as the start gave them bring something, trained for long?

Written after `beside` had shown stored weights ahead of SFT on the five seeds of the tuning, within 4 epochs (`support`
too, whose live weights lose), and after `longer` had shown that 4 epochs are too few. Committed before its first cell.

1. SFT, `naturalness` and `support` (temperature 4) with stored weights, in the four situations where these can act: 16
   epochs at the rate at which `longer` found SFT best. Nothing is tuned for the two, so nothing is chosen here.
2. All answer greedily, as SFT's best was in all four. Ten fresh seeds (50 to 59), test problems.
3. The figure is the difference to SFT, paired by seed, in the mean of the situations, each counting alike. A method is
   called better where the 97.5 % interval of that mean is above 0 (two are compared), worse where it is below.

Seeds go one after another through all situations, so that a part of the cells is a part of the seeds. With the errors
that `longer` had (0.5 points in the mean of ten seeds) a true difference of 1.8 points is found with 80 % power.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from bench.study.second import choice, longer
from bench.study.second.cells import Cell, finish
from bench.study.second.choice import Difference, Tuned
from bench.study.second.entries import SFT
from bench.study.second.tables import shown, spent, table
from bench.study.tables import read
from dcod import storage

METHODS = ("naturalness_stored", "support_4_stored")
FRESH = range(50, 60)  # seeds
LEVEL = 0.05 / len(METHODS) / 2  # of either end of an interval
RESULTS = longer.RESULTS
HEAD = """# Weights as the start gave them, for long

Written by `python -m bench.study.second.stored` from `stored.jsonl`; the protocol is the docstring of `stored.py`. Test
problems, greedy; accuracies in %, differences in points with 95 % t intervals over seeds.
"""


def settings(results: Path = RESULTS) -> dict[str, Tuned]:
    """By situation the rate at which SFT was best after the longest training, and that; greedy answers."""
    chosen = longer.chosen(results)
    return {regime: replace(chosen[regime][SFT], temperature="greedy") for regime in longer.SITUATIONS}


def cells(results: Path = RESULTS) -> Iterator[Cell]:
    """What is run."""
    for seed in FRESH:
        for regime, one in settings(results).items():
            yield from (Cell(regime, method, *one.setting, seed) for method in (SFT, *METHODS))


def page(results: Path) -> str:
    """The table."""
    kept, lines, verdicts = read(results / "stored.jsonl"), list[list[str]](), list[str]()
    rows, differences = choice.indexed(kept), {name: list[Difference]() for name in METHODS}
    for regime, one in settings(results).items():
        for name, against, line in longer.compared(rows, regime, dict.fromkeys((SFT, *METHODS), one), FRESH):
            lines.append(line)
            if against and name != SFT:
                differences[name].append(against)
    for name, each in differences.items():
        if len(each) == len(longer.SITUATIONS):
            mean = choice.pooled(each)
            lines.append(["mean", name, *[""] * 5, shown(mean), "", ""])
            verdicts.append(_verdict(name, mean))
    text = f"{HEAD}\n{spent(kept)}"
    return text + (f"\n{table(longer.TITLES, lines)}" if lines else "") + "".join(f"\n{one}\n" for one in verdicts)


def _verdict(method: str, mean: Difference) -> str:
    """What the rule says, once all seeds are there."""
    if mean.seeds < len(FRESH):
        return f"`{method}`: {mean.seeds} of {len(FRESH)} seeds are there, and nothing is said before."
    low, high = mean.bound(LEVEL), 2.0 * mean.mean - mean.bound(LEVEL)
    which = "better than" if low > 0 else "worse than" if high < 0 else "not told from"
    return f"`{method}` is {which} SFT: {100 * mean.mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] (97.5 %)."


def main(
    workers: Annotated[int, typer.Option(help="Processes, one thread each.")] = 2,
    minutes: Annotated[float, typer.Option(help="Begin no cell after so many.")] = 1e9,
    work: Path = Path("runs/study"),
    results: Annotated[Path, typer.Option(help="Of cells and page; longer.json lies there.")] = RESULTS,
) -> None:
    """Runs what is missing, and writes STORED.md."""
    finish(cells(results), results / "stored.jsonl", work, workers, time.monotonic() + 60 * minutes)
    storage.write_text(results / "STORED.md", page(results))


if __name__ == "__main__":
    typer.run(main)
