"""The promotion gate: its rules one by one, and its error rates by simulation."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dcod.config import PromoteConfig
from dcod.errors import UserError
from dcod.evaluate.results import Answer, AskedBenchmark, ModelRef, Results, load_results
from dcod.promote.compare import Comparison, lower_bound
from dcod.promote.contest import Contest, Standing
from dcod.promote.decision import Decision
from dcod.promote.gate import judge

CONFIG = PromoteConfig(
    level=0.05, margin=0.05, min_problems=50, max_truncated=0.2, max_unparseable=0.2, stability_margin=0.3
)


ROLE = {"role": "report"}


def side(digest: str = "a", **benchmarks: dict[str, Any]) -> Results:
    """Results in memory; a benchmark is {"outcomes": [...] or [[...], ...], "role": ..., ...}."""
    asked: dict[str, AskedBenchmark] = {}
    given: list[Answer] = []
    for key, spec in benchmarks.items():
        asked[key] = AskedBenchmark(spec.get("role", "primary"), spec.get("fingerprint", "f" * 20))
        shows = {"looping": False, "contradicting": False, **spec.get("shows", {})}
        for number, answers in enumerate(spec["outcomes"]):
            problem = f"{spec.get('prefix', 'p')}{number}"
            for sample, outcome in enumerate([answers] if isinstance(answers, str) else answers):
                said = {"answer": "7" if outcome == "correct" else str(sample), "truncated": outcome == "truncated"}
                given.append(Answer(key, problem, "gate", "zero_shot", sample, outcome, **(said | shows)))
    return Results(ModelRef(digest, digest), asked, answers=given)


def answers(right: Iterable[int], n: int = 200, other: str = "wrong") -> list[str]:
    correct = set(right)
    return ["correct" if i in correct else other for i in range(n)]


def run(ours: Results, theirs: Results, config: PromoteConfig = CONFIG) -> Decision:
    return judge(Contest(ours, (theirs,)), Standing(theirs.model), config)


def failed(decision: Decision) -> list[str]:
    return [reason.code for reason in decision.failed]


def test_a_clear_improvement_is_promoted_with_its_numbers() -> None:
    decision = run(side("a", sums={"outcomes": answers(range(120))}), side("b", sums={"outcomes": answers(range(80))}))
    assert decision.promote
    assert decision.outcome == "promote"
    found = decision.comparisons[0]
    assert [one.benchmark for one in decision.comparisons] == ["sums", "sums truncated", "sums looping"]
    assert (found.n, found.gains, found.losses, found.samples) == (200, 40, 0, 1)
    assert found.difference == pytest.approx(0.2)
    assert found.low < 0.2 < found.high
    assert found.p_value == pytest.approx(0.5**40)
    text = next(reason.text for reason in decision.reasons if reason.code == "improves")
    assert "60.0% against 40.0% on 200 problems, 40 better and 0 worse; difference +20.0 points" in text


def test_no_improvement_says_what_could_have_been_found() -> None:
    decision = run(
        side("a", sums={"outcomes": answers(range(2, 84))}), side("b", sums={"outcomes": answers(range(80))})
    )
    assert failed(decision) == ["improves"]
    assert "no improvement shown" in decision.failed[0].text
    assert "points would be found with 80% power" in decision.failed[0].text


def test_equal_answers_do_not_make_every_difference_detectable() -> None:
    same = {"outcomes": answers(range(80))}
    assert run(side("a", sums=same), side("b", sums=same)).comparisons[0].detectable == pytest.approx(5 / 200)


def test_all_primaries_must_improve() -> None:
    better, same = {"outcomes": answers(range(120))}, {"outcomes": answers(range(80))}
    decision = run(side("a", one=better, two=same), side("b", one=same, two=same))
    assert failed(decision) == ["improves"]
    assert run(side("a", one=better, two=better), side("b", one=same, two=same)).promote


def test_a_guard_may_not_fall() -> None:
    better, same = {"outcomes": answers(range(120))}, {"outcomes": answers(range(80))}

    def guarded(right: Iterable[int]) -> Decision:
        ours = side("a", sums=better, format={"outcomes": answers(right), "role": "guard"})
        return run(ours, side("b", sums=same, format={"outcomes": answers(range(150)), "role": "guard"}))

    assert guarded(range(150)).promote
    assert guarded(range(149)).promote
    assert failed(guarded(range(130))) == ["holds"]
    assert failed(guarded(range(145))) == ["holds"]  # -2.5 points, but -5 cannot be ruled out
    assert "at worst" in guarded(range(130)).failed[0].text


def test_contests_are_also_told_as_one() -> None:
    """By each problem's share of right answers; no large one, and only with others of as many answers a problem."""

    def told(name: str, right: int, size: int = 30, samples: int = 2) -> Results:
        contest = {"outcomes": [["correct"] * samples] * right + [["wrong"] * samples] * (size - right)}
        other = {"outcomes": [["correct", "wrong"]] * 40}
        once = {"outcomes": answers(range(9))}
        return side(name, sums=once, aime24=contest | ROLE, amc23=other | ROLE, once=once | ROLE)

    def pooled(ours: Results, theirs: Results) -> list[Comparison]:
        return [one for one in run(ours, theirs).comparisons if one.benchmark.endswith("pooled")]

    (found,) = pooled(told("a", 10), told("b", 4))
    assert (found.benchmark, found.role, found.n, found.samples) == ("aime24 amc23 pooled", "report", 70, 2)
    assert (found.gains, found.losses) == (6, 0)
    assert found.challenger == pytest.approx((10 + 20) / 70)
    assert found.difference == pytest.approx(6 / 70)
    assert pooled(told("a", 10, size=100), told("b", 4, size=100)) == []
    assert pooled(told("a", 10, samples=3), told("b", 4, samples=3)) == []


