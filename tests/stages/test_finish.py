"""The exit handler tells the webhook how the run ended: promoted, refused, failed; and nothing of a night without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dcod.cluster import webhook
from dcod.config import Config
from dcod.evaluate.results import ModelRef
from dcod.promote.decision import Decision, Reason
from dcod.stages.component import finish
from dcod.tracking import Tracker
from tests.cluster.test_webhook import receiving
from tests.tracked import fresh_store


def ended(config: Config, pipeline: str, stages: dict[str, str], error: str = "") -> None:
    """A pipeline run with stages that said something, closed by the exit handler."""
    tracker = Tracker(config.tracking)
    parent = tracker.parent(pipeline, config.name, config)
    for stage, outcome in stages.items():
        with tracker.stage(stage, parent, digest="d") as log:
            log.tag("dcod.decision", outcome)
            if stage == "gate":
                reasons = (Reason("improves", "it improved", outcome == "promote"),)
                decision = Decision(outcome == "promote", reasons, (), ModelRef("a"), ModelRef("b"), 0.05, 0.02)
                log.text("decision.json", decision.to_json())
    if error:
        tracker.note_error(pipeline, config.name, config, error)
    finish(config.to_json(), pipeline, "FAILED" if error else "SUCCEEDED", error)


def test_told_how_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(webhook.SECRET, "key")
    values: dict[str, Any] = {"name": "nightly", "tracking": fresh_store(tmp_path).model_dump()}
    with receiving(200) as receiver:
        monkeypatch.setenv(webhook.ADDRESS, receiver.url)
        config = Config.model_validate(values | {"notify": {"url": "environment"}})
        ended(config, "skipped", {"decide": "too_few"})
        ended(config, "better", {"decide": "go", "gate": "promote", "promote": "promoted"})
        ended(config, "no better", {"decide": "go", "gate": "refuse"})
        ended(config, "stale", {"gate": "promote", "promote": "stale"})
        ended(config, "cut off", {"decide": "waiting", "promote": "promoted"})
        ended(config, "the same", {"gate": "already_champion"})
        ended(config, "broken", {"ingest": ""}, error="ingest: no such file")
        only = config.model_copy(update={"notify": config.notify.model_copy(update={"events": ["failed"]})})
        ended(only, "not wanted", {"gate": "refuse"})
    told = {json.loads(body)["pipeline"]: json.loads(body) for _, _, _, body in receiver.got}
    assert {name: message["event"] for name, message in told.items()} == {
        "better": "promoted",
        "no better": "refused",
        "stale": "refused",
        "cut off": "promoted",
        "broken": "failed",
    }
    assert told["better"]["text"] == "yes: it improved"
    assert told["no better"]["text"] == "NO: it improved"
    assert told["stale"]["outcome"] == "stale"
    assert told["broken"]["text"] == "ingest: no such file"
    assert {(message["name"], message["model"]) for message in told.values()} == {("nightly", "dcod-student")}


def test_a_receiver_that_is_away_fails_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(webhook.SECRET, "key")
    values: dict[str, Any] = {"tracking": fresh_store(tmp_path).model_dump()}
    with receiving(403) as receiver:
        monkeypatch.setenv(webhook.ADDRESS, receiver.url)
        config = Config.model_validate(values | {"notify": {"url": "environment"}})
        ended(config, "run", {"gate": "refuse"})
    tracker = Tracker(config.tracking)
    (parent,) = tracker.client.search_runs([tracker.experiment_id], "tags.`dcod.pipeline` = 'run'")
    assert parent.info.status == "FINISHED"
    assert "refused (403)" in parent.data.tags["dcod.webhook"]
