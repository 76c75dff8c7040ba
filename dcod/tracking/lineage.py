"""Where a student comes from: the files behind a registered version, by a walk through the inputs of MLflow's runs.

A run names its inputs as MLflow's data sets, with whole digests, and is tagged with the digest of its output. So a
training leads to its scores, a scoring names the files that its traces came from, and the model that a training began
with leads to the training that made it. What a retrain asks of the past is :mod:`dcod.retrain.history`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcod.traces import sources_of
from dcod.tracking.logs import SOURCE
from dcod.tracking.registry import Registry, Version
from dcod.tracking.runs import Tracker
from dcod.tracking.store import pages

_PAGE = 500


@dataclass(frozen=True)
class Origin:
    """The files behind a student, its own and those of the students that it goes back to.

    Attributes:
        files: names by SHA-256.
        untraced: how many of them only its own traces name: MLflow does not lead to them.
    """

    files: Mapping[str, str]
    untraced: int = 0

    @property
    def gap(self) -> str:
        """What is to be said of those; empty where there are none."""
        way = "a stage ran without tracking, or its run was deleted"
        return f"{self.untraced} of these files are known from the traces alone: {way}." if self.untraced else ""


def origin(registry: Registry, version: Version | None, traces: Path | None) -> Origin:
    """What MLflow leads to, checked against the traces that the student was trained on.

    Args:
        registry: that has the version.
        version: of the student; None where it is not registered.
        traces: that it was trained on.
    """
    scored = files(registry, version) if version else {}
    own = sources_of(traces) if traces else {}
    return Origin(scored | own, len(own.keys() - scored.keys()))


def files(registry: Registry, version: Version) -> dict[str, str]:
    """Names of the files behind a registered version, by SHA-256: its own, and those of the students before it.

    A start that dcod did not train has none. What a run without tracking did, or a run that was deleted, leads nowhere.
    """
    by_digest: dict[str, str] = {}
    known: set[str] = set()
    waiting = [f"attributes.run_id = '{version.run_id}'"] if version.run_id else []
    while waiting:
        query = waiting.pop()
        if query in known:
            continue
        known.add(query)
        for run in _runs(registry.tracker, query):
            stage = run.data.tags.get("dcod.stage", "")
            for context, name, digest in _inputs(run):
                if context == SOURCE:
                    by_digest |= {digest: name} if stage == "score" else {}
                elif stage == "train" and context == "student":  # elsewhere a model only judges, or lends its tokenizer
                    waiting += [f"attributes.run_id = '{maker}'" for maker in _makers(registry.tracker, digest)]
                elif stage in ("train", "merge"):
                    waiting.append(f"tags.`dcod.digest` = '{digest}'")
    return dict(sorted(by_digest.items(), key=lambda item: (item[1], item[0])))


def _runs(tracker: Tracker, query: str) -> Iterator[Any]:
    """MLflow's runs that a query finds, all pages of them."""
    ask, where = tracker.client.search_runs, [tracker.experiment_id]
    return pages(lambda token: ask(where, query, max_results=_PAGE, page_token=token))


def _makers(tracker: Tracker, digest: str) -> list[str]:
    """Ids of the runs that logged a model."""
    models = tracker.client.search_logged_models([tracker.experiment_id], f"tags.`dcod.digest` = '{digest}'")
    return [str(model.source_run_id) for model in models]


def _inputs(run: Any) -> Iterator[tuple[str, str, str]]:
    """Context, name and whole digest of a run's inputs."""
    for item in run.inputs.dataset_inputs:
        contexts = [tag.value for tag in item.tags if tag.key == "mlflow.data.context"]
        yield contexts[0] if contexts else "", item.dataset.name, json.loads(item.dataset.source)["digest"]
