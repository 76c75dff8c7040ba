"""How often a pilot finds an arm that is better by ten points, and keeps plain fine-tuning where none is.

    python -m bench.pilot            2,000 draws a row; writes bench/results/pilot.md

The rule is the product's own (dcod.promote.choice). A draw makes problems of different difficulty (the logit of the
chance to be right is normal: mean 0, deviation 1.5), students that differ from seed to seed (their accuracy moves by a
normal deviate, so that a difference of two spreads by the stated points), answers at four temperatures of which the
middle ones are a little better, and the arms' choice of a temperature on as many selection problems.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from dcod.config.arms import PilotConfig
from dcod.promote.choice import ArmAnswers, choose

RESULT = Path(__file__).parent / "results" / "pilot.md"
TEMPERATURES = {0.0: -0.01, 0.3: 0.0, 0.6: 0.0, 1.0: -0.03}  # what each adds to the accuracy
SPREAD, GAIN = 1.5, 0.10
SEED_POINTS = (0.02, 0.03)
SIZES = ((200, 2, 2), (400, 2, 2), (400, 3, 2), (800, 2, 2))
ARMS = (1, 3, 6)


class _Shift:
    """From a gain in accuracy to the shift of the logits that makes it."""

    def __init__(self) -> None:
        grid = np.random.default_rng(0).normal(0.0, SPREAD, 20_000)
        self.shifts = np.linspace(-3.0, 3.0, 121)
        self.means = np.array([(1.0 / (1.0 + np.exp(-(grid + s)))).mean() for s in self.shifts])

    def __call__(self, gain: float) -> float:
        return float(np.interp(0.5 + gain, self.means, self.shifts))


def draw(
    rng: np.random.Generator, arms: int, problems: int, pilot: PilotConfig, deviation: float, gain: float, shift: _Shift
) -> list[ArmAnswers]:
    """Answers of SFT and so many arms, of which the first is better by ``gain``."""
    hard = {split: rng.normal(0.0, SPREAD, problems) for split in ("selection", "pilot")}
    out = []
    for number in range(arms + 1):
        of_arm = gain if number == 1 else 0.0
        moved = rng.normal(0.0, deviation / np.sqrt(2.0), pilot.seeds)
        selection, answers = {}, {}
        for temperature, better in TEMPERATURES.items():
            samples = pilot.samples if temperature else 1
            shares = {}
            for split, difficulty in hard.items():
                chance = [1.0 / (1.0 + np.exp(-(difficulty + shift(of_arm + better + float(m))))) for m in moved]
                shares[split] = rng.binomial(samples, np.array(chance)) / samples
            selection[temperature] = float(shares["selection"].mean())
            answers[temperature] = shares["pilot"]
        out.append(ArmAnswers("sft" if number == 0 else f"arm{number}", number == 0, selection, answers))
    return out


def table(draws: int) -> str:
    """The rows of the result."""
    shift = _Shift()
    lines = [
        "| problems | seeds | samples | seeds spread by, points | arms | finds the better arm | keeps SFT |",
        "|---|---|---|---|---|---|---|",
    ]
    for problems, seeds, samples in SIZES:
        pilot = PilotConfig(seeds=seeds, samples=samples)
        for deviation in SEED_POINTS:
            for arms in ARMS:
                rng = np.random.default_rng([problems, seeds, samples, arms, round(1000 * deviation)])
                found = sum(
                    choose(draw(rng, arms, problems, pilot, deviation, GAIN, shift), pilot).arm == "arm1"
                    for _ in range(draws)
                )
                kept = sum(
                    choose(draw(rng, arms, problems, pilot, deviation, 0.0, shift), pilot).arm == "sft"
                    for _ in range(draws)
                )
                row = (problems, seeds, samples, f"{100 * deviation:g}", arms, found / draws, kept / draws)
                lines.append("| " + " | ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row) + " |")
                print(lines[-1], flush=True)
    return "\n".join(lines)


def simulate(draws: Annotated[int, typer.Option()] = 2000, out: Path = RESULT) -> None:
    """Writes the table."""
    text = (
        "# What a pilot can tell\n\n"
        f"`python -m bench.pilot`, {draws:,} draws a row: how often the arm that is better by {100 * GAIN:.0f} points "
        "is chosen, and how often\nplain fine-tuning is kept where no arm is better. The rule is that of "
        "docs/arms.md at its defaults.\n\n" + table(draws) + "\n"
    )
    out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(simulate)
