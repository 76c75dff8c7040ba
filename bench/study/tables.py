"""From cells to the table, the plots and the verdict: paired by seed, Student's t intervals over seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.study.methods import CONTROLS, MAIN, METHODS, MIDDLE, START
from bench.study.regimes import REGIMES
from dcod import storage
from dcod.reports import figures

CHOSEN = "surprisal,surprisal_stored,gce,surprisal_strong"  # why these: README.md, "What was changed"
MARGIN = -0.02  # non-inferior: the lower bound of the paired difference to SFT stands above it
PRIMARY = "sampled_accuracy"

Row = dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """A paired difference over seeds, with its 95 % interval."""

    mean: float
    low: float
    high: float
    seeds: int


def read(path: Path) -> list[Row]:
    """The cells of a file, none if it does not exist."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def chosen_rates(rows: Sequence[Row]) -> dict[tuple[str, str], float]:
    """The learning rate with the best mean validation accuracy, where several were tried."""
    scores: dict[tuple[str, str], dict[float, list[float]]] = {}
    for row in rows:
        by_rate = scores.setdefault((row["regime"], row["method"]), {})
        by_rate.setdefault(row["rate"], []).append(row["validation_accuracy"])
    return {key: max(by_rate, key=lambda r: sum(by_rate[r]) / len(by_rate[r])) for key, by_rate in scores.items()}


def at_rates(rows: Sequence[Row], rates: dict[tuple[str, str], float]) -> dict[tuple[str, str], dict[int, Row]]:
    """The cells at the given rates, by regime and method, then by seed."""
    out: dict[tuple[str, str], dict[int, Row]] = {}
    for row in rows:
        key = (row["regime"], row["method"])
        if row["rate"] == rates.get(key):
            out.setdefault(key, {})[row["seed"]] = row
    return out


def paired(left: dict[int, Row], right: dict[int, Row], metric: str = PRIMARY) -> Difference | None:
    """Mean of left minus right over the seeds that both have; None for fewer than two."""
    from scipy import stats

    seeds = sorted(set(left) & set(right))
    if len(seeds) < 2:
        return None
    values = [left[s][metric] - right[s][metric] for s in seeds]
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * spread
    return Difference(mean, mean - half, mean + half, len(seeds))


def write(results: Path) -> None:
    """Rewrites README.md and the plots of a results folder from its cells."""
    rows, fresh = read(results / "cells.jsonl"), read(results / "fresh.jsonl")
    rates = chosen_rates(rows)
    tuned = at_rates(rows, rates)
    middle = at_rates(rows, dict.fromkeys(rates, MIDDLE))
    parts = [_head(rows + fresh), "## Main methods, each at the learning rate that validation picked\n"]
    parts += [_table(regime, [START, *MAIN], tuned) for regime in REGIMES]
    others = [method for method in METHODS if method not in (START, *MAIN)]
    parts.append("## The rest of the family and the controls, all at the middle learning rate\n")
    shown = [r for r in REGIMES if any((r, m) in middle for m in others)]
    parts += [_table(regime, ["sft", "dft", "trace", "surprisal", *others], middle) for regime in shown]
    if fresh:
        confirmed = at_rates(fresh, {(r["regime"], r["method"]): r["rate"] for r in fresh})
        names = [m for m in METHODS if any(m == method for _, method in confirmed)]
        parts.append("## Confirmation on fresh seeds, after the choice\n")
        parts += [_table(regime, names, confirmed) for regime in REGIMES]
        _plot(results / "fresh.svg", confirmed, names, "Fresh seeds: sampled accuracy against SFT")
    _plot(results / "main.svg", tuned, list(MAIN), "Main methods: sampled accuracy against SFT")
    _plot(results / "others.svg", middle, ["trace", *others], "The rest at the middle rate: against SFT")
    storage.write_text(results / "README.md", "\n".join(parts))


def _head(rows: Sequence[Row]) -> str:
    dates, machines = sorted({r["date"] for r in rows}), sorted({r["machine"] for r in rows})
    seconds = sum(r["seconds"] for r in rows)
    return (
        "# Results of the study\n\n"
        "Written by `make study` from `cells.jsonl` and `fresh.jsonl`, which hold every cell that was run; the\n"
        "protocol is in ../README.md.\n\n"
        f"{len(rows)} cells, {' and '.join(dates)}, {'; '.join(machines)}, {seconds / 3600:.1f} worker hours\n"
        "(one thread a worker). Accuracies in %, sampled at temperature 1 (avg@8, the primary metric); differences\n"
        "are paired by seed, with 95 % t intervals over seeds. *Exposure* is the accuracy of a step given the\n"
        "teacher's prefix minus that given the student's own, in points.\n"
    )


