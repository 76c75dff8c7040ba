"""The protocol's rules: which settings, which finalists, which cells."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bench.pretrained.second.tasks import TASKS
from bench.study.second.cells import FRESH, Cell, Setting
from bench.study.second.choice import Difference, Index, Tuned, at, best, difference
from bench.study.second.entries import ENTRIES, SFT, START, idle, unknown
from bench.study.second.regimes import REGIMES as STUDY
from dcod.errors import UserError

FIRST = "sorting"  # the task of stage 1
COUNTS: tuple[int, ...] = (4, 1)  # traces a prompt
METHODS: tuple[str, ...] = (
    SFT,
    "support_4",
    "support_2",
    "support_4_stored",
    "support_4_cross",
    "support_text_4",
    "support_text_4_cross",
    "surprisal",
    "naturalness",
    "naturalness_stored",
    "naturalness_cross",
    "naturalness_gce",
    "naturalness_deft",
    "naturalness_local",
    "gce_25",
    "deft",
    "idft",
    "token_support_mass",
    "token_support_threshold",
    "forward_kl",
    "skew_kl_10",
    "skew_kl_50",
    "own_answers",
    "own_unverified",
)
GRID: tuple[Setting, ...] = ((5e-5, 2), (1e-4, 2), (2e-4, 2), (1e-4, 4))  # around the core's best, which was on an edge
SEEDS, FINALISTS, FRESH_SEEDS = range(2), 2, 5


def regimes() -> list[str]:
    """Of stage 1: the task with a count of traces a prompt, such as ``sorting/4``."""
    return [f"{FIRST}/{count}" for count in COUNTS]


def last_regimes() -> list[str]:
    """Of the confirmation: those, and the other tasks with several traces a prompt."""
    return [*regimes(), *(f"{task}/{COUNTS[0]}" for task in TASKS if task != FIRST)]


def is_idle(method: str, regime: str) -> bool:
    """Whether a method is SFT to the last bit there."""
    return idle(method, STUDY["single" if regime.endswith("/1") else "noisy"])


def tuned(rows: Index, method: str, regime: str) -> Tuned | None:
    """Setting and temperature of the best mean validation accuracy; None while a cell of the grid is missing."""
    name = SFT if is_idle(method, regime) else method
    found = {setting: list(at(rows, regime, name, setting).values()) for setting in GRID}
    return best(found) if all(len(each) == len(SEEDS) for each in found.values()) else None


def tuning(methods: Iterable[str]) -> Iterator[Cell]:
    """The whole grid, on the first task."""
    for method in methods:
        for regime in regimes():
            if method == SFT:
                yield from (Cell(regime, START, 0.0, 0, seed) for seed in SEEDS)
            if not is_idle(method, regime):
                yield from (Cell(regime, method, *setting, seed) for seed in SEEDS for setting in GRID)


def screening(rows: Index) -> Iterator[Cell]:
    """Every method at SFT's tuned setting, as far as SFT is tuned and this dcod has the method."""
    for method in METHODS:
        for regime in regimes():
            sft = tuned(rows, SFT, regime)
            if sft and method not in unknown() and not is_idle(method, regime):
                yield from (Cell(regime, method, *sft.setting, seed) for seed in SEEDS)


def confirmation(choice: dict[str, Any]) -> Iterator[Cell]:
    """SFT and the finalists on fresh seeds, as they were tuned on the first task; a task after the other."""
    for regime in last_regimes():
        yield Cell(regime, START, 0.0, 0, FRESH)
        for seed in range(FRESH, FRESH + FRESH_SEEDS):
            for method in (SFT, *choice["finalists"]):
                if not is_idle(method, regime):
                    one = setting_of(choice, method, regime)
                    yield Cell(regime, method, one["rate"], one["epochs"], seed)


def setting_of(choice: dict[str, Any], method: str, regime: str) -> dict[str, Any]:
    """What was tuned on the first task, with as many traces a prompt."""
    return dict(choice["settings"][method][f"{FIRST}/{regime.partition('/')[2]}"])


def screened(rows: Index) -> dict[str, dict[str, Difference]]:
    """Each method's difference to SFT at SFT's setting on validation, both at their best temperature, by regime."""
    out: dict[str, dict[str, Difference]] = {}
    for regime in regimes():
        sft = tuned(rows, SFT, regime)
        for method in METHODS if sft else ():
            assert sft is not None
            against = at(rows, regime, SFT, sft.setting)
            mine = against if is_idle(method, regime) else at(rows, regime, method, sft.setting)
            if len(mine) == len(SEEDS):
                found = _against(mine, best({sft.setting: list(mine.values())}), against, sft)
                out.setdefault(method, {})[regime] = found
    return out


def tuned_differences(rows: Index, method: str) -> dict[str, Difference]:
    """A tuned method against tuned SFT on validation, each at its own best temperature."""
    out = {}
    for regime in regimes():
        mine, sft = tuned(rows, method, regime), tuned(rows, SFT, regime)
        if mine and sft:
            name = SFT if is_idle(method, regime) else method
            left, right = at(rows, regime, name, mine.setting), at(rows, regime, SFT, sft.setting)
            out[regime] = _against(left, mine, right, sft)
    return out


def _against(left: dict[int, Any], mine: Tuned, right: dict[int, Any], sft: Tuned) -> Difference:
    found = difference([
        left[seed]["validation"][mine.temperature] - right[seed]["validation"][sft.temperature] for seed in SEEDS
    ])  # fmt: skip
    assert found is not None
    return found


def finalists(rows: Index) -> list[str]:
    """The two methods of the best mean over both trace counts; no controls, no SFT."""
    found = {m: by for m, by in screened(rows).items() if len(by) == len(COUNTS)}
    ranked = sorted(found, key=lambda m: -sum(one.mean for one in found[m].values()))
    return [m for m in ranked if m != SFT and not ENTRIES[m].control][:FINALISTS]


def settings(rows: Index, methods: Iterable[str]) -> dict[str, Any]:
    """What is committed before a fresh seed runs.

    Raises:
        UserError: the grid of one is not complete.
    """
    out: dict[str, Any] = {}
    for method in (SFT, *methods):
        for regime in regimes():
            found = tuned(rows, method, regime)
            if found is None:
                raise UserError(f"{method} is not tuned in {regime} yet; run --stage tune")
            out.setdefault(method, {})[regime] = vars(found)
    return {"finalists": list(methods), "settings": out}


def committed(results: Path, name: str) -> dict[str, Any]:
    """``shortlist`` or ``choice``.

    Raises:
        UserError: it was not written yet.
    """
    path = results / f"{name}.json"
    if not path.is_file():
        stage = {"shortlist": "shortlist", "choice": "choose"}[name]
        raise UserError(f"{path} is missing: run --stage {stage}, commit what it writes, then go on")
    return dict(json.loads(path.read_text()))


def confirmed(rows: Index, choice: dict[str, Any], method: str) -> dict[str, Difference]:
    """A finalist against SFT: fresh seeds, each with test problems of its own, so the interval is over both."""
    out = {}
    for regime in last_regimes():
        mine, sft = setting_of(choice, method, regime), setting_of(choice, SFT, regime)
        name = SFT if is_idle(method, regime) else method
        left = at(rows, regime, name, (mine["rate"], mine["epochs"]))
        right = at(rows, regime, SFT, (sft["rate"], sft["epochs"]))
        seeds = sorted(set(left) & set(right))
        found = difference([left[s]["test"][mine["temperature"]] - right[s]["test"][sft["temperature"]] for s in seeds])
        if found:
            out[regime] = found
    return out
