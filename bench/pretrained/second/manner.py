"""`python -m bench.pretrained.second.manner`: does it pay to prefer the manner in which the student succeeds?

Written after the core's confirmation had begun, and because of what it showed: by chance of the seed the students of
`naturalness_gce` came to one style, and that was right in 22 % of the problems (seed 10) or in 63 % (seed 11), while
SFT, with all three styles, was right in 43 and 47 %. So it may count *which* style. The correction `success` weighs a
trace by how often the student is right in its manner (dcod.score.success), with the plain log loss.

A first way asked two students, each fine-tuned on half of the prompts (3e-4, one epoch), the prompts of the other
half, four times at temperature 1. Two cells, `manner_cross`, seeds 0 and 1, gamma_max 4: 40.0 and 39.4 % on
validation problems, SFT 56.3 and 43.1 %. Such students are right in 2 to 13 % of their answers, and not in the manner
in which the trained one is: with seed 1 `at_once` was their best (11 %), while SFT's student is right in 33 % with it
and in 46 % with `selection`. So the way was changed, before its first cell: the student of plain fine-tuning itself,
on all traces, answers 64 problems that were held back, four times at 0.6 (dcod.score.asking).

A second reading, before any fresh cell had ended, found that chances were confounded with difficulty: a manner that
is used on hard problems looked bad. Four cells of seeds 0 and 1 had been run so (`manner_raw`, `manner_raw_1`:
gamma_max 4 and 1; 51.3 and 47.8 %, SFT 49.7 %); with seed 1 the weights had the wrong sign. Since then an answer
counts by how much better it is than the others to its problem, and the two seeds were run anew (`manner`).

Protocol: *sorting*, four traces a prompt, SFT's tuned setting for all (1e-4, two epochs), so SFT alone is tuned over
rates; gamma_max 4. Seeds 0 and 1 and validation problems choose the temperature (greedy or 0.6). If it is above SFT
there, it and SFT meet on fresh seeds 20 to 24, of which nothing was seen: 240 test problems greedily, 40 of them
eight times at 0.6; accuracy at each one's own temperature (SFT's is greedy, as the core tuned it), paired by seed,
with a 95 % t interval over seeds. Otherwise nothing is confirmed, and this page says so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.pretrained.second import cells
from bench.pretrained.second.cells import share
from bench.study.second.cells import Cell, Row
from bench.study.second.choice import difference
from bench.study.second.entries import SFT
from bench.study.second.tables import percent, shown, spent, table
from bench.study.tables import read
from dcod import storage

REGIME, SETTING = "sorting/4", (1e-4, 2)
METHODS = ("manner",)
TUNING, FRESH = range(2), range(20, 25)
RESULTS = Path(__file__).parent / "results" / "manner"
CORE = Path(__file__).parent / "results" / "core"


def main(
    confirm: Annotated[bool, typer.Option("--confirm", help="The fresh seeds; else the choice.")] = False,
    workers: int = 2,
    minutes: Annotated[float, typer.Option(help="Begin no cell after so many.")] = 1e9,
    work: Path = Path("runs/pretrained"),
    results: Path = RESULTS,
) -> None:
    """Runs what is missing, and rewrites the page."""
    until = time.monotonic() + 60 * minutes
    if confirm:
        chosen = storage.read_json(results / "choice.json", made_by="this module without --confirm")["method"]
        wanted = [Cell(REGIME, method, *SETTING, seed) for seed in FRESH for method in (SFT, chosen)]
        cells.finish(wanted, results / "confirm.jsonl", work, workers, until, late=("0.6",))
    else:
        wanted = [Cell(REGIME, method, *SETTING, seed) for method in METHODS for seed in TUNING]
        cells.finish(wanted, results / "tune.jsonl", work, workers, until)
        storage.write_json(results / "choice.json", choice(read(results / "tune.jsonl")))
    storage.write_text(results / "README.md", page(results))


def choice(rows: Sequence[Row]) -> dict[str, Any]:
    """The method and the temperature of the best mean validation accuracy."""
    found = {
        (method, temperature): sum(values) / len(values)
        for method in METHODS
        for temperature in ("greedy", "0.6")
        if (values := [row["validation"][temperature] for row in rows if row["method"] == method])
    }
    method, temperature = max(found, key=found.__getitem__)
    return {"method": method, "temperature": temperature, "validation": found[method, temperature]}


def page(results: Path) -> str:
    """The figures, from the cells alone."""
    early, late = read(results / "tune.jsonl"), read(results / "confirm.jsonl")
    sft = [row for row in read(CORE / "tune.jsonl") if (row["method"], row["rate"], row["epochs"]) == (SFT, *SETTING)]
    lines = [
        [
            row["method"],
            str(row["seed"]),
            *(percent(row["validation"][name]) for name in ("greedy", "0.6")),
            styles(row),
        ]
        for row in [*sft, *early]
    ]
    titles = ["method", "seed", "greedy", "0.6", "styles of greedy answers (right)"]
    parts = [
        "# SmolLM2-135M: the manner in which the student succeeds\n",
        f"Written from `tune.jsonl` and `confirm.jsonl`; the protocol is in ../../manner.py. {spent([*early, *late])}",
        f"## What chose, on validation problems\n\n{table(titles, lines)}",
    ]
    if late:
        chosen = storage.read_json(results / "choice.json", made_by="this module")
        parts.append(_confirmed(late, chosen))
    return "\n".join(parts)


def _confirmed(rows: Sequence[Row], chosen: dict[str, Any]) -> str:
    at = {SFT: "greedy", chosen["method"]: chosen["temperature"]}
    test = {(row["method"], row["seed"]): row["test"] for row in rows}
    seeds = [seed for seed in FRESH if all((method, seed) in test for method in at)]
    gain = difference([test[chosen["method"], s][chosen["temperature"]] - test[SFT, s]["greedy"] for s in seeds])
    lines = [
        [row["method"], str(row["seed"]), *(percent(row["test"][name]) for name in ("greedy", "0.6")),
         percent(share(row["majority"]["0.6"], 1)), styles(row)]
        for row in sorted(rows, key=lambda row: (row["seed"], row["method"] != SFT))
    ]  # fmt: skip
    titles = ["method", "seed", "greedy", "0.6", "majority of 8", "styles of greedy answers (right)"]
    said = f"{chosen['method']} at {chosen['temperature']} against SFT at greedy, {len(seeds)} fresh seeds"
    mean = {method: sum(test[method, s][at[method]] for s in seeds) / max(1, len(seeds)) for method in at}
    figures = ", ".join(f"{method} {percent(value)}" for method, value in mean.items() if not math.isnan(value))
    return f"## On fresh seeds\n\n{said}: {figures}; difference {shown(gain)} points.\n\n{table(titles, lines)}"


def styles(row: Row) -> str:
    """The styles of the greedy answers in % of all, and how many of each were right, in %."""
    total = sum(row["styles"].values())
    each = sorted(row["styles"].items(), key=lambda pair: -pair[1])
    return ", ".join(
        f"{name} {100 * n / total:.0f} ({100 * row['styles_right'].get(name, 0) / n:.0f})" for name, n in each
    )


if __name__ == "__main__":
    typer.run(main)
