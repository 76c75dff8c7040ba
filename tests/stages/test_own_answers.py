"""The student's own answers: drawn once, marked as its own, and mixed into the traces, the right ones alone."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dcod.config import Config, parse_config
from dcod.config.schema import IngestConfig
from dcod.errors import UserError
from dcod.ingest.assemble import side
from dcod.stages import teach
from dcod.stages.execute import RunContext, execute
from dcod.traces import Trace, read_traces
from tests.tiny import TWICE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The teacher's traces, one a prompt; see :func:`drawn`."""
    folder = tmp_path_factory.mktemp("own")
    rows = [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": f"It is {said}"}],
         "gold": said.rpartition(" ")[2]}
        for text, said in TWICE.items()
    ]  # fmt: skip
    (folder / "teacher.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def config_of(folder: Path, student: Path, **ingest: Any) -> Config:
    asked = {"source": "student", "prompts": [str(folder / "teacher.jsonl")], "work": str(folder / "work")}
    asked |= {"max_new_tokens": 24, "attempts": 6, "temperature": 0.8}  # type: ignore[dict-item]
    given = {"student": {"model": str(student)}, "teach": asked, "ingest": ingest}
    return teach.settled(parse_config(json.dumps(given)))


@pytest.fixture(scope="module")
def drawn(folder: Path, tiny_teacher: Path) -> list[dict[str, Any]]:
    """The student's answers; the first right one becomes the teacher's trace of its prompt, too."""
    config = config_of(folder, tiny_teacher)
    execute("teach", config, folder / "drawn", {"teacher": tiny_teacher}, RunContext(tracked=False))
    rows: list[dict[str, Any]] = pq.read_table(folder / "drawn" / "attempts.parquet").to_pylist()
    known = next(row for row in rows if row["verdict"] == "correct")
    file = folder / "teacher.jsonl"
    traces = [json.loads(line) for line in file.read_text().splitlines()]
    for trace in traces:
        if trace["messages"][0] == known["prompt"][-1]:
            trace["messages"][1]["content"] = known["completion"]
    file.write_text("".join(json.dumps(trace) + "\n" for trace in traces))
    return rows


def ingested(
    folder: Path, student: Path, name: str, **ingest: Any
) -> tuple[list[Trace], dict[str, Any], dict[str, Any]]:
    sources = [str(folder / "teacher.jsonl"), str(folder / "drawn")]
    config = config_of(folder, student, sources=sources, **ingest)
    out = folder / name
    execute("ingest", config, out, {"student": student}, RunContext(tracked=False))
    counts, manifest = (json.loads((out / file).read_text()) for file in ("counts.json", "manifest.json"))
    return list(read_traces(out)), counts, manifest


def test_the_student_answers_as_an_evaluation_runs_it(
    folder: Path, tiny_teacher: Path, drawn: list[dict[str, Any]]
) -> None:
    config = config_of(folder, tiny_teacher)
    assert (config.teach.model, config.teach.engine) == (str(tiny_teacher), config.evaluate.engine)
    assert teach.settled(config) == config
    assert {row["teacher"] for row in drawn} == {f"student:{tiny_teacher}"}
    assert len(drawn) == 36
    given = {"teach": {"source": "student", "model": "Qwen/Qwen3-8B"}}
    with pytest.raises(UserError, match=r"teach\.source=student: teach\.model names a teacher; leave it out"):
        teach.settled(parse_config(json.dumps(given)))
    plain = parse_config('{"teach": {"model": "Qwen/Qwen3-8B"}}')
    assert teach.settled(plain) == plain


def test_right_ones_are_mixed_in_and_counted_apart(
    folder: Path, tiny_teacher: Path, drawn: list[dict[str, Any]]
) -> None:
    """No prompt twice, nothing twice, nothing wrong, though the teacher's traces are taken as they are."""
    traces, counts, manifest = ingested(folder, tiny_teacher, "mixed", keep="all", selection_share=0.0)
    own = [trace for trace in traces if trace.own]
    right = {(row["prompt"][-1]["content"], row["completion"]) for row in drawn if row["verdict"] == "correct"}
    known = next((row["prompt"][-1]["content"], row["completion"]) for row in drawn if row["verdict"] == "correct")
    assert {(trace.problem, trace.completion) for trace in own} == right - {known}
    assert len(own) == len(right) - 1
    assert {trace.verdict for trace in own} == {"correct"}
    assert len(traces) - len(own) == len(TWICE)
    assert {trace.prompt_id for trace in own} <= {trace.prompt_id for trace in traces if not trace.own}
    assert counts["own"] == {"traces": len(own), "correct": len(own)}
    assert manifest["metrics"]["own_answers"] == len(own)
    assert manifest["facts"]["holdings"]["teachers"][f"student:{tiny_teacher}"] == len(own)
    assert "own answers" in (folder / "mixed" / "card.md").read_text()


def test_unverified_ones_come_in_where_they_are_asked_for(
    folder: Path, tiny_teacher: Path, drawn: list[dict[str, Any]]
) -> None:
    traces, counts, _ = ingested(folder, tiny_teacher, "control", own="all", selection_share=0.0)
    whole = {(row["prompt"][-1]["content"], row["completion"]) for row in drawn if row["finish_reason"] == "stop"}
    own = Counter(trace.verdict for trace in traces if trace.own)
    assert own.total() == counts["own"]["traces"]
    assert own["wrong"] + own["unparseable"] > 0
    assert own.total() <= len(whole)


def test_a_held_back_problem_is_not_answered_by_the_student_itself(
    folder: Path, tiny_teacher: Path, drawn: list[dict[str, Any]]
) -> None:
    """It would be measured by how well it likes its own words."""
    traces, counts, _ = ingested(folder, tiny_teacher, "held", selection_share=0.5)
    sides = {trace.prompt_id: trace.split for trace in traces}
    assert sides == {name: side(name, IngestConfig(selection_share=0.5)) for name in sides}
    assert set(sides.values()) == {"train", "selection"}
    assert {trace.split for trace in traces if trace.own} == {"train"}
    assert counts["quarantined"]["own_held_back"] > 0
