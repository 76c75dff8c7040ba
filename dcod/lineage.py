"""From MLflow back to files: which ones were ingested, and which ones a registered model goes back to.

A run names its inputs with their digests, and a stage's run is tagged with the digest of its output; so the way back
from a model is a walk from run to run, until the runs that read source files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from dcod.registry import Registry, Version
from dcod.tracking import SOURCE, Tracker

_PAGE = 500


def seen(tracker: Tracker) -> set[str]:
    """SHA-256 digests of all files that finished ingests of the experiment have read."""
    found: set[str] = set()
    for run in _runs(tracker, "tags.`dcod.stage` = 'ingest' and attributes.status = 'FINISHED'"):
        found.update(digest for context, _, digest in _inputs(run) if context == SOURCE)
    return found


def files(registry: Registry, version: Version) -> dict[str, str]:
    """The source files behind a registered version: SHA-256 by name. The first champion, a start, has none.

    Args:
        registry: that has it.
        version: one of its versions.
    """
    if version.tags.get("dcod.decision") == "start" or not version.run_id:
        return {}
    found: dict[str, str] = {}
    waiting, known = [registry.tracker.client.get_run(version.run_id)], {version.run_id}
    while waiting:
        for context, name, digest in _inputs(waiting.pop()):
            if context == SOURCE:
                found[name] = digest
                continue
            for run in _runs(registry.tracker, f"tags.`dcod.digest` = '{digest}'"):
                if run.info.run_id not in known:
                    known.add(run.info.run_id)
                    waiting.append(run)
    return dict(sorted(found.items()))


def _runs(tracker: Tracker, query: str) -> Iterator[Any]:
    """MLflow's runs that a query finds, all pages of them."""
    token = None
    while True:
        page = tracker.client.search_runs([tracker.experiment_id], query, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _inputs(run: Any) -> Iterator[tuple[str, str, str]]:
    """Context, name and whole digest of a run's inputs."""
    for item in run.inputs.dataset_inputs:
        contexts = [tag.value for tag in item.tags if tag.key == "mlflow.data.context"]
        yield contexts[0] if contexts else "", item.dataset.name, json.loads(item.dataset.source)["digest"]
