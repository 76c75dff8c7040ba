"""Runs, metrics and artifacts in MLflow; the registry is ``dcod.tracking.registry``. These two import mlflow, lazily.

One parent run is a pipeline run, one nested run is a stage. Every call names its run: there is no active
run, so processes and threads do not see each other. Tags that dcod reads back:

==================  ============================================================================
``dcod.pipeline``   on the parent: the id of the pipeline run
``dcod.stage``      on a stage run: its verb
``dcod.digest``     on a stage run: digest of its inputs, configuration and code; on a model: its own
``dcod.output``     on a stage run: ``folder`` or ``model``, once the output is stored
``dcod.error``      on a failed run: one line; the traceback is the artifact ``error.txt``
``dcod.ended``      on a parent that the platform made and ends: how the pipeline ended
==================  ============================================================================
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcod import __version__, storage
from dcod.config import Config, TrackingConfig
from dcod.errors import AwayError, UserError, hidden, one_line
from dcod.storage import dripping, room
from dcod.tracking import money, store
from dcod.tracking.logged_models import LoggedModels
from dcod.tracking.logs import NAME, SOURCE, flatten
from dcod.tracking.outputs import Outputs
from dcod.tracking.platform import ENDED, FOREIGN, Platform
from dcod.tracking.store import StoreError, quoted

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import Run

_FLUSH_ROWS = 200
_FLUSH_SECONDS = 5.0
KIND = {"mlflow.experimentKind": "custom_model_development"}  # else it opens as one of traces and prompts
_log = logging.getLogger(__name__)


class Tracker:
    """The runs of one experiment on one tracking store.

    Attributes:
        client: every call goes through it, with explicit run ids.
        experiment_id: of ``tracking.experiment``, created on first use.
        models: that are logged in it.
        outputs: of its stages.
    """

    client: MlflowClient
    experiment_id: str

    def __init__(self, config: TrackingConfig) -> None:
        """Connects, and creates the store and the experiment where they do not exist.

        Raises:
            UserError: the store cannot be reached or written.
        """
        self.config = config
        for name, value in store.ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        dripping.watch()
        # By hand too, since mlflow may have been imported earlier. It logs the errors that it also raises.
        for logger in ("mlflow", "alembic"):
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        with store.asked(config.uri, "connect"):
            own = MlflowClient(tracking_uri=config.uri, registry_uri=config.uri)
        self.client = store.through(own, config.uri)
        self.experiment_id = self._experiment()
        if not self.experiment_id:
            raise StoreError(f"tracking.uri {config.uri}: it is no MLflow server; check the address")
        self._noted = ""  # the error that the parent run shows
        self.platform = Platform(self.client, self.experiment_id)
        self.models = LoggedModels(self.client, config.uri, self.experiment_id)
        self.outputs = Outputs(self.client, self.models)

    @property
    def remote(self) -> bool:
        """Whether a tracking server stands between us and the store."""
        return self.config.uri.startswith(("http://", "https://"))

    def parent(self, pipeline_id: str, name: str, config: Config, tags: Mapping[str, str] | None = None) -> str:
        """The run id of a pipeline's parent run, found by its tag or created; running again if it had ended."""
        with self._serialised():
            runs = self._parents(pipeline_id)
            if runs:
                run = runs[0]
                self._noted = run.data.tags.get("dcod.error", "")
                if run.info.status != "RUNNING" and FOREIGN not in run.data.tags:
                    self.client.update_run(run.info.run_id, status="RUNNING")
                return str(run.info.run_id)
            own = {"dcod.pipeline": pipeline_id, "dcod.name": name, "dcod.version": __version__, **(tags or {})}
            given = self.platform.parent(own)
            run_id = given or self._create(f"{name} {datetime.now(UTC):%Y-%m-%d %H:%M}", own)
            winner = str(self._parents(pipeline_id)[0].info.run_id)
            if winner != run_id:  # two processes on a server, at the same moment
                if not given:
                    self.client.delete_run(run_id)
                return winner
        self.log_params(run_id, config.model_dump(mode="json"))
        self.client.log_text(run_id, config.to_json() + "\n", "config.json")
        return run_id

    @contextmanager
    def stage(self, stage: str, parent: str | None, *, digest: str, label: str = "") -> Iterator[StageRun]:
        """A nested run for the length of a block: FINISHED, or FAILED with ``dcod.error`` and ``error.txt``.

        Args:
            stage: the verb.
            parent: run id of the parent run; None for a stage that runs on its own.
            digest: of inputs, configuration and code; see :meth:`dcod.tracking.outputs.Outputs.find`.
            label: tells two runs of one stage apart, such as ``start``.
        """
        tags = {"dcod.stage": stage, "dcod.digest": digest, "dcod.version": __version__}
        if label:
            tags["dcod.label"] = label
        if parent:
            tags["mlflow.parentRunId"] = parent
        name = f"{stage} {label}".strip()
        given = self.platform.stage(tags) if parent else ""
        run, began = StageRun(self, given or self._create(name, tags), parent or ""), time.monotonic()
        try:
            try:
                yield run
            finally:
                if cost := money.of_stage(self.config, time.monotonic() - began):
                    run.metrics({money.STAGE: cost})
            run.close()
        except BaseException as error:
            line = one_line(error) or type(error).__name__
            self._fail(run.run_id, line, traceback.format_exc(), run, status="" if given else "FAILED")
            raise
        if not given:
            self.client.set_terminated(run.run_id, "FINISHED")
        if parent and self._noted.startswith(f"{name}: "):  # of an earlier try of this stage
            self.client.delete_tag(parent, "dcod.error")
            self._noted = ""

    def finish(self, pipeline_id: str, *, failed: str = "", cancelled: bool = False) -> None:
        """Ends the parent run of a pipeline; creates it when the failure came first.

        Args:
            pipeline_id: as in :meth:`parent`.
            failed: what went wrong; empty when nothing did. An error noted before is then of a stage that was tried
                again, and passed.
            cancelled: somebody ended it; what went wrong says so.
        """
        run_ids = [str(run.info.run_id) for run in self._parents(pipeline_id)]
        if not run_ids:
            run_ids = [self._create(pipeline_id, {"dcod.pipeline": pipeline_id, "dcod.version": __version__})]
        for run_id in run_ids:
            foreign = FOREIGN in self.client.get_run(run_id).data.tags
            query = f"tags.`mlflow.parentRunId` = '{run_id}' and attributes.status = 'RUNNING'"
            for child in [] if foreign else self.client.search_runs([self.experiment_id], query):
                self.client.set_terminated(child.info.run_id, "KILLED")  # a pod that was killed said nothing
            stages = self.client.search_runs([self.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
            if cost := money.of_run(stages):
                self.client.log_metric(run_id, money.RUN, cost)
            known = self.client.get_run(run_id).data.tags.get("dcod.error", "")  # of the stage that failed
            status = ("KILLED" if cancelled else "FAILED") if failed else "FINISHED"
            if foreign:  # ended by who made it; asked for by :func:`dcod.tracking.platform.status`
                self.client.set_tag(run_id, ENDED, status)
            if failed:
                text = f"{known}\n{failed}".lstrip()
                self._fail(run_id, known or one_line(failed), text, status="" if foreign else status)
                continue
            if known:
                self.client.delete_tag(run_id, "dcod.error")
            begun = self.client.get_run(run_id).info.start_time
            self.client.log_metric(run_id, "seconds", time.time() - begun / 1000)
            if not foreign:
                self.client.set_terminated(run_id, status)

    def note_error(self, pipeline_id: str, name: str, config: Config, line: str) -> None:
        """Keeps what went wrong on the parent run, for :meth:`finish`; never hides it behind a store that fails.

        ``line`` begins with the name of the stage's run and a colon: once a later try of it passed, it goes.
        """
        try:
            self.client.set_tag(self.parent(pipeline_id, name, config), "dcod.error", line[:5000])
        except Exception as error:
            _log.warning("the failure of pipeline %s could not be recorded: %s", pipeline_id, one_line(error))

    def _experiment(self) -> str:
        name = self.config.experiment
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            location = None if self.remote else self._artifacts()
            try:
                return str(self.client.create_experiment(name, artifact_location=location, tags=KIND))
            except StoreError:  # another process was quicker
                experiment = self.client.get_experiment_by_name(name)
                if experiment is None:
                    raise
        if experiment.lifecycle_stage == "deleted":
            raise UserError(
                f"tracking.experiment {name}: was deleted in MLflow; restore it (`mlflow experiments restore "
                f"--experiment-id {experiment.experiment_id}`) or choose another name"
            )
        return str(experiment.experiment_id)

    def _artifacts(self) -> str:
        place = self.config.artifacts
        if "://" in place:
            return place
        folder = Path(place).resolve()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"tracking.artifacts {place}: cannot be written ({error.strerror})") from None
        # A plain path: MLflow's own Model.load takes no file:// address.
        return folder.as_uri() if any(mark in str(folder) for mark in "#?%") else str(folder)

    @contextmanager
    def _serialised(self) -> Iterator[None]:
        """One at a time on a local database; a server has no such lock, so the oldest run wins there."""
        if self.config.uri.startswith("sqlite:///"):
            with storage.lease(self.config.uri.removeprefix("sqlite:///") + ".lock"):
                yield
        else:
            yield

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        tags = {**store.user("mlflow.user"), **tags, "mlflow.source.name": "dcod"}
        run = self.client.create_run(self.experiment_id, tags=tags, run_name=name)
        if run.info is None or not run.info.run_id:
            raise StoreError(f"tracking.uri {self.config.uri}: made no run when asked to; it is no MLflow server")
        return str(run.info.run_id)

    def _parents(self, pipeline_id: str) -> list[Run]:
        runs = self.client.search_runs([self.experiment_id], f"tags.`dcod.pipeline` = {quoted(pipeline_id)}")
        return sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))

    def log_params(self, run_id: str, values: Mapping[str, Any]) -> None:
        """Parameters of a run, flattened."""
        from mlflow.entities import Param

        rows = [Param(NAME.sub("_", key), hidden(value)[:6000]) for key, value in flatten(values).items()]
        for start in range(0, len(rows), 100):  # MLflow's limit
            self.client.log_batch(run_id, params=rows[start : start + 100])

    def _fail(self, run_id: str, line: str, text: str, run: StageRun | None = None, status: str = "FAILED") -> None:
        """Records a failure; never hides it behind one of the tracking store, nor waits for a store that is away.

        An empty ``status`` leaves the run's end to who made it.
        """
        with store.hurried():
            try:
                self.client.set_tag(run_id, "dcod.error", hidden(line)[:5000])
                if status:
                    self.client.set_terminated(run_id, status)
                self.client.log_text(run_id, hidden(text), "error.txt")
                if run is not None:
                    run.close()
            except Exception as error:
                if room.explained(error, database="") is None:  # a full disk has been told already
                    _log.warning("the failure of run %s could not be recorded: %s", run_id, one_line(error))
                if status and not isinstance(error, AwayError):
                    with contextlib.suppress(Exception):
                        self.client.set_terminated(run_id, status)


