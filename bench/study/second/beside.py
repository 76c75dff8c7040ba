"""`python -m bench.study.second.beside`: what the core left out or came when it was chosen, tried like its screening.

They run in the core's regimes at tuned SFT's setting, paired with SFT there, on the same machine, each at its best
temperature, on validation problems: METHODS on the five seeds of the tuning; on the two of the screening REST, what
`train.correction.name` and `train.loss.name` offer besides, variants of `support`, and the controls. So nothing here is
a result: it says what is worth a place in the next protocol, and what leaves the public list.

Written down before any cell of REST: a correction stays if it is ahead of SFT by 2 points or more in the mean over the
situations where it acts, `token_support` by its best rule; two seeds say little: one that does nothing may stay. SFT,
`support`, `prefix`, `trace` and `given` stay whatever comes out. The forms of `naturalness` for one trace a prompt meet
that alone.

Wrong traces exist only where a regime drops them, beside a right one of the same prompt.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

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
METHODS = ("own_success", "own_success_within", "negatives", *STORED)
REST = (
    *("prefix", "trace_mean", "mixed", "rsr", "idft", "iw_opd", "iw_sft", "token_support_mass"),
    *("token_support_threshold", "naturalness_local", "naturalness_batch", "naturalness_length"),
    *("support_2", "support_8", "support_4_plain", "dft", "todi", "reverse_kl", "jsd"),
    *("length_only", "student_likelihood_only", "position_decay"),  # controls
)
FOR_ONE_TRACE = ("naturalness_batch", "naturalness_length")
RESULTS = Path(__file__).parent / "results" / "core"
HEAD = """# Beside the core

Written by `python -m bench.study.second.beside` from `beside.jsonl`. Validation problems, at tuned SFT's setting of
each regime, each method at its own best temperature; differences in points with 95 % t intervals over seeds. **No
result**: nothing here met a fresh seed, and two seeds say little.
"""


def cells(results: Path = RESULTS) -> Iterator[Cell]:
    """What is run; SFT as well, since another machine makes other traces."""
    settings = choice.chosen(results)["settings"][SFT]
    for method in (SFT, *REST, *METHODS):
        for regime in core.SITUATIONS:
            if acts(method, regime):
                one = settings[regime]
                yield from (Cell(regime, method, one["rate"], one["epochs"], seed) for seed in seeds_of(method))


def seeds_of(method: str) -> range:
    """The seeds of a method."""
    return choice.SCREENING if method in REST else choice.TUNING


def acts(method: str, regime: str) -> bool:
    """Whether there is something for it to act on."""
    return (
        not idle(method, REGIMES[regime])
        and (REGIMES[regime].traces > 1 or method not in METHODS)
        and (REGIMES[regime].traces == 1 or method not in FOR_ONE_TRACE)
        and (REGIMES[regime].verified or not ENTRIES[method].negatives)
    )


def found(rows: choice.Index, method: str, settings: dict[str, Any]) -> dict[str, tuple[str, float, list[float]]]:
    """By regime: the method's best temperature, its accuracy there, and its differences to SFT, one a seed."""
    out = {}
    for regime in core.SITUATIONS:
        setting = settings[regime]["rate"], settings[regime]["epochs"]
        mine, sft = (choice.at(rows, regime, name, setting) for name in (method, SFT))
        seeds = [seed for seed in seeds_of(method) if seed in mine and seed in sft]
        if len(seeds) > 1:
            left, right = (choice.best({setting: [one[s] for s in seeds]}).temperature for one in (mine, sft))
            values = [mine[s]["validation"][left] - sft[s]["validation"][right] for s in seeds]
            out[regime] = left, sum(mine[s]["validation"][left] for s in seeds) / len(seeds), values
    return out


def page(results: Path) -> str:
    """The tables."""
    kept = read(results / "beside.jsonl")
    rows, settings = choice.indexed(kept), choice.chosen(results)["settings"][SFT]
    lines = [
        [method, regime, str(len(values)), temperature, percent(accuracy), shown(choice.difference(values))]
        for method in METHODS
        for regime, (temperature, accuracy, values) in found(rows, method, settings).items()
    ]
    told = table(["method", "regime", "seeds", "temperature", "accuracy", "against SFT"], lines)
    return f"{HEAD}\n{spent(kept)}\n{told}\n{screened(rows, settings, results)}"


def screened(rows: choice.Index, settings: dict[str, Any], results: Path) -> str:
    """What is tried on two seeds: the difference to SFT in each situation, and in their mean; and what is missing."""
    lines = []
    for method in REST:
        means = {regime: sum(values) / len(values) for regime, (_, _, values) in found(rows, method, settings).items()}
        told = [f"{100 * means[regime]:+.1f}" if regime in means else "" for regime in core.SITUATIONS]
        whole = len(means) == sum(acts(method, regime) for regime in core.SITUATIONS)
        if means:
            lines.append([method, *told, f"{100 * sum(means.values()) / len(means):+.1f}" if whole else ""])
    run = {
        Cell(regime, method, *setting, seed)
        for (regime, method), by_setting in rows.items()
        for setting, by_seed in by_setting.items()
        for seed in by_seed
    }
    missing = {cell.method: None for cell in cells(results) if cell not in run}
    left = f"\nNot run, or not in all situations: {', '.join(missing)}.\n" if missing else ""
    return table(["two seeds", *core.SITUATIONS, "mean"], lines) + left


def main(
    workers: Annotated[int, typer.Option(help="Processes, one thread each.")] = 2,
    minutes: Annotated[float, typer.Option(help="Begin no cell after so many.")] = 1e9,
    work: Path = Path("runs/study"),
    results: Annotated[Path, typer.Option(help="Of cells and page; the core's choice.json lies there.")] = RESULTS,
) -> None:
    """Runs what is missing, and writes BESIDE.md."""
    finish(cells(results), results / "beside.jsonl", work, workers, time.monotonic() + 60 * minutes)
    storage.write_text(results / "BESIDE.md", page(results))


if __name__ == "__main__":
    typer.run(main)
