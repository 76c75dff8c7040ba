"""Real pilots of the study's tiny students: is an arm found that helps, and plain fine-tuning kept where none does?

    python -m bench.pilot_real                goes on where it stopped; writes bench/results/pilot-real.jsonl and .md
    python -m bench.pilot_real --tables       the page alone

**Protocol, written down before the first cell.** The set is *two_teachers* of the second study (bench/study/second), 4
epochs at 2e-3: the rate that was chosen for `naturalness`, at which plain fine-tuning is 1.3 points from its best. On
the five sets that tuned it `naturalness` gained 9 to 26 points at this very setting, 18.6 in the mean (and 12.3 in the
confirmation, against plain fine-tuning at its own rate); `support` gained nothing: -6 to +5, -0.1 in the mean, and -0.5
in the confirmation. So two kinds of pilot, of one arm each, and a third that has both arms in it:

  helps     `naturalness` against plain fine-tuning: it should be chosen
  nothing   `support` against plain fine-tuning: that should be kept
  both      the two arms: `naturalness` should be chosen

Twenty sets, seeds 10 to 29 of the laboratory: each its own start, traces and held-out problems; 10 to 19 met the
study's confirmation, the others are new. Two students an arm, as docs/arms.md asks for with one or two arms; 400
selection and 400 pilot problems that nothing was trained on, two answers each at 0.3, 0.6 and 1, one greedy; the
statistics at their defaults (dcod.promote.choice). The kinds share the students of plain fine-tuning. The other 300
problems of a set are asked after the choice: they tell what the arm truly brought there, as far as 300 problems and two
students can, and change nothing.

**The rule**: `naturalness` is chosen in at least 17 of the 20 pilots of *helps*, plain fine-tuning kept in at least 17
of the 20 of *nothing*. *both* is told beside it. Nothing is changed afterwards.

The pilot problems are asked at the temperature that the selection problems chose, after it was chosen: what the
choice looks at is the same as if all were asked, at half of the cost.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from bench.pilot import RESULTS
from bench.study import lab
from bench.study.cells import Work, quiet, work_through
from bench.study.regimes import Problem, Regime
from bench.study.second.cells import LOCAL_WINDOW
from bench.study.second.entries import SFT, config
from bench.study.second.lab import complete
from bench.study.second.measure import answers, right
from bench.study.second.regimes import REGIMES
from bench.study.tables import read
from dcod.config.arms import PilotConfig
from dcod.engines.transformers import TransformersEngine
from dcod.models import loading
from dcod.promote.choice import ArmAnswers, Choice, choose
from dcod.train import loop

REGIME, RATE, EPOCHS, SEEDS = "two_teachers", 2e-3, 4, range(10, 30)
HELPS, NOT = "naturalness", "support_4"
KINDS = {"helps": (HELPS,), "nothing": (NOT,), "both": (HELPS, NOT)}
WANTED = {"helps": HELPS, "nothing": SFT, "both": HELPS}
PROBLEMS, ENOUGH = 400, 17
PILOT = PilotConfig()

Row = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One arm of the pilots of a set: its students, trained and asked."""

    regime: str
    method: str
    seed: int


def cells(sets: int = len(SEEDS)) -> list[Cell]:
    """Set by set, so that whole pilots end early."""
    return [Cell(REGIME, method, seed) for seed in SEEDS[:sets] for method in (SFT, HELPS, NOT)]


