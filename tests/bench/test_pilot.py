"""The simulation of pilots: what the number of selection problems does to the choice."""

from __future__ import annotations

import numpy as np

from bench import pilot
from dcod.config.arms import PilotConfig
from dcod.promote.choice import choose


def test_plain_fine_tuning_is_every_arm_of_its_name_and_chosen_on_the_first_selection_problems() -> None:
    """Of two rates that differ by 20 points the better one stands for plain fine-tuning, given problems enough."""
    config, shift, rng = PilotConfig(seeds=2, samples=2), pilot._Shift(), np.random.default_rng(0)
    arms = {"sft": -0.2, "sft-rate": 0.0, "arm": 0.0}
    drawn = [pilot.draw(rng, arms, 200, config, 0.03, shift) for _ in range(10)]
    best = {few: [choose([a.first(2, few) for a in each], config).sft for each in drawn] for few in (1, 200)}
    assert set(best[200]) == {"sft-rate"}
    assert set(best[1]) == {"sft", "sft-rate"}
    whole, first = drawn[0][0].first(2), drawn[0][0].first(2, 1)
    assert whole.sft
    assert whole.selection != first.selection
    assert {t: v.shape for t, v in first.pilot.items()} == dict.fromkeys(pilot.TEMPERATURES, (2, 200))
