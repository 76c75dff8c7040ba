"""What a run cost: stages at the prices that are given, and the teacher's own bill."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dcod.config import Config
from dcod.tracking import money
from dcod.tracking.runs import Tracker
from tests.tracked import fresh_store


def test_a_stage_that_sees_gpus_pays_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = fresh_store(tmp_path).model_copy(update={"hour_price": 0.5, "gpu_hour_price": 3.0})
    for seen, there, price in ((2, True, 6.0), (2, False, 0.5)):
        cuda = SimpleNamespace(is_available=lambda there=there: there, device_count=lambda seen=seen: seen)
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
        assert money.of_stage(config, 3600.0) == price
    assert config.price(3600.0, 8, machines=2) == 24.0
    assert config.price(3600.0, 0, machines=2) == 1.0
    monkeypatch.delitem(sys.modules, "torch")
    assert money.of_stage(config, 1800.0) == 0.25
    assert money.of_stage(fresh_store(tmp_path), 3600.0) == 0.0


def test_a_run_tells_what_its_stages_and_its_teacher_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = Tracker(fresh_store(tmp_path / "store").model_copy(update={"hour_price": 1.0}))
    monkeypatch.setattr(money, "_gpus", lambda: 0)
    parent = tracker.parent("run-1", "nightly", Config())
    with tracker.stage("teach", parent, digest="a") as log:
        log.metrics({"cost": 0.75})
    with tracker.stage("train", parent, digest="b") as other:
        pass
    with pytest.raises(RuntimeError), tracker.stage("score", parent, digest="c") as lost:
        raise RuntimeError("no memory")
    tracker.finish("run-1", failed="score")  # what it took is paid all the same
    spent = tracker.client.get_run(lost.run_id).data.metrics["compute_cost"]
    metrics = [tracker.client.get_run(run_id).data.metrics for run_id in (parent, log.run_id, other.run_id)]
    assert 0.0 < metrics[2]["compute_cost"] < 0.1
    total = 0.75 + spent + metrics[1]["compute_cost"] + metrics[2]["compute_cost"]
    assert metrics[0]["cost"] == pytest.approx(total)


def test_without_prices_nothing_is_told(tmp_path: Path) -> None:
    tracker = Tracker(fresh_store(tmp_path / "store"))
    parent = tracker.parent("run-1", "nightly", Config())
    with tracker.stage("train", parent, digest="b") as log:
        pass
    tracker.finish("run-1")
    assert "cost" not in tracker.client.get_run(parent).data.metrics
    assert "compute_cost" not in tracker.client.get_run(log.run_id).data.metrics