def row_of(cell: Cell, work: Path, part: int = 1, epochs: int = EPOCHS) -> Row:
    """Trains and asks the students of an arm.

    Args:
        cell: which.
        work: where teachers, starts and traces are kept.
        part: only so many-th of the problems and traces, for tests.
        epochs: of the training.
    """
    began, regime = time.monotonic(), REGIMES[cell.regime]
    held = _problems(regime, cell.seed, part)
    share: dict[float, list[float]] = {t: [] for t in PILOT.temperatures}
    with tempfile.TemporaryDirectory() as folder:
        engines = [_taught(cell, number, Path(folder), work, part, epochs) for number in range(PILOT.seeds)]
        for number, engine in enumerate(engines):
            for temperature in PILOT.temperatures:
                hits = _hits(engine, regime, held["selection"], temperature, cell.seed, number)
                share[temperature].append(float(hits.mean()))
        selection = {t: float(np.mean(each)) for t, each in share.items()}
        best = ArmAnswers(cell.method, cell.method == SFT, selection, {}).best
        asked = {
            split: [_hits(engine, regime, held[split], best, cell.seed, n) for n, engine in enumerate(engines)]
            for split in ("pilot", "report")
        }
    return {
        **asdict(cell),
        "selection": {f"{t:g}": value for t, value in selection.items()},
        "best": best,
        **{split: [each.tolist() for each in of] for split, of in asked.items()},
        "seconds": round(time.monotonic() - began, 1),
    }


