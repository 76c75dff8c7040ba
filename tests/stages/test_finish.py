"""The exit handler: how a run ended is what its stages recorded, whatever Kubeflow says; and the webhook is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dcod.cluster import webhook
from dcod.config import Config
from dcod.evaluate.results import ModelRef
from dcod.promote.decision import Decision, Reason
from dcod.retrain import history
from dcod.stages.component import finish
from dcod.tracking.runs import Tracker
from tests.cluster.test_webhook import receiving
from tests.tracked import fresh_store

# A stage that left its run as it began: its pod was killed.
CUT = "killed"
PROMOTED = [("decide", "go"), ("train", ""), ("gate", "promote"), ("promote", "promoted")]
REFUSED = [("decide", "go"), ("train", ""), ("gate", "refuse")]
SKIPPED = [("ingest", ""), ("decide", "skip")]
WAITING = [("decide", "waiting"), ("promote", "promoted")]
IN_TRAINING = [("decide", "go"), ("train", CUT)]
IN_PROMOTION = [("decide", "go"), ("gate", "promote"), ("promote", CUT)]
AGAIN = [("decide", "go"), ("train", CUT), ("train", ""), ("gate", "refuse")]


def recorded(config: Config, pipeline: str, stages: list[tuple[str, str]], error: str = "") -> None:
    """What the stages of a pipeline run left in MLflow; each with what it decided."""
    tracker = Tracker(config.tracking)
    parent = tracker.parent(pipeline, config.name, config)
    for stage, outcome in stages:
        if outcome == CUT:
            tags = {"dcod.stage": stage, "mlflow.parentRunId": parent}
            tracker.client.create_run(tracker.experiment_id, tags=tags, run_name=stage)
            continue
        with tracker.stage(stage, parent, digest="d") as log:
            log.tag("dcod.decision", outcome)
            if stage == "decide":
                log.tag(history.MODEL, config.promote.registered_model)
                log.tag(history.OUTCOME, outcome)
                log.text(history.RECORD, json.dumps({"tried": {pipeline: "f"}, "figures": {}, "warnings": [],
                                                     "outcome": outcome}))  # fmt: skip
            if stage == "gate":
                reasons = (Reason("improves", "it improved", outcome == "promote"),)
                decision = Decision(outcome == "promote", reasons, (), ModelRef("a"), ModelRef("b"), 0.05, 0.02)
                log.text("decision.json", decision.to_json())
    if error:
        tracker.note_error(pipeline, config.name, config, error)


def parent_of(config: Config, pipeline: str) -> Any:
    tracker = Tracker(config.tracking)
    (parent,) = tracker.client.search_runs([tracker.experiment_id], f"tags.`dcod.pipeline` = '{pipeline}'")
    return parent


DID_NOT_END, KILLED = "did not end", "train: its pod was killed"
# What the stages recorded, Kubeflow's word, and the status and error of the run that follow.
ENDS: list[tuple[list[tuple[str, str]], str, str, str]] = [
    (PROMOTED, "SUCCEEDED", "FINISHED", ""),  # the local runner's word
    (PROMOTED, "COMPLETE", "FINISHED", ""),
    (PROMOTED, "RUNNING", "FINISHED", ""),  # after a loop
    (REFUSED, "COMPLETE", "FINISHED", ""),
    (REFUSED, "RUNNING", "FINISHED", ""),
    (REFUSED, "CACHED", "FINISHED", ""),
    (SKIPPED, "RUNNING", "FINISHED", ""),
    (WAITING, "RUNNING", "FINISHED", ""),
    (AGAIN, "RUNNING", "FINISHED", ""),  # killed once, and done when it was tried again
    (IN_TRAINING, "RUNNING", "FAILED", KILLED),
    (IN_TRAINING, "COMPLETE", "FAILED", KILLED),
    (IN_PROMOTION, "RUNNING", "FAILED", "promote: its pod was killed"),
    ([("decide", "waiting")], "RUNNING", "FAILED", f"`promote` {DID_NOT_END}"),
    ([("decide", "go"), ("gate", "promote")], "RUNNING", "FAILED", f"`promote` {DID_NOT_END}"),
    ([("ingest", "")], "COMPLETE", "FAILED", f"`gate` {DID_NOT_END}"),
    ([], "RUNNING", "FAILED", f"`gate` {DID_NOT_END}"),
    (REFUSED, "FAILED", "FAILED", "the pipeline ended as FAILED"),
    (IN_TRAINING, "FAILED", "FAILED", "the pipeline ended as FAILED"),
    (IN_TRAINING, "CANCELED", "KILLED", "the pipeline ended as CANCELED"),
]


def test_the_outcome_is_what_the_stages_recorded(tmp_path: Path) -> None:
    """With a message of the runner and without; it only ever says why."""
    config = Config.model_validate({"tracking": fresh_store(tmp_path).model_dump()})
    tracker = Tracker(config.tracking)
    for number, (stages, state, status, said) in enumerate(ENDS):
        message = f"task {number} failed" if number % 2 else ""
        pipeline = f"run {number}"
        recorded(config, pipeline, stages)
        finish(config.to_json(), pipeline, state, message)
        parent = parent_of(config, pipeline)
        assert parent.info.status == status, (number, state)
        error = parent.data.tags.get("dcod.error", "")
        wanted = message if message and said and "pod was killed" not in said else said
        assert error.startswith(wanted), (number, state)
        assert bool(error) is bool(said), (number, state)
        of_this = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
        children = tracker.client.search_runs([tracker.experiment_id], of_this)
        assert len(children) == len(stages)
        assert "RUNNING" not in {child.info.status for child in children}
    assert len(ENDS) == 19


def test_what_follows_from_the_outcome(tmp_path: Path) -> None:
    """A night that was refused on a cluster was tried; one whose pod was killed was not. The alert follows."""
    config = Config.model_validate({"name": "nightly", "tracking": fresh_store(tmp_path).model_dump()})
    tracker, model = Tracker(config.tracking), config.promote.registered_model
    recorded(config, "refused", REFUSED)
    finish(config.to_json(), "refused", "RUNNING", "")
    assert history.tried(tracker, model) == {"refused": "f"}
    figures = history.status(tracker, config)
    assert (figures["failed"], "last_success_timestamp_seconds" in figures) == (0.0, True)
    recorded(config, "killed", IN_TRAINING)
    finish(config.to_json(), "killed", "RUNNING", "")
    assert history.tried(tracker, model) == {"refused": "f"}
    assert history.status(tracker, config)["failed"] == 1.0


def test_the_error_of_a_stage_that_passed_later_is_not_the_runs(tmp_path: Path) -> None:
    config = Config.model_validate({"tracking": fresh_store(tmp_path).model_dump()})
    recorded(config, "run", [("ingest", "")], error="score 2/4: the bucket was away")
    tracker = Tracker(config.tracking)
    parent = tracker.parent("run", config.name, config)
    with tracker.stage("score", parent, digest="d", label="1/4"):
        pass
    assert parent_of(config, "run").data.tags["dcod.error"] == "score 2/4: the bucket was away"
    with tracker.stage("score", parent, digest="d", label="2/4"):
        pass
    recorded(config, "run", [("train", CUT)])
    finish(config.to_json(), "run", "RUNNING", "")
    assert parent_of(config, "run").data.tags["dcod.error"].startswith("train: its pod was killed")


def test_a_run_of_which_nothing_is_known_failed(tmp_path: Path) -> None:
    config = Config.model_validate({"tracking": fresh_store(tmp_path).model_dump()})
    finish(config.to_json(), "run", "RUNNING", "")
    assert parent_of(config, "run").info.status == "FAILED"


def test_told_how_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(webhook.SECRET, "key")
    values: dict[str, Any] = {"name": "nightly", "tracking": fresh_store(tmp_path).model_dump()}

    def ended(config: Config, pipeline: str, stages: list[tuple[str, str]], state: str, error: str = "") -> None:
        recorded(config, pipeline, stages, error)
        finish(config.to_json(), pipeline, state, "")

    with receiving(200) as receiver:
        monkeypatch.setenv(webhook.ADDRESS, receiver.url)
        config = Config.model_validate(values | {"notify": {"url": "environment"}})
        ended(config, "skipped", SKIPPED, "RUNNING")
        ended(config, "better", PROMOTED, "COMPLETE")
        ended(config, "no better", REFUSED, "RUNNING")
        ended(config, "stale", [("gate", "promote"), ("promote", "stale")], "COMPLETE")
        ended(config, "cut off", WAITING, "RUNNING")
        ended(config, "the same", [("gate", "already_champion")], "RUNNING")
        ended(config, "broken", [("ingest", "")], "FAILED", error="ingest: no such file")
        ended(config, "killed", IN_TRAINING, "RUNNING")
        ended(config, "again", [*IN_PROMOTION, ("promote", "promoted")], "COMPLETE")
        only = config.model_copy(update={"notify": config.notify.model_copy(update={"events": ["failed"]})})
        ended(only, "not wanted", REFUSED, "RUNNING")
    told = {json.loads(body)["pipeline"]: json.loads(body) for _, _, _, body in receiver.got}
    assert {name: message["event"] for name, message in told.items()} == {
        "better": "promoted",
        "no better": "refused",
        "stale": "refused",
        "cut off": "promoted",
        "broken": "failed",
        "killed": "failed",
        "again": "promoted",
    }
    assert told["better"]["text"] == "yes: it improved"
    assert told["no better"]["text"] == "NO: it improved"
    assert told["stale"]["outcome"] == "stale"
    assert told["broken"]["text"] == "ingest: no such file"
    assert told["killed"]["text"].startswith("train: its pod was killed")
    assert {(message["name"], message["model"]) for message in told.values()} == {("nightly", "dcod-student")}


def test_a_receiver_that_is_away_fails_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(webhook.SECRET, "key")
    values: dict[str, Any] = {"tracking": fresh_store(tmp_path).model_dump()}
    with receiving(403) as receiver:
        monkeypatch.setenv(webhook.ADDRESS, receiver.url)
        config = Config.model_validate(values | {"notify": {"url": "environment"}})
        recorded(config, "run", REFUSED)
        finish(config.to_json(), "run", "COMPLETE", "")
    parent = parent_of(config, "run")
    assert parent.info.status == "FINISHED"
    assert "refused (403)" in parent.data.tags["dcod.webhook"]
