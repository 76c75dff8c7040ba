"""`dcod gc`: what may go goes, and nothing that a champion, a rollback, an open run or a reader still needs."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from dcod import storage
from dcod.cli import main
from dcod.config import Config, parse_config
from dcod.errors import UserError
from dcod.models import loading, references
from dcod.tracking import retention
from dcod.tracking.registry import CHALLENGER, CHAMPION, Registry
from dcod.tracking.runs import Tracker
from tests.tiny import save_tiny_student
from tests.tracked import fresh_store

NAME = "student"
LATER = 40 * retention.DAY_S


class Store:
    """A store with students of several fates; time passes by asking as of later."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tracking = fresh_store(folder / "store")
        nowhere = {"checkpoints": {"uri": ""}}
        self.config = Config.model_validate(
            {"tracking": self.tracking.model_dump(), "train": nowhere, "score": nowhere}
        )
        self.tracker = Tracker(self.tracking)
        self.registry = Registry(self.tracker)

    def stage(self, name: str, output: Path | None = None, pipeline: str = "", **tags: str) -> str:
        """A finished stage, by itself or of a pipeline; its run id."""
        parent = self.tracker.parent(pipeline, "n", Config()) if pipeline else None
        with self.tracker.stage(name, parent, digest=name) as log:
            if output is not None:
                log.output(output)
            for key, value in tags.items():
                log.tag(key.replace("_", ".", 1), value)
        return log.run_id

    def folder_of(self, name: str) -> Path:
        with storage.output_folder(self.folder / name) as out:
            (out / "rows.txt").write_text(name)
        return self.folder / name

    def student(self, seed: int, pipeline: str = "") -> Path:
        """A student that a stage made."""
        made = save_tiny_student(self.folder / f"student-{seed}", seed=seed, hidden=8, layers=1)
        self.stage("train", made, pipeline)
        return made

    def version(self, student: Path, **tags: str) -> int:
        """It registered, with tags such as dcod_decision."""
        run = self.tracker.client.search_runs([self.tracker.experiment_id])[0].info.run_id
        named = {key.replace("_", ".", 1): value for key, value in tags.items()}
        return self.registry.register(NAME, student, run, named).version

    def gone(self, now: float | None = None, days: float = 30, config: Config | None = None) -> dict[str, str]:
        """Kind by name of what may go."""
        items = retention.removable(
            self.tracker, config or self.config, days, time.time() + LATER if now is None else now
        )
        return {item.name: item.kind for item in items}

    def delete(self, config: Config | None = None) -> None:
        for item in retention.removable(self.tracker, config or self.config, 30, time.time() + LATER):
            item.remove()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_the_champion_those_before_it_and_who_waits_stay(store: Store) -> None:
    students = [store.student(seed) for seed in range(6)]
    first = store.version(students[0])
    second = store.version(students[1], dcod_previous_champion=str(first), dcod_outcome="promoted")
    store.version(students[2], dcod_decision="refuse")
    waiting = store.version(students[3], dcod_decision="promote")
    elsewhere = store.version(students[4], dcod_decision="refuse")
    store.registry.set_alias(NAME, CHAMPION, second)
    store.registry.set_alias(NAME, "canary", elsewhere)
    assert waiting
    assert store.gone(now=time.time()) == {}, "young"
    gone = store.gone()
    assert gone == {f"models:/{NAME}/3": "model", f"student {loading.digest(students[5])[:8]}": "model"}
    store.delete()
    assert store.gone() == {}
    assert store.registry.versions(NAME)[2].tags["dcod.weights"] == "deleted"
    with pytest.raises(UserError, match="deleted"):
        store.registry.resolve(f"models:/{NAME}/3")
    for kept, student in ((1, 0), (2, 1), (4, 3), (5, 4)):
        assert loading.digest(store.registry.resolve(f"models:/{NAME}/{kept}")) == loading.digest(students[student])
    assert store.tracker.outputs.find("train", "train"), "a kept student is still taken over"


def test_a_version_that_is_promoted_again_by_rollback_has_its_weights(store: Store) -> None:
    one, two, three = (store.student(seed) for seed in range(3))
    store.version(one)
    store.version(two, dcod_previous_champion="1")
    store.version(three, dcod_previous_champion="2", dcod_decision="refuse")
    store.registry.set_alias(NAME, CHAMPION, 3)
    store.registry.set_alias(NAME, CHALLENGER, 3)
    assert store.gone() == {}


def test_outputs_go_and_runs_stay(store: Store) -> None:
    old = store.stage("ingest", store.folder_of("traces"))
    used = store.stage("score", store.folder_of("scores"))
    store.stage("score", pipeline="open", dcod_reused_from=used)
    opened = store.stage("evaluate", store.folder_of("results"), pipeline="open")
    store.stage("evaluate", store.folder_of("others"), pipeline="done")
    store.tracker.finish("done")
    gone = store.gone()
    assert set(gone.values()) == {"output"}
    assert [name.split()[0] for name in gone] == ["ingest", "evaluate"]
    assert f"evaluate {opened[:8]}" not in gone
    store.delete()
    assert store.tracker.outputs.find("ingest", "ingest") is None
    assert store.tracker.client.get_run(old).info.status == "FINISHED"
    store.tracker.outputs.fetch(used, store.folder / "again")
    assert (store.folder / "again" / "rows.txt").read_text() == "scores"
    with pytest.raises(UserError, match="run the stage again"):
        store.tracker.outputs.fetch(old, store.folder / "gone")


