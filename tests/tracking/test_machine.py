"""The machine is watched beside a training on a server, and what fails there fails no training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from mlflow.system_metrics import system_metrics_monitor

from dcod.tracking import machine


class Monitor:
    """Stands for MLflow's."""

    said: ClassVar[list[Any]] = []

    def __init__(self, run_id: str, every_s: float, tracking_uri: str) -> None:
        self.said.append((run_id, every_s, tracking_uri))

    def start(self) -> None:
        self.said.append("start")

    def finish(self) -> None:
        self.said.append("finish")


def run(remote: bool) -> Any:
    config = SimpleNamespace(uri="http://mlflow")
    return SimpleNamespace(run_id="r", tracker=SimpleNamespace(remote=remote, config=config))


def test_it_ends_with_the_stage_also_with_one_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_metrics_monitor, "SystemMetricsMonitor", Monitor)
    Monitor.said.clear()
    with pytest.raises(ZeroDivisionError), machine.watched(run(remote=True), 5.0):
        Monitor.said.append(1 // 0)
    assert Monitor.said == [("r", 5.0, "http://mlflow"), "start", "finish"]
    with machine.watched(run(remote=False)):
        pass
    assert len(Monitor.said) == 3, "a file of sqlite is left alone"


def test_what_fails_there_fails_no_training(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("psutil")

    monkeypatch.setattr(system_metrics_monitor, "SystemMetricsMonitor", broken)
    with machine.watched(run(remote=True)):
        pass
    assert "not watched: psutil" in caplog.text
