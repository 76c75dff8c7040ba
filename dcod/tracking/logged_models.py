"""Logged models: a checkpoint folder as MLflow keeps it, once a digest.

A model is logged from its checkpoint folder, never from a loaded model: safetensors and tokenizer as they lie,
under ``model/`` beside MLflow's ``MLmodel``. So the folder can be loaded by transformers directly, and its
digest (:func:`dcod.models.loading.digest`) is that of the checkpoint. What else a stage wrote beside the weights
belongs to its run, not to the model: two runs may end with the same weights. By ``promote.log_model=reference`` MLflow
gets all but the weights (:mod:`dcod.models.references`).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from dcod import storage
from dcod.errors import UserError, one_line
from dcod.models import loading, references
from dcod.tracking import cards, store
from dcod.tracking.envelopes import checkpoint_files, envelope
from dcod.tracking.store import StoreError, quoted

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

VERSIONS = "mlflow.modelVersions"  # MLflow's page of a model looks here whether it is registered


class LoggedModels:
    """The models that are logged in one experiment of a store."""

    def __init__(self, client: MlflowClient, uri: str, experiment_id: str) -> None:
        self.client = client
        self.uri = uri
        self.experiment_id = experiment_id
        self.weights = ""  # where weights go that MLflow is to name alone; empty: they go to MLflow
        self.serving: dict[str, Any] = {}  # how the evaluation asks, for whoever serves what is logged here

    def log(self, folder: Path, run_id: str, name: str = "student", digest: str = "") -> str:
        """Logs a checkpoint folder as an MLflow model, once per digest (taken here if empty); the logged model's id."""
        from mlflow.entities import LoggedModelStatus

        client, digest = self.client, digest or loading.digest(folder)
        earlier = self.find(digest)
        if earlier is not None:
            self._link(run_id, earlier)
            return earlier
        logged = client.create_logged_model(
            self.experiment_id,
            name=name,
            source_run_id=run_id,
            tags={"dcod.digest": digest},
            model_type=name,
        )
        try:
            with storage.scratch() as scratch:
                made = envelope(folder, scratch, logged.model_id, run_id, logged.artifact_location, self.serving)
                client.log_model_artifacts(logged.model_id, str(made))
                for path in self._files(folder, digest, scratch):
                    client.log_model_artifact(logged.model_id, str(path), "model")
        except BaseException:
            with contextlib.suppress(Exception):
                client.finalize_logged_model(logged.model_id, LoggedModelStatus.FAILED)
            raise
        client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
        self._link(run_id, logged.model_id)
        return str(logged.model_id)

    def _files(self, folder: Path, digest: str, scratch: Path) -> list[Path]:
        """What MLflow is given of a checkpoint: all, or a reference in place of the weights."""
        files = checkpoint_files(folder)
        if not self.weights:
            return files
        small = [path for path in files if path.suffix != references.WEIGHTS]
        return [*small, references.put(folder, self.weights, digest, scratch)]

    def serve(self, logged: LoggedModel, folder: Path) -> None:
        """Writes ``MLmodel`` again, for one that was logged before anybody evaluated it."""
        if not self.serving:
            return
        with storage.scratch() as scratch:
            made = envelope(
                folder, scratch, logged.model_id, logged.source_run_id or "", logged.artifact_location, self.serving
            )
            self.client.log_model_artifact(logged.model_id, str(made / "MLmodel"), "")

    def registered(self, model_id: str, name: str, version: int) -> None:
        """Tells a model's page which version it became; MLflow does so in its own way to register alone."""
        told = json.loads(self.client.get_logged_model(model_id).tags.get(VERSIONS, "[]"))
        one = {"name": name, "version": str(version)}
        if one not in told:
            self.client.set_logged_model_tags(model_id, {VERSIONS: json.dumps([*told, one])})

    def measured(self, digest: str, run_id: str, dataset: tuple[str, str], figures: Mapping[str, float]) -> None:
        """Puts figures on the page of the model with this digest, if it was logged.

        Args:
            digest: of the model.
            run_id: of the stage that tells them.
            dataset: name and digest of what they were measured on.
            figures: by name.
        """
        model_id = self.find(digest)
        name, of_data = dataset
        for key, value in figures.items() if model_id else ():
            self.client.log_metric(
                run_id, key, value, dataset_name=name, dataset_digest=of_data[:36], model_id=model_id
            )

    def download(self, location: str, folder: Path) -> None:
        """Copies the checkpoint of a logged model into an empty folder, without the card that came later.

        Raises:
            UserError: the artifact store does not give it.
        """
        here = local(location)
        if here is not None:
            without = shutil.ignore_patterns(cards.FILE)
            shutil.copytree(checkpoint(here, location), folder, dirs_exist_ok=True, ignore=without)
            references.complete(folder)
            return
        try:
            got = self.fetched(f"{location.rstrip('/')}/model", folder)
        except StoreError as error:
            raise UserError(f"{location}: the model cannot be fetched ({one_line(error)[:200]})") from error
        if not got.is_dir():
            raise UserError(f"{location}: what is stored there is no folder, so no model; it was deleted, or replaced")
        (got / cards.FILE).unlink(missing_ok=True)
        if got.resolve() != folder.resolve():
            inner = got.rename(folder / ".fetched")
            for path in inner.iterdir():
                path.rename(folder / path.name)
            inner.rmdir()
        references.complete(folder)

    def fetched(self, uri: str, into: Path) -> Path:
        """Downloads an artifact."""
        from mlflow.artifacts import download_artifacts

        with store.asked(self.uri, "download_artifacts"):
            return Path(download_artifacts(artifact_uri=uri, dst_path=str(into), tracking_uri=self.uri))

    def find(self, digest: str) -> str | None:
        """The id of the whole model with this digest; None where none was logged."""
        from mlflow.entities import LoggedModelStatus

        query = f"tags.`dcod.digest` = {quoted(digest)}"
        for model in self.client.search_logged_models([self.experiment_id], query):
            # By hand: MLflow 3.17 finds nothing when asked for status = 'READY' on sqlite.
            if model.status == LoggedModelStatus.READY and self.client.list_logged_model_artifacts(
                model.model_id, "model"
            ):
                return str(model.model_id)
        return None

    def taken(self, run_id: str, digests: Iterable[str]) -> None:
        """Shows the models with these digests, those that were logged, as inputs of a run."""
        from mlflow.entities import LoggedModelInput

        if models := [model_id for digest in sorted(set(digests)) if (model_id := self.find(digest))]:
            self.client.log_inputs(run_id, models=[LoggedModelInput(model_id) for model_id in models])

    def _link(self, run_id: str, model_id: str) -> None:
        """Shows the model as an output of the run; MLflow refuses a second link."""
        from mlflow.entities import LoggedModelOutput

        outputs = self.client.get_run(run_id).outputs
        if outputs is None or model_id not in [item.model_id for item in outputs.model_outputs]:
            self.client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])


def local(location: str) -> Path | None:
    """Where a location lies on this machine; None for one elsewhere."""
    parsed = urlparse(location)
    if parsed.scheme not in ("", "file"):
        return None
    return Path(unquote(parsed.path)) if parsed.scheme else Path(location)


def checkpoint(folder: Path, uri: str) -> Path:
    """The checkpoint folder in what MLflow keeps of a model.

    Raises:
        UserError: there is none.
    """
    for place in (folder / "model", folder):
        if (place / "config.json").is_file():
            return place
    raise UserError(f"{uri}: no checkpoint in {os.fspath(folder)}; it was deleted, or is no transformers model")
