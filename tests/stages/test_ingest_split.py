"""What is held back stays so by the hash of its prompt, and no other spelling of it is trained on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from dcod.config import IngestConfig
from dcod.ingest.assemble import side
from dcod.stages import ingest
from dcod.traces import Trace
from tests.stages.test_ingest import Ingest

SHARES: dict[str, Any] = {"selection_share": 0.2, "pilot_share": 0.2}


@pytest.fixture
def run(tmp_path: Path, tiny_student: Path) -> Ingest:
    return Ingest(tmp_path, tiny_student)


def row(problem: str, answer: int, said: str = "") -> dict[str, Any]:
    return {"problem": problem, "response": f"{said} \\boxed{{{answer}}}", "gold": str(answer)}


def spellings(number: int) -> tuple[str, ...]:
    return (
        f"What is twice {number}?",
        f"what is twice ${number}$?",
        f"What is twice \\( {number} \\)?",
        f"WHAT is  twice {number}",
    )


def parts(traces: Iterable[Trace]) -> dict[int, set[str]]:
    """By the gold: all spellings of a problem share it."""
    found: dict[int, set[str]] = {}
    for trace in traces:
        found.setdefault(int(trace.gold or 0), set()).add(trace.split)
    return found


@pytest.mark.parametrize("turned", [False, True])
def test_all_spellings_of_a_problem_are_in_one_part(run: Ingest, turned: bool) -> None:
    """In whatever order they come: the part that holds back most, and none is lost."""
    rows = [row(text, 2 * n) for n in range(40) for text in spellings(n)]
    found = run(*(rows[::-1] if turned else rows), **SHARES)
    assert len(found.traces) == 160
    by_problem = parts(found.traces)
    assert all(len(where) == 1 for where in by_problem.values())
    own = {trace.prompt_id: side(trace.prompt_id, IngestConfig.model_validate(SHARES)) for trace in found.traces}
    order = ("train", "selection", "pilot")
    for number, (where,) in by_problem.items():
        of_hash = {own[trace.prompt_id] for trace in found.traces if trace.gold == str(number)}
        assert where == max(of_hash, key=order.index)
    moved = {trace.prompt_id: trace.split for trace in found.traces if trace.split != own[trace.prompt_id]}
    assert sum(found.counts["spelled"].values()) == len(moved) == found.metrics["spelled_otherwise"] > 10
    assert f"{found.counts['spelled']['pilot']} prompts are in the part pilot, as another spelling" in ingest.table(
        found.out
    )


def test_the_split_of_what_has_one_spelling_is_its_hash_alone(run: Ingest) -> None:
    found = run(*[row(f"What is twice {n}?", 2 * n, said) for n in range(60) for said in ("So", "Thus")], **SHARES)
    config = IngestConfig.model_validate(SHARES)
    assert all(trace.split == side(trace.prompt_id, config) for trace in found.traces)
    assert {trace.split for trace in found.traces} == {"train", "selection", "pilot"}
    assert found.counts["spelled"] == {}
    assert "spelled_otherwise" not in found.metrics


def test_a_new_spelling_goes_where_an_earlier_set_has_the_problem(run: Ingest) -> None:
    """It may have been trained on there."""
    first = run(*[row(spellings(n)[0], 2 * n) for n in range(40)], **SHARES)
    more = run(
        *[row(text, 2 * n) for n in range(40) for text in spellings(n)[1:]], earlier={"onto": first.out}, **SHARES
    )
    assert len(more.traces) == 160
    assert parts(more.traces) == parts(first.traces)
    again = run(row("Something else: 1 + 1?", 2), earlier={"onto": more.out}, **SHARES)
    assert again.counts["spelled"] == more.counts["spelled"]
    assert {trace.trace_id: trace.split for trace in again.traces}.items() >= {
        trace.trace_id: trace.split for trace in more.traces
    }.items()


def test_something_is_always_trained_on(run: Ingest) -> None:
    found = run(*[row(text, 2) for text in spellings(1)], selection_share=0.5, pilot_share=0.5)
    assert found.counts["train"] == 4
    found = run(*[row(text, 2 * n) for n in (1, 2) for text in spellings(n)], selection_share=0.5, pilot_share=0.5)
    assert parts(found.traces)[2] == {"train"}
    assert len(parts(found.traces)[4]) == 1
