"""What earlier retrains left in MLflow; a schedule keeps no state of its own.

* Of every run, the stage `decide` keeps ``retraining.json``: its decision, its figures, which sources were tried, which
  of them were new, and whether the arms were compared.
* Of every registered student, ``decision/`` beside it says what the gate decided, which sources it was trained on, and
  which arm its pilot chose or it took over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from dcod import storage
from dcod.config import Config
from dcod.config.arms import CHOSEN
from dcod.promote.decision import DECISION, TRAINED_ON
from dcod.retrain import arms
from dcod.retrain.arms import Kept
from dcod.tracking import platform
from dcod.tracking.registry import Registry, Version
from dcod.tracking.runs import Tracker
from dcod.tracking.store import pages, quoted

RECORD = "retraining.json"
SELECTED = "selected"  # below the output of `decide`: the traces to train on
MODEL, OUTCOME = "dcod.registered_model", "dcod.retrain"  # tags of a stage run
_PAGE = 100


@dataclass(frozen=True)
class Past:
    """One earlier decision.

    Attributes:
        run_id: of its stage run.
        pipeline_run: the run id of its pipeline run.
        outcome: go, waiting or skip.
        status: of the pipeline run: FINISHED, FAILED, RUNNING, …
    """

    run_id: str
    pipeline_run: str
    outcome: str
    status: str


def decisions(tracker: Tracker, model: str) -> Iterator[Past]:
    """Earlier decisions about a registered model, newest first; those of a stage that was cut off are left out."""
    query = f"tags.`dcod.stage` = 'decide' and tags.`{MODEL}` = '{model}' and attributes.status = 'FINISHED'"
    ask, where, order = tracker.client.search_runs, [tracker.experiment_id], ["attributes.start_time DESC"]
    for run in pages(lambda token: ask(where, query, order_by=order, max_results=_PAGE, page_token=token)):
        parent = run.data.tags.get("mlflow.parentRunId", "")
        status = platform.status(tracker.client.get_run(parent)) if parent else "FINISHED"
        yield Past(str(run.info.run_id), parent, run.data.tags.get(OUTCOME, ""), status)


def record(tracker: Tracker, past: Past) -> dict[str, Any]:
    """The ``retraining.json`` of an earlier decision."""
    with storage.scratch() as scratch:
        path = Path(tracker.client.download_artifacts(past.run_id, RECORD, str(scratch)))
        return storage.read_json(path, made_by="dcod run")


def latest(tracker: Tracker, model: str) -> dict[str, Any]:
    """The record of the newest decision, whatever it was; empty where there is none."""
    past = next(decisions(tracker, model), None)
    return record(tracker, past) if past else {}


def tried(tracker: Tracker, model: str) -> dict[str, str]:
    """Sources, by digest, that some run trained on and brought to its end, promoted or refused.

    A run that failed or was killed counts for nothing: its sources are still new.
    """
    past = next((p for p in decisions(tracker, model) if p.outcome == "go" and p.status == "FINISHED"), None)
    digests: dict[str, str] = record(tracker, past)["tried"] if past else {}
    return digests


def piloted(tracker: Tracker, model: str) -> Iterator[dict[str, Any]]:
    """The records of runs that compared their arms and came to their end, newest first; a failed one counts not."""
    for past in decisions(tracker, model):
        if past.outcome == "go" and past.status == "FINISHED" and (told := record(tracker, past)).get("pilot"):
            yield told


def pilots(tracker: Tracker, model: str, since: float) -> int:
    """How many pilots there were since then."""
    return sum(1 for _ in takewhile(lambda told: told["at"] >= since, piloted(tracker, model)))


def learned(registry: Registry, champion: Version | None) -> dict[str, str]:
    """Sources, by digest, that the champion was trained on, or a champion before it."""
    sources: dict[str, str] = {}
    known: set[int] = set()
    version = champion
    while version is not None and version.version not in known:
        known.add(version.version)
        with storage.scratch() as scratch:
            path = registry.attached(version, "decision", scratch) / TRAINED_ON
            sources |= storage.read_json(path, made_by="dcod run") if path.is_file() else {}
        before = version.tags.get("dcod.previous_champion", "")
        version = registry.by_version(version.name, int(before)) if before.isdigit() else None
    return sources


def chosen(registry: Registry, name: str) -> Kept | None:
    """What the last pilot chose, whether its student became the champion or was refused; None where there was none.

    Each version says what its own pilot chose, or the earlier choice that it took over.
    """
    for version in reversed(registry.versions(name)):
        with storage.scratch() as scratch:
            kept = arms.read(registry.attached(version, "decision", scratch) / CHOSEN)
        if kept is not None and kept.at:
            return kept
    return None


def waiting(registry: Registry, name: str, champion: Version | None, into: Path) -> Version | None:
    """The newest version that the gate accepted against this champion and that nobody promoted yet.

    Its decision is put into a folder. One whose run ended before the decision was stored waits for nothing: its own
    run, done again, registers it again.
    """
    if champion is None:
        return None
    for version in reversed(registry.versions(name)):
        tags = version.tags
        accepted = tags.get("dcod.decision") == "promote" and tags.get("dcod.compared_with") == str(champion.version)
        if not accepted or tags.get("dcod.outcome"):
            continue
        if (registry.attached(version, "decision", into) / DECISION).is_file():
            return version
    return None


def unfinished(tracker: Tracker) -> list[tuple[str, Path]]:
    """Pipeline runs that nobody ended yet: their ids, and where the output of a stage of theirs lies."""
    query = "attributes.status = 'RUNNING' and tags.`dcod.place` != ''"
    runs = tracker.client.search_runs([tracker.experiment_id], query)
    return [(run.data.tags["dcod.pipeline"], Path(run.data.tags["dcod.place"])) for run in runs]


def status(tracker: Tracker, config: Config) -> dict[str, float]:
    """The figures of the schedule's newest run, for alerting: of the run, and of the newest decision."""
    model = config.promote.registered_model
    query = f"tags.`dcod.name` = {quoted(config.name)}"
    order = ["attributes.start_time DESC"]
    runs = tracker.client.search_runs([tracker.experiment_id], query, order_by=order, max_results=_PAGE)
    parents = [run for run in runs if "dcod.pipeline" in run.data.tags]
    figures: dict[str, float] = {}
    if parents:
        figures["last_run_timestamp_seconds"] = parents[0].info.start_time / 1000
        figures["failed"] = float(platform.status(parents[0]) in ("FAILED", "KILLED"))
    whole = next((run for run in parents if platform.status(run) == "FINISHED"), None)
    if whole:
        figures["last_success_timestamp_seconds"] = whole.info.start_time / 1000
    newest = latest(tracker, model)
    if newest:
        figures |= newest["figures"]
        figures |= {"go": float(newest["outcome"] == "go"), "warnings": float(len(newest["warnings"]))}
    champion = Registry(tracker).champion(model)
    if champion:
        figures["champion_version"] = float(champion.version)
    return figures
