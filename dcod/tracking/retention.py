"""What of earlier runs may go, and its removal: weights and outputs are the bulk of a store, runs and figures stay.

Never: what a version with an alias needs, nor the champions before it (a rollback needs them), nor a challenger that
waits for its promotion; nor what belongs to an open run, or was taken over since. Where weights go, the version stays
with its story and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dcod.config import Config
from dcod.storage.entries import entries
from dcod.tracking import platform
from dcod.tracking.registry import Registry, Version
from dcod.tracking.runs import Tracker
from dcod.tracking.store import asked, pages

DAY_S = 86_400
DELETED = "deleted"  # in the place of the kind of an output, or of a version's weights
_PAGE = 500


@dataclass(frozen=True)
class Item:
    """One thing that may go.

    Attributes:
        kind: ``output`` of a stage, ``model``, ``weights`` that a reference names, ``remains`` of checkpoints and jobs.
        name: for a person.
        when: seconds since 1970 of its last change.
        size: bytes; -1 where the store does not say.
        remove: deletes it.
    """

    kind: str
    name: str
    when: float
    size: int
    remove: Callable[[], None] = field(compare=False, repr=False)


def removable(tracker: Tracker, config: Config, days: float, now: float) -> list[Item]:
    """All that may go, the oldest first.

    Args:
        tracker: the store, of one experiment.
        config: the places of checkpoints, jobs and weights.
        days: nothing younger goes.
        now: seconds since 1970.

    Raises:
        UserError: the store or a bucket does not answer.
    """
    before, registry = now - days * DAY_S, Registry(tracker)
    versions = list(_versions(registry))
    kept = {version.digest for version in _needed(registry, versions)}
    ask, where = tracker.client.search_runs, [tracker.experiment_id]
    runs = list(pages(lambda token: ask(where, "", max_results=_PAGE, page_token=token)))
    stages = [run for run in runs if "dcod.stage" in run.data.tags]
    opened = {run.info.run_id for run in runs if "dcod.pipeline" in run.data.tags and platform.status(run) == "RUNNING"}
    fresh = [run for run in stages if _parent(run) in opened or run.info.start_time / 1000 >= before]
    spared = {run.info.run_id for run in fresh} | {run.data.tags.get("dcod.reused_from", "") for run in fresh}
    spared_models = {run.data.tags.get("dcod.model_id", "") for run in runs if run.info.run_id in spared}
    find = tracker.client.search_logged_models
    logged = list(pages(lambda token: find(where, max_results=_PAGE, page_token=token)))
    items = [*_outputs(tracker, stages, spared), *_models(tracker, logged, kept, spared_models, versions)]
    # Weights go with the last model that names them, and not while a run is open that may be about to fetch them.
    young_models = {model.model_id for model in logged if model.creation_timestamp / 1000 >= before} | spared_models
    kept |= {model.tags.get("dcod.digest", "") for model in logged if model.model_id in young_models}
    young = [run for run in runs if run.info.run_id in opened and run.info.start_time / 1000 >= before]
    items += [*([] if young else _weights(config, kept)), *_remains(config)]
    return sorted((item for item in items if item.when < before), key=lambda item: item.when)


def _versions(registry: Registry) -> Iterator[Version]:
    """Of all registered models: several schedules may share an experiment."""
    client = registry.tracker.client
    for model in pages(lambda token: client.search_registered_models(max_results=100, page_token=token)):
        yield from registry.versions(model.name)


def _needed(registry: Registry, versions: list[Version]) -> Iterator[Version]:
    """Versions with an alias, the champions before each, and accepted ones that nobody has promoted yet."""
    by_number = {(version.name, version.version): version for version in versions}
    client = registry.tracker.client
    held = {name: set(client.get_registered_model(name).aliases.values()) for name in {v.name for v in versions}}
    for version in versions:
        waits = version.tags.get("dcod.decision") == "promote" and "dcod.outcome" not in version.tags
        if str(version.version) not in {str(number) for number in held[version.name]} and not waits:
            continue
        one: Version | None = version
        seen = set[int]()
        while one is not None and one.version not in seen:
            seen.add(one.version)
            yield one
            before = one.tags.get("dcod.previous_champion", "")
            one = by_number.get((one.name, int(before))) if before.isdigit() else None


def _outputs(tracker: Tracker, stages: list[Any], spared: set[str]) -> Iterator[Item]:
    """Folders that stages have left; students count as models."""
    for run in stages:
        run_id, tags = run.info.run_id, run.data.tags
        if tags.get("dcod.output") != "folder" or run_id in spared:
            continue

        def remove(run_id: str = run_id, place: str = run.info.artifact_uri) -> None:
            tracker.client.set_tag(run_id, "dcod.output", DELETED)  # first: what is half gone is not taken over
            _delete(tracker, place, "output")

        yield Item("output", f"{run.info.run_name} {run_id[:8]}", run.info.start_time / 1000, -1, remove)


def _models(
    tracker: Tracker, logged: list[Any], kept: set[str], spared: set[str], versions: list[Version]
) -> Iterator[Item]:
    """Logged students; where one was registered, its version says that its weights are gone."""
    client, registry = tracker.client, Registry(tracker)
    for model in logged:
        digest = model.tags.get("dcod.digest", "")
        if not digest or digest in kept or model.model_id in spared or model.tags.get("dcod.weights") == DELETED:
            continue
        files = client.list_logged_model_artifacts(model.model_id, "model")
        size = sum(file.file_size or 0 for file in files)
        of = [version for version in versions if version.digest == digest]

        def remove(model: Any = model, of: list[Version] = of) -> None:
            for version in of:
                registry.tag(version, {"dcod.weights": DELETED})
            client.set_logged_model_tags(model.model_id, {"dcod.weights": DELETED})
            _delete(tracker, model.artifact_location, "model")

        named = ", ".join(f"models:/{version.name}/{version.version}" for version in of)
        yield Item("model", named or f"{model.name} {digest[:8]}", model.creation_timestamp / 1000, size, remove)


def _weights(config: Config, kept: set[str]) -> Iterator[Item]:
    """Weights that MLflow only names (``promote.log_model=reference``)."""
    for place in entries(f"{config.cluster.storage.rstrip('/')}/models" if config.cluster.storage else ""):
        if place.name not in kept:
            yield Item("weights", place.uri, place.when, place.size, place.remove)


def _remains(config: Config) -> Iterator[Item]:
    """Checkpoints of trainings and scorings, and what jobs on several nodes left."""
    jobs = f"{config.cluster.storage.rstrip('/')}/trainjobs" if config.cluster.storage else ""
    for uri in dict.fromkeys((config.train.checkpoints.uri, config.score.checkpoints.uri, jobs)):
        for place in entries(uri):
            yield Item("remains", place.uri, place.when, place.size, place.remove)


def _parent(run: Any) -> str:
    return str(run.data.tags.get("mlflow.parentRunId", ""))


def _delete(tracker: Tracker, uri: str, folder: str) -> None:
    """Deletes artifacts for good; MLflow's client offers it for none of them."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with asked(tracker.config.uri, "delete_artifacts"):
        get_artifact_repository(uri, tracking_uri=tracker.config.uri).delete_artifacts(folder)


def age(item: Item, now: float) -> int:
    """Whole days since its last change."""
    return int((now - item.when) // DAY_S)
