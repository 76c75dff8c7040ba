"""`python -m bench.study.second.longer`: does SFT, trained for longer than the core allowed, catch up?

Written after the core, and committed before its first cell. In the core every method chose the most epochs of the grid,
and three times the highest rate as well, so "tuned SFT" stands on an edge there, and so does what is compared with it.

1. SFT and `naturalness`, the finalist that gained, in the four regimes where it can act: 8 epochs at each rate of the
   core, and twice the highest rate at 4; then 16 epochs at the rate that was best at 8. Seeds 0 and 1, validation.
2. Each takes the best setting and temperature of these and of the core's whole grid, on those two seeds.
3. ``--confirm``: the two on ten fresh seeds (40 to 49), test problems, once; longer.json is committed before.

If `naturalness` is not above SFT there, what it gained in the core was speed. 16 is an edge again, and is said so where
it is chosen. Two seeds choose here where the core had five: a coarser choice, the same for both. (The mean over the
situations, each counting alike, joined the tables after the cells.)
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from bench.study.second import choice
from bench.study.second.cells import Cell, Setting, finish
from bench.study.second.choice import Index, Tuned
from bench.study.second.entries import SFT
from bench.study.second.tables import mean_of, percent, shown, spent, table
from bench.study.tables import read
from dcod import storage

METHODS = (SFT, "naturalness")
SITUATIONS = ("noisy", "noisy_filtered", "two_teachers", "knows_little")
LONG, LONGEST = 8, 16  # epochs
SETTINGS: tuple[Setting, ...] = (*((rate, LONG) for rate in choice.RATES), (2 * max(choice.RATES), max(choice.EPOCHS)))
FRESH = range(40, 50)  # seeds
TITLES = ("regime", "method", "rate", "epochs", "temperature", "seeds", "accuracy", "against SFT", "pass@8 at 0.6",
          "ExAccErr")  # fmt: skip
RESULTS = Path(__file__).parent / "results" / "core"
HEAD = """# For longer than the core

