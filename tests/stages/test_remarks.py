"""What the traces allow is said by pods and the command line alike, from counts that the ingestion made on its way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dcod.config import parse_config
from dcod.objective.feasibility import Holdings
from dcod.stages import component, remarks
from dcod.traces import holdings
from tests.tiny import TWICE


def test_a_pod_says_once_what_its_traces_allow(
    tmp_path: Path, tiny_student: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the training that is configured now, also of a set that was taken over; a shard says nothing."""
    rows = [{"problem": text, "response": said, "gold": said.rpartition(" ")[2]} for text, said in TWICE.items()]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def text(**correction: str) -> str:
        tracking = {"uri": f"sqlite:///{tmp_path}/mlflow.db", "artifacts": str(tmp_path / "artifacts")}
        ingest = {"sources": [str(tmp_path / "rows.jsonl")], "selection_share": 0.0}
        given = {"ingest": ingest, "tracking": tracking, "train": {"correction": correction}}
        return parse_config(json.dumps(given)).to_json()

    def ran(stage: str, config: str, out: Path, inputs: dict[str, str], **more: Any) -> tuple[str, dict[str, float]]:
        figures = component.run(stage, config, "p", str(out), inputs, **more)
        return capfd.readouterr().out, figures

    monkeypatch.setattr(holdings, "count", lambda *_: pytest.fail("the set is read once more"))
    start = {"student": str(tiny_student)}
    said, figures = ran("ingest", text(name="prefix"), tmp_path / "one", start)
    assert said.count("[dcod] ingest") == 3  # these two, and how long it took
    assert "impossible: train.correction.name=prefix needs behavior_logprobs: 0 of 6 traces have them" in said
    assert "warning: 6 traces make 2 optimizer steps" in said
    assert figures["warnings"] == 2
    said, figures = ran("ingest", text(name="surprisal"), tmp_path / "two", start)  # taken over
    assert "idle: train.correction.name=surprisal with scope=trace compares the traces of a prompt" in said
    assert "impossible" not in said
    inputs = {"traces": str(tmp_path / "two"), **start}
    said, _ = ran("score", text(name="token_support"), tmp_path / "part", inputs, shard="1/2")
    assert "warning" not in said
    said, _ = ran("score", text(name="token_support"), tmp_path / "scores", inputs)
    assert "mean probability of 0.00: what leans on the student's own belief is harmful" in said
    assert said.count("few to learn much from") == 1
    monkeypatch.setattr(holdings, "count", lambda *_: Holdings(5, 4, 3))
    manifest = tmp_path / "two" / "manifest.json"
    values = json.loads(manifest.read_text())
    del values["facts"]["holdings"]
    manifest.write_text(json.dumps(values))
    found = remarks.of("ingest", parse_config("{}"), tmp_path / "two", {}, {})
    assert found is not None
    assert found[0] == Holdings(5, 4, 3)  # a set of an earlier version does not know
    compared = remarks.of("ingest", parse_config("{}", ["train.arms=auto"]), tmp_path / "two", {}, {})
    assert compared is not None
    assert str(compared[1][-1]).startswith("arms: sft, ")
    assert remarks.of("evaluate", parse_config("{}"), tmp_path / "two", {}, {}) is None
