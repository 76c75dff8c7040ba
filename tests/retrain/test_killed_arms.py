"""A run with arms, a twin and a further seed, killed in the middle of each of their stages, ends as an unkilled one."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from dcod.tracking.runs import Tracker
from tests.retrain import month, nights
from tests.retrain.test_month import World, new_world

ARM = {"name": "trust", "loss": {"name": "gce"}, "learning_rate": 0.005}  # so SFT is tried at that rate as well
# By what their stages are called in the output of a run.
POINTS = {
    "pilot sft": "pilot:sft",
    "pilot trust": "pilot:trust",
    "choose": "choose",
    "train": "train:chosen",
    "train sft": "train:sft",
    "again student 1": "again:student 1",
    "again sft 1": "again:sft 1",
}


def made(folder: Path) -> World:
    world = new_world(folder, 0)
    cheap = {"min_problems": 5, "share": 0.5, "seeds": 1, "temperatures": [0.0], "problems": 10}
    world.arguments += [
        f"train.arms={json.dumps([ARM])}",
        f"train.pilot={json.dumps(cheap)}",
        f"train.checkpoints={json.dumps({'uri': str(folder / 'kept'), 'every': 2})}",
        "train.correction.name=none",
        "train.twin=true",
        "train.seeds=2",
        "ingest.pilot_share=0.2",
    ]
    world.environment |= {nights.NOW: "2026-11-01T02:30+00:00", nights.CHOSEN: "trust"}
    month.arrive(folder / "traces", "red", 60, 0)
    return world


def told(world: World) -> dict[str, Any]:
    """What came of a run: its weights, and what it says of them."""
    place = world.folder / "runs" / "latest"
    champion = world.registry.champion("dcod-student")
    answer = json.loads((place / "answer.json").read_text())
    decision = json.loads((place / "decision.json").read_text())
    return {
        "weights": [version.digest for version in world.registry.versions("dcod-student")],
        "champion": champion.version if champion else 0,
        "answer": answer["text"],
        "choice": answer["choice"]["choice"],
        "students": [(student["name"], student["asked"]) for student in answer["students"]],
        "compared": [one["difference"] for one in decision["comparisons"]],
    }


@pytest.mark.long
def test_killed_in_the_middle_of_every_arm_it_ends_as_it_would_have(tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole, killed = made(tmp_path / "whole"), made(tmp_path / "killed")
    run = nights.dcod(whole.folder, *whole.arguments, environment=whole.environment)
    assert run.ended() == 0, run.said
    # The local runner takes what does not wait for each other in the order of a set: each run must get further.
    stages = [found[1] for found in re.finditer(r"^ *\d+ s  (\S.*?) {2,}", run.said, re.MULTILINE)]
    for name in sorted(POINTS, key=stages.index):
        point = POINTS[name]
        run = nights.dcod(killed.folder, *killed.arguments, killed_in=point, environment=killed.environment)
        assert run.ended() == -signal.SIGKILL, f"{point}: {run.said}"
    run = nights.dcod(killed.folder, *killed.arguments, environment=killed.environment)
    assert run.ended() == 0, run.said
    assert told(killed) == told(whole)
    tracker = Tracker(killed.config.tracking)
    runs = tracker.client.search_runs([tracker.experiment_id], max_results=1000)
    ended = sorted(run.info.status for run in runs if "dcod.pipeline" in run.data.tags)
    assert ended == ["FAILED"] * len(POINTS) + ["FINISHED"]
    assert not list((killed.folder / "kept").rglob("*.safetensors"))  # of nothing that is finished