def test_a_report_benchmark_decides_nothing() -> None:
    better, same = {"outcomes": answers(range(120))}, {"outcomes": answers(range(80))}
    worse = {"outcomes": answers([]), "role": "report"}
    decision = run(side("a", sums=better, other=worse), side("b", sums=same, other={**same, "role": "report"}))
    assert decision.promote
    assert [found.benchmark for found in decision.comparisons if found.role != "stability"] == ["other", "sums"]
    odd = {**worse, "fingerprint": "other"}
    assert run(side("a", sums=better, other=odd), side("b", sums=same, other={**same, "role": "report"})).promote


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("evaluators_differ", {"fingerprint": "g" * 20}),
        ("problems_differ", {"prefix": "q"}),
        ("samples_differ", {"outcomes": [["correct", "wrong"]] + [["correct"]] * 199}),
        ("truncated", {"outcomes": answers(range(120), other="truncated")}),
        ("unparseable", {"outcomes": answers(range(120), other="unparseable")}),
        ("no_primary", {"role": "guard"}),
    ],
)
def test_what_makes_a_comparison_void(code: str, change: dict[str, Any]) -> None:
    ours = {"outcomes": answers(range(120)), **change}
    theirs = {"outcomes": answers(range(80))}
    assert code in failed(run(side("a", sums=ours), side("b", sums=theirs)))


def test_missing_benchmarks_and_few_problems() -> None:
    good, poor = {"outcomes": answers(range(120))}, {"outcomes": answers(range(80))}
    assert failed(run(side("a", one=good, two=good), side("b", one=poor))) == ["benchmark_missing"]
    assert failed(run(side("a", one=good), side("b", one=poor, two=poor))) == ["benchmark_missing"]
    few = run(side("a", one={"outcomes": answers(range(30), 40)}), side("b", one={"outcomes": answers([], 40)}))
    assert failed(few) == ["enough_problems"]
    none = run(side("a", one={"outcomes": []}), side("b", one={"outcomes": []}))
    assert failed(none) == ["no_problems"]


