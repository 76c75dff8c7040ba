"""Rows that give several traces, and mapped sources: places, accounts and a replay count items."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dcod.config import Config, IngestConfig, StudentConfig
from dcod.errors import UserError
from dcod.stages import ingest
from dcod.traces import read_traces
from dcod.tracking import NullLog
from tests.stages.test_ingest import Ingested


def row(number: int, *answers: int) -> dict[str, Any]:
    said = [f"Try {index}: twice it is \\boxed{{{answer}}}." for index, answer in enumerate(answers)]
    return {"ask": f"What is twice {number}?", "tries": said, "right": str(2 * number)}


MAP = {"prompt": "ask", "completion": "tries[*]", "gold": "right"}


class Mapped:
    """Runs ingest on rows of one's own columns."""

    def __init__(self, folder: Path, student: Path) -> None:
        self.folder, self.student, self.runs = folder, student, 0

    def __call__(self, *rows: dict[str, Any], replay: Path | None = None, **more: Any) -> Path:
        self.runs += 1
        out = self.folder / f"out{self.runs}"
        out.mkdir()
        file = self.folder / f"rows{self.runs}.jsonl"
        file.write_text("".join(f"{json.dumps(one)}\n" for one in rows))
        section = {"sources": [{"path": str(file), "map": MAP}], "selection_share": 0.0} | more
        if replay:
            section["sources"] = []
        config = Config(student=StudentConfig(max_length=2000), ingest=IngestConfig.model_validate(section))
        ingest.run(config, out, NullLog(), student=self.student, replay=replay, workers=1)
        return out


@pytest.fixture
def run(tmp_path: Path, tiny_student: Path) -> Mapped:
    return Mapped(tmp_path, tiny_student)


def counts(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "counts.json").read_text())
    assert found["items"] == found["accepted"] + sum(found["quarantined"].values())
    return found


def test_the_traces_of_a_row_are_accounted_for_one_by_one(run: Mapped) -> None:
    out = run(row(2, 4, 5, 4), row(3, 6), {"ask": "none"})
    found = counts(out)
    assert (found["read"], found["items"], found["accepted"]) == (3, 5, 3)
    assert found["quarantined"] == {"no_path": 1, "wrong_answer": 1}
    traces = list(read_traces(out))
    assert [(trace.source_line, trace.source_item, trace.attempts) for trace in traces] == [
        (1, 1, 3),
        (1, 3, 3),
        (2, None, None),
    ]
    (told,) = ingest.readings(out)
    assert "prompt = ask, completion = tries[*], gold = right" in told
    assert "5 items of 3 rows" in told


def test_a_replay_takes_up_the_items_that_were_refused(run: Mapped) -> None:
    first = run(row(2, 4, 5, 4), row(3, 6))
    again = run(replay=first, keep="all")
    assert [(t.source_line, t.source_item) for t in read_traces(again)] == [(1, 1), (1, 3), (2, None), (1, 2)]
    assert {k: v for k, v in counts(again).items() if k in ("read", "items", "accepted")} == {
        "read": 2,
        "items": 4,
        "accepted": 4,
    }


def test_one_prompt_with_different_references(run: Mapped) -> None:
    same = row(2, 4) | {"tries": ["So \\boxed{4.0}."], "right": "4.0"}
    other = row(2, 4) | {"tries": ["So \\boxed{7}."], "right": "7"}
    found = counts(run(row(2, 4), same, other))
    assert (found["accepted"], found["quarantined"]) == (2, {"other_gold": 1})


def test_two_files_are_joined_by_an_id(run: Mapped, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    asked = [{"n": 1, "ask": "What is twice 2?"}, {"n": 2, "ask": "x"}, {"n": 2, "ask": "y"}]
    other.write_text("".join(f"{json.dumps(one)}\n" for one in asked))
    join = [{"file": str(other), "on": "id", "by": "n", "name": "sent"}]
    rows = [{"id": number, "said": "It is \\boxed{4}.", "right": 4} for number in (1, 2, 3)]
    mapping = {"prompt": "sent.ask", "completion": "said", "gold": "right", "join": join}
    file = tmp_path / "joined.jsonl"
    file.write_text("".join(f"{json.dumps(one)}\n" for one in rows))
    out = run(sources=[{"path": str(file), "map": mapping}])
    found = counts(out)
    assert (found["accepted"], found["quarantined"]) == (1, {"joins_twice": 1, "no_match": 1})
    assert Ingested(out, {}).traces[0].problem == "What is twice 2?"


def test_mistakes_of_a_mapping_end_the_run_before_it_reads_on(run: Mapped) -> None:
    with pytest.raises(UserError, match=r"gold: no row has 'rihgt'; did you mean right\?"):
        run(row(2, 4), sources=[{"path": str(run.folder / "rows1.jsonl"), "map": MAP | {"gold": "rihgt"}}])


def test_a_look_shows_what_would_be_taught_and_writes_nothing(run: Mapped, tiny_student: Path) -> None:
    run(row(2, 4, 5))
    before = sorted(run.folder.iterdir())
    section = IngestConfig.model_validate({"sources": [{"path": str(run.folder / "rows1.jsonl"), "map": MAP}]})
    text = "\n".join(ingest.look(Config(ingest=section), tiny_student))
    assert "user: What is twice 2?" in text
    assert "taught: Try 0: twice it is \\boxed{4}." in text
    assert "refused: wrong_answer" in text
    assert sorted(run.folder.iterdir()) == before
