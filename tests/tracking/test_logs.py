"""What a stage says of itself, as MLflow shows it."""

from __future__ import annotations

import json
from pathlib import Path

from dcod.tracking.runs import Tracker
from tests.tracked import fresh_store


def test_rows_become_a_table_that_mlflow_shows(tmp_path: Path) -> None:
    tracker = Tracker(fresh_store(tmp_path / "store"))
    with tracker.stage("evaluate", None, digest="d") as run:
        run.table("answers.json", [])
        run.table("answers.json", [{"outcome": "correct", "answer": "7"}, {"outcome": "wrong", "answer": None}])
    found = json.loads(Path(tracker.client.download_artifacts(run.run_id, "answers.json")).read_text())
    assert found == {"columns": ["outcome", "answer"], "data": [["correct", "7"], ["wrong", None]]}
    shown = json.loads(tracker.client.get_run(run.run_id).data.tags["mlflow.loggedArtifacts"])
    assert shown == [{"path": "answers.json", "type": "table"}]
