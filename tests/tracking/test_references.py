"""Weights that MLflow names and does not hold: they come back whole, and what is gone or changed is told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dcod import storage
from dcod.config import Config, parse_config
from dcod.errors import UserError
from dcod.models import loading, references
from dcod.stages import execute
from dcod.tracking.logged_models import local
from dcod.tracking.registry import Registry
from dcod.tracking.runs import Tracker
from tests.tracked import fresh_store


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry whose weights lie in ``weights``."""
    monkeypatch.setenv("DCOD_CACHE", str(tmp_path / "cache"))
    tracker = Tracker(fresh_store(tmp_path / "store"))
    tracker.models.weights = f"{tmp_path}/weights/"
    return Registry(tracker)


def test_weights_lie_once_and_come_back(registry: Registry, tmp_path: Path, tiny_student: Path) -> None:
    with registry.tracker.stage("gate", None, digest="d") as log:
        first = registry.register("pupil", tiny_student, log.run_id)
        again = registry.register("other", tiny_student, log.run_id)
    digest = loading.digest(tiny_student)
    (place,) = (tmp_path / "weights").iterdir()
    assert place.name == digest
    assert sorted(path.name for path in place.glob("[!.]*")) == ["model.safetensors", references.FILE]
    uri = registry.tracker.client.get_model_version_download_uri("pupil", str(first.version))
    kept = Path(local(uri) or "")
    assert not list(kept.rglob("*.safetensors"))
    assert storage.read_json(kept / "model" / references.FILE, made_by="dcod")["place"] == str(place)
    for version in (first, again):
        folder = registry.resolve(version.uri)
        assert loading.digest(folder) == digest
        assert not references.is_reference(folder)
    served = shutil.copytree(kept / "model", tmp_path / "served")
    assert loading.digest(references.complete(served)) == digest
    assert references.complete(served) == served, "and again"


def test_the_output_of_a_training_comes_back_for_reuse(registry: Registry, tmp_path: Path, tiny_student: Path) -> None:
    out = shutil.copytree(tiny_student, tmp_path / "out")
    (out / "training.jsonl").write_text("{}\n")
    with registry.tracker.stage("train", None, digest="d") as log:
        log.output(out)
    run = registry.tracker.outputs.find("train", "d")
    assert run
    registry.tracker.outputs.fetch(run, tmp_path / "again")
    assert storage.digest_folder(tmp_path / "again") == storage.digest_folder(out)


def test_weights_that_are_gone_or_others_are_told(registry: Registry, tmp_path: Path, tiny_student: Path) -> None:
    with registry.tracker.stage("gate", None, digest="d") as log:
        version = registry.register("pupil", tiny_student, log.run_id)
    (weights,) = (tmp_path / "weights").rglob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    with pytest.raises(UserError, match="not the weights that were logged"):
        registry.resolve(version.uri)
    shutil.rmtree(weights.parent)
    with pytest.raises(UserError, match=r"logged by reference cannot be had: .*no such file"):
        registry.resolve(version.uri)


def test_the_setting_needs_a_place_and_reaches_every_stage(
    tmp_path: Path, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_reference = "promote.log_model=reference"
    with pytest.raises(UserError, match=r"log_model=reference needs cluster\.storage"):
        parse_config("{}", [by_reference])
    config = parse_config("{}", [by_reference, "cluster.storage=s3://dcod/work/"])
    config = config.model_copy(update={"tracking": fresh_store(tmp_path / "store")})
    seen: list[str] = []

    def stop(stage: object, config: Config, scratch: Path, log: object, *rest: object) -> dict[str, float]:
        seen.append(log.tracker.models.weights)  # type: ignore[attr-defined]
        return {}

    monkeypatch.setattr(execute, "_run", stop)
    execute.execute("fetch", config, tmp_path / "out", {}, execute.RunContext(), which="start")
    assert seen == ["s3://dcod/work/models"]
