"""The real pilots of the study's tiny students: the product's choice on their answers, and the page that tells it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bench import pilot_real
from bench.pilot import RESULTS
from bench.pilot_real import HELPS, NOT, SFT, Cell, Row
from bench.study.tables import read

RIGHT = {SFT: 0.5, HELPS: 0.65, NOT: 0.5}


def row(method: str, seed: int) -> Row:
    """What two students of an arm answered, made up."""
    rng = np.random.default_rng([seed, len(method)])
    drawn = {split: (rng.random((2, count)) < RIGHT[method]).astype(float) for split, count in
             (("pilot", 400), ("report", 300))}  # fmt: skip
    told = {split: values.tolist() for split, values in drawn.items()}
    return {"regime": pilot_real.REGIME, "method": method, "seed": seed, "selection": {"0": 0.6, "1": 0.4}, "best": 0.0,
            "seconds": 1.0, **told}  # fmt: skip


def test_cells_come_set_by_set() -> None:
    cells = pilot_real.cells()
    assert len(cells) == len(set(cells)) == 60
    assert cells[:3] == [Cell("two_teachers", method, 10) for method in (SFT, HELPS, NOT)]
    assert pilot_real.cells(2) == cells[:6]


def test_the_products_choice_is_made_and_told() -> None:
    rows = [row(method, seed) for seed in pilot_real.SEEDS for method in RIGHT]
    made = pilot_real.pilots(rows)
    assert len(made) == 60
    found = {kind: sum(one.fine for one in made if one.kind == kind) for kind in pilot_real.KINDS}
    assert min(found.values()) >= 17
    assert made[0].choice.problems == 400
    assert made[0].brought[HELPS] == pytest.approx(15, abs=7)
    page = pilot_real.page(rows)
    assert page.count("at least 17 of 20: holds") == 2
    assert page.count("\n| helps | ") == 21
    assert "not decided yet" in pilot_real.page(rows[:30])
    wrong = [{**one, "method": {SFT: HELPS, HELPS: SFT}.get(one["method"], one["method"])} for one in rows]
    assert "does not hold" in pilot_real.page(wrong)


def test_the_page_is_that_of_the_rows() -> None:
    rows = read(RESULTS / "pilot-real.jsonl")
    assert {json.dumps([one["regime"], one["method"], one["seed"]]) for one in rows} <= {
        json.dumps([cell.regime, cell.method, cell.seed]) for cell in pilot_real.cells()
    }
    assert (RESULTS / "pilot-real.md").read_text(encoding="utf-8") == pilot_real.page(rows)