def test_only_the_gate_split_and_zero_shot_answers_count() -> None:
    ours = side("a", sums={"outcomes": answers(range(80))})
    theirs = side("b", sums={"outcomes": answers(range(80))})
    more = side("a", sums={"outcomes": answers(range(300), 300), "prefix": "x"}).answers
    others = [one._replace(**other) for one in more for other in ({"split": "report"}, {"prompting": "few_shot"})]
    decision = run(replace(ours, answers=[*ours.answers, *others]), theirs)
    assert decision.comparisons[0].n == 200
    assert not decision.promote


def test_several_samples_are_compared_by_problem() -> None:
    rng = np.random.default_rng(3)

    def sampled(rates: Any) -> dict[str, Any]:
        return {"outcomes": [["correct" if rng.random() < p else "wrong" for _ in range(8)] for p in rates]}

    rates = rng.uniform(0.1, 0.6, size=120)
    decision = run(side("a", aime=sampled(rates + 0.15)), side("b", aime=sampled(rates)))
    found = decision.comparisons[0]
    assert found.samples == 8
    assert decision.promote
    assert found.low < found.difference < found.high
    same = run(side("a", aime=sampled(rates)), side("b", aime=sampled(rates)))
    assert not same.promote


def test_no_disagreement_among_samples_is_no_proof_of_equality() -> None:
    same = {"outcomes": [["correct", "correct"]] * 60, "role": "guard"}
    found = run(side("a", kept=same), side("b", kept=same)).comparisons[0]
    assert (found.p_value, found.difference) == (1.0, 0.0)
    assert found.worst == pytest.approx(lower_bound(0, 0, 60, 0.05), abs=1e-9)
    assert found.worst < -0.04
    assert found.low < found.worst < 0 < found.high


def test_the_same_results_give_the_same_decision() -> None:
    ours = side("a", aime={"outcomes": [["correct", "wrong", "correct"]] * 60})
    theirs = side("b", aime={"outcomes": [["correct", "wrong", "wrong"]] * 30 + [["correct"] * 3] * 30})
    assert run(ours, theirs) == run(ours, theirs)


def test_json_round_trip() -> None:
    decision = run(side("a", sums={"outcomes": answers(range(120))}), side("b", sums={"outcomes": answers(range(80))}))
    assert Decision.from_json(decision.to_json()) == decision
    assert json.loads(decision.to_json())["outcome"] == "promote"
    same = replace(decision, baseline=decision.challenger)
    assert same.outcome == "already_champion"
    for text in ("{", "[]", '{"outcome": 1}'):
        with pytest.raises(UserError, match="not a decision"):
            Decision.from_json(text)


def test_results_that_are_none(tmp_path: Any) -> None:
    with pytest.raises(UserError, match="no results of an evaluation"):
        load_results(tmp_path)


def test_any_primary_may_improve_after_holm_while_the_others_hold() -> None:
    config = CONFIG.model_copy(update={"primaries": "any"})
    same = {"outcomes": answers(range(80))}

    def tried(first: Iterable[int], second: Iterable[int]) -> Decision:
        ours = side("a", one={"outcomes": answers(first)}, two={"outcomes": answers(second)})
        return run(ours, side("b", one=same, two=same), config)

    assert tried(range(120), range(80)).promote
    assert failed(tried(range(120), range(60))) == ["holds"]  # paid for by the other
    assert failed(tried(range(80), range(80))) == ["improves", "improves"]
    # 5 gains and no loss: p = 0.031, enough alone, not among two
    assert failed(tried(range(85), range(80))) == ["improves", "improves"]
    assert run(side("a", one={"outcomes": answers(range(85))}), side("b", one=same), config).promote
    assert "after Holm's correction" in tried(range(120), range(80)).reasons[-6].text


