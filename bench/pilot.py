"""How often a pilot finds an arm that is better by ten points, and keeps plain fine-tuning where none is.

    python -m bench.pilot            2,000 draws a row; writes bench/results/pilot.md
    python -m bench.pilot --halved   the same where the worse half is dropped after the first seed: pilot-halved.md
    python -m bench.pilot --month    the pilots and gates of a month of nights: pilot-month.md
    python -m bench.pilot --rates    plain fine-tuning at two rates, by the selection problems: pilot-rates.md

The rule is the product's own (dcod.promote.choice). A draw makes problems of different difficulty (the logit of the
chance to be right is normal: mean 0, deviation 1.5), students that differ from seed to seed (their accuracy moves by a
normal deviate, so that a difference of two spreads by the stated points), answers at four temperatures of which the
middle ones are a little better, and the arms' choice of a temperature on half as many selection problems. A pilot asks
the pilot problems at that one alone; here all are drawn, and the others are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from bench.gate import LEVEL, alike, improves
from dcod.config.arms import PilotConfig
from dcod.promote.choice import ArmAnswers, Choice, choose, worse_half
from dcod.retrain.arms import spent

RESULTS = Path(__file__).parent / "results"
TEMPERATURES = {0.0: -0.01, 0.3: 0.0, 0.6: 0.0, 1.0: -0.03}  # what each adds to the accuracy
SPREAD, GAIN = 1.5, 0.10
SEED_POINTS = (0.02, 0.03)
SIZES = ((200, 2, 2), (400, 2, 1), (400, 2, 2), (400, 2, 4), (400, 3, 2), (800, 2, 2))
ARMS, HALVED_ARMS = (1, 3, 6), (4, 6, 8)
PILOTS = (1, 4, 30)  # in a month
GATES = 120_000  # tests, for how often one errs
SELECTION, WORSE = (10, 20, 50, 100, 200, 400), (0.04, 0.08)  # problems that choose; the run's rate, by accuracy


class _Shift:
    """From a gain in accuracy to the shift of the logits that makes it."""

    def __init__(self) -> None:
        grid = np.random.default_rng(0).normal(0.0, SPREAD, 20_000)
        self.shifts = np.linspace(-3.0, 3.0, 121)
        self.means = np.array([(1.0 / (1.0 + np.exp(-(grid + s)))).mean() for s in self.shifts])

    def __call__(self, gain: float) -> float:
        return float(np.interp(0.5 + gain, self.means, self.shifts))


@dataclass(frozen=True)
class Drawn:
    """The answers of one arm: shares of right ones by split, temperature, seed and problem."""

    name: str
    shares: dict[str, dict[float, np.ndarray]]

    def first(self, seeds: int, selection: int | None = None, at: float | None = None) -> ArmAnswers:
        """As the statistics take the answers of the first seeds, of the first selection problems, at a temperature."""
        wanted = [t for t in TEMPERATURES if at in (None, t)]
        chose = {t: float(self.shares["selection"][t][:seeds, :selection].mean()) for t in wanted}
        pilot = {t: self.shares["pilot"][t][:seeds] for t in wanted}
        return ArmAnswers(self.name, self.name.startswith("sft"), chose, pilot)


def draw(
    rng: np.random.Generator,
    arms: Mapping[str, float],
    problems: int,
    pilot: PilotConfig,
    deviation: float,
    shift: _Shift,
) -> list[Drawn]:
    """Answers of arms by name, each with what it is better by than one that is right half of the time."""
    hard = {split: rng.normal(0.0, SPREAD, problems) for split in ("selection", "pilot")}
    out = []
    for name, of_arm in arms.items():
        moved = rng.normal(0.0, deviation / np.sqrt(2.0), pilot.seeds)
        shares: dict[str, dict[float, np.ndarray]] = {split: {} for split in hard}
        for temperature, better in TEMPERATURES.items():
            samples = pilot.samples if temperature else 1
            for split, difficulty in hard.items():
                chance = [1.0 / (1.0 + np.exp(-(difficulty + shift(of_arm + better + float(m))))) for m in moved]
                shares[split][temperature] = rng.binomial(samples, np.array(chance)) / samples
        out.append(Drawn(name, shares))
    return out


def _arms(count: int, gain: float) -> dict[str, float]:
    """SFT and so many arms, of which the first is better."""
    return {"sft": 0.0} | {f"arm{number}": gain if number == 1 else 0.0 for number in range(1, count + 1)}


def chosen(drawn: list[Drawn], pilot: PilotConfig, halved: bool = False) -> Choice:
    """The product's choice, at once or in two rounds."""
    some = pilot.most("selection")
    if not halved:
        return choose([arm.first(pilot.seeds, some) for arm in drawn], pilot)
    firsts = {arm.name: arm.first(1, some) for arm in drawn}
    gone = worse_half(list(firsts.values()), pilot)
    kept = [arm.first(pilot.seeds, some, firsts[arm.name].best) for arm in drawn if arm.name not in gone]
    return choose(kept, pilot, list(gone))


