"""More traces within a run: only the prompts that lack them are asked, and the attempts come in onto the set."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dcod.config import Config, parse_config
from dcod.errors import UserError
from dcod.stages import component, ingest
from dcod.teach import lacking
from dcod.teach.attempts import FILE
from dcod.traces import Trace, read_traces
from dcod.traces.schema import OWN
from tests.tiny import TWICE
from tests.tracked import fresh_store

ENOUGH = 2
DOUBLE = "twice 1?"  # has two traces before anybody is asked


@pytest.fixture
def config(tmp_path: Path, tiny_student: Path, tiny_teacher: Path) -> Config:
    """One verified trace a problem, of one two; the last one's reference is wrong, so its trace was never one."""
    rows = [{"prompt": text, "completion": f"It is {said}", "gold": said.split()[-1]} for text, said in TWICE.items()]
    rows.append({"prompt": DOUBLE, "completion": "So: #### 2", "gold": "2"})
    (tmp_path / "traces.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Config.model_validate(
        {
            "student": {"model": str(tiny_student), "max_length": 200},
            "ingest": {"sources": [str(tmp_path / "traces.jsonl")], "selection_share": 0.0, "format": "auto"},
            "teach": {"model": str(tiny_teacher), "enough": ENOUGH, "attempts": 3, "max_new_tokens": 24,
                      "temperature": 0.8, "top_p": 0.95, "work": str(tmp_path / "work")},
            "tracking": fresh_store(tmp_path / "store").model_dump(),
        }
    )  # fmt: skip


def stage(name: str, config: Config, out: Path, label: str = "", **inputs: Path) -> dict[str, float]:
    given = {key: str(path) for key, path in inputs.items()}
    return component.run(name, config.to_json(), "p", str(out), given, label=label)


def counted(folder: Path) -> Counter[str]:
    return Counter(trace.prompt[0]["content"] for trace in read_traces(folder))


