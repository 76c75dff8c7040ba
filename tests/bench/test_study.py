"""The study's laboratory without its training: programs, steps, cells, and the statistics of the tables."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from bench.study import cells, lab, methods, tables
from bench.study.regimes import REGIMES, answer_of, running
from dcod.config import TrainConfig


@pytest.mark.parametrize("name", REGIMES)
def test_the_programs_write_what_they_say(name: str) -> None:
    """Basics are always right, step by step; the teacher's program is wrong only where its regime says so."""
    regime, rng = REGIMES[name], Random(0)
    wrong = slips = 0
    for problem in lab.problems(regime, 200, seed=3):
        basic, text = regime.basics(rng, problem), regime.write(rng, problem)
        assert answer_of(basic) == problem.answer
        assert all(step.right for step in regime.steps(problem, basic))
        assert (
            lab.tokenizer().decode(lab.encode(problem.text + problem.hint + text)) == problem.text + problem.hint + text
        )
        assert len(lab.encode(text)) < regime.max_new_tokens
        wrong += answer_of(text) != problem.answer
        slips += not all(step.right for step in regime.steps(problem, text))
    noisy = name in ("noisy", "noisy_filtered", "long")
    assert (wrong > 10) == noisy
    assert (slips > 10) == noisy


def test_problems_of_different_seeds_differ() -> None:
    for regime in REGIMES.values():
        sets = [lab.problems(regime, 40, seed) for seed in (0, 1, lab.TEST, lab.VALIDATION, lab.SELECTION)]
        assert lab.problems(regime, 40, 0) == sets[0]
        assert all(a != b for i, a in enumerate(sets) for b in sets[:i])


def test_leaps_leave_steps_out() -> None:
    problem = lab.problems(REGIMES["leaps"], 1, 0)[0]
    short, full = running(leap=1.0)(Random(0), problem), running()(Random(0), problem)
    assert len(REGIMES["leaps"].steps(problem, short)) < len(REGIMES["leaps"].steps(problem, full))


def test_every_method_is_a_configuration() -> None:
    for knobs in methods.METHODS.values():
        TrainConfig.model_validate(dict(knobs))
    assert set(methods.MAIN) & set(methods.CONTROLS) == set()


def test_the_cells_are_those_of_the_protocol() -> None:
    main, others = list(cells.main_cells()), list(cells.other_cells())
    assert len(set(main)) == len(main) == 3 * 6 * 5 * 3 + 3 * 6 * 3 + 3 * 5 + 3 * 3
    assert len(set(others)) == len(others) == 4 * 3 * (len(methods.OTHERS) + len(methods.CONTROLS))
    fresh = list(cells.fresh_cells(["trace"], {("clean", "trace"): 1e-3}))
    assert {c.rate for c in fresh if (c.regime, c.method) == ("clean", "trace")} == {1e-3}
    assert {c.seed for c in fresh} & {c.seed for c in main} == set()


def row(method: str, seed: int, value: float, rate: float = 1e-3, validation: float = 0.5) -> tables.Row:
    measured = dict.fromkeys(
        ["greedy_accuracy", "truncated", "repeated", "held_out_nll", "step_accuracy_given_teacher",
         "step_accuracy_given_self", "mean_gamma", "seconds"], 0.0,
    )  # fmt: skip
    where = {"regime": "clean", "date": "2020-01-01", "machine": "m"}
    scores = {"sampled_accuracy": value, "validation_accuracy": validation}
    return {**measured, **where, **scores, "method": method, "seed": seed, "rate": rate}


def test_differences_are_paired_by_seed() -> None:
    """+1, +2, +3 points: mean 2, half-width t(2) * 1 / sqrt(3) = 2.484."""
    left = {s: row("trace", s, 0.5 + s + 0.01 * (s + 1)) for s in range(3)}
    right = {s: row("sft", s, 0.5 + s) for s in (*range(3), 7)}
    found = tables.paired(left, right)
    assert found is not None
    assert found.mean == pytest.approx(0.02)
    assert found.high - found.mean == pytest.approx(0.01 * 4.30265 / 3**0.5, rel=1e-4)
    assert found.seeds == 3
    assert tables.paired(left, {0: right[0]}) is None


def test_validation_alone_picks_the_rate() -> None:
    rows = [row("sft", s, 0.9, 1e-3, 0.2) for s in range(2)] + [row("sft", s, 0.1, 2e-3, 0.3) for s in range(2)]
    assert tables.chosen_rates(rows) == {("clean", "sft"): 2e-3}


def test_the_tables_are_written_from_cells_alone(tmp_path: Path) -> None:
    import json

    rows = [row(m, s, 0.4 + 0.1 * (m == "trace") + 0.01 * s) for m in methods.METHODS for s in range(3)]
    rows += [row(m, s, 0.4, methods.MIDDLE, 0.1) for m in methods.METHODS for s in range(3)]
    (tmp_path / "cells.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "fresh.jsonl").write_text(
        "".join(json.dumps(row(m, 10 + s, 0.5)) + "\n" for m in ("sft", "trace") for s in range(3))
    )
    tables.write(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "| trace | 0.001 | 3 | 51.0 | **+10.0 [+10.0, +10.0]** |" in text
    assert "Confirmation on fresh seeds" in text
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("main.svg", "others.svg", "fresh.svg"))
    compared = tables.against_committed([row("sft", 0, 0.41), row("trace", 0, 0.05)], rows)
    assert "within" in compared.splitlines()[0]
    assert "OUTSIDE" in compared.splitlines()[1]
