"""How a pipeline run ended, from what its stages recorded, and what there is to tell of it.

What the runner says of its own tasks tells success from failure in neither direction: Kubeflow's backend says COMPLETE
where the local runner says SUCCEEDED, and RUNNING both after a refused gate and after a pod that was killed. So a run
is whole when the stage that ends it is: `decide` that skips, `gate` that does not promote, or `promote`. The runner's
word only ever adds that the run failed or was cancelled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dcod import storage
from dcod.promote.decision import DECISION, read_decision
from dcod.retrain.history import OUTCOME
from dcod.tracking import platform
from dcod.tracking.runs import Tracker
from dcod.tracking.store import quoted

CANCELLED = ("CANCELED", "CANCELLED")
_LAST = ("decide", "gate", "promote")  # the stages that may end a run


def failure(tracker: Tracker, pipeline: str, state: str, message: str = "") -> str:
    """Why a pipeline run is no whole one; empty where it is.

    Args:
        tracker: the store of its stages.
        pipeline: id of the run.
        state: the runner's word for it.
        message: what the runner says about an error; often empty.
    """
    if state in (*CANCELLED, "FAILED"):
        return message or f"the pipeline ended as {state}"
    parent = _parent(tracker, pipeline)
    if parent is None:
        return message or f"no stage of it was recorded; the pipeline ended as {state}"
    stages = {name: _newest(tracker, parent, f"tags.`dcod.stage` = {quoted(name)}") for name in _LAST}
    missing = _missing(stages)
    if not missing:
        return ""
    cut = _newest(tracker, parent, "attributes.status = 'RUNNING' and tags.`dcod.stage` != ''")
    if cut is not None:
        return f"{cut.info.run_name}: its pod was killed (too little memory, or its node went away) and did not end"
    return message or f"`{missing}` did not end; the pipeline ended as {state}"


def ending(tracker: Tracker, pipeline: str) -> tuple[str, dict[str, Any]] | None:
    """How a pipeline run ended, in an event and what there is to say; None where nobody waits for it.

    Events: ``promoted``; ``refused``, by the gate, or by the promotion (stale, not_reproduced); ``failed``.
    """
    parent = _parent(tracker, pipeline)
    if parent is None:
        return None
    told: dict[str, Any] = {"run": str(parent.info.run_id), "pipeline": pipeline, "text": ""}
    if platform.status(parent) != "FINISHED":
        return "failed", told | {"text": parent.data.tags.get("dcod.error", "")}
    gate, promote = (_newest(tracker, parent, f"tags.`dcod.stage` = {quoted(name)}") for name in ("gate", "promote"))
    if gate is not None:
        told["text"] = _reasons(tracker, str(gate.info.run_id))
    if promote is not None and (outcome := _said(promote)):
        return "promoted" if outcome == "promoted" else "refused", told | {"outcome": outcome}
    return ("refused", told | {"outcome": "refused"}) if _said(gate) == "refuse" else None


def _missing(stages: dict[str, Any]) -> str:
    """The stage that should have ended the run; empty where it has."""
    last = {name: run for name, run in stages.items() if run is not None and run.info.status == "FINISHED"}
    if "promote" in last:
        return ""
    if "gate" in last:
        return "promote" if _said(last["gate"]) == "promote" else ""
    if "decide" in last:
        outcome = last["decide"].data.tags.get(OUTCOME, "")
        return {"skip": "", "waiting": "promote"}.get(outcome, "gate")
    return "decide" if stages["decide"] is not None else "gate"


def _said(run: Any) -> str:
    return "" if run is None else str(run.data.tags.get("dcod.decision", ""))


def _parent(tracker: Tracker, pipeline: str) -> Any:
    return _first(tracker, f"tags.`dcod.pipeline` = {quoted(pipeline)}", "ASC")


def _newest(tracker: Tracker, parent: Any, query: str) -> Any:
    """The newest attempt of a stage: what was tried again counts by its last try."""
    return _first(tracker, f"tags.`mlflow.parentRunId` = {quoted(parent.info.run_id)} and {query}", "DESC")


def _first(tracker: Tracker, query: str, way: str) -> Any:
    order = [f"attributes.start_time {way}"]
    return next(iter(tracker.client.search_runs([tracker.experiment_id], query, order_by=order, max_results=1)), None)


def _reasons(tracker: Tracker, run_id: str) -> str:
    with storage.scratch() as scratch:
        return "\n".join(read_decision(Path(tracker.client.download_artifacts(run_id, DECISION, str(scratch)))).lines)
