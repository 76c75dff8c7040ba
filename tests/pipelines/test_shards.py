"""The whole pipeline here with its stages in shards: the trace set is that of one pod, and nothing else is missing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from dcod import storage
from dcod.config import load_config
from dcod.stages.execute import RunContext, execute
from dcod.traces import sources_of
from dcod.tracking import lineage
from dcod.tracking.registry import Registry
from dcod.tracking.runs import Tracker
from tests.pipelines.test_distill import write_inputs
from tests.retrain import nights

pytestmark = pytest.mark.slow


def test_a_run_in_shards_makes_the_traces_of_one_pod(tmp_path: Path, tiny_student: Path) -> None:
    """Which later runs of any number of shards reuse; the data card has the drift, the student leads to its files."""
    path, _ = write_inputs(tmp_path, tiny_student, epochs=1)
    lines = (tmp_path / "traces.jsonl").read_text().splitlines(keepends=True)
    for number in range(3):
        (tmp_path / f"part{number}.jsonl").write_text("".join([*lines[number::3], lines[0]]))
    sources = f"ingest.sources=['{tmp_path}/part*.jsonl']"
    night = nights.dcod(tmp_path, "run", "--config", str(path), "cluster.shards=2", sources)
    assert night.ended() == 0, night.said
    config = load_config(path, [sources])
    execute("ingest", config, tmp_path / "alone", {"student": tiny_student}, RunContext(tracked=False))
    (joined,) = tmp_path.glob("runs/pipeline/*/*/join/traces")
    assert storage.digest_folder(joined) == storage.digest_folder(tmp_path / "alone")
    (merged,) = tmp_path.glob("runs/pipeline/*/*/merge*/merged/card.html")
    assert "Not scored yet" not in merged.read_text()
    tracker = Tracker(config.tracking)
    runs = tracker.client.search_runs([tracker.experiment_id])
    assert Counter(run.data.tags["dcod.stage"] for run in runs if "dcod.stage" in run.data.tags) >= Counter(
        {"fetch": 2, "examine": 2, "ingest": 1, "score": 2, "merge": 5, "train": 1, "gate": 1}
    )
    student = Registry(tracker).versions("dcod-student")[-1]
    assert lineage.files(Registry(tracker), student) == sources_of(joined) != {}
    execute("ingest", config, tmp_path / "later", {"student": tiny_student}, RunContext("later"))
    assert any("dcod.reused_from" in run.data.tags for run in tracker.client.search_runs([tracker.experiment_id]))
    assert storage.digest_folder(tmp_path / "later") == storage.digest_folder(joined)
