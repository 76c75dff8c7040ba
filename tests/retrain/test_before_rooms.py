"""What was made before dcod became rooms is still read; see tests/data/before_rooms."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tarfile
from pathlib import Path

import pytest
import torch

from dcod.config import TrackingConfig, TrainConfig
from dcod.errors import UserError
from dcod.models import loading
from dcod.retrain import history
from dcod.score import scores
from dcod.storage import digest_file
from dcod.traces.schema import read_traces
from dcod.tracking import lineage
from dcod.tracking.registry import Registry
from dcod.tracking.runs import Tracker
from dcod.train import loop
from dcod.train.checkpoints import Checkpoints
from tests.retrain import month, nights
from tests.train.test_checkpoints import KNOBS, make_examples

OLD = Path(__file__).parents[1] / "data" / "before_rooms" / "old.tar.xz"
THEN = "/before"  # where its store lay


@pytest.fixture
def old(tmp_path: Path) -> Path:
    folder = tmp_path / "old"
    with tarfile.open(OLD) as archive:
        archive.extractall(folder, filter="data")
    store = sqlite3.connect(folder / "store" / "mlflow.db")
    for (table,) in store.execute("select name from sqlite_master where type = 'table'").fetchall():
        for _, column, *_ in store.execute(f"pragma table_info({table})").fetchall():
            moved = f"update {table} set {column} = replace({column}, ?, ?) where {column} like ?"
            store.execute(moved, (THEN, str(folder), f"%{THEN}/%"))
    store.commit()
    store.close()
    return folder


def tracking(old: Path) -> TrackingConfig:
    return TrackingConfig(uri=f"sqlite:///{old}/store/mlflow.db", artifacts=str(old / "store" / "artifacts"))


def test_a_trace_set_and_its_scores(old: Path) -> None:
    traces = {trace.trace_id: trace for trace in read_traces(old / "trace-set")}
    by_split = scores.read_scores(old / "scores")
    scored = [one for split in ("train", "selection") for one in by_split[split]]
    assert len(traces) == 60
    assert {one.trace_id for one in scored} == set(traces)
    assert all(len(one.student_logprobs) == len(one.completion_tokens) > 0 for one in scored)


def test_a_checkpoint_is_refused_in_one_line(old: Path) -> None:
    """Since then a checkpoint also holds what selects, and how far the student has gone from its start."""
    examples = make_examples(old / "student")
    model = loading.load(old / "student")
    config = TrainConfig.model_validate({**KNOBS, "epochs": 4, "checkpoints": {"every": 1}})
    again = Checkpoints(str(old / "checkpoints"))
    with pytest.raises(UserError, match=r"step-00000023: .*version 0, of which this dcod reads .*begins anew"):
        loop.train(model, examples[4:], examples[:4], config, 0, lambda _: None, lambda *_: None, again)


def test_a_store_with_a_champion(old: Path) -> None:
    registry = Registry(Tracker(tracking(old)))
    champion = registry.champion("dcod-student")
    assert champion is not None
    assert champion.version == 2
    assert champion.tags["dcod.outcome"] == "promoted"
    assert set(lineage.files(registry, champion)) == {digest_file(old / "traces" / "red.jsonl")}
    assert isinstance(loading.load(registry.resolve("models:/dcod-student@champion")), torch.nn.Module)


@pytest.mark.slow
def test_a_retrain_goes_on_from_that_champion(old: Path, tmp_path: Path) -> None:
    world = tmp_path / "world"
    world.mkdir()
    arguments, _ = month.world(world, old / "student", 0)
    arguments.append(f"tracking={json.dumps(tracking(old).model_dump())}")
    shutil.copy(old / "traces" / "red.jsonl", world / "traces")
    month.arrive(world / "traces", "blue", 60, 0)
    run = nights.dcod(world, *arguments)
    assert run.ended() == 0, run.said
    tracker = Tracker(tracking(old))
    decision = history.latest(tracker, "dcod-student")
    assert decision["code"] == "go", decision
    champion = Registry(tracker).champion("dcod-student")
    assert champion is not None
    assert champion.version > 2
    files = {digest_file(world / "traces" / f"{name}.jsonl") for name in ("red", "blue")}
    assert set(lineage.files(Registry(tracker), champion)) == files
