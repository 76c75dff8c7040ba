"""Each check of the gate: what it measured, the limit and the sentence; and that older decisions are still read."""

from __future__ import annotations

import inspect
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_type_hints

import pytest

from dcod.config import PromoteConfig
from dcod.evaluate import statistics
from dcod.evaluate.results import AskedBenchmark, ModelRef, Results
from dcod.promote import rules
from dcod.promote.compare import Comparison, compare, compare_rise, lower_bound
from dcod.promote.contest import Contest, Match, Spending, Standing
from dcod.promote.decision import Decision, Reason
from dcod.promote.gate import judge

ONE = Comparison("sums", "primary", 40, 1, 0.6, 0.4, 10, 2, 0.2, 0.05, 0.35, 0.019, 0.08, 0.17)
NUMBERS = (
    "60.0% against 40.0% on 40 problems, 10 better and 2 worse; difference +20.0 points (95% interval +5.0 points to "
    "+35.0 points)"
)
POWER = "a difference of 17.0 points would be found with 80% power"
LAXER = (
    "the interval excludes 0 all the same: it allows an error of 2.5% at either end and looks at this comparison "
    "alone, and the test is stricter"
)
CONFIG = PromoteConfig(tests_per_period=30, period_days=30)
MONTH = "at most 30 in 30 days; together they promote noise with a chance of at most 0.05"
RAISE = "wait, or raise promote.tests_per_period, which lowers the level of each"
TRACES = {"exact": 0, "inside": 0, "traces": 294, "ngram": 7, "named": ["a", "b"]}
DIRTY = "of 294 training traces hold a problem of a benchmark (7 more share much of their wording with one)"
DIFFERENT = (
    "evaluated differently (fingerprint ffffffffffff against gggggggggggg: grader, prompt, template, engine, sampling "
    "or data)"
)
TOLD: list[tuple[Reason, list[str], str]] = [
    (
        rules.improves(ONE, 0.019, 0.05, ""),
        ["better than the champion: sums", f"{NUMBERS}, p = 0.019", f"level 0.05; {POWER}"],
        f"sums: improved: {NUMBERS}, p = 0.019, level 0.05; {POWER}",
    ),
    (
        rules.improves(ONE, 0.2, 0.05, " after Holm's correction"),
        [
            "better than the champion: sums",
            f"{NUMBERS}, p = 0.2 after Holm's correction",
            f"level 0.05; {POWER}; {LAXER}",
        ],
        f"sums: no improvement shown: {NUMBERS}, p = 0.2 after Holm's correction, level 0.05; {POWER}; {LAXER}",
    ),
    (
        rules.holds(ONE, 0.02),
        ["guard benchmark holds: sums", f"{NUMBERS}, at worst +8.0 points", "-2.0 points; detectable 17.0 points"],
        f"sums: not worse: {NUMBERS}, at worst +8.0 points, allowed -2.0 points; detectable 17.0 points",
    ),
    (
        rules.steady(ONE, 0.1),
        [
            "answers as steady: sums",
            "60.0% of the answers against 40.0%; difference at worst +8.0 points",
            "+10.0 points",
        ],
        "sums: 60.0% of the answers against 40.0%; difference at worst +8.0 points, limit +10.0 points",
    ),
    (
        rules.enough_problems(ONE, 50),
        ["enough problems: sums", "40 problems on the gate split", "at least 50 needed"],
        "sums: 40 problems on the gate split, at least 50 needed",
    ),
    (
        rules.share("sums", "truncated", 0.0, 0.5),
        ["answers cut off: sums", "0.0% of the answers truncated", "at most 50% allowed"],
        "sums: 0.0% of the answers truncated, at most 50% allowed",
    ),
    (
        rules.beats_twin(ONE, 0.05),
        ["against plain fine-tuning: sums", f"the correction added: {NUMBERS}, p = 0.019", "level 0.05"],
        f"sums, against the SFT twin: the correction added: {NUMBERS}, p = 0.019",
    ),
    (rules.uncontaminated(TRACES), ["training data clean", f"0 {DIRTY}", "none allowed"], f"0 {DIRTY}"),
    (
        rules.uncontaminated(TRACES | {"inside": 2}),
        ["training data clean", f"2 {DIRTY}: a; b", "none allowed; leave ingest.decontaminate on"],
        f"2 {DIRTY}: a; b; leave ingest.decontaminate on",
    ),
    (rules.budget(Spending(3, True), CONFIG), ["tests left this period", "test 3", MONTH], f"test 3 of {MONTH}"),
    (
        rules.budget(Spending(30, False), CONFIG),
        ["tests left this period", "the budget is spent: test 30", f"{MONTH}; {RAISE}"],
        f"the budget is spent: test 30 of {MONTH}; {RAISE}",
    ),
    (
        rules.already_champion(ModelRef("a", "u", 3)),
        ["already champion", "the student is champion version 3 itself", "another model than the champion"],
        "the student is champion version 3 itself",
    ),
    (
        rules.champion_not_evaluated(ModelRef("", "u", 3), ModelRef("b" * 64, "u")),
        [
            "champion not evaluated",
            "the champion is version 3 (registered by another tool), but the results are of bbbbbbbbbbbb",
            "results of the champion; run again, so that the champion is evaluated",
        ],
        "the champion is version 3 (registered by another tool), but the results are of bbbbbbbbbbbb; run again, so "
        "that the champion is evaluated",
    ),
    (
        rules.rolled_back(4),
        [
            "rolled back",
            "version 4, the same model, was rolled back",
            "not taken back before; to allow it again, delete its tag dcod.outcome",
        ],
        "version 4, the same model, was rolled back; to allow it again, delete its tag dcod.outcome",
    ),
    (
        rules.no_primary(),
        ["no primary", "no benchmark has the role primary", "at least one needed"],
        "no benchmark has the role primary, so nothing can improve",
    ),
    (
        rules.benchmark_missing("sums", "baseline"),
        ["benchmark missing: sums", "the baseline was not evaluated on it", "results of both; evaluate both alike"],
        "sums: the baseline was not evaluated on it; evaluate both alike",
    ),
    (
        rules.evaluators_differ("sums", "f" * 20, "g" * 20),
        ["evaluators differ: sums", DIFFERENT, "the same evaluation; evaluate the baseline again"],
        f"sums: {DIFFERENT}; evaluate the baseline again",
    ),
    (
        rules.problems_differ("sums", 2),
        ["problems differ: sums", "2 problems were answered by only one of the two models", "the same problems"],
        "sums: 2 problems were answered by only one of the two models",
    ),
    (
        rules.samples_differ("sums", {2, 1}),
        ["samples differ: sums", "problems have different numbers of answers: [1, 2]", "as many for each"],
        "sums: problems have different numbers of answers: [1, 2]",
    ),
    (
        rules.no_problems("sums"),
        ["no problems: sums", "no problem on the gate split", "at least one needed"],
        "sums: no problem on the gate split",
    ),
]


