"""The decision of a scheduled run, check by check; the monitors' figures by hand."""

from __future__ import annotations

import json

import pytest

from dcod.config import CorrectionConfig
from dcod.config.retrain import LimitsConfig, RetrainConfig
from dcod.retrain import decide as retraining
from dcod.retrain import monitors
from dcod.retrain.decide import Evidence, Losses, Source
from dcod.stages import decide
from dcod.traces import Trace
from dcod.traces.scored import ScoredTrace

CONFIG = RetrainConfig(min_new_traces=40)
NEAR, FAR, CLIPPED = Source("a", 60), Source("b", 60, gamma=0.02, ess=0.01), Source("c", 60, clipped=0.8)
RISEN = Losses([1.0, 1.2, 0.9, 1.1] * 8, [0.1, 0.2, 0.1, 0.2] * 8)
SAME = Losses([0.15, 0.2, 0.1] * 8, [0.1, 0.2, 0.1, 0.2] * 8)


def code(*sources: Source, losses: Losses = RISEN, first: bool = False, waiting: int = 0) -> str:
    return retraining.decide(Evidence(sources, first, losses, waiting), CONFIG).code


def test_each_outcome() -> None:
    assert code(NEAR) == "go"
    assert code() == "too_few"
    assert code(Source("a", 39)) == "too_few"
    assert code(Source("a", 39), Source("b", 1)) == "go"
    assert code(FAR) == code(CLIPPED) == "infeasible"
    assert code(NEAR, losses=SAME) == "no_drift"
    assert code(NEAR, losses=SAME, first=True) == "go"
    assert code(NEAR, losses=Losses([1.0] * 9, [])) == "go"  # nobody can tell that nothing moved
    assert code(FAR, waiting=3) == code(waiting=3) == "waiting"


def test_a_source_that_is_too_far_is_left_out_and_the_others_decide() -> None:
    decision = retraining.decide(Evidence([NEAR, FAR], False, RISEN), CONFIG)
    assert (decision.code, decision.left_out) == ("go", ("b",))
    assert "1 of 2 new sources are too far" in decision.reasons[1].text
    assert "b: gamma 0.02" in decision.reasons[1].text
    assert "60 traces are left" in decision.reasons[1].text
    assert code(NEAR, FAR, losses=SAME) == "no_drift"
    assert code(Source("a", 39), FAR) == "infeasible"


def test_traces_with_nothing_to_compare_are_no_reason_against() -> None:
    decision = retraining.decide(Evidence([NEAR], False, RISEN, alone=0.75), CONFIG)
    assert decision.code == "go"
    assert decision.reasons[1].text.endswith("75% of these are alone with their prompt: nothing to correct")
    assert "alone" not in retraining.decide(Evidence([NEAR], False, RISEN), CONFIG).reasons[1].text
    idle = retraining.decide(Evidence([NEAR], False, RISEN, alone=1.0), CONFIG)
    assert idle.code == "infeasible"
    assert "100% of these are alone with their prompt: nothing to correct (train.allow_idle=true" in idle.text()
    assert retraining.decide(Evidence([NEAR], False, RISEN, alone=1.0, allow_idle=True), CONFIG).outcome == "go"


def test_a_source_left_out_before_is_no_news_while_it_is_too_far() -> None:
    known = Source("b", 60, gamma=0.02, left_out=True)
    decision = retraining.decide(Evidence([known], False, RISEN), CONFIG)
    assert (decision.code, decision.left_out) == ("too_few", ("b",))
    assert "0 new traces, at least 40 needed (60 more were left out before" in decision.reasons[0].text
    assert code(known, FAR) == "infeasible"
    assert code(known, NEAR, losses=SAME) == "no_drift"
    assert code(Source("b", 60, left_out=True)) == "go"  # the student came nearer


def test_a_rise_within_the_noise_is_no_drift() -> None:
    noisy = Losses([0.1, 5.0, 0.1], [0.1, 0.2, 0.1])
    assert noisy.rise > CONFIG.limits.loss
    assert code(NEAR, losses=noisy) == "no_drift"
    assert code(NEAR, losses=Losses(RISEN.old, RISEN.new)) == "no_drift"  # easier than before: nothing to learn


def test_the_decision_says_what_to_do_and_comes_back_from_json() -> None:
    decision = retraining.decide(Evidence([FAR], False, RISEN), CONFIG, ["the teacher writes in another style"])
    again = retraining.RetrainDecision.from_dict(json.loads(json.dumps({**decision.to_dict(), "figures": {}})))
    assert again == decision
    for text in (decision.text(), decision.markdown()):
        assert "infeasible" in text
        assert "intermediate teacher" in text
        assert "another style" in text


def test_length_and_style() -> None:
    old = [f"{a} + {b} = {a + b}\n#### {a + b}" for a in range(12) for b in range(12)]
    alike = [f"{a} + {b} = {a + b}\n#### {a + b}" for a in range(20, 30) for b in range(9)]
    other = [f"So, wait: let us add {a} to {b} ... hence \\boxed{{{a + b}}}" for a in range(9) for b in range(9)]
    same, changed = monitors.teacher(alike, old), monitors.teacher(other, old)
    assert abs(same["teacher_style"]) < 0.01
    assert changed["teacher_style"] > 0.3
    assert changed["teacher_length_ratio"] > 1.5
    assert monitors.teacher([], old) == monitors.teacher(other, []) == {}
    words = monitors._divergence(monitors._words(["a a b"]), monitors._words(["c"]))
    assert words == pytest.approx(1.0)  # no word in common
    assert monitors._divergence(monitors._words(["a 1"]), monitors._words(["A 2"])) == 0.0


