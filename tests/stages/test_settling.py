"""The first task of a pipeline: inputs merged, and in a pod what it needs is looked at before anything else runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dcod.check import servers
from dcod.config import Config, parse_config
from dcod.config.inputs import compiled_with
from dcod.errors import UserError
from dcod.stages import component, settling

CLUSTER = {"tracking": "http://mlflow.dcod:5000", "storage": "s3://dcod/work"}
THERE = {"ingest": {"sources": ["s3://dcod/traces/"]}, "cluster": CLUSTER}


@pytest.fixture
def pod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A task of a cluster, whose working folder is returned."""
    monkeypatch.setenv("KFP_POD_NAME", "settle-1")
    monkeypatch.chdir(tmp_path)
    for name in ("tracking", "bucket", "traces"):
        monkeypatch.setattr(servers, name, lambda config: "good")
    return tmp_path


def settle(values: dict[str, Any], out: Path, **inputs: Any) -> Config:
    text = json.dumps(values)
    component.settle(text, compiled_with(parse_config(text)), "p", str(out), inputs)
    return parse_config(out.read_text())


def test_in_a_pod_the_configuration_gets_the_clusters_servers(pod: Path) -> None:
    config = settle(THERE, pod / "settled", train_epochs=3)
    assert config.train.epochs == 3
    assert config.tracking.uri == "http://mlflow.dcod:5000"
    assert config.promote.lease == "s3://dcod/work/promotion.lease"
    assert settling.merged_there(json.dumps(THERE), {"train_epochs": 3}, "") == config, "so does `finish`"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, r"not for a cluster: cluster\.tracking: no MLflow server .*; cluster\.storage: set an s3:// prefix"),
        (THERE | {"ingest": {"sources": ["traces.jsonl"]}}, r"traces\.jsonl: a file of this machine"),
    ],
)
def test_a_pod_refuses_what_lies_on_one_machine(
    pod: Path, values: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[str] = []
    monkeypatch.setattr(component.Tracker, "note_error", lambda self, *told: noted.append(told[-1]))
    monkeypatch.setattr(component.Tracker, "__init__", lambda self, config: None)
    with pytest.raises(SystemExit) as ended:
        settle(values, pod / "settled")
    assert ended.value.code == 2
    error = json.loads((pod / "settled.error.json").read_text())
    assert (error["stage"], error["users_mistake"]) == ("settle", True)
    assert len(noted) == bool(values), "a pod's own file is no place for a run"
    with pytest.raises(UserError, match=said):
        settling.settled(json.dumps(values), {}, "")
    component.finish(json.dumps({}), "p", "FAILED", "")
    assert not (pod / "runs").exists()


def test_a_pod_says_all_that_does_not_answer(pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(config: Config) -> str:
        raise UserError(f"{config.tracking.uri}: no answer")

    monkeypatch.setattr(servers, "tracking", away)
    monkeypatch.setattr(servers, "traces", away)
    with pytest.raises(UserError, match=r"no answer; http://mlflow\.dcod:5000: no answer"):
        settling.settled(json.dumps(THERE), {}, "")


def test_a_pod_tries_the_volume(pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody set fsGroup, many shared claims belong to root alone."""
    values = THERE | {"cluster": CLUSTER | {"volume": "dcod-shared"}}
    monkeypatch.setattr(servers, "MOUNT", str(pod / "mnt"))
    assert settling.settled(json.dumps(values), {}, "").cluster.volume == "dcod-shared"
    assert list((pod / "mnt").iterdir()) == []
    (pod / "mnt").rmdir()
    (pod / "mnt").touch()
    with pytest.raises(UserError, match=r"cluster\.volume dcod-shared, .*/mnt: user \d+ cannot write there .*fsGroup"):
        settling.settled(json.dumps(values), {}, "")


def test_what_does_not_parse_is_told_as_well(pod: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        component.settle("train: {epochs: many}", "", "p", str(pod / "settled"), {})
    assert ended.value.code == 2
    assert "epochs" in json.loads((pod / "settled.error.json").read_text())["error"]


def test_here_a_run_is_as_its_configuration_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = settle({"tracking": {"uri": "sqlite:///own.db"}}, tmp_path / "settled", train_epochs=3)
    assert (config.tracking.uri, config.train.epochs) == ("sqlite:///own.db", 3)
    assert "train.epochs 3" in capsys.readouterr().out