@pytest.mark.parametrize(("reason", "cells", "text"), TOLD, ids=[reason.code for reason, _, _ in TOLD])
def test_what_a_check_measured_its_limit_and_its_sentence(reason: Reason, cells: list[str], text: str) -> None:
    assert reason.cells == cells
    assert reason.text == text


def answered(gains: int, losses: int, n: int, level: float = 0.05) -> Comparison:
    """A primary on which so many problems changed, one answer each."""
    ours = {str(i): [float(i < gains)] for i in range(n)}
    theirs = {str(i): [float(gains <= i < gains + losses)] for i in range(n)}
    return compare("sums", "primary", ours, theirs, level)


def test_why_a_test_refuses_what_its_interval_seems_to_show_is_said_there_alone() -> None:
    four = answered(4, 0, 60)
    assert (four.p_value, four.low > 0.0) == (0.0625, True)
    careful = "the test is exact, and so careful where the answers to few problems changed (here 4)"
    assert rules.improves(four, four.p_value, 0.05, "").text.endswith(careful)
    assert rules.improves(four, four.p_value, 0.05 / 30, "").text.endswith("and the test is stricter")
    for one in (answered(5, 0, 60), answered(3, 0, 60), answered(9, 4, 60), answered(0, 0, 60)):
        assert "all the same" not in rules.improves(one, one.p_value, 0.05, "").text


def test_at_the_usual_level_test_and_interval_part_at_four_answers_alone() -> None:
    """What docs/evaluation.md says, with one answer a problem."""
    parted = []
    for gains, losses in itertools.product(range(40), range(40)):
        low = lower_bound(gains, losses, 400, 0.025)
        if low > 0.0 and statistics.mcnemar(gains, losses) >= 0.05:
            parted.append((gains, losses))
    assert parted == [(4, 0)]