def test_the_student_of_an_open_run_stays(store: Store) -> None:
    store.student(1, pipeline="open")
    store.student(2)
    assert len(store.gone()) == 1
    store.tracker.finish("open")
    assert len(store.gone()) == 2


def test_checkpoints_here_go_and_what_is_not_dcods_stays(store: Store, tmp_path: Path) -> None:
    place = tmp_path / "checkpoints"
    for run in ("old", "new", "mixed"):
        with storage.output_folder(place / run / "1") as out:
            (out / "state").write_bytes(b"x" * 100)
    (place / "mixed" / "notes.txt").write_text("mine")
    (place / "readme").mkdir()
    (place / "readme" / "a.txt").write_text("mine")
    past = time.time() - LATER
    for path in (place / "old").rglob("*"):
        os.utime(path, (past, past))
    where = {"checkpoints": {"uri": str(place)}}
    config = Config.model_validate({"tracking": store.tracking.model_dump(), "train": where, "score": where})
    assert store.gone(time.time(), config=config) == {str(place / "old"): "remains"}
    store.delete(config)
    assert sorted(path.name for path in place.iterdir()) == ["mixed", "readme"]
    assert (place / "mixed" / "1" / "state").is_file()


def test_remains_and_weights_in_a_bucket(store: Store, bucket: Any, tmp_path: Path) -> None:
    kept, left = store.student(1), store.student(2)
    uri = "s3://traces/work"
    for name, student in (("kept", kept), ("left", left)):
        scratch = tmp_path / f"scratch-{name}"
        scratch.mkdir()
        references.put(student, f"{uri}/models", loading.digest(student), scratch)
    store.version(kept)
    store.registry.set_alias(NAME, CHAMPION, 1)
    storage.upload(store.folder_of("job"), f"{uri}/trainjobs/dcod-train-1")
    storage.upload(store.folder_of("lease"), f"{uri}/promotion.lease")
    places = [f"cluster.storage={uri}", f"train.checkpoints.uri={uri}/checkpoints", "score.checkpoints.uri=''"]
    config = parse_config("{}", places)
    config = config.model_copy(update={"tracking": store.tracking})
    found = {item.name: item for item in retention.removable(store.tracker, config, 30, time.time() + LATER)}
    assert {name: item.kind for name, item in found.items() if item.kind != "model"} == {
        f"{uri}/models/{loading.digest(left)}": "weights",
        f"{uri}/trainjobs/dcod-train-1": "remains",
    }
    assert found[f"{uri}/trainjobs/dcod-train-1"].size == sum(
        path.stat().st_size for path in (store.folder / "job").iterdir()
    )
    store.delete(config)
    left_over = {name.removeprefix(f"{uri}/").split("/")[0] for name in storage.list_objects(f"{uri}/")}
    assert left_over == {"models", "promotion.lease"}
    assert len({name.split("/")[-2] for name in storage.list_objects(f"{uri}/models/")}) == 1


def test_weights_stay_while_a_young_model_names_them(
    store: Store, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were put there long ago, by a run of then; the model that names them is of now."""
    for name, student in (("named", store.student(1)), ("left", save_tiny_student(tmp_path / "left", seed=2))):
        (tmp_path / name / "scratch").mkdir(parents=True)
        references.put(student, "s3://traces/work/models", loading.digest(student), tmp_path / name / "scratch")
    dated = storage.dated_objects
    monkeypatch.setattr(
        "dcod.storage.entries.dated_objects",
        lambda uri: [(name, when - LATER, size) for name, when, size in dated(uri)],
    )
    cluster = parse_config("{}", ["cluster.storage=s3://traces/work"]).cluster
    config = store.config.model_copy(update={"cluster": cluster})
    left = loading.digest(tmp_path / "left")
    assert store.gone(time.time(), config=config) == {f"s3://traces/work/models/{left}": "weights"}


def test_the_command_lists_first_and_deletes_when_told(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store.stage("ingest", store.folder_of("traces"))
    mine: list[str] = [f"tracking.uri={store.tracking.uri}", f"promote.lease={tmp_path / 'lease'}"]

    def said(*more: str) -> str:
        monkeypatch.setattr("sys.argv", ["dcod", "gc", *more, *mine])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capsys.readouterr().out

    assert "0 older than 30 days" in said()
    listed = said("--days", "0")
    assert "output   ingest" in listed
    assert "--delete deletes them" in listed
    assert store.tracker.outputs.find("ingest", "ingest")
    assert "deleted" in said("--days", "0", "--delete")
    assert store.tracker.outputs.find("ingest", "ingest") is None
    assert "0 older than 0 days" in said("--days", "0")