def test_stability_may_not_fall() -> None:
    better, same = {"outcomes": answers(range(120))}, {"outcomes": answers(range(80))}
    config = CONFIG.model_copy(update={"stability": ["looping", "contradicting"], "stability_margin": 0.1})
    base = side("b", sums=same)
    assert run(side("a", sums=better), base, config).promote
    loops = run(side("a", sums={**better, "shows": {"looping": True}}), base, config)
    assert failed(loops) == ["steady"]
    assert "sums looping: 100.0% of the answers against 0.0%; difference at worst +100.0 points" in loops.failed[0].text
    assert failed(run(side("a", sums={**better, "shows": {"contradicting": True}}), base, config)) == ["steady"]
    unlooped = run(side("a", sums=better), side("b", sums={**same, "shows": {"looping": True}}), config)
    assert unlooped.promote
    found = next(one for one in unlooped.comparisons if one.benchmark == "sums looping")
    assert (found.challenger, found.baseline, found.difference, found.gains) == (0.0, 1.0, -1.0, 200)
    assert found.low <= found.difference <= found.worst <= found.high


def test_agreement_over_samples_is_a_stability_figure() -> None:
    config = CONFIG.model_copy(update={"stability": ["disagreeing"], "stability_margin": 0.1, "max_unparseable": 1.0})
    wild = {"outcomes": [["correct", "correct", "wrong", "wrong"]] * 100}
    calm = {"outcomes": [["correct"] * 4] * 40 + [["wrong"] * 4] * 60, "shows": {"answer": "7"}}
    decision = run(side("a", sums=wild), side("b", sums=calm), config)
    assert "steady" in failed(decision)
    found = decision.comparisons[1]
    assert (found.challenger, found.baseline) == (0.5, 0.0)
    once = side("a", sums={"outcomes": answers(range(120))}), side("b", sums={"outcomes": answers(range(80))})
    assert run(*once, config).promote  # with one sample there is nothing to agree with


def test_a_twin_shows_what_the_correction_added() -> None:
    student = side("a", sums={"outcomes": answers(range(120))})
    start = side("b", sums={"outcomes": answers(range(80))})
    contest, standing = Contest(student, (start,)), Standing(start.model)
    worse, equal = (side("t", sums={"outcomes": answers(range(n))}) for n in (80, 119))
    for twin, better in ((worse, True), (equal, False)):
        for must in ("report", "require"):
            decision = judge(replace(contest, twin=twin), standing, CONFIG.model_copy(update={"twin": must}))
            assert [one.role for one in decision.comparisons if one.role == "twin"] == ["twin"]
            (reason,) = (one for one in decision.reasons if one.code == "beats_twin")
            assert reason.passed is (better or must == "report")
            assert decision.promote is reason.passed
            assert ("no gain of the correction shown" in reason.text) is not better
    with pytest.raises(UserError, match="twin: sums: evaluated differently"):
        judge(replace(contest, twin=side("t", sums={"outcomes": answers([]), "fingerprint": "g"})), standing, CONFIG)


@pytest.mark.parametrize(("gains", "losses", "n"), [(12, 2, 50), (3, 9, 80), (40, 60, 700), (0, 4, 60), (5, 0, 90)])
def test_the_lower_bound_is_where_the_score_test_stops_rejecting(gains: int, losses: int, n: int) -> None:
    from scipy.optimize import minimize_scalar
    from scipy.stats import norm

    bound = lower_bound(gains, losses, n, 0.05)

    def minus_likelihood(q: float) -> float:  # q: share of losses when the accuracies differ by the bound
        shares = np.clip([q + bound, q, 1 - 2 * q - bound], 1e-12, 1)
        return -float(np.dot([gains, losses, n - gains - losses], np.log(shares)))

    limits = (max(0.0, -bound) + 1e-12, (1 - bound) / 2)
    q = minimize_scalar(minus_likelihood, bounds=limits, method="bounded", options={"xatol": 1e-12}).x
    score = (gains - losses - n * bound) / np.sqrt(n * (2 * q + bound - bound**2))
    assert score == pytest.approx(norm.ppf(0.95), rel=2e-3)