def _problems(regime: Regime, seed: int, part: int) -> dict[str, list[Problem]]:
    whole = lab.problems(regime, regime.test_problems, lab.TEST + seed, distinct=True)
    count = PROBLEMS // part
    return {
        "selection": lab.problems(regime, count, lab.VALIDATION + seed, distinct=True),
        "pilot": whole[:count],
        "report": whole[PROBLEMS:][: (len(whole) - PROBLEMS) // part],
    }


def _taught(cell: Cell, number: int, folder: Path, work: Path, part: int, epochs: int) -> TransformersEngine:
    """One student; those of one number take the same order of steps in all arms."""
    regime, place = REGIMES[cell.regime], folder / str(number)
    examples, start = lab.traces(regime, cell.seed, work)["train"], lab.start(regime, cell.seed, work)
    made, seed = config(cell.method, regime, RATE, epochs), cell.seed + 1000 * number
    complete(examples, made.correction, lambda: TransformersEngine(start, lab.tokenizer()), LOCAL_WINDOW)
    model = loading.load(start)
    loop.train(
        model, examples[: len(examples) // part], [], made, seed, save_best=lambda _: None, metrics=lambda *_: None
    )
    model.save_pretrained(place)
    return TransformersEngine(place, lab.tokenizer())


def _hits(
    engine: TransformersEngine, regime: Regime, drawn: Sequence[Problem], temperature: float, seed: int, number: int
) -> np.ndarray:
    """The share of right answers, by problem."""
    samples = PILOT.samples if temperature else 1
    written = answers(engine, regime, drawn, samples, temperature, seed + 1000 * number)
    return np.array(right(drawn, written, samples), dtype=float).reshape(len(drawn), samples).mean(axis=1)


def answers_of(row: Row) -> ArmAnswers:
    """As the statistics take them."""
    selection = {float(t): value for t, value in row["selection"].items()}
    return ArmAnswers(row["method"], row["method"] == SFT, selection, {row["best"]: np.array(row["pilot"])})


@dataclass(frozen=True)
class Pilot:
    """A pilot that is whole: its choice, and what each arm brought on the other problems (points, two students)."""

    kind: str
    seed: int
    choice: Choice
    brought: Mapping[str, float]

    @property
    def fine(self) -> bool:
        """Whether it chose what it should."""
        return self.choice.arm == WANTED[self.kind]


def pilots(rows: Iterable[Row]) -> list[Pilot]:
    """All whose arms are there."""
    by_set: dict[int, dict[str, Row]] = {}
    for row in rows:
        by_set.setdefault(row["seed"], {})[row["method"]] = row
    out = []
    for kind, arms in KINDS.items():
        for seed, found in sorted(by_set.items()):
            if any(name not in found for name in (SFT, *arms)):
                continue
            made = choose([answers_of(found[name]) for name in (SFT, *arms)], PILOT)
            base = np.mean(found[SFT]["report"])
            out.append(Pilot(kind, seed, made, {n: 100 * float(np.mean(found[n]["report"]) - base) for n in arms}))
    return out


def page(rows: Sequence[Row]) -> str:
    """The result."""
    made = pilots(rows)
    lines = [
        "| kind | pilots | chose as it should | rule | brought on the other problems: mean, spread |",
        "|---|---|---|---|---|",
    ]
    for kind, arms in KINDS.items():
        some = [pilot for pilot in made if pilot.kind == kind]
        gains = [_spread([pilot.brought[name] for pilot in some], name) for name in arms] if some else []
        lines.append(
            f"| {kind} | {len(some)} | {sum(p.fine for p in some)} | {_held(kind, some)} | {'; '.join(gains)} |"
        )
    lines += ["", "Points to plain fine-tuning; every pilot, with 95 % intervals.", ""]
    lines += ["| kind | set | chosen | on the pilot problems | on the others |", "|---|---|---|---|---|"]
    for one in made:
        told = "; ".join(
            f"{v.name} {100 * v.difference:+.1f} [{100 * v.low:+.1f}, {100 * v.high:+.1f}]" for v in one.choice.against
        )
        others = "; ".join(f"{value:+.1f}" for value in one.brought.values())
        lines.append(f"| {one.kind} | {one.seed} | {one.choice.arm} | {told} | {others} |")
    return _HEAD.format(cells=len(rows), hours=sum(row["seconds"] for row in rows) / 3600) + "\n".join(lines) + "\n"


def _spread(values: Sequence[float], name: str) -> str:
    return f"{name} {np.mean(values):+.1f}" + (f", {np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


def _held(kind: str, some: Sequence[Pilot]) -> str:
    """Whether the rule holds, as soon as no further pilot can change it."""
    if kind == "both":
        return ""
    fine, left = sum(pilot.fine for pilot in some), len(SEEDS) - len(some)
    word = "holds" if fine >= ENOUGH else "does not hold" if fine + left < ENOUGH else "not decided yet"
    return f"at least {ENOUGH} of {len(SEEDS)}: {word}"


_HEAD = """# Real pilots of tiny students

`python -m bench.pilot_real`, whose first page is the protocol, committed before the first cell: pilots on made-up sets
where `naturalness` is known to help and `support` not to, through the statistics of the product (docs/arms.md) at their
defaults. {cells} of 60 arms, {hours:.1f} hours of workers with one thread each, beside other work.

"""


def _teach(regime: str, work: str) -> None:
    quiet()
    one = REGIMES[regime]
    for each in (one, one.far):
        if each:
            lab.teacher(each, Path(work))


def _prepare(regime: str, seed: int, work: str) -> None:
    quiet()
    lab.traces(REGIMES[regime], seed, Path(work))


def _run(cell: Cell, work: str) -> Row:
    quiet()
    return row_of(cell, Path(work))


def _told(row: Row) -> str:
    return f"set {row['seed']} {row['method']}: {100 * np.mean(row['pilot']):.1f} at {row['best']:g}"


def real(
    workers: Annotated[int, typer.Option(help="Processes, one thread each.")] = 2,
    minutes: Annotated[float, typer.Option(help="Begin no cell after so many.")] = 1e9,
    sets: Annotated[int, typer.Option(help="In this sitting: so many, the first ones.")] = len(SEEDS),
    tables: Annotated[bool, typer.Option("--tables")] = False,
    work: Path = Path("runs/study"),
    out: Path = RESULTS,
) -> None:
    """Runs what is missing, and writes the page."""
    place, into = str(work), out / "pilot-real.jsonl"
    if not tables:
        jobs = Work(partial(_teach, work=place), partial(_prepare, work=place), partial(_run, work=place), _told)
        work_through(cells(sets), into, jobs, workers, time.monotonic() + 60 * minutes)
    (out / "pilot-real.md").write_text(page(read(into)), encoding="utf-8")


if __name__ == "__main__":
    typer.run(real)