class StageRun:
    """The run of one stage: a :class:`Log` that also keeps tags, inputs and the output folder."""

    def __init__(self, tracker: Tracker, run_id: str, parent: str = "") -> None:
        self.tracker = tracker
        self.run_id = run_id
        self.parent = parent
        self._rows: list[Any] = []
        self._lock = threading.Lock()
        self._flush_at = time.monotonic() + _FLUSH_SECONDS
        self._artifacts = store.Outbox(run_id)

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Metrics, at a step or once; sent in batches."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        with self._lock:
            for key, value in values.items():
                self._rows.append(Metric(NAME.sub("_", key), float(value), now, step or 0))
            due = len(self._rows) >= _FLUSH_ROWS or time.monotonic() >= self._flush_at
        if not due:
            return
        try:
            self.flush()
        except Exception as error:  # kept, and sent with a later batch: hours of training outlive a server's restart
            _log.warning("metrics of run %s are held back: %s", self.run_id, one_line(error)[:200])
            self._flush_at = time.monotonic() + 60.0

    def flush(self) -> None:
        """Sends the metrics that wait."""
        with self._lock:
            for start in range(0, len(self._rows), 1000):  # MLflow's limit
                self.tracker.client.log_batch(self.run_id, metrics=self._rows[start : start + 1000])
            self._rows.clear()
            self._flush_at = time.monotonic() + _FLUSH_SECONDS

    def figure(self, name: str, figure: Figure) -> None:
        """A matplotlib figure as an artifact; SVG unless the name says otherwise. A store that is away can lose it."""
        name = name if Path(name).suffix else f"{name}.svg"
        self._artifacts.send(name, lambda: self.tracker.client.log_figure(self.run_id, figure, name), needed=False)

    def text(self, name: str, text: str) -> None:
        """A text file as an artifact; sent before the stage ends, or that fails."""
        self._artifacts.send(name, lambda: self.tracker.client.log_text(self.run_id, hidden(text), name), needed=True)

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows as a table, which MLflow's pages show and compare between runs; a store that is away can lose it.

        Args:
            name: of the artifact, ending with ``.json``.
            rows: all with the same keys.
        """
        if rows:
            columns = {key: [hidden(v) if isinstance(v := row[key], str) else v for row in rows] for key in rows[0]}
            self._artifacts.send(name, lambda: self.tracker.client.log_table(self.run_id, columns, name), needed=False)

    def close(self) -> None:
        """Sends all that waits.

        Raises:
            StoreError: metrics or a text cannot be sent.
        """
        self.flush()
        self._artifacts.close()

    def tag(self, key: str, value: str) -> None:
        """A tag of the run."""
        self.tracker.client.set_tag(self.run_id, key, hidden(value)[:8000])

    def params(self, values: Mapping[str, Any]) -> None:
        """Parameters of the run, flattened."""
        self.tracker.log_params(self.run_id, values)

    def inputs(self, rows: Sequence[tuple[str, str, str]], context: str = "") -> None:
        """Inputs as MLflow's data sets: name, digest, place; the context is each one's name unless given.

        Files that were read are inputs of the parent run, too.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        datasets = []
        for name, digest, place in rows:
            where = json.dumps({"uri": hidden(place), "digest": digest})  # whole; MLflow cuts its own at 36 characters
            row = Dataset(name=hidden(name)[:500], digest=digest[:36], source_type="local", source=where)
            datasets.append(DatasetInput(row, [InputTag("mlflow.data.context", context or name[:500])]))
        for start in range(0, len(datasets), 100):
            for last in (False, False, True):  # runs that name the same new data set at once: all but one are refused
                with contextlib.nullcontext() if last else contextlib.suppress(Exception):
                    self.tracker.client.log_inputs(self.run_id, datasets[start : start + 100])
                    break
        if context == SOURCE and self.parent and datasets:
            with contextlib.suppress(Exception):  # the stage's own are what lineage reads
                self.tracker.client.log_inputs(self.parent, datasets[:100])

    def sources(self, files: Mapping[str, str]) -> None:
        """The files that what a stage reads came from, names by SHA-256; see :mod:`dcod.tracking.lineage`."""
        self.inputs([(name, digest, name) for digest, name in files.items()], SOURCE)

    def headline(self, values: Mapping[str, float], description: str = "", report: str = "") -> None:
        """Figures, a description and files on the parent run, where there is one: what runs are compared by.

        Args:
            values: figures by name.
            description: Markdown.
            report: a page, kept as ``report.html``.
        """
        client, now = self.tracker.client, int(time.time() * 1000)
        if not self.parent:
            return
        from mlflow.entities import Metric

        rows = [Metric(NAME.sub("_", key), float(value), now, 0) for key, value in values.items()]
        if rows:
            client.log_batch(self.parent, metrics=rows)
        if description:
            client.set_tag(self.parent, "mlflow.note.content", hidden(description)[:5000])
        if report:
            client.log_text(self.parent, hidden(report), "report.html")

    def output(self, path: Path) -> None:
        """Stores the stage's output folder, which a later run with this digest reuses."""
        self.tracker.outputs.keep(self.run_id, path)
