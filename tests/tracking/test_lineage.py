"""From a registered student back to the files behind it, through real runs of a sqlite MLflow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dcod import storage
from dcod.cli import app
from dcod.config import Config, IngestConfig
from dcod.models import loading
from dcod.stages import component
from dcod.stages.execute import RunContext, execute
from dcod.traces import sources_of
from dcod.tracking import lineage
from dcod.tracking.registry import Registry, Version
from tests.stages.test_ingest import response, solved
from tests.tiny import save_tiny_student
from tests.tracked import fresh_store


class Place:
    """A store, and students that were trained in it: the training itself is left out."""

    def __init__(self, folder: Path, start: Path) -> None:
        self.folder, self.start = folder, start
        self.tracking = fresh_store(folder / "store")
        self.registry = Registry(self.tracking)

    def ingested(self, name: str, *numbers: int) -> Path:
        """A trace set made of two files, of one of which nothing is accepted."""
        good, bad = self.folder / f"{name}.jsonl", self.folder / f"{name}-wrong.jsonl"
        good.write_text("".join(json.dumps(solved(number)) + "\n" for number in numbers))
        bad.write_text(json.dumps(response(1, f"The answer is 5 in {name}.")) + "\n")
        config = self.config(str(good), str(bad))
        execute("ingest", config, self.folder / f"{name}-traces", {"student": self.start}, RunContext("p"))
        return self.folder / f"{name}-traces"

    def config(self, *sources: str) -> Config:
        return Config(tracking=self.tracking, ingest=IngestConfig(sources=list(sources)))

    def scored(self, traces: Path) -> Path:
        inputs = {"traces": traces, "student": self.start}
        execute("score", self.config(), traces.with_name(f"{traces.name}-scores"), inputs, RunContext("p"))
        return traces.with_name(f"{traces.name}-scores")

    def trained(self, student: Path, scores: Path, start: Path) -> Version:
        """A student that a training with these inputs made, registered."""
        digests = [("scores", _digest(scores), "scores"), ("student", loading.digest(start), "start")]
        with self.registry.tracker.stage("train", None, digest=f"of-{student.name}") as log:
            log.inputs(digests)
            self.registry.models.log(student, log.run_id)
        with self.registry.tracker.stage("gate", None, digest=f"gate-{student.name}") as log:
            return self.registry.register("student", student, log.run_id)


def _digest(folder: Path) -> str:
    return str(json.loads((folder / "manifest.json").read_text())["digest"])


@pytest.fixture
def place(tmp_path: Path, tiny_student: Path) -> Place:
    return Place(tmp_path, tiny_student)


def test_from_a_registered_model_back_to_files(place: Place, tmp_path: Path) -> None:
    red, blue = place.ingested("red", 1, 2, 3), place.ingested("blue", 4, 5)
    place.ingested("green", 6)  # nothing was trained on it
    names = {
        storage.digest_file(tmp_path / f"{name}.jsonl"): str(tmp_path / f"{name}.jsonl") for name in ("red", "blue")
    }
    assert sources_of(red).keys() | sources_of(blue).keys() == names.keys()
    # The start was registered by a gate, whose own inputs are not behind it.
    with place.registry.tracker.stage("gate", None, digest="first") as log:
        log.inputs([("scores", _digest(place.scored(blue)), "scores")])
        first = place.registry.register("student", place.start, log.run_id, {"dcod.decision": "start"})
    one, two = (save_tiny_student(tmp_path / f"student-{seed}", seed) for seed in (1, 2))
    second = place.trained(one, place.scored(red), place.start)
    assert lineage.files(place.registry, first) == {}
    assert list(lineage.files(place.registry, second)) == [storage.digest_file(tmp_path / "red.jsonl")]
    third = place.trained(two, place.scored(blue), one)  # its start goes back to the other files
    assert lineage.files(place.registry, third) == names
    assert lineage.origin(place.registry, third, blue) == lineage.Origin(names)
    assert lineage.origin(place.registry, None, None) == lineage.Origin({})

    given = [f"tracking.{name}={getattr(place.tracking, name)}" for name in ("uri", "artifacts")]
    told = CliRunner().invoke(app, ["lineage", "models:/student/3", *given])
    assert told.exit_code == 0, told.output
    assert sorted(told.stdout.splitlines()) == sorted(f"{digest}  {name}" for digest, name in names.items())
    told = CliRunner().invoke(app, ["--json", "lineage", "models:/student/3", *given])
    assert {each["sha256"]: each["name"] for each in json.loads(told.stdout)["files"]} == names


def test_shards_lead_back_too(place: Place, tmp_path: Path) -> None:
    traces = place.ingested("red", 1, 2, 3)
    parts = {}
    for number in (1, 2):
        parts[f"part{number - 1}"] = tmp_path / f"part-{number}"
        inputs = {"traces": str(traces), "student": str(place.start)}
        text = place.config().to_json()
        component.run("score", text, "p", str(tmp_path / f"part-{number}"), inputs, shard=f"{number}/2")
    execute("merge", place.config(), tmp_path / "merged", parts, RunContext("p"), kind="score")
    student = save_tiny_student(tmp_path / "student", 1)
    version = place.trained(student, tmp_path / "merged", place.start)
    assert lineage.files(place.registry, version) == sources_of(traces) != {}


def test_what_ran_without_tracking_is_said_to_be_a_gap(place: Place, tmp_path: Path) -> None:
    traces = place.ingested("red", 1, 2, 3)
    inputs = {"traces": traces, "student": place.start}
    execute("score", place.config(), tmp_path / "scores", inputs, RunContext(tracked=False))
    version = place.trained(save_tiny_student(tmp_path / "student", 1), tmp_path / "scores", place.start)
    assert lineage.files(place.registry, version) == {}
    found = lineage.origin(place.registry, version, traces)
    assert found == lineage.Origin(sources_of(traces), 1)
    assert found.gap.startswith("1 of these files are known from the traces alone")
