"""Runs on a cluster: submit, follow, say how they stand, cancel, and repeat by a schedule."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcod.config import Config

TOKEN = "KUBEFLOW_TOKEN"
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
_PATIENCE_S = 300.0


class Kubeflow:
    """Kubeflow Pipelines, through its own client.

    Attributes:
        client: kfp.Client.
        namespace: of the runs; empty where Kubeflow serves a single user.
        version: of the server, by its own word; may be ``unknown``.
    """

    def __init__(self, config: Config) -> None:
        """Connects.

        Raises:
            UserError: no address, no answer, or no access.
        """
        from dcod.errors import UserError

        self.config, self.cluster = config, config.cluster
        if not self.cluster.kubeflow:
            raise UserError(
                "cluster.kubeflow: no address; such as http://localhost:8888 after "
                "`kubectl -n kubeflow port-forward svc/ml-pipeline 8888`"
            )
        with self._explained("connect"):
            from kfp import Client

            access = {
                "host": self.cluster.kubeflow,
                "ui_host": self.cluster.ui or None,
                "existing_token": os.environ.get(TOKEN),
            }
            self.client = Client(**access, namespace=self.cluster.namespace)
            # get_kfp_healthz tries for 25 s, and the client's own model of the answer has no version.
            answer = self.client.healthzs.healthz_service_get_healthz(_preload_content=False)
            health = json.loads(answer.data)
            self.version = str(health.get("tag_name", ""))
            self.namespace = self.cluster.namespace if health.get("multi_user") else ""
            if not self.namespace:  # the client sends its own namespace where none is given, and Kubeflow refuses it
                self.client = Client(**access, namespace="")

    def link(self, run_id: str) -> str:
        """The web page of a run."""
        return f"{(self.cluster.ui or self.cluster.kubeflow).rstrip('/')}/#/runs/details/{run_id}"

    def submit(self) -> str:
        """Submits one run; returns its id."""
        name = f"{self.config.name} {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S}"
        with self._explained("submit"), self._compiled() as file:
            run = self.client.run_pipeline(
                experiment_id=self.experiment(),
                job_name=name,
                pipeline_package_path=file,
                params={"config": self.config.to_json()},
                pipeline_root=self.cluster.pipeline_root or None,
                service_account=self.cluster.service_account,
            )
        return str(run.run_id)

    def experiment(self) -> str:
        """The id of cluster.experiment, created where it does not exist."""
        with self._explained("experiment"):
            made = self.client.create_experiment(self.cluster.experiment, namespace=self.namespace or None)
        return str(made.experiment_id)

    def follow(self, run_id: str, show: Callable[[str], None], poll_s: float = 10.0) -> str:
        """Waits for the end of a run and shows each change of a stage; returns the run's state."""
        shown: dict[str, str] = {}
        while True:
            run = self.run(run_id)
            for name, state in stages(run):
                if shown.get(name) != state:
                    shown[name] = state
                    show(f"{name:<32} {state.lower()}")
            if run.state in ENDED:
                return str(run.state)
            time.sleep(poll_s)

    def run(self, run_id: str) -> Any:
        """A run; an API that is away for a while is waited for."""
        from dcod.errors import AwayError
        from dcod.storage.retries import Tries

        problem = ""
        for _ in Tries(within_s=_PATIENCE_S):
            try:
                with self._explained(f"run {run_id}"):
                    return self.client.get_run(run_id)
            except AwayError as error:
                problem = str(error)
        raise AwayError(f"{problem}; the run goes on, look later: dcod status {run_id}")

    def latest(self, count: int = 10) -> list[Any]:
        """The newest runs of the experiment."""
        with self._explained("runs"):
            page = self.client.list_runs(
                page_size=count,
                sort_by="created_at desc",
                experiment_id=self.experiment(),
                namespace=self.namespace or None,
            )
        return list(page.runs or [])

    def cancel(self, run_id: str) -> str:
        """Ends a run; returns the state that it had."""
        state = str(self.run(run_id).state)
        if state not in ENDED:
            with self._explained(f"cancel {run_id}"):
                self.client.terminate_run(run_id)
        return state

    def schedules(self, name: str) -> list[str]:
        """Ids of the recurring runs of that name."""
        ids, token = [], ""
        while True:
            with self._explained("schedules"):
                page = self.client.list_recurring_runs(
                    page_token=token, page_size=100, experiment_id=self.experiment(), namespace=self.namespace or None
                )
            ids += [r.recurring_run_id for r in page.recurring_runs or [] if r.display_name == name]
            token = page.next_page_token or ""
            if not token:
                return ids

    def schedule(self, name: str, cron: str) -> tuple[str, int]:
        """Creates a recurring run, then removes earlier ones of that name; returns its id and how many went."""
        from dcod_pipelines.cron import parse

        parsed = parse(cron)
        earlier = self.schedules(name)
        with self._explained("schedule"), self._compiled() as file:
            made = self.client.create_recurring_run(
                experiment_id=self.experiment(),
                job_name=name,
                description=parsed.words,
                cron_expression=parsed.kubeflow,
                max_concurrency=1,
                no_catchup=True,
                params={"config": self.config.to_json()},
                pipeline_package_path=file,
                pipeline_root=self.cluster.pipeline_root or None,
                service_account=self.cluster.service_account,
            )
        for old in earlier:
            self._remove(old)
        return str(made.recurring_run_id), len(earlier)

    def unschedule(self, name: str) -> int:
        """Removes the recurring runs of that name; returns how many."""
        earlier = self.schedules(name)
        for old in earlier:
            self._remove(old)
        return len(earlier)

    def _remove(self, recurring_run_id: str) -> None:
        with self._explained("remove the schedule"):
            self.client.delete_recurring_run(recurring_run_id)

    @contextlib.contextmanager
    def _compiled(self) -> Iterator[str]:
        """The file of the compiled pipeline, within the block."""
        from dcod.storage import scratch
        from dcod_pipelines.compile import compile_to

        with scratch() as folder:
            compile_to(folder / "pipeline.yaml", self.config)
            yield str(folder / "pipeline.yaml")

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """What the client prints and warns of is kept back; what it raises becomes one line."""
        from kfp_server_api import ApiException
        from urllib3.exceptions import HTTPError

        from dcod.errors import AwayError, UserError

        where = f"Kubeflow at {self.cluster.kubeflow}"
        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                yield
        except ApiException as error:
            reason = " ".join(str(error.body or error.reason).split())[:400]
            if error.status in (401, 403):
                raise UserError(f"{where}: {what}: not allowed ({error.status} {reason}); set ${TOKEN}") from None
            if error.status == 404:
                raise UserError(f"{where}: {what}: not there ({reason}); `dcod status` lists the runs") from None
            if error.status and error.status >= 500:
                raise AwayError(f"{where}: {what}: {error.status} {reason}") from None
            raise UserError(f"{where}: {what}: refused ({error.status} {reason})") from None
        except (HTTPError, TimeoutError) as error:
            reason = " ".join(str(error).split()).rpartition("(Caused by ")[2][:200]
            raise AwayError(f"{where}: {what}: no answer ({reason}); check cluster.kubeflow") from None


def stages(run: Any) -> list[tuple[str, str]]:
    """Names and states of a run's stages, in the order in which they began; Kubeflow's own tasks are left out."""
    rows = []
    for task in (run.run_details.task_details if run.run_details else None) or []:
        name = task.display_name or ""
        if name and task.state and not name.endswith("-driver") and name not in ("root", "executor"):
            rows.append((str(task.start_time or task.create_time or ""), name, str(task.state)))
    return [(name, state) for _, name, state in sorted(rows)]
