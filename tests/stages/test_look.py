"""Whether a stage's output is there is found out without the stage, and before it takes a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dcod.config import Config
from dcod.stages import component
from dcod.tracking.runs import Tracker
from tests.tracked import fresh_store


def configuration(folder: Path, student: Path, **values: Any) -> str:
    sources = folder / "traces.jsonl"
    sources.write_text('{"prompt": "What is 1 + 1?", "completion": "#### 2", "gold": "2"}\n' * 3)
    shared: dict[str, Any] = {
        "student": {"model": str(student), "max_length": 200},
        "ingest": {"sources": [str(sources)]},
        "evaluate": {"benchmarks": [{"name": "gsm8k"}]},
        "tracking": fresh_store(folder / "store").model_dump(),
    }
    (folder / "settled").write_text(Config.model_validate(shared | values).to_json())
    return str(folder / "settled")


def test_an_output_that_is_there_is_found_by_all_that_decides_it(tmp_path: Path, tiny_student: Path) -> None:
    config = configuration(tmp_path, tiny_student, evaluate={"benchmarks": []})
    inputs = {"student": str(tiny_student)}
    assert not component.is_there("ingest", config, inputs, {})
    component.run("ingest", config, "p", str(tmp_path / "out"), inputs)
    assert component.is_there("ingest", config, inputs, {})
    (tmp_path / "traces.jsonl").write_text("{}\n")
    assert not component.is_there("ingest", config, inputs, {}), "other traces"
    tracker = Tracker(Config.model_validate_json(Path(config).read_text()).tracking)
    assert len(tracker.client.search_runs([tracker.experiment_id])) == 2, "looking is no run"


def test_doubt_is_no(tmp_path: Path, tiny_student: Path, capsys: pytest.CaptureFixture[str]) -> None:
    away = {"tracking": {"uri": "sqlite:////proc/no/such/folder.db"}}
    config = configuration(tmp_path, tiny_student, **away)
    assert not component.is_there("evaluate", config, {"student": str(tiny_student)}, {"few_shot": False})
    assert "not there" in capsys.readouterr().out
    assert not component.is_there("score", config, {"traces": "absent", "student": str(tiny_student)}, {})


def test_a_shard_without_work_needs_nothing(tmp_path: Path, tiny_student: Path) -> None:
    config, inputs = configuration(tmp_path, tiny_student), {"student": str(tiny_student)}
    assert component.is_there("evaluate", config, inputs, {"few_shot": False}, shard="2/2")
    assert not component.is_there("evaluate", config, inputs, {"few_shot": False}, shard="1/2")
