"""Methods beside the core: weights by the success of own answers, and wrong traces as negatives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bench.study import lab
from bench.study.second import beside, choice, longer, negatives, stored, success
from bench.study.second.cells import Cell
from bench.study.second.entries import ENTRIES, SFT
from bench.study.second.regimes import REGIMES
from dcod import storage
from dcod.traces.scored import ScoredTrace

RIGHT = "1+2+4=3+4=7;#7"


def trace(name: str, prompt: str, text: str) -> ScoredTrace:
    return ScoredTrace(name, prompt, lab.encode("1+2+4="), [*lab.encode(text), 2], [], [])


def test_likeness_is_that_of_runs_of_tokens() -> None:
    assert success.likeness([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]) == 1.0
    assert success.likeness([1, 2, 3, 4, 5], [1, 2, 3, 4, 6]) == pytest.approx(1 / 3)
    assert success.likeness([1, 2], [3, 4, 5, 6, 7]) == 0.0


def test_a_trace_like_what_the_student_got_right_weighs_more() -> None:
    taught = [trace("a", "0", "1+2=3;3+4=7;#7"), trace("b", "0", "#7"), trace("c", "1", "#7"), trace("d", "1", RIGHT)]
    own = [trace("own/0/right", "0", "1+2=3;3+4=7;#7"), trace("own/1/any", "0", "#8")]
    found = {t.trace_id: t.given or 0.0 for t in success.weighted(taught, own, attempts=2, within=False)}
    overall = 1 / 4  # of two prompts, two attempts each
    share = (overall + 1) / 3
    assert found["a"] == pytest.approx((share + 1) / 2)  # one like it, and right
    assert found["b"] == pytest.approx(share)  # none like it
    assert found["c"] == found["d"] == pytest.approx(overall / 3)  # never right, and cut: nothing to be like
    assert all(t.given is None for t in taught)

    within = {t.trace_id: t.given or 0.0 for t in success.weighted(taught, own, attempts=2, within=True)}
    assert within["a"] + within["b"] == pytest.approx(2)
    assert within["a"] / within["b"] == pytest.approx(found["a"] / found["b"])
    assert within["c"] == within["d"] == 1.0


def test_pairs_are_of_one_prompt_and_take_the_right_ones_in_turn() -> None:
    right = [trace("a", "0", RIGHT), trace("b", "0", "#7"), trace("c", "2", "#7")]
    wrong = [trace(name, prompt, "#9") for name, prompt in (("x", "0"), ("y", "0"), ("z", "0"), ("w", "1"))]
    found = [(one.trace_id, other.trace_id) for one, other in negatives.pairs(right, wrong)]
    assert found == [("a", "x"), ("b", "y"), ("a", "z")]


def test_a_mean_logprob_is_that_of_the_completion_alone() -> None:
    model = lab.network(lab.STUDENT, 0).eval()
    some = [trace("a", "0", RIGHT), trace("b", "0", "#7")]
    with torch.no_grad():
        found = negatives.mean_logprobs(model, some)
        for one, value in zip(some, found.tolist(), strict=True):
            ids = torch.tensor([[*one.prompt_tokens, *one.completion_tokens]])
            logprobs = torch.log_softmax(model(input_ids=ids).logits[0].double(), -1)
            begin = len(one.prompt_tokens)
            said = [float(logprobs[begin + i - 1, token]) for i, token in enumerate(one.completion_tokens)]
            assert value == pytest.approx(sum(said) / len(said), abs=1e-5)


def test_unteaching_moves_the_two_apart() -> None:
    model = lab.network(lab.STUDENT, 0)
    right = [trace(str(i), str(i), RIGHT) for i in range(8)]
    wrong = [trace(f"w{i}", str(i), "1+2+4=9;#9") for i in range(8)]

    def gap() -> float:
        with torch.no_grad():
            return float(negatives.mean_logprobs(model, right[:1]) - negatives.mean_logprobs(model, wrong[:1]))

    before = gap()
    assert negatives.unteach(model, right, wrong, rate=0.05, seed=0, batch=4) == 8
    assert gap() > before


def test_only_what_can_act_is_run() -> None:
    asked = list(beside.cells())
    one_trace = {c.method for c in asked if c.regime == "single"} - {SFT}
    assert {"prefix", "idft", "todi", *beside.FOR_ONE_TRACE} <= one_trace <= set(beside.REST) - {"trace_mean", "rsr"}
    several = 4 * (len(beside.REST) - len(beside.FOR_ONE_TRACE))
    assert len(asked) == 5 * (5 + 4 + 4 + 3 + 3 * 4) + 2 * (several + len(one_trace))
    settings = choice.chosen(beside.RESULTS)["settings"][SFT]
    assert all((c.rate, c.epochs) == (settings[c.regime]["rate"], settings[c.regime]["epochs"]) for c in asked)
    assert Cell("noisy", "negatives", 1e-3, 4, 0) not in asked  # its wrong traces are taught
    assert {*beside.METHODS, *beside.REST} < set(ENTRIES)
    assert all(beside.acts(c.method, c.regime) and c.regime in REGIMES for c in asked)


def row(cell: Cell, accuracy: float) -> dict[str, object]:
    part = "validation" if cell.seed < 10 else "test"
    return {**vars(cell), part: {"greedy": accuracy, "1.0": 0.0}, "pass": {"0.6": 1.0}, "excess_error": 0.5,
            "machine": "m", "date": "d", "seconds": 1.0}  # fmt: skip


def test_the_longest_training_is_at_the_rate_that_was_best_before_it(tmp_path: Path) -> None:
    rate = {SFT: 2e-3, "naturalness": 1e-3}
    first = list(longer.tuning({}))
    assert len(first) == 4 * 2 * 4 * 2
    assert {cell.epochs for cell in first} == {4, 8}
    rows = [row(c, 0.5 + 0.1 * (c.rate == rate[c.method]) * (c.epochs == 8)) for c in first]
    then = list(longer.tuning(choice.indexed(rows)))
    last = [c for c in then if c.epochs == 16]
    assert {(c.method, c.rate, c.seed) for c in last} == {(m, r, s) for m, r in rate.items() for s in (0, 1)}
    index = choice.indexed([*rows, *(row(c, 0.7) for c in last)])
    best = {r: {m: longer.tuned(index, r, m) for m in longer.METHODS} for r in longer.SITUATIONS}
    assert all(one is not None and one.setting == (rate[m], 16) for by in best.values() for m, one in by.items())

    fresh = list(longer.confirmation(best))  # type: ignore[arg-type]
    assert {cell.seed for cell in fresh} == set(range(40, 50))
    told = [row(c, 0.6 + 0.01 * (c.seed % 3) + 0.05 * (c.method != SFT)) for c in fresh]
    (tmp_path / "tune.jsonl").touch()
    storage.write_text(tmp_path / "longer.jsonl", "".join(f"{json.dumps(one)}\n" for one in (*rows, *told)))
    storage.write_json(tmp_path / "longer.json", {r: {m: vars(o) for m, o in by.items()} for r, by in best.items()})
    text = longer.page(tmp_path)
    assert text.count("**+5.0 [+5.0, +5.0]**") == 4 + 1  # situations, and their mean
    assert "| noisy | naturalness | 0.001 | 16 | greedy | 10 | 66.0 |" in text


def test_stored_weights_meet_ten_fresh_seeds_where_sft_was_best_and_nothing_is_said_before(tmp_path: Path) -> None:
    wanted = list(stored.cells())
    assert len(wanted) == 4 * 3 * 10
    assert {cell.epochs for cell in wanted} == {16}
    assert {cell.seed for cell in wanted[:12]} == {50}  # all situations and methods of a seed, then the next
    settings = longer.chosen(longer.RESULTS)
    assert all((cell.rate, cell.epochs) == settings[cell.regime][SFT].setting for cell in wanted)
    assert stored.LEVEL == 0.0125

    gains = {SFT: 0.0, "naturalness_stored": 0.04, "support_4_stored": 0.0}
    told = [row(c, 0.6 + gains[c.method] + 0.01 * (c.method != SFT) * (c.seed % 3 - 1)) for c in wanted]
    storage.write_json(tmp_path / "longer.json", json.loads((longer.RESULTS / "longer.json").read_text()))
    for seeds, said in ((10, "`naturalness_stored` is better than SFT: +4.1 ["), (9, ": 9 of 10 seeds are there, and")):
        kept = [one for one in told if int(str(one["seed"])) < 50 + seeds]
        storage.write_text(tmp_path / "stored.jsonl", "".join(f"{json.dumps(one)}\n" for one in kept))
        assert said in stored.page(tmp_path)
        assert ("`support_4_stored` is not told from SFT: +0.1 [" in stored.page(tmp_path)) == (seeds == 10)
    storage.write_text(tmp_path / "stored.jsonl", "")
    assert stored.page(tmp_path).endswith("No cell was run yet.\n")
