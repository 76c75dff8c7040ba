"""The cells of each stage, from the rows of those before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bench.study.second import choice
from bench.study.second.cells import FRESH, Cell, Setting
from bench.study.second.choice import SCREENING, TUNING, Index, promoted
from bench.study.second.entries import ENTRIES, SFT, START, idle, unknown
from bench.study.second.regimes import REGIMES


def tuning(methods: Iterable[str], regimes: Iterable[str], rows: Index) -> Iterator[Cell]:
    """The whole grid on two seeds, and what it promoted, once all of that is there, on five; SFT with the starts."""
    for method in methods:
        for regime in regimes:
            if method == SFT:
                yield from (Cell(regime, START, 0.0, 0, seed) for seed in TUNING)
            if not idle(method, REGIMES[regime]):
                yield from (Cell(regime, method, *setting, seed) for seed in SCREENING for setting in choice.GRID)
                further = [seed for seed in TUNING if seed not in SCREENING]
                yield from (
                    Cell(regime, method, *setting, seed)
                    for seed in further
                    for setting in promoted(rows, regime, method)
                )


def screening(settings: dict[str, Setting]) -> Iterator[Cell]:
    """Every entry that this dcod has, at SFT's tuned setting of each regime, on two seeds."""
    for method in ENTRIES:
        for regime, setting in settings.items():
            if method not in unknown() and not idle(method, REGIMES[regime]):
                yield from (Cell(regime, method, *setting, seed) for seed in SCREENING)


def confirmation(settings: dict[tuple[str, str], Setting], seeds: int, regimes: Iterable[str]) -> Iterator[Cell]:
    """SFT and the finalists, as they were tuned, on fresh seeds; a finalist that is idle is SFT."""
    for seed in range(FRESH, FRESH + seeds):
        for regime in regimes:
            yield Cell(regime, START, 0.0, 0, seed)
            for (where, method), setting in settings.items():
                if where == regime and not idle(method, REGIMES[regime]):
                    yield Cell(regime, method, *setting, seed)