def _table(regime: str, names: Iterable[str], cells: dict[tuple[str, str], dict[int, Row]]) -> str:
    lines = [
        f"### {regime}\n",
        "| method | rate | seeds | sampled | against SFT | against DFT | greedy | truncated | repeated | NLL "
        "| exposure | γ |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    sft, dft = cells.get((regime, "sft"), {}), cells.get((regime, "dft"), {})
    for name in names:
        found = cells.get((regime, name))
        if not found:
            continue

        def mean(metric: str, found: dict[int, Row] = found) -> float:
            return sum(row[metric] for row in found.values()) / len(found)

        exposure = mean("step_accuracy_given_teacher") - mean("step_accuracy_given_self")
        rate = next(iter(found.values()))["rate"]
        label = f"{name} (control)" if name in CONTROLS else name
        lines.append(
            f"| {label} | {rate:g} | {len(found)} | {100 * mean(PRIMARY):.1f} "
            f"| {_show(paired(found, sft), name, 'sft')} "
            f"| {_show(paired(found, dft), name, 'dft')} | {100 * mean('greedy_accuracy'):.1f} "
            f"| {100 * mean('truncated'):.1f} | {100 * mean('repeated'):.1f} | {mean('held_out_nll'):.3f} "
            f"| {100 * exposure:+.1f} | {mean('mean_gamma'):.2f} |"
        )
    return "\n".join(lines) + "\n"


def _show(difference: Difference | None, name: str, against: str) -> str:
    if difference is None or name == against:
        return ""
    text = f"{100 * difference.mean:+.1f} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"
    return f"**{text}**" if difference.low > 0 or difference.high < 0 else text


def _plot(path: Path, cells: dict[tuple[str, str], dict[int, Row]], names: Sequence[str], title: str) -> None:
    """Differences to SFT with their intervals, one panel a regime."""
    from matplotlib.figure import Figure

    shown = [regime for regime in REGIMES if any((regime, name) in cells for name in names if name != "sft")]
    compared = [name for name in names if name != "sft"]
    figure = Figure(figsize=(3.1 * len(shown), 1.0 + 0.26 * len(compared)), dpi=110, layout="constrained")
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for panel, regime in zip(axes, shown, strict=True):
        panel.axvline(0.0, color="#888", linewidth=0.8)
        for place, name in enumerate(compared):
            found = paired(cells.get((regime, name), {}), cells.get((regime, "sft"), {}))
            if found:
                half = 100 * (found.high - found.mean)
                colour = figures.VERMILION if name in CONTROLS else figures.BLUE
                panel.errorbar(100 * found.mean, place, xerr=half, fmt="o", color=colour, capsize=2, markersize=4)
        panel.set_title(regime, fontsize=9)
        panel.set_yticks(range(len(compared)), compared, fontsize=8)
        panel.tick_params(axis="x", labelsize=8)
        panel.set_xlabel("points", fontsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    axes[0].invert_yaxis()
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, metadata={"Date": None})


def against_committed(quick: Sequence[Row], committed: Sequence[Row]) -> str:
    """The quick cells beside the committed ones: does each lie within the range of the committed seeds?"""
    lines = []
    for row in quick:
        same = [c[PRIMARY] for c in committed if all(c[key] == row[key] for key in ("regime", "method", "rate"))]
        if not same:
            lines.append(f"{row['regime']:14}{row['method']:8}{row[PRIMARY]:.3f}  (no committed cell)")
            continue
        mean = sum(same) / len(same)
        deviation = math.sqrt(sum((v - mean) ** 2 for v in same) / max(1, len(same) - 1))
        noise = math.hypot(deviation, 0.5 / math.sqrt(50))  # fewer problems than a full cell has
        low, high = mean - 2.8 * noise, mean + 2.8 * noise
        verdict = "within" if low <= row[PRIMARY] <= high else "OUTSIDE"
        name = f"{row['regime']:14}{row['method']:8}"
        lines.append(f"{name}{row[PRIMARY]:.3f}  {verdict} [{low:.3f}, {high:.3f}] of {len(same)} seeds")
    return "\n".join(lines)
