"""A results folder as one object; and what is none is said in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcod.errors import UserError
from dcod.evaluate import summaries
from dcod.evaluate.results import Answer, load_results

FIGURES: dict[str, Any] = {**summaries.summarise([], 1), "figures": {}}
ANSWERS = [
    Answer("b", "p1", "gate", "zero_shot", 1, "wrong", None, False, True, False),
    Answer("b", "p1", "gate", "zero_shot", 0, "correct", "7", False, False, False),
    Answer("b", "p2", "report", "zero_shot", 0, "correct", "7", False, False, False),
    Answer("b", "p2", "report", "few_shot", 0, "wrong", "8", False, False, False),
]


def write(folder: Path, **changes: Any) -> Path:
    full = {**FIGURES, "n": 1}
    splits = {"gate": full, "report": full}
    entry = {"role": "primary", "fingerprint": "f", "prompting": {"zero_shot": splits, "few_shot": {"report": full}}}
    empty = {**entry, "prompting": {"zero_shot": {"report": FIGURES}}}
    summary = {"model": {"digest": "d", "uri": "u"}, "benchmarks": {"b": entry, "a": entry, "c": empty}, **changes}
    (folder / "summary.json").write_text(json.dumps(summary))
    rows = [{**answer._asdict(), "response": "so it is"} for answer in ANSWERS]
    pq.write_table(pa.Table.from_pylist(rows), folder / "examples.parquet")
    return folder


def test_rows_and_answers_of_a_folder(tmp_path: Path) -> None:
    results = load_results(write(tmp_path))
    assert (results.model.digest, results.model.uri, results.model.version) == ("d", "u", 0)
    assert results.fingerprints == dict.fromkeys("bac", "f")
    assert results.contamination == {}
    assert len(results.rows) == 7
    told = [(row.benchmark, row.prompting) for row in results.on("report")]  # sorted, and none without a problem
    assert told == [("a", "zero_shot"), ("a", "few_shot"), ("b", "zero_shot"), ("b", "few_shot")]
    assert results.by_problem("gate") == {"b": {"p1": [ANSWERS[1], ANSWERS[0]]}}
    assert {key: row["response"] for key, row in results.texts("report").items()} == {("b", "p2", 0): "so it is"}


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"digest": "d"}},
        {"benchmarks": []},
        {"benchmarks": {"b": {"role": "primary", "prompting": {}}}},
        {"benchmarks": {"b": {"role": "primary", "fingerprint": "f", "prompting": {"zero_shot": {"gate": {"n": 3}}}}}},
    ],
)
def test_a_summary_that_is_built_otherwise_is_said(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="no results of an evaluation"):
        load_results(write(tmp_path, **changes))


def test_answers_that_lack_a_column_are_said(tmp_path: Path) -> None:
    write(tmp_path)
    table = pq.read_table(tmp_path / "examples.parquet").drop_columns(["looping"])
    pq.write_table(table, tmp_path / "examples.parquet")
    with pytest.raises(UserError, match=r"no results of an evaluation \(.*looping"):
        load_results(tmp_path)