def test_more_problems_are_asked_for_where_they_alone_are_missing() -> None:
    def decided(*reasons: Reason) -> str:
        return Decision(False, reasons, (), ModelRef("a", "u"), ModelRef("b", "u"), 0.05, 0.02).advice

    nine, four = answered(9, 4, 60), answered(4, 0, 60)
    gained = rules.improves(nine, nine.p_value, 0.05, "")
    assert decided(gained) == (
        "Bring more problems: sums needs about 203 on the gate split, and has 60, to show such a gain with 80% power. "
        "Of what you bring the gate takes half, unless evaluate.report_share says otherwise."
    )
    few = rules.enough_problems(nine, 100)
    assert "sums needs at least 100 on the gate split, and has 60; sums needs about 203" in decided(few, gained)
    unsure = rules.steady(compare_rise("sums looping", {"a": [0.0]}, {"a": [0.0]}, 0.05), 0.1)
    told = "sums looping was not seen to break its limit, and its 1 on the gate split are too few to show it"
    assert told in decided(unsure)
    assert told in decided(unsure, gained)
    held = rules.improves(four, 0.0625, 0.05, " after Holm's correction")  # whose level is not known here
    assert "sums gained, and its 60 on the gate split are too few to show it" in decided(held)
    several = rules.improves(replace(nine, samples=4), nine.p_value, 0.05, "")
    assert "sums gained, and its 60 on the gate split are too few to show it" in decided(several)
    worse, even, won = answered(4, 9, 60), answered(4, 4, 60), answered(20, 2, 60)
    assert decided(rules.improves(worse, 0.9, 0.05, "")) == decided(rules.improves(even, 0.6, 0.05, "")) == ""
    assert decided(rules.improves(won, won.p_value, 0.05, "")) == decided() == ""
    assert decided(gained, rules.share("sums", "truncated", 0.9, 0.5)) == ""
    assert decided(gained, rules.holds(replace(worse, difference=-0.3), 0.02)) == ""
    assert "such a gain over its twin" in rules.beats_twin(nine, 0.05).advice


def made_of(result: Any) -> list[Callable[..., Any]]:
    """The functions of the rules' file that give ``result``."""
    functions = [one for one in vars(rules).values() if inspect.isfunction(one) and one.__module__ == rules.__name__]
    return [one for one in functions if get_type_hints(one)["return"] == result]


def test_every_rule_is_applied() -> None:
    assert set(rules.RULES) == set(made_of(rules.Found))


def test_a_rule_is_one_function_and_its_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    def two_benchmarks(match: Match) -> rules.Found:
        yield ONE
        yield Reason("two_benchmarks", f"{len(match.pairs)} of two", len(match.pairs) > 1, name="benchmarks asked")

    asked = {"sums": AskedBenchmark("report", "f" * 20)}
    student, start = (Results(ModelRef(name, name), asked) for name in "ab")
    monkeypatch.setattr(rules, "RULES", (two_benchmarks,))
    decision = judge(Contest(student, (start,)), Standing(start.model), CONFIG)
    assert not decision.promote
    assert decision.comparisons == (ONE,)
    assert [reason.check for reason in decision.failed] == ["benchmarks asked"]


def test_every_check_is_tried_here_and_holds_as_its_numbers_say() -> None:
    made = {one.__name__ for one in made_of(rules.Reason) if not one.__name__.startswith("_")}
    codes = {"truncated" if name == "share" else name for name in made}
    assert {reason.code for reason, _, _ in TOLD} == codes - {"only_reported"}
    hold = ["improves", "holds", "steady", "truncated", "beats_twin", "uncontaminated", "budget"]
    assert [reason.code for reason, _, _ in TOLD if reason.passed] == hold
    assert not rules.share("sums", "truncated", 0.51, 0.5).passed
    assert not rules.steady(ONE, 0.08).passed
    assert not rules.holds(ONE, -0.08).passed


def test_what_is_only_reported_holds_and_says_so() -> None:
    reported = rules.only_reported(rules.beats_twin(ONE, 0.01))
    assert reported.passed
    assert reported.measured.startswith("no gain of the correction shown: ")
    assert reported.limit == f"level 0.01; {LAXER}; only reported, decides nothing"
    refused = rules.beats_twin(ONE, 0.01)
    assert refused.text.endswith(f"p = 0.019; {LAXER}")


def test_a_decision_of_an_earlier_version_is_read_by_its_sentences() -> None:
    reasons = tuple(reason for reason, _, _ in TOLD)
    decision = Decision(False, reasons, (ONE,), ModelRef("a", "u", 2), ModelRef("b", "u", 1), 0.05, 0.02, "student")
    assert Decision.from_json(decision.to_json()) == decision
    data: dict[str, Any] = json.loads(decision.to_json())
    assert data["reasons"][5]["measured"] == "0.0% of the answers truncated"
    for one in data["reasons"]:
        for name in ("about", "measured", "limit", "name", "advice"):
            del one[name]
    old = Decision.from_json(json.dumps(data))
    assert old.lines == decision.lines
    assert old.reasons[5].cells == ["truncated", "sums: 0.0% of the answers truncated, at most 50% allowed", ""]
