"""The verdict on a row alone: which answers count, and what a row without one would need."""

from __future__ import annotations

import pytest

from dcod.config import IngestConfig
from dcod.ingest.examine import verify
from dcod.traces import Trace
from dcod.traces.formats import RowError


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
