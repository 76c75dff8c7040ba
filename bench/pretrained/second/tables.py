"""From the cells to the tables; every method that was run, and what was not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.pretrained.second import choice, guards
from bench.study.second.cells import FRESH, Cell, Row
from bench.study.second.choice import Index, at, indexed, pooled
from bench.study.second.entries import ENTRIES, SFT, START, unknown
from bench.study.second.tables import feedback, mean_of, percent, shown, spent, table
from bench.study.tables import read
from dcod import storage

HEAD = """# SmolLM2-135M: results of the second protocol

Written by `python -m bench.pretrained.second --stage tables` from `tune.jsonl` and `confirm.jsonl`, which hold every
cell that was run; the protocol is in ../README.md. Accuracies in %, differences in points with 95 % t intervals over
seeds; fresh seeds have test problems of their own, so these are over problems and seeds. Nothing but the confirmation
is a result: what stands before it chose, on validation problems.
"""


def write(results: Path) -> None:
    """Rewrites README.md of a results folder from its cells."""
    plain, late = read(results / "tune.jsonl"), read(results / "confirm.jsonl")
    rows, fresh = indexed(plain), indexed(late)
    parts = [HEAD, spent([*plain, *late]), _starts([*plain, *late]), _settings(rows), _grid(rows)]
    parts += [_screening(rows), feedback(plain)]
    if (results / "choice.json").is_file():
        parts.append(_confirmation(fresh, choice.committed(results, "choice")))
        parts.append(_guards(late))
    parts.append(_missing(plain, late, results))
    storage.write_text(results / "README.md", "\n".join(part for part in parts if part))


def _starts(rows: Sequence[Row]) -> str:
    lines = []
    for regime in choice.last_regimes():
        here = [row for row in rows if (row["regime"], row["method"]) == (regime, START)]
        if here:
            greedy = percent(sum(sum(r["greedy"]) / len(r["greedy"]) for r in here) / len(here))
            known = [f"{mean_of(here, name):.2f}" for name in ("p_0", "unlikely")]
            lines.append([regime, str(len(here)), *known, greedy])
    titles = ["task / traces a prompt", "seeds", "mean p_0", "p_0 < 0.2", "greedy"]
    return f"## What the start knows\n\n{table(titles, lines)}" if lines else ""


def _settings(rows: Index) -> str:
    lines = []
    for method in ENTRIES:
        for regime in choice.regimes():
            found = choice.tuned(rows, method, regime)
            if found and not choice.is_idle(method, regime):
                gain = choice.tuned_differences(rows, method).get(regime) if method != SFT else None
                setting = [f"{found.rate:g}", str(found.epochs), found.temperature]
                lines.append([method, regime, *setting, percent(found.accuracy), shown(gain)])
    titles = ["method", "task / traces", "rate", "epochs", "temperature", "validation accuracy", "against SFT"]
    return f"## Tuned alike, on validation (two seeds)\n\n{table(titles, lines)}" if lines else ""


def _grid(rows: Index) -> str:
    lines = []
    for (regime, method), by_setting in rows.items():
        if len(by_setting) > 1:
            for (rate, epochs), by_seed in sorted(by_setting.items()):
                here = [by_seed[seed] for seed in sorted(by_seed)]
                each = [percent(mean_of(here, "validation", name)) for name in ("greedy", "0.6")]
                seeds = ", ".join(percent(row["validation"]["greedy"]) for row in here)
                lines.append([method, regime, f"{rate:g}", str(epochs), *each, seeds])
    titles = ["method", "task / traces", "rate", "epochs", "greedy", "0.6", "greedy by seed"]
    return f"## Every setting that was tried, on validation\n\n{table(titles, lines)}" if lines else ""


def _screening(rows: Index) -> str:
    found, lines = choice.screened(rows), []
    for method, by in found.items():
        for regime, one in by.items():
            sft = choice.tuned(rows, SFT, regime)
            assert sft is not None
            here = list(at(rows, regime, SFT if choice.is_idle(method, regime) else method, sft.setting).values())
            each = [percent(mean_of(here, "validation", name)) for name in ("greedy", "0.6")]
            gain = "" if method == SFT else "=" if choice.is_idle(method, regime) else f"{100 * one.mean:+.1f}"
            label = f"{method} (control)" if ENTRIES[method].control else method
            lines.append([label, regime, *each, gain, _styles(here)])
    titles = ["method", "task / traces", "greedy", "0.6", "best against SFT's best", "styles of greedy answers (right)"]
    why = "At SFT's tuned setting, two seeds, validation problems; = : cannot act, it is SFT to the last bit."
    return f"## Screening\n\n{why}\n\n{table(titles, lines)}" if lines else ""


def _styles(rows: Sequence[Row]) -> str:
    """Shares of the styles that a student writes in, and in brackets how many of them are right, in %."""
    written, right = Counter[str](), Counter[str]()
    for row in rows:
        written.update(row["styles"])
        right.update(row["styles_right"])
    total = sum(written.values())
    return ", ".join(f"{name} {100 * n / total:.0f} ({100 * right[name] / n:.0f})" for name, n in written.most_common())


def _confirmation(fresh: Index, chosen: dict[str, Any]) -> str:
    lines, pools = [], []
    for method in (SFT, *chosen["finalists"]):
        found = choice.confirmed(fresh, chosen, method) if method != SFT else {}
        for regime in choice.last_regimes():
            one = choice.setting_of(chosen, method, regime)
            name = SFT if choice.is_idle(method, regime) else method
            here = list(at(fresh, regime, name, (one["rate"], one["epochs"])).values())
            if here:
                each = [percent(mean_of(here, "test", t)) for t in ("greedy", "0.3", "0.6", "1.0")]
                hits = [[min(1, n) for n in row["sampled"]["0.6"]] for row in here]
                votes = [row["majority"]["0.6"] for row in here]
                late = [percent(sum(map(sum, some)) / sum(map(len, some))) for some in (votes, hits)]
                at_best = percent(mean_of(here, "test", one["temperature"]))
                gain = shown(found.get(regime))
                lines.append(
                    [method, regime, str(len(here)), one["temperature"], at_best, gain, *each, *late, _styles(here)]
                )
        if found:
            pools.append([method, f"{len(found)} of {len(choice.last_regimes())}", shown(pooled(found.values()))])
    titles = [
        "method",
        "task / traces",
        "seeds",
        "temperature",
        "accuracy there",
        "against SFT",
        "greedy",
        "0.3",
        "0.6",
    ]
    titles += ["1.0", "majority of 8 at 0.6", "pass@8 at 0.6", "styles of greedy answers (right)"]
    mean = table(["finalist", "tasks x traces", "mean against SFT"], pools)
    return f"## Confirmation on fresh seeds and test problems\n\n{table(titles, lines)}\n{mean}"


def _guards(late: Sequence[Row]) -> str:
    """What must not be lost: shares of the greedy answers, and of the prompts of IFEval that are followed, in %."""
    lines = []
    for method, regime in dict.fromkeys((row["method"], row["regime"]) for row in late):
        here = [row for row in late if (row["method"], row["regime"]) == (method, regime)]
        count = sum(len(row["greedy"]) for row in here)
        each = [percent(sum(row[name] for row in here) / count) for name in ("truncated", *guards.MARKS)]
        told = [share for row in here for share in row.get("ifeval", [])]
        lines.append([method, regime, str(len(here)), *each, percent(sum(told) / len(told)) if told else ""])
    titles = ["method", "task / traces", "seeds", "cut", *guards.MARKS, "IFEval"]
    why = f"IFEval: {guards.PROMPTS} prompts, greedy, {guards.TOKENS} tokens, seeds 10 and 11."
    return f"## What must not be lost\n\n{why}\n\n{table(titles, lines)}" if lines else ""


def _missing(rows: Sequence[Row], late: Sequence[Row], results: Path) -> str:
    wanted = {"tuning of SFT": list(choice.tuning([SFT])), "screening": list(choice.screening(indexed(rows)))}
    if (results / "shortlist.json").is_file():
        wanted["tuning"] = list(choice.tuning(choice.committed(results, "shortlist")["finalists"]))
    if (results / "choice.json").is_file():
        wanted["confirmation"] = list(choice.confirmation(choice.committed(results, "choice")))
    done = {Cell(r["regime"], r["method"], r["rate"], r["epochs"], r["seed"]) for r in [*rows, *late]}
    lines = []
    for stage, cells in wanted.items():
        left = [cell for cell in cells if cell not in done]
        where = ", ".join(dict.fromkeys(f"{c.regime} {c.method}" for c in left))
        lines.append([stage, f"{len(cells) - len(left)} of {len(cells)}", where])
    lacking = [m for m in choice.METHODS if m in unknown()]
    said = f"Not in this dcod, so not run: {', '.join(lacking)}.\n" if lacking else ""
    return f"## Cells\n\n{table(['stage', 'run', 'missing'], lines)}\n{said}Seeds from {FRESH} on are fresh.\n"
