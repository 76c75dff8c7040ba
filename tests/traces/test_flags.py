"""A row's own word on its completions is heard in every spelling, and not heard where it says something else."""

from __future__ import annotations

from typing import Any

import pytest

from dcod.traces import flags

SAID: list[tuple[dict[str, Any], str]] = [
    ({"is_correct": 0}, "is_correct: 0"),
    ({"is_correct": "0"}, "is_correct: 0"),  # of a table of texts
    ({"reward": "0.0"}, "reward: 0.0"),
    ({"correctness": 0, "helpfulness": 3}, "correctness: 0"),
    ({"llm_judge": "incorrect"}, "llm_judge: incorrect"),
    ({"final_answer_correct": False}, "final_answer_correct: False"),
    ({"verify_score": 0.0}, "verify_score: 0.0"),
    ({"is_wrong": True}, "is_wrong: True"),
    ({"judgement": {"correct": False}}, "judgement.correct: False"),
    ({"scores": {"match": {"value": "I"}}}, "scores.match.value: False"),
    ({"eval": {"reward": 0}}, "eval.reward: 0"),
    ({"problem_is_valid": "Yes", "solution_is_valid": "No"}, "solution_is_valid: No"),
    ({"correct": True, "is_valid": False}, "is_valid: False"),
    ({"rejected": True}, "rejected: True"),
    ({"has_error": True}, "has_error: True"),
    ({"acc": False}, "acc: False"),
    ({"accuracy_reward": False}, "accuracy_reward: False"),
    ({"reward": -1}, "reward: -1"),
    ({"reward": -0.5}, "reward: -0.5"),
    ({"pass@1": 0.0}, "pass@1: 0.0"),
    ({"matches_reference": "no"}, "matches_reference: no"),
    ({"is_equivalent": False}, "is_equivalent: False"),
    ({"not_correct": True}, "not_correct: True"),
    ({"verdict": "WRONG_ANSWER"}, "verdict: WRONG_ANSWER"),
    ({"meta": '{"checks": {"is_correct": false}}'}, "meta.checks.is_correct: False"),
    ({"meta": [("correct", "false"), ("source", "x")]}, "meta.correct: false"),
    ({"extra": {"acc": False}}, "extra.acc: False"),
    ({"reward": -3.2, "score": 7.25}, ""),  # a reward model's
    ({"rewards": [-0.37]}, ""),
    ({"correct": False, "reward": 2.41}, "correct: False"),
    ({"pass@8": 0, "pass_rate": 0.0}, ""),  # of others as well
    ({"options": {"verify": False, "match": "no"}}, ""),  # of a request
    ({"meta": "{not json"}, ""),
    ({"rejected_score": 1, "incorrect_prob": 1.0, "error": "none to speak of"}, ""),
    ({"correct": True, "verified": False}, ""),
    ({"label": 0}, ""),  # a class
    ({"grade": 0}, ""),
    ({"correct_answer": 0, "correct_answer_is": "no"}, ""),
    ({"judge": "some-model"}, ""),
    ({"extra": {"score": 0}}, ""),  # of whom?
    ({"toxicity_score": 0.0}, ""),
    ({"is_wrong": False, "scores": {"match": {"value": "C"}}}, ""),
]


@pytest.mark.parametrize(("row", "wrong"), SAID, ids=str)
def test_what_is_called_wrong(row: dict[str, Any], wrong: str) -> None:
    (found,) = flags.verdicts(flags.of(row, ()), 1)
    assert found.wrong == wrong


def test_columns_that_are_read_are_no_flags() -> None:
    assert flags.of({"label": "no", "answer": '{"valid": false}'}, ("label", "answer")) == {}
    read = {"text": "It is 4.", "score": 0, "label": "no", "verify": False, "inner": '{"correct": false}'}
    assert flags.of({"output": read}, ("output",)) == {}


def test_a_plain_word_on_the_answer_counts_in_its_own_object() -> None:
    assert flags.of({"output": {"text": "It is 4.", "is_correct": False}}, ("output",)) == {"output.is_correct": False}
    outputs = [{"text": "4", "correct": True}, {"text": "5", "correct": False}]
    named = flags.of({"outputs": outputs}, ("outputs",))
    assert [one.wrong for one in flags.verdicts(named, 2)] == ["", "outputs[*].correct: False"]
    chat = [{"role": "user", "correct": True}, {"role": "assistant", "correct": False}]
    assert flags.verdicts(flags.of({"messages": chat}, ("messages",)), 1)[0].wrong == "messages[*].correct: False"


def test_lists_of_flags_are_one_a_completion() -> None:
    row = {"acc": [True, False], "scores": [1.0, 0.0]}
    assert [one.wrong for one in flags.verdicts(flags.of(row, ()), 2)] == ["", "acc: False"]
    graded = {"grading": [{"passed": False}, {"passed": True}]}
    assert [one.wrong for one in flags.verdicts(flags.of(graded, ()), 2)] == ["grading[*].passed: False", ""]
    assert flags.verdicts(flags.of(graded, ()), 1)[0].wrong == ""  # of other completions
    assert flags.verdicts(flags.of({"correct": [False, False]}, ()), 1)[0].wrong == "correct: False"
    assert flags.verdicts(flags.of({"correct": [False, True]}, ()), 1)[0].wrong == ""


def test_an_end_in_the_words_of_every_api() -> None:
    broken = ("MAX_TOKENS", "max_tokens", "SAFETY", "content_filtered", "model_context_window_exceeded", "ERROR")
    assert not any(map(flags.has_end, broken))
    assert all(map(flags.has_end, ("stop", "STOP", "end_turn", "COMPLETE", "eos", {"type": "stop"})))
