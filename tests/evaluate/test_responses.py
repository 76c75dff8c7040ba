"""Recorded responses: a text that cannot be stored is no answer, and does not end the run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcod.benchmarks import Problem
from dcod.errors import UserError
from dcod.evaluate import responses
from dcod.traces import bounded, rows

PROBLEM = Problem("1", [], "4", "gate", text="2+2?")
GOOD = {"problem_id": "1", "response": "\\boxed{4}"}


def read(path: Path) -> list[str]:
    return [one.text for one in responses.read(path, [("custom:mine", [PROBLEM])])[0][0]]


def test_half_a_surrogate_pair_is_no_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"problem_id": "1", "response": "\\ud83d so \\\\boxed{4}"}\n', encoding="utf-8")
    assert read(path) == [""]
    assert "r.jsonl:1: half a surrogate pair at character 0" in caplog.text


def test_an_endless_text_is_no_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps({**GOOD, "response": "x" * bounded.LONGEST + "y"}))
    assert read(path) == [""]
    assert f"{bounded.LONGEST + 1} characters, at most" in caplog.text


@pytest.mark.parametrize("value", ["one", [1], 1e400, -1, 0.5, float("nan"), 2**80])
def test_numbers_that_are_none_are_named(tmp_path: Path, value: Any) -> None:
    for name in ("sample", "tokens"):
        (tmp_path / "r.jsonl").write_text(json.dumps({**GOOD, name: value}))
        with pytest.raises(UserError, match=rf"r\.jsonl:1: `{name}` must be a whole number"):
            read(tmp_path / "r.jsonl")
    (tmp_path / "r.jsonl").write_text(json.dumps({**GOOD, "sample": "0", "tokens": None}))
    assert read(tmp_path / "r.jsonl") == ["\\boxed{4}"]


def test_rows_beyond_the_limits_of_ingestion_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.jsonl"
    cases = {
        json.dumps({**GOOD, "more": [0] * 300}): "more than|at most 200 are read",
        json.dumps(GOOD)[:-1] + ', "deep": ' + "[" * 300 + "]" * 300 + "}": "nested 301 deep",
        json.dumps({**GOOD, "tokens": 1})[:-2] + "9" * 5000 + "}": "not a JSON object",
        json.dumps(GOOD)[:-1] + ', "problem_id": "2"}': "stands twice",
    }
    monkeypatch.setattr(rows, "VALUES", 200)
    for content, said in cases.items():
        monkeypatch.setattr(rows, "VALUES", 200 if "more" in content else 4000)
        path.write_text(json.dumps(GOOD) + "\n" + content)
        with pytest.raises(UserError, match=said) as caught:
            read(path)
        assert "r.jsonl:2" in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
    table = pa.table({**{name: [value] for name, value in GOOD.items()}, **{f"c{i}": [0] for i in range(20)}})
    pq.write_table(table, tmp_path / "r.parquet")
    assert read(tmp_path / "r.parquet") == ["\\boxed{4}"]
    monkeypatch.setattr(bounded, "COLUMNS", 20)
    with pytest.raises(UserError, match=r"not a Parquet file .*22 columns, at most 20"):
        read(tmp_path / "r.parquet")


def test_what_is_no_file_or_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "round.jsonl").symlink_to("round.jsonl")
    cases = {tmp_path / "pipe.jsonl": "a pipe", tmp_path / "round.jsonl": "in a circle", Path("/dev/zero"): "a device"}
    for path, said in cases.items():
        with pytest.raises(UserError, match=said):
            read(path)
    for name in ("r.jsonl", "r.parquet"):
        path = tmp_path / name
        path.write_text(json.dumps(GOOD))

        def shut(*_: Any, **__: Any) -> None:
            raise PermissionError(13, "Permission denied")

        with monkeypatch.context() as patch:  # root may read anything
            patch.setattr("builtins.open", shut)
            patch.setattr("pyarrow.parquet.ParquetFile.__init__", shut)
            with pytest.raises(UserError, match=r"Permission denied"):
                read(path)
