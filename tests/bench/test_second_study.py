"""The study's second protocol: its cells on untrained networks, its rules and tables on made-up rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from bench.study import lab
from bench.study.regimes import Regime
from bench.study.second import cells, choice, entries, measure, plan, tables
from bench.study.second.cells import Cell, Row
from bench.study.second.entries import ENTRIES, PRESET, SFT, START
from bench.study.second.regimes import REGIMES, is_far
from dcod.engines.transformers import TransformersEngine
from dcod.errors import UserError
from dcod.traces.scored import ScoredTrace

SUMS = [name for name in REGIMES if name != "long"]


@pytest.mark.parametrize("name", SUMS)
def test_what_a_seed_validates_and_tests_was_never_taught(name: str) -> None:
    regime = REGIMES[name]
    parts = {
        part: {p.text for p in lab.problems(regime, 300, part + 3, distinct=True)}
        for part in (0, lab.START, lab.VALIDATION, lab.TEST)
    }
    assert all(len(texts) == 300 for texts in parts.values())
    taught = parts[0] | parts[lab.START]
    assert not taught & (parts[lab.VALIDATION] | parts[lab.TEST])
    assert not parts[lab.VALIDATION] & parts[lab.TEST]
    assert parts[lab.TEST] != {p.text for p in lab.problems(regime, 300, lab.TEST + 4, distinct=True)}


def test_the_first_protocol_is_as_it_was() -> None:
    """Digests name the folders of teachers, starts and traces."""
    from bench.study.regimes import REGIMES as FIRST

    assert lab.digest(FIRST["several_ways"]) == "731c814271f0"
    assert lab.digest(FIRST["long"]) == "2820befa1b02"
    both = {lab.digest(regime) for regime in (*FIRST.values(), *REGIMES.values())}
    assert len(both) == len(FIRST) + len(REGIMES)


def test_the_style_of_either_teacher_is_told() -> None:
    regime, rng = REGIMES["two_teachers"], Random(0)
    assert regime.far is not None
    drawn = lab.problems(regime, 50, 0)
    assert [is_far(p, regime.far.write(rng, p)) for p in drawn] == [True] * 50
    assert [is_far(p, regime.basics(rng, p)) for p in drawn].count(False) >= 48  # a sum may equal the third term
    assert is_far(drawn[0], "#4") is None


@pytest.fixture
def laboratory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Regime]:
    """Untrained networks, and traces that the programs wrote: a teacher of minutes is no test's."""
    student, teacher = tmp_path / "student", tmp_path / "teacher"
    lab.network(lab.STUDENT, 0).save_pretrained(student)
    lab.network(lab.TEACHER, 0).save_pretrained(teacher)

    def traces(regime: Regime, seed: int, _: Path) -> dict[str, list[ScoredTrace]]:
        rng, out = Random(seed), {}
        for split, part, count in (("train", 0, 8), ("selection", lab.SELECTION, 4)):
            examples = []
            for index, problem in enumerate(lab.problems(regime, count, part + seed, distinct=True)):
                for copy in range(regime.traces):
                    by = regime.far if regime.far and copy >= regime.traces // 2 else regime
                    tokens = [*lab.encode(by.write(rng, problem)), 2]
                    prompt = lab.encode(problem.text)
                    examples.append(ScoredTrace(f"{index}/{copy}", str(index), prompt, tokens, [], []))
            TransformersEngine(teacher, lab.tokenizer()).annotate(examples, 4096, lab.TOP_K)
            for e in examples:
                e.behavior_logprobs = e.student_logprobs
                e.teacher_top_ids, e.teacher_top_logprobs = e.start_top_ids, e.start_top_logprobs
            TransformersEngine(student, lab.tokenizer()).annotate(examples, 4096)
            out[split] = examples
        return out

    monkeypatch.setattr(lab, "start", lambda *_: student)
    monkeypatch.setattr(lab, "teacher", lambda *_: teacher)
    monkeypatch.setattr(lab, "traces", traces)

    def small(name: str) -> Regime:
        regime = replace(REGIMES[name], test_problems=7, train_problems=8, max_new_tokens=6)
        monkeypatch.setitem(REGIMES, name, regime)
        return regime

    return small


