"""Counts of what traces hold, from a folder and from memory alike."""

from __future__ import annotations

from pathlib import Path

from dcod.config import parse_config
from dcod.objective import feasibility
from dcod.objective.feasibility import Holdings
from dcod.traces import FILE, Trace, holdings, write_traces


def trace(prompt: str, completion: str, **more: object) -> Trace:
    return Trace([{"role": "user", "content": prompt}], completion, **more)  # type: ignore[arg-type]


def test_counts_of_a_set(tmp_path: Path) -> None:
    own = {"tokenizer_digest": "mine", "token_ids": [1], "behavior_logprobs": [-0.5]}
    top = {"top_ids": [[1, 2]], "top_logprobs": [[-0.5, -1.0]]}
    traces = [
        trace("a", "x", verdict="correct", gold="1", teacher="t", **own, **top),
        trace("a", "y", verdict="wrong", gold="1", teacher="t", temperature=0.0),
        trace("b", "x", teacher="u", **{**own, "tokenizer_digest": "other"}, **top),
        trace("c", "x", split="selection", **own),
    ]
    wanted = Holdings(
        traces=3,
        prompts=2,
        alone=1,
        logprobs=1,
        totals=2,
        top_k=1,
        greedy=1,
        golds=2,
        verdicts={"correct": 1, "unverified": 1, "wrong": 1},
        teachers={"t": 2, "u": 1},
        selection=1,
    )
    write_traces(tmp_path / FILE, traces)
    assert holdings.count(tmp_path, "mine") == wanted
    assert holdings.of(traces, "mine") == wanted
    assert holdings.of(traces[3:], "mine") == Holdings(0, 0, 0, selection=1)
    assert str(wanted) == (
        "2 prompts, 1.5 traces each, log-probs for 2 of 3, 1 only as a sum in another tokenizer or chat template, "
        "reference answers for 2 of 3, 2 teachers (t, u)"
    )


def test_what_is_said_of_a_set(tmp_path: Path) -> None:
    write_traces(tmp_path / FILE, [trace(f"p{n}", "x", verdict="correct") for n in range(40)], tokenizer="mine")
    held = holdings.count(tmp_path, "mine")
    assert str(held).startswith("40 prompts, 1.0 traces each, text only, no log-probs, ")
    told = feasibility.remarks(parse_config("{}", ["train.correction.name=surprisal"]), held)
    assert [remark.level for remark in told if remark.level != "note"] == ["idle", "warning"]


def test_what_arms_are_compared_on_is_not_trained_on() -> None:
    assert holdings.of([trace("a", "x", split="pilot"), trace("b", "x")], "mine").pilot == 1
    assert holdings.of([trace("a", "x", split="pilot")], "mine") == Holdings(0, 0, 0, pilot=1)


def behind(system: str, number: int) -> Trace:
    return Trace([{"role": "system", "content": system}, {"role": "user", "content": f"p{number}"}], "x")


def test_system_prompts_are_counted(tmp_path: Path) -> None:
    traces = [behind("Be brief.", 1), behind("Be brief.", 2), behind("Be long.", 3), trace("p4", "x")]
    write_traces(tmp_path / FILE, traces)
    for held in (holdings.count(tmp_path, "mine"), holdings.of(traces, "mine")):
        assert (held.systems, held.alike, held.system_prompt) == (3, 2, "Be brief.")
    many = [behind(f"Row {number}", number) for number in range(200)]
    assert holdings.of(many, "mine").systems == 200
    late = holdings.of([*many, *(behind("Be brief.", number) for number in range(1000))], "mine")
    assert late.system_prompt == "Be brief."  # whatever came first
    assert 1000 - 200 <= late.alike <= 1000


def test_problems_asked_otherwise_than_taught_are_said() -> None:
    def said(held: Holdings, *overrides: str) -> list[str]:
        told = feasibility.remarks(parse_config("{}", overrides), held)
        return [str(remark) for remark in told if remark.code == "other_system_prompt"]

    held = Holdings(10, 10, 10, systems=8, alike=7, system_prompt="Be brief.")
    assert said(held) == [
        "8 of 10 traces have a system prompt of their own (7 of 10 'Be brief.'), and problems are asked behind what "
        "the chat template writes by itself: where that is another one, the student is asked otherwise than it is "
        "taught; "
        "set student.system_prompt to it (whole in the trace set's manifest.json; `dcod init` sets it)"
    ]
    assert said(held, "student.system_prompt=Be brief.") == []
    assert "student.system_prompt='Be long.'" in said(held, "student.system_prompt=Be long.")[0]
    differing = said(Holdings(10, 10, 10, systems=10, alike=1, system_prompt="Row 1"))
    assert differing[0].endswith("is asked otherwise than it is taught")
    assert "(different ones)" in differing[0]
    assert said(Holdings(10, 10, 10, systems=4, alike=4, system_prompt="Be brief.")) == []
