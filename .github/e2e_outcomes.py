"""Whether MLflow tells the runs of the end-to-end workflow as they were: each ended, and the last was refused.

Its argument is their number; MLFLOW_TRACKING_URI, _USERNAME and _PASSWORD say where.
"""

from __future__ import annotations

import sys

from mlflow import MlflowClient


def told(client: MlflowClient) -> list[tuple[str, str, str]]:
    """Of each run, oldest first: how it ended, what its gate decided, and its error."""
    experiment = client.get_experiment_by_name("dcod")
    if experiment is None:
        return []
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    gates = {
        run.data.tags.get("mlflow.parentRunId"): run.data.tags.get("dcod.decision", "")
        for run in runs
        if run.data.tags.get("dcod.stage") == "gate"
    }
    parents = [run for run in runs if run.data.tags.get("dcod.name") == "e2e"]
    return [(r.info.status, gates.get(r.info.run_id, "no gate"), r.data.tags.get("dcod.error", "")) for r in parents]


def wrong(found: list[tuple[str, str, str]], number: int) -> str:
    """One line of what is not as it should be; empty where all is."""
    if len(found) != number:
        return f"MLflow has {len(found)} runs, {number} were submitted"
    for place, (status, _, error) in enumerate(found, 1):
        if status != "FINISHED" or error:
            return f"run {place} is {status} in MLflow: {error}"
    return "" if found[-1][1] == "refuse" else f"the gate of the last run says {found[-1][1]}, not refuse"


if __name__ == "__main__":
    outcomes = told(MlflowClient())
    for line in outcomes:
        print(*line)
    sys.exit(wrong(outcomes, int(sys.argv[1])))
