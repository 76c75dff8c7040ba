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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcod.config import Config

TOKEN = "KUBEFLOW_TOKEN"
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
_PATIENCE_S = 300.0


@dataclass(frozen=True)
class Uploaded:
    """A version of a pipeline, as Kubeflow has it.

    Attributes:
        pipeline: its name.
        name: of the version.
        pipeline_id: of the pipeline.
        version_id: of the version.
        new: it was uploaded just now.
    """

    pipeline: str
    name: str
    pipeline_id: str
    version_id: str
    new: bool

    def __str__(self) -> str:
        return f"version {self.name} of {self.pipeline}"


@dataclass(frozen=True)
class Scheduled:
    """A recurring run that was made.

    Attributes:
        id: of the recurring run.
        text: its times, and which version it runs.
        stopped: how many of the same name ended for it.
    """

    id: str
    text: str
    stopped: int


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

    def submit(self) -> tuple[str, Uploaded]:
        """Uploads the pipeline and starts one run of that version; returns the run's id and the version."""
        version = self.upload()
        with self._explained("submit"):
            run = self.client.run_pipeline(
                experiment_id=self.experiment(),
                job_name=f"{self.config.name} {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S}",
                pipeline_id=version.pipeline_id,
                version_id=version.version_id,
                params=self._parameters(),
                pipeline_root=self.cluster.pipeline_root or None,
                service_account=self.cluster.service_account,
            )
        return str(run.run_id), version

    def upload(self) -> Uploaded:
        """The version of this code, image and configuration: found, or made. Needs no run."""
        from dcod.errors import UserError
        from dcod_pipelines import versions

        pipeline = versions.pipeline_name(self.config)
        with self._compiled() as file:
            name = versions.version_name(self.config, Path(file).read_bytes())
            pipeline_id = self._pipeline(pipeline)
            held = self._versions(pipeline_id, filter=_named(name))
            if not held:
                about = versions.description(self.config)
                try:
                    with self._explained("upload the pipeline"):
                        made = self.client.upload_pipeline_version(file, name, pipeline_id, description=about)
                except UserError:
                    held = self._versions(pipeline_id, filter=_named(name))
                    if not held:  # else somebody uploaded the same just now
                        raise
                else:
                    return Uploaded(pipeline, name, pipeline_id, str(made.pipeline_version_id), new=True)
        return Uploaded(pipeline, name, pipeline_id, str(held[0].pipeline_version_id), new=False)

    def _pipeline(self, name: str) -> str:
        """The id of a pipeline, made where it does not exist; without any version, which an upload would bring."""
        with self._explained("pipelines"):
            page = self.client.list_pipelines(filter=_named(name), namespace=self.namespace or None)
            if page.pipelines:
                return str(page.pipelines[0].pipeline_id)
            kind = self.client.api_models.V2beta1Pipeline
            about = "Distribution-corrected offline distillation; versions are uploaded by dcod."
            body = kind(display_name=name, name=name, namespace=self.namespace or None, description=about)
            return str(self.client.pipelines.pipeline_service_create_pipeline(body).pipeline_id)

    def _versions(self, pipeline_id: str, **which: Any) -> list[Any]:
        """Versions of a pipeline, the newest first."""
        with self._explained("versions"):
            page = self.client.list_pipeline_versions(pipeline_id, page_size=1, sort_by="created_at desc", **which)
        return list(page.pipeline_versions or [])

    def _parameters(self) -> dict[str, Any]:
        """What a run is given: all of it, so that Kubeflow's page shows what is run, whatever a version began with."""
        from dcod.config.inputs import values_of

        return {"config": self.config.to_json(), **values_of(self.config)}

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

    def schedules(self, name: str = "") -> list[Any]:
        """The recurring runs of that name, or all; also those that were stopped."""
        rows: list[Any] = []
        token = ""
        while True:
            with self._explained("schedules"):
                page = self.client.list_recurring_runs(
                    page_token=token, page_size=100, experiment_id=self.experiment(), namespace=self.namespace or None
                )
            rows += [each for each in page.recurring_runs or [] if not name or each.display_name == name]
            token = page.next_page_token or ""
            if not token:
                return rows

    def schedule(self, name: str, cron: str, *, newest: bool = False) -> Scheduled:
        """Makes a recurring run, then stops earlier ones of that name.

        They are not removed: Kubernetes ends the runs of a recurring run with it (each workflow has it as its owner),
        and Kubeflow no longer shows which runs were its.

        Args:
            name: of the schedule.
            cron: its times.
            newest: each run takes the newest version there is then; else this one.

        Raises:
            UserError: it cannot be; or the newest version is another than that of this configuration.
        """
        from dcod.errors import UserError
        from dcod_pipelines.cron import parse

        parsed = parse(cron)
        earlier = [each for each in self.schedules(name) if running(each)]
        version = self.upload()
        if newest and (now := self._versions(version.pipeline_id)[0].display_name) != version.name:
            raise UserError(
                f"--newest: the newest version of {version.pipeline} is {now}, not {version.name}, which this "
                "configuration makes: delete it there, or leave out --newest"
            )
        which = f"runs the newest version of {version.pipeline}" if newest else f"pinned to {version}"
        models = self.client.api_models
        body = models.V2beta1RecurringRun(  # kfp's own method wants a version
            experiment_id=self.experiment(),
            display_name=name,
            description=f"{parsed.words}; {which}",
            trigger=models.V2beta1Trigger(cron_schedule=models.V2beta1CronSchedule(cron=parsed.kubeflow)),
            mode=models.RecurringRunMode.ENABLE,
            max_concurrency=1,
            no_catchup=True,
            pipeline_version_reference=models.V2beta1PipelineVersionReference(
                pipeline_id=version.pipeline_id, pipeline_version_id=None if newest else version.version_id
            ),
            runtime_config=models.V2beta1RuntimeConfig(
                parameters=self._parameters(), pipeline_root=self.cluster.pipeline_root or None
            ),
            service_account=self.cluster.service_account,
        )
        with self._explained("schedule"):
            made = self.client.recurring_runs.recurring_run_service_create_recurring_run(body)
        for old in earlier:
            with self._explained("stop the earlier schedule"):
                self.client.disable_recurring_run(old.recurring_run_id)
        return Scheduled(str(made.recurring_run_id), f"{parsed.words}; {which}", len(earlier))

    def unschedule(self, name: str) -> int:
        """Removes the recurring runs of that name, stopped ones as well; returns how many."""
        earlier = self.schedules(name)
        for old in earlier:
            with self._explained("remove the schedule"):
                self.client.delete_recurring_run(old.recurring_run_id)
        return len(earlier)

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

        from dcod.errors import AwayError, UserError, one_line

        where = f"Kubeflow at {self.cluster.kubeflow}"
        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                yield
        except ApiException as error:
            reason = one_line(error.body or error.reason)[:400]
            if error.status in (401, 403):
                raise UserError(f"{where}: {what}: not allowed ({error.status} {reason}); set ${TOKEN}") from None
            if error.status == 404:
                raise UserError(f"{where}: {what}: not there ({reason}); `dcod status` lists the runs") from None
            if error.status and error.status >= 500:
                raise AwayError(f"{where}: {what}: {error.status} {reason}") from None
            raise UserError(f"{where}: {what}: refused ({error.status} {reason})") from None
        except (HTTPError, TimeoutError) as error:
            reason = one_line(error).rpartition("(Caused by ")[2][:200]
            raise AwayError(f"{where}: {what}: no answer ({reason}); check cluster.kubeflow") from None


def running(schedule: Any) -> bool:
    """Whether a recurring run is not stopped."""
    return str(schedule.status) == "ENABLED"


def _named(name: str) -> str:
    """Kubeflow's filter for one name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def stages(run: Any) -> list[tuple[str, str]]:
    """Names and states of a run's stages, in the order in which they began; Kubeflow's own tasks are left out."""
    rows = []
    for task in (run.run_details.task_details if run.run_details else None) or []:
        name = task.display_name or ""
        if name and task.state and not name.endswith("-driver") and name not in ("root", "executor"):
            rows.append((str(task.start_time or task.create_time or ""), name, str(task.state)))
    return [(name, state) for _, name, state in sorted(rows)]
