"""Weights between pods: by reference, once a digest, and whole wherever a stage works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dcod import storage
from dcod.config import Config, parse_config
from dcod.errors import UserError
from dcod.models import loading, references
from dcod.stages import carried, component
from dcod.stages.digests import output_digest
from tests.tiny import save_tiny_student
from tests.tracked import fresh_store

WHOLE = Config()
WORK = "s3://traces/work"


@pytest.fixture
def config(bucket: Any) -> Config:
    return parse_config("{}", ["promote.log_model=reference", f"cluster.storage={WORK}"])


def stored() -> dict[str, float]:
    """When each object of the weights was written."""
    return {name.removeprefix(f"{WORK}/models/"): when for name, when, _ in storage.dated_objects(f"{WORK}/models")}


def leave(config: Config, out: Path, **inputs: Path) -> dict[str, Path]:
    """A stage that makes a student and a note beside it; the inputs that it saw, by name their weights."""
    seen = {}
    with carried.taken(config, inputs, out) as given:
        for name, path in given.items():
            seen[name] = path
            assert list(path.glob("*.safetensors")), name
            loading.load(path)
        with storage.output_folder(out) as new:
            save_tiny_student(new, seed=3, hidden=8, layers=1)
            (new / "training.jsonl").write_text("{}")
            (new / "deep").mkdir()
            (new / "deep" / "note.txt").write_text("x")
    return seen


def test_an_output_leaves_its_weights_once_and_the_next_stage_has_them(config: Config, tmp_path: Path) -> None:
    out, plain = tmp_path / "out", tmp_path / "plain"
    leave(WHOLE, plain)
    assert list(plain.glob("*.safetensors"))
    leave(config, out)
    assert not list(out.glob("*.safetensors"))
    assert (out / "deep" / "note.txt").read_text() == "x"
    assert (out / "training.jsonl").is_file()
    before = stored()
    (digest,) = {name.split("/")[0] for name in before}
    assert digest == loading.digest(plain) == output_digest(out) == output_digest(plain)
    seen = leave(config, tmp_path / "again", student=out)
    assert stored() == before, "sent twice"
    assert seen["student"] != out
    assert not seen["student"].exists(), "left behind"
    assert references.is_reference(out), "an input changed"
    leave(config, out)  # a second try takes its place


def test_a_stage_that_fails_leaves_nothing(config: Config, tmp_path: Path) -> None:
    def fail() -> None:
        with carried.taken(config, {}, tmp_path / "out"):
            save_tiny_student(tmp_path / "out", hidden=8, layers=1)
            raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        fail()
    assert list((tmp_path / "out").glob("*.safetensors"))
    assert stored() == {}


def test_what_is_no_model_travels_as_it_is(config: Config, tmp_path: Path) -> None:
    out = tmp_path / "traces"
    with carried.taken(config, {}, out), storage.output_folder(out) as new:
        (new / "traces.parquet").write_text("x")
    assert sorted(path.name for path in out.iterdir()) == [storage.MARK, "traces.parquet"]


def test_weights_that_are_gone_are_said_before_anything_runs(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave(config, tmp_path / "out")
    storage.remove(f"{WORK}/models")
    with pytest.raises(UserError, match="cannot be had"):
        leave(config, tmp_path / "again", student=tmp_path / "out")
    assert not (tmp_path / "again").exists()
    tracked: dict[str, Any] = {"tracking": fresh_store(tmp_path / "store").model_dump()}
    text = Config.model_validate(tracked | {"student": {"model": str(tmp_path / "out")}}).to_json()
    with pytest.raises(SystemExit) as ended:
        component.run("score", text, "p", str(tmp_path / "scores"), {"student": str(tmp_path / "out")})
    assert ended.value.code == 2
    assert "cannot be had" in capsys.readouterr().out + capsys.readouterr().err


def test_a_pipeline_fetches_and_hands_on_by_reference(config: Config, tmp_path: Path, tiny_student: Path) -> None:
    settings = config.model_dump(mode="json") | {"tracking": fresh_store(tmp_path / "store").model_dump()}
    settings["student"]["model"] = str(tiny_student)
    text = Config.model_validate(settings).to_json()
    start = tmp_path / "start"
    component.run("fetch", text, "p", str(start), which="start")
    assert references.is_reference(start)
    assert output_digest(start) == loading.digest(tiny_student)
    again = tmp_path / "again"
    component.run("fetch", text, "p", str(again), which="start")
    assert references.is_reference(again)
    assert len({name.split("/")[0] for name in stored()}) == 1