Written by `python -m bench.study.second.longer` from `longer.jsonl` and `tune.jsonl`; the protocol is the docstring of
`longer.py`. Accuracies in %, each at its best temperature; differences in points with 95 % t intervals over seeds.
"""


def tuning(rows: Index) -> Iterator[Cell]:
    """Two seeds of every new setting; the longest training once it is known at which rate."""
    for regime in SITUATIONS:
        for method in METHODS:
            settings = [*SETTINGS]
            known = {setting: found for setting in SETTINGS if len(found := tried(rows, regime, method, setting)) > 1}
            if len(known) == len(SETTINGS):
                best = choice.best({setting: known[setting] for setting in SETTINGS if setting[1] == LONG})
                settings.append((best.rate, LONGEST))
            yield from (Cell(regime, method, *setting, seed) for seed in choice.SCREENING for setting in settings)


def tried(rows: Index, regime: str, method: str, setting: Setting) -> list[choice.Row]:
    """The rows of the two seeds that choose, as far as they are there."""
    found = choice.at(rows, regime, method, setting)
    return [found[seed] for seed in choice.SCREENING if seed in found]


def tuned(rows: Index, regime: str, method: str, epochs: int = 0) -> Tuned | None:
    """The best of all that both seeds tried, or of a number of epochs."""
    settings = [setting for setting in rows.get((regime, method), {}) if epochs in (0, setting[1])]
    both = {setting: found for setting in settings if len(found := tried(rows, regime, method, setting)) > 1}
    return choice.best(both) if both else None


def confirmation(chosen: dict[str, dict[str, Tuned]]) -> Iterator[Cell]:
    """Both methods on the fresh seeds, each at its own setting."""
    for seed in FRESH:
        for regime, by_method in chosen.items():
            yield from (Cell(regime, method, *one.setting, seed) for method, one in by_method.items())


def page(results: Path) -> str:
    """The tables."""
    cells = read(results / "longer.jsonl")
    rows = choice.indexed([*read(results / "tune.jsonl"), *cells])
    climb, found, differences = list[list[str]](), list[list[str]](), list[choice.Difference]()
    for regime in SITUATIONS:
        for method in METHODS:
            each = [tuned(rows, regime, method, epochs) for epochs in (*choice.EPOCHS, LONG, LONGEST)]
            told = [f"{percent(one.accuracy)} ({one.rate:g}, {one.temperature})" if one else "" for one in each]
            climb.append([regime, method, *told])
        for name, against, line in compared(choice.indexed(cells), regime, chosen(results).get(regime, {}), FRESH):
            found.append(line)
            differences += [against] if against and name != SFT else []
    parts = [HEAD, spent(cells), "## By epochs: validation, two seeds, at the best rate and temperature\n"]
    parts.append(table(["regime", "method", *(str(n) for n in (*choice.EPOCHS, LONG, LONGEST))], climb))
    if found:
        if len(differences) == len(SITUATIONS):
            found.append(["mean", METHODS[1], *[""] * 5, shown(choice.pooled(differences)), "", ""])
        parts += ["## Fresh seeds and test problems\n", table(TITLES, found)]
    return "\n".join(parts)


def compared(
    fresh: Index, regime: str, settings: dict[str, Tuned], wanted: Iterable[int]
) -> Iterator[tuple[str, choice.Difference | None, list[str]]]:
    """By method its difference to SFT and its line of the table, over the seeds that all methods have.

    Args:
        fresh: the rows.
        regime: of the situation.
        settings: by method; SFT is one.
        wanted: seeds.
    """
    both = {method: choice.at(fresh, regime, method, one.setting) for method, one in settings.items()}
    seeds = [seed for seed in wanted if all(seed in found for found in both.values())]
    if not settings or not seeds:
        return
    values = {name: [both[name][s]["test"][one.temperature] for s in seeds] for name, one in settings.items()}
    for name, one in settings.items():
        here = [both[name][seed] for seed in seeds]
        against = choice.difference([a - b for a, b in zip(values[name], values[SFT], strict=True)])
        yield name, against, [
            *(regime, name, f"{one.rate:g}", str(one.epochs), one.temperature, str(len(seeds))),
            percent(sum(values[name]) / len(seeds)), "" if name == SFT else shown(against),
            percent(mean_of(here, "pass", "0.6")), f"{mean_of(here, 'excess_error'):.2f}",
        ]  # fmt: skip


def chosen(results: Path) -> dict[str, dict[str, Tuned]]:
    """The committed choice, by regime and method; nothing where none was made yet."""
    path = results / "longer.json"
    read_back = storage.read_json(path, made_by="bench.study.second.longer") if path.is_file() else {}
    return {r: {method: Tuned(**one) for method, one in by_method.items()} for r, by_method in read_back.items()}


def main(
    confirm: Annotated[bool, typer.Option(help="Fresh seeds, once longer.json is committed.")] = False,
    workers: Annotated[int, typer.Option(help="Processes, one thread each.")] = 2,
    minutes: Annotated[float, typer.Option(help="Begin no cell after so many.")] = 1e9,
    work: Path = Path("runs/study"),
    results: Annotated[Path, typer.Option(help="Of cells and pages; the core's tune.jsonl lies there.")] = RESULTS,
) -> None:
    """Runs what is missing, and writes LONGER.md."""
    until, into = time.monotonic() + 60 * minutes, results / "longer.jsonl"
    if confirm:
        finish(confirmation(chosen(results)), into, work, workers, until)
    else:
        for _ in ("8 epochs", "16, at the rate that was best"):
            finish(tuning(choice.indexed(read(into))), into, work, workers, until)
        rows = choice.indexed([*read(results / "tune.jsonl"), *read(into)])
        best = {regime: {method: tuned(rows, regime, method) for method in METHODS} for regime in SITUATIONS}
        storage.write_json(
            results / "longer.json",
            {regime: {name: vars(one) for name, one in by.items() if one} for regime, by in best.items()},
        )
    storage.write_text(results / "LONGER.md", page(results))


if __name__ == "__main__":
    typer.run(main)
