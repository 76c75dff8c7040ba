"""From the cells of the second protocol to its tables, intervals over seeds; what was not run is listed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.study.second import choice, plan
from bench.study.second.cells import FRESH, Row, Setting
from bench.study.second.choice import Difference, Index
from bench.study.second.entries import ENTRIES, SFT, START, idle, unknown
from bench.study.second.measure import TEMPERATURES
from bench.study.second.regimes import REGIMES
from bench.study.tables import read
from dcod import storage

HEAD = """# Results of the second protocol

Written by `python -m bench.study.second --stage tables` from `tune.jsonl` and `confirm.jsonl` (and `screen.jsonl`,
where the screening ran on another machine), which hold every cell that was run; the protocol is in ../README.md.
Accuracies in %, differences in points with 95 % t intervals over seeds, paired by seed; bold where the interval leaves
0 out. Nothing but the confirmation is a result: what stands before it chose, on validation problems.
"""


def write(results: Path) -> None:
    """Rewrites README.md of a results folder from its cells."""
    plain, late = read(results / "tune.jsonl"), read(results / "confirm.jsonl")
    early = read(choice.screening(results))
    rows, screened, fresh = choice.indexed(plain), choice.indexed(early), choice.indexed(late)
    both = plain if early == plain else [*early, *plain]
    parts = [HEAD, spent([*both, *late]), _starts([*plain, *late]), _settings(rows), _screening(screened)]
    if (results / "shortlist.json").is_file():
        parts.append(_tuning(rows, choice.listed(results)))
    parts += [_teachers(both), feedback(both)]
    if (results / "choice.json").is_file():
        parts.append(_confirmation(fresh, choice.chosen(results)))
    parts.append(_missing(rows, screened, fresh, results))
    storage.write_text(results / "README.md", "\n".join(part for part in parts if part))


def table(titles: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([f"| {' | '.join(titles)} |", "|---" * len(titles) + "|", *rows]) + "\n"


def spent(rows: Sequence[Row]) -> str:
    """How many cells, when, where and how long."""
    if not rows:
        return "No cell was run yet.\n"
    where = "; ".join(sorted({row["machine"] for row in rows}))
    dates = " to ".join(dict.fromkeys([min(row["date"] for row in rows), max(row["date"] for row in rows)]))
    hours = sum(row["seconds"] for row in rows) / 3600
    return f"{len(rows)} cells, {dates}, {where}, {hours:.1f} worker hours (one thread a worker).\n"


def percent(value: float) -> str:
    """A share in %."""
    return f"{100 * value:.1f}"


def mean_of(rows: Sequence[Row], *path: str) -> float:
    """The mean of a figure over rows; ``path`` leads to it."""
    total = 0.0
    for row in rows:
        value: Any = row
        for name in path:
            value = value[name]
        total += value
    return total / len(rows)


def _starts(rows: Sequence[Row]) -> str:
    lines = []
    for regime in REGIMES:
        here = [row for row in rows if (row["regime"], row["method"]) == (regime, START)]
        if here:
            seen = [row for row in here if row["seed"] < FRESH]
            figures = [percent(mean_of(seen, "validation", name)) if seen else "" for name in TEMPERATURES]
            lines.append(
                [regime, str(len(here)), f"{mean_of(here, 'p_0'):.2f}", f"{mean_of(here, 'unlikely'):.2f}", *figures]
            )
    titles = ["regime", "seeds", "mean p_0", "p_0 < 0.2", *TEMPERATURES]
    return f"## What the starts know\n\nAccuracy on validation problems.\n\n{table(titles, lines)}" if lines else ""


def _settings(rows: Index) -> str:
    found = choice.tuned(rows, SFT)
    lines = [[r, f"{t.rate:g}", str(t.epochs), t.temperature, percent(t.accuracy)] for r, t in found.items()]
    titles = ["regime", "rate", "epochs", "temperature", "validation accuracy"]
    return f"## SFT, tuned\n\n{table(titles, lines)}" if lines else ""


def _screening(rows: Index) -> str:
    found = choice.screened(rows)
    means = {method: choice.mean_over_regimes(by) for method, by in found.items()}
    order = sorted(found, key=lambda m: -(means[m] if means[m] is not None else -1.0))  # type: ignore[operator]
    lines = [
        [
            f"{method} (control)" if ENTRIES[method].control else method,
            *(_point(found[method].get(regime), method, regime) for regime in REGIMES),
            "" if means[method] is None else f"{100 * (means[method] or 0.0):+.1f}",
        ]
        for method in order
        if method != SFT
    ]
    why = "Two seeds at SFT's setting, validation accuracy at the best temperature of either; = : cannot act there."
    return f"## Screening: difference to SFT\n\n{why}\n\n{table(['method', *REGIMES, 'mean'], lines)}" if lines else ""


def _point(one: Difference | None, method: str, regime: str) -> str:
    if idle(method, REGIMES[regime]):
        return "="
    return "" if one is None else f"{100 * one.mean:+.1f}"


def shown(one: Difference | None) -> str:
    """A difference with its interval; bold where that leaves 0 out."""
    if one is None:
        return ""
    text = f"{100 * one.mean:+.1f} [{100 * one.low:+.1f}, {100 * one.high:+.1f}]"
    return f"**{text}**" if one.low > 0 or one.high < 0 else text


def _tuning(rows: Index, methods: Sequence[str]) -> str:
    lines = []
    for method in methods:
        found, settings = choice.tuned_differences(rows, method), choice.tuned(rows, method)
        for regime, one in found.items():
            t = settings[regime]
            lines.append([method, regime, f"{t.rate:g}", str(t.epochs), t.temperature, percent(t.accuracy), shown(one)])
        mean = choice.mean_over_regimes(found)
        if mean is not None:
            lines.append([method, "mean", "", "", "", "", f"{100 * mean:+.1f}"])
    titles = ["method", "regime", "rate", "epochs", "temperature", "validation accuracy", "against SFT"]
    return f"## Tuned alike: difference to SFT on validation\n\n{table(titles, lines)}" if lines else ""


def _teachers(rows: Sequence[Row]) -> str:
    """Which of two teachers the weights choose, and whom the student follows."""
    lines = []
    for method in (START, *ENTRIES):
        here = [row for row in rows if (row["regime"], row["method"]) == ("two_teachers", method)]
        weighed = [row for row in here if "near_weight_first" in row]
        if here:
            shares = [percent(mean_of(weighed, f"near_weight_{when}")) if weighed else "" for when in ("first", "last")]
            written = [percent(mean_of(here, f"{who}_written")) for who in ("near", "far")]
            lines.append([method, str(len(here)), *shares, *written])
    titles = ["method", "cells", "weight on the near one", "after training", "written like it", "like the far one"]
    why = "All cells of *two_teachers*. Weights: their share over an epoch as the start sees it, and the student."
    return f"## Which teacher\n\n{why}\n\n{table(titles, lines)}" if lines else ""


def feedback(rows: Sequence[Row]) -> str:
    """How the weights of live corrections move over a run, beside those that cannot."""
    lines = []
    for method in ENTRIES:
        here = [row for row in rows if row["method"] == method and "weight_spread" in row]
        if here:
            spread = [f"{sum(row['weight_spread'][end] for row in here) / len(here):.3f}" for end in (0, 1)]
            long = [row["weight_length_correlation"] for row in here if "weight_length_correlation" in row]
            each = [f"{sum(pair[end] for pair in long) / len(long):+.2f}" if long else "" for end in (0, 1)]
            lines.append([method, str(len(here)), *spread, *each])
    titles = ["method", "cells", "spread of traces' weights, first tenth", "last tenth", "with length, first", "last"]
    why = "Standard deviation of the weights of a step's traces, and their correlation with length, in all that chose."
    return f"## Feedback\n\n{why}\n\n{table(titles, lines)}" if lines else ""


def _confirmation(fresh: Index, chosen: dict[str, Any]) -> str:
    lines = []
    for method in (START, SFT, *chosen["finalists"]):
        found = choice.confirmed(fresh, chosen, method) if method not in (START, SFT) else {}
        for regime in REGIMES:
            t = chosen["settings"][method][regime]
            name = SFT if method != START and idle(method, REGIMES[regime]) else method
            here = [r for s, r in choice.at(fresh, regime, name, (t["rate"], t["epochs"])).items() if s >= FRESH]
            if here:
                each = [percent(mean_of(here, "test", one)) for one in TEMPERATURES]
                votes = [percent(mean_of(here, part, "0.6")) for part in ("majority", "pass")]
                error = f"{100 * found[regime].error:.2f}" if regime in found else ""
                lines.append([
                    method, regime, str(len(here)), t["temperature"], percent(mean_of(here, "test", t["temperature"])),
                    shown(found.get(regime)), error, *each, *votes, f"{mean_of(here, 'excess_error'):.2f}",
                ])  # fmt: skip
    titles = ["method", "regime", "seeds", "temperature", "accuracy there", "against SFT", "standard error"]
    titles += [*TEMPERATURES, "majority of 8 at 0.6", "pass@8 at 0.6", "ExAccErr"]
    return f"## Confirmation on fresh seeds and test problems\n\n{table(titles, lines)}\n{_verdict(fresh, chosen)}"


def _verdict(fresh: Index, chosen: dict[str, Any]) -> str:
    lines = []
    for method, found in choice.verdict(fresh, chosen).items():
        inferior = ", ".join(found["not shown non-inferior"]) or "none"
        means = shown(found["mean"]) or "not all regimes are run"
        outcome = "may be the default" if found["default"] else "may not"
        lines.append([method, means, inferior, "yes" if found["better"] else "no", outcome])
    titles = ["finalist", "mean over regimes", "not shown non-inferior in", "better in the mean", "verdict"]
    return f"### Verdict\n\n{table(titles, lines)}"


def _missing(rows: Index, screened: Index, fresh: Index, results: Path) -> str:
    """What the protocol asks for and no file holds."""
    settings = {regime: one.setting for regime, one in choice.tuned(screened, SFT).items()}
    wanted = {"tuning of SFT": list(plan.tuning([SFT], REGIMES, rows)), "screening": list(plan.screening(settings))}
    if (results / "shortlist.json").is_file():
        wanted["tuning"] = list(plan.tuning(choice.listed(results), REGIMES, rows))
    done = {
        (*where, *setting, seed)
        for index in (rows, screened, fresh)
        for where, by_setting in index.items()
        for setting, by_seed in by_setting.items()
        for seed in by_seed
    }
    if (results / "choice.json").is_file():
        chosen = choice.chosen(results)
        wanted["confirmation"] = [
            cell
            for r in REGIMES
            for cell in plan.confirmation(settings_of(chosen), choice.seeds_wanted(fresh, chosen, r), [r])
        ]
    lines = []
    for stage, all_cells in wanted.items():
        left = [c for c in all_cells if (c.regime, c.method, c.rate, c.epochs, c.seed) not in done]
        where = ", ".join(dict.fromkeys(f"{c.regime} {c.method}" for c in left[:200]))
        lines.append([stage, f"{len(all_cells) - len(left)} of {len(all_cells)}", where[:400]])
    later = [r for r in REGIMES if r not in settings]
    said = f"Not screened yet, since SFT is not tuned there: {', '.join(later)}.\n" if later else ""
    said += f"Not in this dcod, so not run: {', '.join(unknown())}.\n" if unknown() else ""
    return f"## Cells\n\n{table(['stage', 'run', 'missing'], lines)}\n{said}"


def settings_of(chosen: dict[str, Any]) -> dict[tuple[str, str], Setting]:
    """Rate and epochs of SFT and the finalists, by regime and method."""
    return {
        (regime, method): (one["rate"], one["epochs"])
        for method in (SFT, *chosen["finalists"])
        for regime, one in chosen["settings"][method].items()
    }