def test_lacking_prompts_are_asked_and_their_answers_join_the_set(
    config: Config, tmp_path: Path, tiny_student: Path, tiny_teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, taught, out = (tmp_path / name for name in ("first", "taught", "out"))
    stage("ingest", config, first, student=tiny_student)
    before = counted(first)
    assert before == {**dict.fromkeys(TWICE, 1), DOUBLE: 2}
    assert "fewer than 2 verified traces (teach.enough)" in capsys.readouterr().out
    assert not component.is_there("teach", config.to_json(), {"traces": str(first), "teacher": str(tiny_teacher)}, {})
    stage("teach", config, taught, traces=first, teacher=tiny_teacher)
    rows = pq.read_table(taught / FILE).to_pylist()
    assert {row["prompt"][0]["content"] for row in rows} == TWICE.keys() - {DOUBLE}
    for text in TWICE.keys() - {DOUBLE}:  # one more different one is enough, since one was there
        good = [row["good"] for row in rows if row["prompt"][0]["content"] == text]
        assert len(set(filter(None, good))) <= 1
        assert len(good) == next((n for n, one in enumerate(good, 1) if one), 3)
    stage("ingest", config, out, "more", student=tiny_student, onto=first, taught=taught)
    after = counted(out)
    new = {row["good"] for row in rows if row["good"]}
    assert new
    assert after.total() == before.total() + len(new)
    assert [one.trace_id for one in read_traces(out)][: before.total()] == [one.trace_id for one in read_traces(first)]
    assert all(count <= ENOUGH for count in after.values())
    assert (out / "card.html").is_file()


def test_where_no_prompt_lacks_traces_nobody_is_asked_and_the_set_stays(
    config: Config, tmp_path: Path, tiny_student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No teacher is loaded: there is none in the folder."""
    (nobody := tmp_path / "nobody").mkdir()
    config = config.model_copy(update={"teach": config.teach.model_copy(update={"enough": 1})})
    first, taught, out = (tmp_path / name for name in ("first", "taught", "out"))
    stage("ingest", config, first, student=tiny_student)
    inputs = {"traces": str(first), "teacher": str(nobody)}
    assert component.is_there("teach", config.to_json(), inputs, {})
    assert "no prompt lacks traces" in capsys.readouterr().out
    stage("teach", config, taught, traces=first, teacher=nobody)
    assert not (taught / FILE).exists()
    stage("ingest", config, out, "more", student=tiny_student, onto=first, taught=taught)
    assert list(read_traces(out)) == list(read_traces(first))


def test_the_student_itself_is_asked_where_it_is_the_source(
    config: Config, tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    """As an evaluation runs it; its answers are marked as its own and counted apart."""
    own = {"source": "student", "model": "", "max_new_tokens": 24, "temperature": 0.8, "enough": ENOUGH}
    own |= {"work": str(tmp_path / "own")}
    student = config.student.model_copy(update={"model": str(tiny_teacher)})  # one that gives right answers
    config = Config.model_validate(config.model_dump() | {"student": student.model_dump(), "teach": own})
    assert config.asks == "student"
    first, taught, out = (tmp_path / name for name in ("first", "taught", "out"))
    stage("ingest", config, first, student=tiny_teacher)
    stage("teach", config, taught, traces=first, teacher=tiny_teacher)
    stage("ingest", config, out, "more", student=tiny_teacher, onto=first, taught=taught)
    added = [one for one in read_traces(out) if (one.teacher or "").startswith(OWN)]
    assert added
    assert json.loads((out / "counts.json").read_text())["own"]["traces"] == len(added)


def trace(prompt: str, completion: str, **more: Any) -> Trace:
    return Trace([{"role": "user", "content": prompt}], completion, **{"split": "train", "verdict": "correct", **more})


def test_what_lacks_traces(tmp_path: Path) -> None:
    """Different verified ones count, on prompts for training that have a reference."""
    from dcod.traces import write_traces

    rows = [
        trace("one", "1", gold="1"),
        trace("two", "2", gold="2"), trace("two", "so 2", gold="2"),
        trace("wrong", "3", gold="4", verdict="wrong"), trace("wrong", "4", gold="4"),
        trace("held", "5", gold="5", split="selection"), trace("pilot", "6", gold="6", split="pilot"),
        trace("open", "7"),
    ]  # fmt: skip
    write_traces(tmp_path / "traces.parquet", rows)
    asked, known = lacking.read(tmp_path, Config.model_validate({"teach": {"enough": 2}}))
    assert [one.prompt[0]["content"] for one in asked] == ["one", "wrong"]
    assert [len(known[one.id]) for one in asked] == [1, 1]
    assert lacking.read(tmp_path, Config())[0] == []


def test_prompts_of_which_no_trace_came_in_are_asked_as_well(tmp_path: Path, tiny_student: Path) -> None:
    """Whose traces were all refused for their answer, and those of `teach.prompts`; no held-back one, none of a set."""
    tested = "Of the test: how many are 7 and 5 put together, and why so?"
    rows = [
        {"prompt": "right", "completion": "#### 1", "gold": "1"},
        {"prompt": "wrong", "completion": "#### 1", "gold": "2"},
        {"prompt": "wrong", "completion": "#### 3", "gold": "2"},
        {"prompt": "silent", "completion": "I do not know", "gold": "2"},
        {"prompt": "right", "completion": "#### 7", "gold": "1"},  # a right one is there
        {"prompt": "open", "completion": "I do not know"},
        {"prompt": tested, "completion": "#### 13", "gold": "12"},
    ]
    given = [{"problem": "given", "gold": "5"}, {"prompt": "right", "gold": "1"}, {"problem": "unsure"}]
    for name, written in (("traces", rows), ("prompts", given), ("test", [{"problem": tested, "answer": "12"}])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in written))
    values: dict[str, Any] = {
        "student": {"model": str(tiny_student), "max_length": 200},
        "ingest": {"sources": [str(tmp_path / "traces.jsonl")], "selection_share": 0.0},
        "teach": {"enough": 1, "prompts": [str(tmp_path / "prompts.jsonl")], "asks": "as_is"},
        "evaluate": {"benchmarks": [{"name": "custom", "source": str(tmp_path / "test.jsonl")}]},
        "tracking": fresh_store(tmp_path / "store").model_dump(),
    }
    stage("ingest", Config.model_validate(values), tmp_path / "set", student=tiny_student)
    asked, known = lacking.read(tmp_path / "set", Config.model_validate(values))
    assert [(one.prompt[-1]["content"], one.gold) for one in asked] == [("wrong", "2"), ("silent", "2"), ("given", "5")]
    assert list(known.values()) == [set(), set(), set()]
    values["ingest"] |= {"selection_share": 0.999999}  # all problems but by chance
    assert lacking.read(tmp_path / "set", Config.model_validate(values))[0] == []
    values["teach"] |= {"prompts": [str(tmp_path / "gone.jsonl")]}
    with pytest.raises(UserError, match=r"gone\.jsonl"):
        lacking.read(tmp_path / "set", Config.model_validate(values))


@pytest.mark.parametrize(
    ("changes", "who"),
    [
        (["teach.model=teacher", "teach.enough=2"], "teacher"),
        (["teach.model=teacher"], ""),
        (["teach.enough=2"], ""),
        (["teach.source=student", "teach.enough=2"], "student"),
        (["teach.engine={name: openai, endpoint: 'http://a/v1', model: b}", "teach.logprobs=false", "teach.enough=1"],
         "endpoint"),
        (["teach.model=teacher", "teach.enough=2", "pipeline=retrain"], ""),
    ],
)  # fmt: skip
def test_who_is_asked_within_a_run(changes: list[str], who: str) -> None:
    assert parse_config("{}", changes).asks == who


def test_no_reading_of_the_configured_sources_is_that_of_attempts(tmp_path: Path) -> None:
    config = parse_config("{}", ["ingest.format=gsm8k", "ingest.map=openr1-math", "ingest.sources=[a.jsonl]"])
    (tmp_path / FILE).touch()
    found = ingest.of_attempts(config, tmp_path).ingest
    assert (found.format, found.map, found.sources) == ("auto", "", [str(tmp_path)])
    assert ingest.of_attempts(config).ingest.sources == []