def table(draws: int) -> str:
    """The rows of the result."""
    shift = _Shift()
    lines = [
        "| problems | seeds | samples | seeds spread by, points | arms | finds the better arm | keeps SFT |",
        "|---|---|---|---|---|---|---|",
    ]
    for problems, seeds, samples in SIZES:
        pilot = PilotConfig(problems=problems, seeds=seeds, samples=samples)
        for deviation in SEED_POINTS:
            for arms in ARMS:
                rng = np.random.default_rng([problems, seeds, samples, arms, round(1000 * deviation)])
                found, kept = (
                    sum(
                        chosen(draw(rng, _arms(arms, gain), problems, pilot, deviation, shift), pilot).arm == wanted
                        for _ in range(draws)
                    )
                    for gain, wanted in ((GAIN, "arm1"), (0.0, "sft"))
                )
                lines.append(_row(problems, seeds, samples, f"{100 * deviation:g}", arms, found / draws, kept / draws))
    return "\n".join(lines)


def halving(draws: int, problems: int = 400, deviation: float = 0.03) -> str:
    """The same answers chosen from at once, and in two rounds of which the first drops the worse half."""
    shift = _Shift()
    lines = [
        "| seeds | arms | students | finds the better arm | keeps SFT | halved: students | finds it | keeps SFT |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for seeds in (2, 3):
        pilot = PilotConfig(seeds=seeds, samples=2)
        for arms in HALVED_ARMS:
            rng = np.random.default_rng([problems, seeds, arms])
            hits = {halved: [0, 0] for halved in (False, True)}
            for which, (gain, wanted) in enumerate(((GAIN, "arm1"), (0.0, "sft"))):
                for _ in range(draws):
                    drawn = draw(rng, _arms(arms, gain), problems, pilot, deviation, shift)
                    for halved, counts in hits.items():
                        counts[which] += chosen(drawn, pilot, halved).arm == wanted
            told = [count / draws for counts in hits.values() for count in counts]
            whole, fewer = (arms + 1) * seeds, arms + 1 + (arms + 1 - arms // 2) * (seeds - 1)
            lines.append(_row(seeds, arms, whole, *told[:2], fewer, *told[2:]))
    return "\n".join(lines)


def _row(*cells: float | str) -> str:
    line = "| " + " | ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in cells) + " |"
    print(line, flush=True)
    return line


def levels(pilots: int, level: float, shared: bool) -> list[float]:
    """The level of each pilot of a month: all at one, or shared as a schedule does (dcod.retrain.arms)."""
    return [spent(level, number) if shared else level for number in range(pilots)]


def month(draws: int, arms: int = 3, problems: int = 400, deviation: float = 0.03) -> str:
    """How often a month of pilots errs and finds, by their number, and by how they share the level."""
    shift, pilot = _Shift(), PilotConfig(seeds=2, samples=2)
    lines = [
        "| pilots in the month | level of each | keeps SFT all month | the first finds the better arm | all find it |",
        "|---|---|---|---|---|",
    ]
    rng = np.random.default_rng([problems, arms, draws])
    most = max(PILOTS)
    p_values: dict[float, list[np.ndarray]] = {0.0: [], GAIN: []}
    for gain, kept in p_values.items():
        for _ in range(draws):
            made = [
                chosen(draw(rng, _arms(arms, gain), problems, pilot, deviation, shift), pilot)
                for _ in range(most if not gain else max(few for few in PILOTS if few < most))
            ]
            kept.append(np.array([[one.p_value for one in each.against] for each in made]))
    for pilots in PILOTS:
        for shared in (False, True):
            at = np.array(levels(pilots, pilot.level, shared))
            kept = np.mean([bool((p[:pilots].min(axis=1) > at).all()) for p in p_values[0.0]])
            hits = np.array([p[:pilots, 0] <= at[: len(p[:pilots])] for p in p_values[GAIN]])
            every = f"{hits.all(axis=1).mean():.3f}" if pilots <= hits.shape[1] else "not drawn"
            how = "level / (n (n + 1))" if shared else "level"
            lines.append(f"| {pilots} | {how} | {kept:.3f} | {hits[:, 0].mean():.3f} | {every} |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


def rates(draws: int, problems: int = 400, deviation: float = 0.03) -> str:
    """How often SFT is kept where the run's own rate is the worse of two, and an arm is as good as the better one."""
    shift, pilot = _Shift(), PilotConfig(seeds=2, samples=2)
    lines = [
        "| the run's rate is worse by, points | selection problems | takes the worse rate for SFT | keeps SFT |",
        "|---|---|---|---|",
    ]
    for worse in WORSE:
        rng, arms = np.random.default_rng([problems, round(1000 * worse)]), {"sft": -worse, "sft-rate": 0.0, "arm": 0.0}
        made: dict[int, list[Choice]] = {few: [] for few in SELECTION}
        for _ in range(draws):
            drawn = draw(rng, arms, problems, pilot, deviation, shift)
            for few, kept in made.items():
                kept.append(choose([arm.first(pilot.seeds, few) for arm in drawn], pilot))
        for few, kept in made.items():
            wrong = sum(one.sft == "sft" for one in kept) / draws
            right = sum(one.arm != "arm" for one in kept) / draws
            lines.append(_row(f"{100 * worse:g}", few, wrong, right))
    return "\n".join(lines)


_HEAD = """# What a pilot can tell

`python -m bench.pilot`, {draws:,} draws a row: how often the arm that is better by {points:.0f} points is chosen, and
how often plain fine-tuning is kept where no arm is better. The rule is that of docs/arms.md at its defaults.

"""
_HALVED = """# What a pilot can tell that drops the worse half of its arms

`python -m bench.pilot --halved`, {draws:,} draws a row, 400 pilot problems, 3 points between seeds, a gain of
{points:.0f} points: all seeds of all arms, and the same answers where the worse half of the arms gets no second seed.
The dropped ones count in Holm's correction; an arm's first student chooses the temperature of the second. Two cores,
shared with other work.

"""
_MONTH = """# A month of nights with pilots

`python -m bench.pilot --month`, {draws:,} months a row, three arms, 400 pilot problems, two seeds, 3 points between
seeds; new problems and students in each pilot, which is the worst case (a schedule asks mostly the same problems
again). n counts the pilots of a period. Two cores, shared with other work.

"""
_RATES = """# A pilot with plain fine-tuning at two rates

`python -m bench.pilot --rates`, {draws:,} draws a row, one arm, 400 pilot problems, two seeds, 3 points between
seeds. The run's own rate is the worse one; plain fine-tuning at the other rate is as good as the arm, so it should be
kept. The selection problems choose the rate that stands for plain fine-tuning, and every temperature. With fewer than
100 of them nothing is compared (train.pilot.min_problems). A draw has the same students and pilot problems in all rows
of a rate.

"""
_GATES = """
The gate of such a month, 30 tests at 0.05 / 30 on 300 problems with two samples, no student better: {promoted:.3f} of
the months promote one (by {tests:,} tests). It asks other problems than the pilot, so the pilots do not add to it.
"""


def simulate(
    draws: Annotated[int, typer.Option()] = 2000,
    halved: Annotated[bool, typer.Option()] = False,
    of_month: Annotated[bool, typer.Option("--month")] = False,
    of_rates: Annotated[bool, typer.Option("--rates")] = False,
    out: Path = RESULTS,
) -> None:
    """Writes a table."""
    name, head, made = ("pilot.md", _HEAD, table)
    if halved:
        name, head, made = ("pilot-halved.md", _HALVED, halving)
    if of_month:
        name, head, made = ("pilot-month.md", _MONTH, month)
    if of_rates:
        name, head, made = ("pilot-rates.md", _RATES, rates)
    text = head.format(draws=draws, points=100 * GAIN) + made(draws) + "\n"
    if of_month:
        errs = improves(alike, 300, 2, GATES, LEVEL)
        text += _GATES.format(promoted=1.0 - (1.0 - errs) ** 30, tests=GATES)
    (out / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(simulate)