def test_who_wrote_the_traces_and_how_many_a_prompt_has() -> None:
    def made(teacher: str, *asked: str) -> list[Trace]:
        return [Trace([{"role": "user", "content": text}], f"{n}", teacher=teacher) for n, text in enumerate(asked)]

    eight, two = made("a", *"x" * 8, *"y" * 8), made("b", *"vvww")
    assert monitors.makeup(two, eight, eight) == {"teacher_unknown": 1.0, "teacher_traces_ratio": 0.25}
    assert monitors.makeup(two, eight, [*eight, *made("b", "z")])["teacher_unknown"] == 0.0
    assert monitors.makeup(two, [], made("", "z")) == {}  # nobody is known, and nothing is there to compare with
    found = monitors.moved(monitors.makeup(two, eight, eight), LimitsConfig())
    assert len(found) == 2
    assert monitors.moved(monitors.makeup(two, eight, eight), LimitsConfig(traces=4.0)) == found[:1]
    assert monitors.moved(monitors.makeup(eight, two, two), LimitsConfig(traces=3.9)) != found[:1]  # either way


def test_verdicts_count_only_what_was_judged() -> None:
    new, old = {"accepted": 3, "wrong_answer": 1, "too_long": 9}, {"accepted": 9, "no_answer": 1, "duplicate": 5}
    found = monitors.verdicts(new, old)
    assert found == pytest.approx({"teacher_right_share": 0.75, "teacher_verdict_change": -0.15})
    assert monitors.verdicts({"duplicate": 3}, old) == {}


def scored(*surprisals: float) -> ScoredTrace:
    size = len(surprisals)
    logprobs, entropies = [-1.0 - s for s in surprisals], [1.0] * size
    return ScoredTrace("t", "p", [1], [2] * size, logprobs, entropies)


def test_surprisal_by_position() -> None:
    new, old = [scored(0.0, 0.0, 2.0, 4.0), scored(1.0)], [scored(0.5, 0.5, 0.0)]
    found = monitors.surprisal(new, old, 2)
    assert found["teacher_surprisal_00000_00001"] == pytest.approx(1 / 3)
    assert found["teacher_surprisal_00002_00003"] == pytest.approx(3.0)
    assert found["teacher_surprisal_rise"] == pytest.approx(3.0)
    assert monitors.surprisal(new, [], 2).keys() == {"teacher_surprisal_00000_00001", "teacher_surprisal_00002_00003"}
    assert monitors.surprisal([], old, 2) == {}


def test_the_champions_answers() -> None:
    before = {"a": {"said": "1", "outcome": "correct"}, "b": {"said": "2", "outcome": "correct"}}
    now = {"a": {"said": "1", "outcome": "correct"}, "b": {"said": "3", "outcome": "wrong"}}
    assert monitors.student(now, before) == {"probe_accuracy": 0.5, "probe_changed": 0.5, "probe_fall": 0.5}
    assert monitors.student(now, {}) == {"probe_accuracy": 0.5}
    assert monitors.student({}, before) == {}


def test_warnings_name_what_is_beyond_its_limit() -> None:
    limits = LimitsConfig()
    assert monitors.warnings({}, limits, False) == []
    quiet = {"teacher_length_ratio": 1.4, "teacher_style": -0.2, "probe_changed": 0.4, "evaluators_changed": 0.0}
    assert monitors.warnings(quiet, limits, False) == []
    assert len(monitors.warnings(quiet, limits, True)) == 1  # the same champion must say the same
    loud = {
        "teacher_length_ratio": 0.5,
        "teacher_style": 0.4,
        "teacher_unknown": 2.0,
        "teacher_traces_ratio": 0.25,
        "teacher_verdict_change": -0.5,
        "teacher_surprisal_rise": 2.0,
        "probe_changed": 0.9,
        "probe_fall": 0.3,
        "evaluators_changed": 1.0,
    }
    found = monitors.warnings(loud, limits, False)
    assert len(found) == len(loud)
    assert all(any(f": {name} is {value:.3g}, limit" in text for text in found) for name, value in loud.items())
    assert monitors.evaluator({"a": "1", "b": "2"}, {"a": "1", "b": "9"}) == {"evaluators_changed": 1.0}
    assert monitors.evaluator({"a": "1"}, {}) == {"evaluators_changed": 0.0}


def test_distance_is_measured_by_position_whatever_is_compared() -> None:
    surprisal = CorrectionConfig(name="surprisal", scope="token", gamma_max=2.0, clip=3.0)
    for name in ("surprisal", "trace", "iw_sft", "length_only"):
        given = CorrectionConfig(name=name, group="prompt", gamma_max=2.0, clip=3.0)
        assert decide.yardstick(given) == surprisal
    for name in ("none", "prefix", "mixed"):
        given = CorrectionConfig(name=name)
        assert decide.yardstick(given) is given


def test_traces_alone_with_their_prompt() -> None:
    prompts = ["a", "a", "b", "c"]
    traces = [Trace([{"role": "user", "content": text}], f"{number}") for number, text in enumerate(prompts)]
    assert decide.alone(traces, CorrectionConfig(name="surprisal")) == 0.5
    assert decide.alone(traces, CorrectionConfig(name="surprisal", scope="token")) == 0.0
    assert decide.alone([], CorrectionConfig(name="surprisal")) == 0.0