def test_a_cell_of_two_teachers(laboratory: Callable[[str], Regime], tmp_path: Path) -> None:
    laboratory("two_teachers")
    row = cells.row_of(Cell("two_teachers", "naturalness", 1e-3, 1, 0), tmp_path)
    assert set(row["validation"]) == set(measure.TEMPERATURES)
    assert "test" not in row
    assert 0 < row["near_weight_first"] < 1
    assert row["near_weight_first"] != row["near_weight_last"]
    json.dumps(row)


def test_a_fresh_seed_meets_the_test(laboratory: Callable[[str], Regime], tmp_path: Path) -> None:
    laboratory("noisy")
    row = cells.row_of(Cell("noisy", START, 0.0, 0, cells.FRESH), tmp_path)
    assert "validation" not in row
    assert set(row["majority"]) == set(row["pass"]) == {"0.3", "0.6", "1.0"}
    assert row["pass"]["1.0"] >= row["test"]["1.0"]
    assert 0 < row["p_0"] < 0.2 < row["unlikely"]
    assert row["excess_error"] > -1


@pytest.mark.parametrize("data", ["cross", "own", "own_unverified"])
def test_other_traces(
    data: entries.Data, laboratory: Callable[[str], Regime], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.study.second import lab as traces

    regime = laboratory("noisy")
    monkeypatch.setattr(traces, "right", lambda drawn, _, samples: [i % 4 == 0 for i in range(len(drawn) * samples)])
    plain = lab.traces(regime, 0, tmp_path)["train"]
    found = traces.traces(regime, data, 0, tmp_path)
    if data == "cross":
        assert [e.trace_id for e in found] == [e.trace_id for e in plain]
        assert all(a.student_logprobs != b.student_logprobs for a, b in zip(found, plain, strict=True))
        return
    assert [e.trace_id for e in found[: len(plain)]] == [e.trace_id for e in plain]
    own = found[len(plain) :]
    assert all(e.trace_id.startswith("own/") for e in own)
    assert data == "own_unverified" or all(e.trace_id.endswith("/right") for e in own)


def test_what_compares_within_prompts_is_idle_with_one_trace() -> None:
    single, several = REGIMES["single"], REGIMES["noisy"]
    assert entries.idle(PRESET, single)
    assert not entries.idle(PRESET, several)
    assert not entries.idle("naturalness_gce", single)
    assert not entries.idle("support_4", single)
    assert not entries.idle("own_answers", single)


def grid(method: str, gain: float, regimes: list[str], at: float = 2e-3) -> list[Row]:
    """Validation rows: one rate and two epochs are the best, at temperature 0.3, by ``gain`` over one half."""
    rows = []
    for regime in regimes:
        for seed in choice.TUNING:
            for rate in choice.RATES:
                for epochs in choice.EPOCHS:
                    value = 0.5 + gain + 0.01 * seed - 0.1 * (rate != at) - 0.1 * (epochs != 2)
                    accuracy = {"greedy": value - 0.02, "0.3": value, "0.6": value - 0.1, "1.0": value - 0.2}
                    rows.append(row(regime, method, rate, epochs, seed) | {"validation": accuracy})
    return rows


def row(regime: str, method: str, rate: float, epochs: int, seed: int) -> Row:
    where = {"date": "2020-01-01", "machine": "m", "seconds": 1.0}
    return {"regime": regime, "method": method, "rate": rate, "epochs": epochs, "seed": seed, **where}


def test_validation_picks_setting_and_temperature_together() -> None:
    found = choice.tuned(choice.indexed(grid(SFT, 0.0, ["noisy"])), SFT)
    assert (found["noisy"].setting, found["noisy"].temperature) == ((2e-3, 2), "0.3")
    assert found["noisy"].accuracy == pytest.approx(0.52)
    assert choice.tuned(choice.indexed(grid(SFT, 0.0, ["noisy"])[1:]), SFT) == {}  # a grid with a hole chooses nothing


def fresh(method: str, gain: float, choice_rate: float, spread: float = 0.001) -> list[Row]:
    out = []
    for regime in REGIMES:
        for seed in range(10, 20):
            value = 0.5 + gain * (1 if method == SFT else 1 + spread / 0.01 * (seed % 2))
            parts = {part: dict.fromkeys(measure.TEMPERATURES, value) for part in ("test", "majority", "pass")}
            out.append(row(regime, method, choice_rate, 2, seed) | parts | {"excess_error": 0.1})
    return out


def test_from_rows_to_the_verdict(tmp_path: Path) -> None:
    """Screening, shortlist, choice, confirmation: each reads what the one before wrote."""
    every = list(REGIMES)
    gains = {SFT: 0.0, "support_4": -0.03, PRESET: 0.0, "gce_25": 0.04, "deft": 0.02, "shuffled": 0.09}
    rows = [r for method, gain in gains.items() for r in grid(method, gain, every)]
    with pytest.raises(UserError, match="shortlist"):
        choice.choose(choice.indexed(rows), tmp_path)
    methods = choice.shortlist(choice.indexed(rows))
    assert methods == ["support_4", PRESET, "gce_25", "deft"]  # no control, whatever it gains
    (tmp_path / "shortlist.json").write_text(json.dumps({"methods": methods}))
    with pytest.raises(UserError, match="run --stage choose"):
        choice.chosen(tmp_path)
    starts = [
        row(r, START, 0.0, 0, s) | {"p_0": 0.8, "unlikely": 0.1, "near_written": 0.5, "far_written": 0.1}
        | {"validation": dict.fromkeys(measure.TEMPERATURES, 0.2)}
        for r in every for s in choice.TUNING
    ]  # fmt: skip
    styles = {"near_written": 0.5, "far_written": 0.1}
    rows = [r | styles for r in rows] + starts
    assert choice.choose(choice.indexed(rows), tmp_path) == [SFT, "gce_25", "deft", "support_4"]
    chosen = choice.chosen(tmp_path)
    confirmed = [*fresh(SFT, 0.0, 2e-3), *fresh("gce_25", 0.02, 2e-3), *fresh("deft", -0.03, 2e-3)]
    found = choice.verdict(choice.indexed(confirmed), chosen)
    assert found["gce_25"]["default"]
    assert set(found["deft"]["not shown non-inferior"]) >= set(SUMS) - {"single", "single_noisy"}
    assert not found["support_4"]["default"]  # none of its cells was run
    for name, some in (("tune", rows), ("confirm", confirmed)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in some))
    tables.write(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "| gce_25 | noisy | 10 | 0.3 |" in text
    assert "confirmation" in text.split("## Cells")[1]
    assert "support_4" in text.split("## Cells")[1]  # its fresh cells are missing


def test_seeds_are_added_while_the_interval_is_wide() -> None:
    chosen = {
        "finalists": ["deft"],
        "settings": {m: {r: {"rate": 2e-3, "epochs": 2, "temperature": "0.3"} for r in REGIMES} for m in (SFT, "deft")},
    }
    rows = fresh(SFT, 0.0, 2e-3)
    assert choice.seeds_wanted({}, chosen, "noisy") == 10
    assert choice.seeds_wanted(choice.indexed([*rows, *fresh("deft", 0.01, 2e-3, spread=0.001)]), chosen, "noisy") == 10
    assert choice.seeds_wanted(choice.indexed([*rows, *fresh("deft", 0.01, 2e-3, spread=0.05)]), chosen, "noisy") == 20


def test_the_power_that_the_protocol_states() -> None:
    assert choice.power(0.007, 10, 1) == pytest.approx(0.839, abs=0.001)
    assert choice.power(0.0045, 10, len(REGIMES)) > 0.9


def test_every_entry_is_a_configuration_or_is_said() -> None:
    for name in set(ENTRIES) - set(entries.unknown()):
        entries.config(name, REGIMES["noisy"], 1e-3, 1)
    assert {SFT, PRESET, entries.SUPPORT} & set(entries.unknown()) == set()


def test_the_cells_of_a_stage() -> None:
    tuning = list(plan.tuning([SFT, PRESET], ["noisy", "single"], {}))
    assert len(tuning) == len(set(tuning)) == 2 * (5 + 18) + 18  # the preset is idle in one of them
    more = set(plan.tuning([SFT], ["noisy"], choice.indexed(grid(SFT, 0.0, ["noisy"])))) - set(tuning)
    assert {c.seed for c in more} == {2, 3, 4}
    assert {(c.rate, c.epochs) for c in more} == {(2e-3, 2), (1e-3, 2), (2e-3, 1)}
    screening = list(plan.screening({"noisy": (2e-3, 2)}))
    assert {c.method for c in screening} == set(ENTRIES) - set(entries.unknown())
    assert {c.seed for c in screening} == {0, 1}
    confirmation = list(plan.confirmation({("noisy", SFT): (1e-3, 4)}, 10, ["noisy"]))
    assert {c.seed for c in confirmation} == set(range(10, 20))
