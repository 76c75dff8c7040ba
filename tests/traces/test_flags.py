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
    assert flags.of({"label": "no", "judge": {"correct": False}}, ("label", "judge")) == {}


def test_an_end_in_the_words_of_every_api() -> None:
    broken = ("MAX_TOKENS", "max_tokens", "SAFETY", "content_filtered", "model_context_window_exceeded", "ERROR")
    assert not any(map(flags.has_end, broken))
    assert all(map(flags.has_end, ("stop", "STOP", "end_turn", "COMPLETE", "eos", {"type": "stop"})))
