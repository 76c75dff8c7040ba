"""A simulated month through `dcod run --preset retrain`: every night decides what was written down beforehand."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dcod import storage
from dcod.cluster import webhook
from dcod.config import Config
from dcod.retrain import history
from dcod.tracking import lineage
from dcod.tracking.registry import Registry, Version
from dcod.tracking.runs import Tracker
from tests.cluster.test_webhook import receiving
from tests.retrain import month, nights
from tests.tiny import save_tiny_student


@dataclass
class World:
    """One schedule, and what it has to show for it."""

    folder: Path
    arguments: list[str]
    config: Config
    seed: int
    environment: dict[str, str] = field(default_factory=dict)

    def night(self, night: dict[str, Any]) -> str:
        """Lets one night happen; returns what the run printed."""
        if night["arrives"] != "nothing":
            month.arrive(self.folder / "traces", night["arrives"], night["traces"], self.seed)
        killed = "train" if night.get("then") == "killed" else ""
        environment = self.environment | {nights.NOW: f"2026-11-{night['day']:02d}T02:30+00:00"}
        run = nights.dcod(self.folder, *self.arguments, killed_in=killed, environment=environment)
        assert run.ended() == (-9 if killed else 0), run.said
        return run.said

    @property
    def registry(self) -> Registry:
        return Registry(Tracker(self.config.tracking))

    @property
    def champion(self) -> int:
        found = self.registry.champion("dcod-student")
        return found.version if found else 0


def new_world(folder: Path, seed: int) -> World:
    student = save_tiny_student(folder / "student", seed)
    arguments, config = month.world(folder, student, seed)
    return World(folder, arguments, config, seed)


def check(world: World, night: dict[str, Any], before: int) -> None:
    """The newest decision, what the registry shows, and what is new for the next night."""
    record = history.latest(Tracker(world.config.tracking), "dcod-student")
    assert record["code"] == night["decides"], (world.seed, night, record)
    newest = world.registry.versions("dcod-student")[-1]
    if night.get("then") == "promoted":
        assert world.champion == newest.version > before, (world.seed, night, newest.tags)
    else:
        assert world.champion == before, (world.seed, night)
    if night.get("then") == "refused":
        assert newest.tags["dcod.decision"] == "refuse"


def live_through(world: World, plan: list[dict[str, Any]]) -> None:
    for night in plan:
        before = world.champion
        said = world.night(night)
        check(world, night, before)
        assert night.get("then") == "killed" or f"retrain   {night['decides']}" in said


def behind(world: World, version: Version) -> set[str]:
    """The names of the files that MLflow leads to; their content is what the digests say."""
    found = lineage.files(world.registry, version)
    assert all(storage.digest_file(Path(name)) == digest for digest, name in found.items())
    return {Path(name).name for name in found.values()}


@pytest.mark.slow
@pytest.mark.parametrize("seed", month.plan()["seeds"])
def test_a_month_decides_as_it_was_written_down(tmp_path: Path, seed: int) -> None:
    world = new_world(tmp_path, seed)
    live_through(world, month.plan()["nights"])

    tracker = Tracker(world.config.tracking)
    runs = tracker.client.search_runs([tracker.experiment_id], max_results=1000)
    parents = [run for run in runs if "dcod.pipeline" in run.data.tags]
    assert sorted(run.info.status for run in parents) == ["FAILED"] + ["FINISHED"] * 9
    killed = next(run for run in parents if run.info.status == "FAILED")
    assert killed.data.tags["dcod.error"] == "the run was killed"
    # start, red, blue, green, and grey, which was refused: nothing was registered for the killed night
    versions = world.registry.versions("dcod-student")
    assert [version.tags.get("dcod.outcome", "") for version in versions] == [
        "",
        "promoted",
        "promoted",
        "promoted",
        "",
    ]
    # the champion goes back to all that it and those before it learned, and to nothing that was left out or refused
    champion = world.registry.champion("dcod-student")
    assert champion is not None
    assert behind(world, champion) == {"red.jsonl", "more_red.jsonl", "blue.jsonl", "green.jsonl"}
    # the night after the kill took over what was done: all but the training that was cut off
    resumed = [run for run in runs if "dcod.reused_from" in run.data.tags]
    assert {"ingest", "score"} <= {run.data.tags["dcod.stage"] for run in resumed}
    # the monitors are a series: one point a night, at its day
    decided = [run for run in runs if run.data.tags.get("dcod.stage") == "decide"]
    points = [p for run in decided for p in tracker.client.get_metric_history(run.info.run_id, "probe_accuracy")]
    first = min(point.step for point in points)
    assert sorted(point.step - first + 1 for point in points) == [night["day"] for night in month.plan()["nights"]]
    by_day = {point.step - first + 1: point.value for point in points}
    assert by_day[24] > by_day[12] + 0.3  # two more colours were learned


def test_a_week(tmp_path: Path) -> None:
    """The first nights of the month: trained and promoted, then nothing new, then a teacher that is too far."""
    plan = {night["day"]: night for night in month.plan()["nights"]}
    world = new_world(tmp_path, 0)
    world.environment = {webhook.SECRET: "key"}
    with receiving(503, 200) as receiver:
        world.environment |= {webhook.ADDRESS: receiver.url}
        world.arguments.append("notify.url=environment")
        live_through(world, [plan[1], plan[3], plan[10]])
    champion = world.registry.champion("dcod-student")
    assert champion is not None
    assert behind(world, champion) == {"red.jsonl"}
    assert storage.digest_file(world.folder / "traces" / "red.jsonl") in world.registry.card(champion.uri)
    assert [json.loads(body)["event"] for _, _, _, body in receiver.got] == ["promoted", "promoted"]  # once refused
    message = json.loads(receiver.got[-1][3])
    assert message["model"] == "dcod-student"
    assert "improved" in message["text"]
    figures = history.status(Tracker(world.config.tracking), world.config)
    assert figures["failed"] == 0.0
    assert figures["go"] == 0.0
    assert figures["champion_version"] == 2.0
    assert figures["left_out_traces"] == 60.0
    assert figures["last_success_timestamp_seconds"] == figures["last_run_timestamp_seconds"] > 0
