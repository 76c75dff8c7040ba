"""The split of a step into micro-batches: the cheapest one there is, and every trace once."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import combinations, pairwise
from typing import Any

import pyarrow as pa
import pytest
import torch

from dcod.models.batches import OWN_COST, Layout, collate, micro_batches, stored_record
from dcod.objective.step_scores import StepScores
from dcod.traces.scored import KIND, ScoredTrace


def traces(seed: int, count: int, prompts: int) -> list[ScoredTrace]:
    lengths = torch.randint(2, 400, (count,), generator=torch.Generator().manual_seed(seed)).tolist()
    return [ScoredTrace(str(i), str(i % prompts), [1], [1] * (n - 1), [], []) for i, n in enumerate(lengths)]


def cost(groups: list[list[ScoredTrace]]) -> int:
    return sum(len(group) * max(map(len, group)) + OWN_COST for group in groups)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("most", [300, 1024, 4096])
def test_no_split_of_the_sorted_traces_costs_less(seed: int, most: int) -> None:
    step = traces(seed, 9, 9)
    ordered = sorted(step, key=len, reverse=True)
    allowed = []
    for number in range(len(step)):
        for cuts in combinations(range(1, len(step)), number):
            edges = [0, *cuts, len(step)]
            groups = [ordered[a:b] for a, b in pairwise(edges)]
            if all(len(g) == 1 or len(g) * len(g[0]) <= most for g in groups):
                allowed.append(cost(groups))
    assert len(allowed) >= 1
    found = micro_batches(step, most)
    assert all(len(group) == 1 or len(group) * max(map(len, group)) <= most for group in found)
    assert cost(found) == min(allowed)


@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize("by_prompt", [False, True])
def test_every_trace_stands_in_one_micro_batch(layout: Layout, by_prompt: bool) -> None:
    step = traces(0, 40, 11)
    groups = micro_batches(step, 900, by_prompt, layout)
    assert sorted(e.trace_id for group in groups for e in group) == sorted(e.trace_id for e in step)
    assert len(groups) > 3
    if by_prompt:
        homes = {(e.prompt_id, index) for index, group in enumerate(groups) for e in group}
        assert len(homes) == 11
    for group in groups:
        units = {e.prompt_id for e in group} if by_prompt else {e.trace_id for e in group}
        assert len(units) == 1 or collate(group, layout=layout).input_ids.numel() <= 900


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("most", [300, 700, 1024])
def test_packed_micro_batches_are_few_and_then_even(seed: int, most: int) -> None:
    """No cut of the sorted traces makes fewer, nor as few with a smaller largest one: that one takes the memory."""
    step = traces(seed, 9, 9)
    ordered = sorted(step, key=len, reverse=True)
    found = []
    for number in range(len(step)):
        for cuts in combinations(range(1, len(step)), number):
            edges = [0, *cuts, len(step)]
            groups = [ordered[a:b] for a, b in pairwise(edges)]
            if all(len(g) == 1 or sum(map(len, g)) <= most for g in groups):
                found.append((len(groups), max(sum(map(len, g)) for g in groups)))
    groups = micro_batches(step, most, layout="packed")
    assert (len(groups), max(sum(map(len, g)) for g in groups)) == min(found)


def test_many_traces_are_split_in_time() -> None:
    """Scoring splits whole sets: the search looks no further back than a micro-batch reaches."""
    assert sum(map(len, micro_batches(traces(1, 20_000, 20_000), 2048))) == 20_000


def test_nothing_is_no_micro_batch() -> None:
    assert micro_batches([], 100) == []
    assert micro_batches([], 100, layout="packed") == []


def test_every_field_of_one_name_reaches_the_formulas() -> None:
    """As numbers of a trace, or of its tokens with 0 behind the end; None where one trace lacks it."""
    shared = {each.name for each in fields(StepScores)} & {each.name for each in fields(ScoredTrace)}
    kinds = {each.name: each.metadata[KIND] for each in fields(ScoredTrace)}
    assert len(shared) == 9
    values = {name: pa.types.is_list(kinds[name]) for name in shared - {"behavior_total"}}
    long = {name: [2.0, 3.0] if listed else 0.5 for name, listed in values.items()}
    short = {name: [4.0] if listed else 0.25 for name, listed in values.items()}
    bare: dict[str, Any] = {"student_logprobs": [], "entropies": []}
    made = [
        ScoredTrace("a", "p", [1], [1, 1], **(bare | long)),
        ScoredTrace("b", "p", [1], [1], **(bare | short)),
    ]
    record = stored_record(made)
    for name, listed in values.items():
        wanted = torch.tensor([[2.0, 3.0], [4.0, 0.0]] if listed else [0.5, 0.25])
        assert torch.equal(getattr(record, name), wanted), name
    assert record.behavior_total is not None
    assert record.behavior_total.tolist() == [5.0, 4.0]
    for name in shared - {"behavior_total", "student_logprobs", "entropies"}:
        lacking = replace(made[1])
        setattr(lacking, name, None)
        assert getattr(stored_record([made[0], lacking]), name) is None, name
