"""The runs that Kubeflow Pipelines itself makes in MLflow, where its plugin is on (2.17): dcod writes into them.

Read in kubeflow/pipelines 7b70c7b95f, backend/src/v2/common/plugins/mlflow/handler.go and
backend/src/apiserver/plugins/mlflow/handler.go, not tried on a cluster: the API server makes a run for the pipeline,
the driver a nested one for every task (below the run of its group, where it is in a loop or a condition), and the
task's pod gets MLFLOW_RUN_ID, MLFLOW_EXPERIMENT_ID and MLFLOW_TRACKING_URI where `injectUserEnvVars` is set. The
platform ends all of them itself, each task's as the task ends and the pipeline's last, and reopens none; so dcod ends
and reopens none either. They must lie in `tracking.experiment` of `tracking.uri`, or they are left alone, and dcod
makes its own as elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dcod.tracking.store import StoreError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

FOREIGN = "dcod.platform_run"  # on a run that the platform made, and ends
ENDED = "dcod.ended"
_PARENT = "mlflow.parentRunId"
_DEEPEST = 20  # groups within groups


def status(run: Run) -> str:
    """How a parent run ended, or RUNNING: by dcod's own word where the platform ends it, which may come later."""
    return str(run.data.tags.get(ENDED, "") or run.info.status)


class Platform:
    """The runs of this pod that the platform made, if any.

    Args:
        client: every call goes through it.
        experiment_id: in which they must lie.
    """

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self.client, self.experiment_id = client, experiment_id

    def parent(self, tags: Mapping[str, str]) -> str:
        """The id of the pipeline's run, with these tags from now on; empty if the platform made none here."""
        run = self._of_this_task()
        for _ in range(_DEEPEST):
            above = run.data.tags.get(_PARENT, "") if run else ""
            if run is None or not above:
                break
            run = self._run(above)
        if run is None:
            return ""
        self._mark(run, tags)
        return str(run.info.run_id)

    def stage(self, tags: Mapping[str, str]) -> str:
        """The id of this task's run, as that of a stage with these tags; empty if there is none, or it is taken.

        It is taken by another stage of the same pod, and where the pod is tried again: the platform ended it by then.
        """
        run = self._of_this_task()
        if run is None or run.info.status != "RUNNING":
            return ""
        if run.data.tags.get("dcod.stage", tags["dcod.stage"]) != tags["dcod.stage"]:
            return ""
        self._mark(run, tags)
        return str(run.info.run_id)

    def _of_this_task(self) -> Run | None:
        run_id = os.environ.get("MLFLOW_RUN_ID", "")
        run = self._run(run_id) if run_id else None
        return run if run is not None and run.data.tags.get(_PARENT) else None  # else it is of somebody's shell

    def _run(self, run_id: str) -> Run | None:
        try:
            run = self.client.get_run(run_id)
        except StoreError:  # of another store than ours
            return None
        return run if run.info.experiment_id == self.experiment_id else None

    def _mark(self, run: Run, tags: Mapping[str, str]) -> None:
        for key, value in {FOREIGN: "kubeflow", **tags}.items():
            self.client.set_tag(run.info.run_id, key, value)
