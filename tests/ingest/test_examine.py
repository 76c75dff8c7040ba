"""The verdict on a row alone: which answers count, and what a row without one would need."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcod.config import Config, IngestConfig
from dcod.ingest.examine import Examiner, verify
from dcod.traces import Trace
from dcod.traces.formats import RowError
from dcod.traces.rows import RawRow
from tests.traces.formats.test_native import flat


def trace(completion: str, gold: str | None = "60") -> Trace:
    return Trace([{"role": "user", "content": "How many?"}], completion, gold=gold)


@pytest.mark.parametrize("way", ["last_number", "last_math"])
def test_an_unmarked_answer_comes_in_where_it_is_asked_for_and_counts_apart(way: str) -> None:
    changes: list[str] = []
    found = verify(trace("Therefore, there are 60."), IngestConfig(answers=way), changes)
    assert (found.answer, found.verdict, changes) == ("60", "correct", [f"answer_{way}"])
    with pytest.raises(RowError, match="wrong_answer"):
        verify(trace("Therefore, there are 61."), IngestConfig(answers=way))
    marked: list[str] = []
    assert verify(trace("\\boxed{60}, of 70."), IngestConfig(answers=way), marked).answer == "60"
    assert marked == []


def test_by_default_a_row_says_what_would_bring_it_in() -> None:
    changes: list[str] = []
    with pytest.raises(RowError, match=r"no_answer.*ingest\.answers=last_number would find the reference"):
        verify(trace("Therefore, there are 60."), IngestConfig(), changes)
    assert changes == ["last_number", "last_math"]
    for other in (trace("Therefore, there are 61."), trace("Therefore, there are 60.", None)):
        none: list[str] = []
        with pytest.raises(RowError, match="no_answer"):
            verify(other, IngestConfig(), none)
        assert none == []


def test_log_probs_that_are_left_out_are_counted_and_said(tiny_student: Path) -> None:
    examiner = Examiner(Config(ingest=IngestConfig(keep="all", decontaminate=False)), tiny_student)
    row = flat("sglang") | {"sampling_params": None}
    (found,) = examiner.items(RawRow("rows.jsonl", 1, "d", row))
    assert found.trace is not None
    assert (found.trace.completion, found.trace.behavior_logprobs) == ("It is #### 4", None)
    assert "logprobs_left_out" in found.changes
    assert found.reading.text.endswith("log-probs left out: the row names no sampler")
