"""Recorded responses: a text that cannot be stored is no answer, and does not end the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcod.benchmarks import Problem
from dcod.evaluate import responses


def test_half_a_surrogate_pair_is_no_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"problem_id": "1", "response": "\\ud83d so \\\\boxed{4}"}\n', encoding="utf-8")
    problem = Problem("1", [], "4", "gate", text="2+2?")
    assert [one.text for one in responses.read(path, [("custom:mine", [problem])])[0][0]] == [""]
    assert "r.jsonl:1: half a surrogate pair at character 0" in caplog.text