def test_the_lower_bound_is_careful_and_ordered() -> None:
    assert lower_bound(0, 0, 100, 0.05) < -0.02  # no loss among 100 is no proof of equality
    for gains, losses, n in itertools.product((0, 1, 5, 20), (0, 1, 7, 30), (50, 300)):
        bound = lower_bound(gains, losses, n, 0.05)
        assert -1.0 <= bound <= (gains - losses) / n
        assert bound <= lower_bound(gains, losses, n, 0.2) + 1e-9


def simulate(rng: np.random.Generator, n: int, gain: float, loss: float) -> tuple[list[str], list[str]]:
    """Greedy answers of two models: the share ``gain`` only the challenger has right, ``loss`` only the baseline."""
    kind = rng.choice(4, size=n, p=[gain, loss, 0.3, 0.7 - gain - loss])
    ours = np.where((kind == 0) | (kind == 2), "correct", "wrong")
    theirs = np.where((kind == 1) | (kind == 2), "correct", "wrong")
    return ours.tolist(), theirs.tolist()


def share_promoted(n: int, specs: dict[str, tuple[str, float, float]], repeats: int, seed: int = 0) -> float:
    """How often a challenger is promoted; ``specs`` is role, gain and loss by benchmark."""
    rng = np.random.default_rng(seed)
    promoted = 0
    for _ in range(repeats):
        drawn = {key: simulate(rng, n, gain, loss) for key, (_, gain, loss) in specs.items()}
        ours = side("a", **{key: {"outcomes": drawn[key][0], "role": specs[key][0]} for key in specs})
        theirs = side("b", **{key: {"outcomes": drawn[key][1], "role": specs[key][0]} for key in specs})
        promoted += run(ours, theirs).promote
    return promoted / repeats


def allowed(level: float, repeats: int) -> float:
    """The level plus three standard errors of the simulation."""
    return float(level + 3 * (level * (1 - level) / repeats) ** 0.5)


def test_no_better_is_promoted_at_most_at_the_level() -> None:
    repeats = 1500
    for gain in (0.02, 0.15):
        assert share_promoted(150, {"one": ("primary", gain, gain)}, repeats) <= allowed(0.05, repeats)


def test_better_on_one_primary_and_no_better_on_the_other() -> None:
    specs = {"one": ("primary", 0.4, 0.05), "two": ("primary", 0.1, 0.1)}
    assert share_promoted(150, specs, 1000) <= allowed(0.05, 1000)


def test_a_guard_that_falls_by_the_margin_stops_nearly_all() -> None:
    specs = {"one": ("primary", 0.4, 0.05), "kept": ("guard", 0.05, 0.10)}
    assert share_promoted(150, specs, 1000) <= allowed(0.05, 1000)


def test_samples_no_better_are_promoted_at_most_at_the_level() -> None:
    rng = np.random.default_rng(5)
    promoted, repeats = 0, 600
    for _ in range(repeats):
        rates = rng.beta(0.6, 1.2, size=60)
        drawn = [(rng.random((60, 4)) < rates[:, None]).tolist() for _ in range(2)]
        outcomes = [[["correct" if right else "wrong" for right in row] for row in rows] for rows in drawn]
        promoted += run(side("a", aime={"outcomes": outcomes[0]}), side("b", aime={"outcomes": outcomes[1]})).promote
    assert promoted / repeats <= allowed(0.05, repeats)


def test_five_points_on_gsm8k_are_found() -> None:
    # 1,319 problems, 30 % discordant, 5 points better: the normal approximation says a power of 95 %.
    found = share_promoted(1319, {"gsm8k": ("primary", 0.175, 0.125)}, 300)
    assert found >= 0.95 - 3 * (0.95 * 0.05 / 300) ** 0.5
