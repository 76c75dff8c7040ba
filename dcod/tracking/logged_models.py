"""Logged models: a checkpoint folder as MLflow keeps it, once a digest.

A model is logged from its checkpoint folder, never from a loaded model: safetensors and tokenizer as they lie,
under ``model/`` beside MLflow's ``MLmodel``. So the folder can be loaded by transformers directly, and its
digest (:func:`dcod.models.loading.digest`) is that of the checkpoint. What else a stage wrote beside the weights
belongs to its run, not to the model: two runs may end with the same weights.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

import yaml

from dcod import storage
from dcod.errors import UserError, one_line
from dcod.models import loading
from dcod.tracking import cards, store
from dcod.tracking.store import StoreError, quoted

if TYPE_CHECKING:
    from mlflow import MlflowClient

UNDIGESTED = ("manifest.json", "generation_config.json")  # what dcod.models.loading.digest leaves out
_REQUIREMENTS = ("torch", "transformers", "safetensors", "tokenizers")


class LoggedModels:
    """The models that are logged in one experiment of a store."""

    def __init__(self, client: MlflowClient, uri: str, experiment_id: str) -> None:
        self.client = client
        self.uri = uri
        self.experiment_id = experiment_id

    def log(self, folder: Path, run_id: str) -> str:
        """Logs a checkpoint folder as an MLflow model, once per digest; the id of the logged model."""
        from mlflow.entities import LoggedModelStatus

        client, digest = self.client, loading.digest(folder)
        earlier = self.find(digest)
        if earlier is not None:
            self._link(run_id, earlier)
            return earlier
        logged = client.create_logged_model(
            self.experiment_id,
            name="student",
            source_run_id=run_id,
            tags={"dcod.digest": digest},
            model_type="student",
        )
        try:
            with storage.scratch() as scratch:
                envelope = _envelope(folder, scratch, logged.model_id, run_id, logged.artifact_location)
                client.log_model_artifacts(logged.model_id, str(envelope))
            for path in checkpoint_files(folder):
                client.log_model_artifact(logged.model_id, str(path), "model")
        except BaseException:
            with contextlib.suppress(Exception):
                client.finalize_logged_model(logged.model_id, LoggedModelStatus.FAILED)
            raise
        client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
        self._link(run_id, logged.model_id)
        return str(logged.model_id)

    def download(self, location: str, folder: Path) -> None:
        """Copies the checkpoint of a logged model into an empty folder, without the card that came later.

        Raises:
            UserError: the artifact store does not give it.
        """
        here = local(location)
        if here is not None:
            without = shutil.ignore_patterns(cards.FILE)
            shutil.copytree(checkpoint(here, location), folder, dirs_exist_ok=True, ignore=without)
            return
        try:
            got = self.fetched(f"{location.rstrip('/')}/model", folder)
        except StoreError as error:
            raise UserError(f"{location}: the model cannot be fetched ({one_line(error)[:200]})") from error
        if not got.is_dir():
            raise UserError(f"{location}: what is stored there is no folder, so no model; it was deleted, or replaced")
        (got / cards.FILE).unlink(missing_ok=True)
        if got.resolve() == folder.resolve():
            return
        inner = got.rename(folder / ".fetched")
        for path in inner.iterdir():
            path.rename(folder / path.name)
        inner.rmdir()

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

    def _link(self, run_id: str, model_id: str) -> None:
        """Shows the model as an output of the run; MLflow refuses a second link."""
        from mlflow.entities import LoggedModelOutput

        outputs = self.client.get_run(run_id).outputs
        if outputs is None or model_id not in [item.model_id for item in outputs.model_outputs]:
            self.client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])


def checkpoint_files(folder: Path) -> list[Path]:
    """The files of a model folder that belong to the model; see :data:`dcod.models.loading.MODEL_FILES`."""
    return sorted({path for pattern in loading.MODEL_FILES for path in folder.glob(pattern) if path.is_file()})


def _envelope(folder: Path, scratch: Path, model_id: str, run_id: str, location: str) -> Path:
    """MLflow's own files around a checkpoint: MLmodel, requirements, and the tokenizer where its loader wants it.

    Written here, not by ``mlflow.transformers.save_model``: given a path, that fails with transformers 5.23
    (which names its pipelines by text), copies the weights once more, and guesses at a licence.
    ``mlflow.transformers.load_model`` reads the result.
    """
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import ColSpec, DataType, Schema

    envelope = scratch / "envelope"
    (envelope / "components" / "tokenizer").mkdir(parents=True)
    for path in checkpoint_files(folder):
        if path.suffix != ".safetensors" and path.name not in UNDIGESTED:
            shutil.copy(path, envelope / "components" / "tokenizer" / path.name)
    text = Schema([ColSpec(DataType.string)])
    model = Model(
        artifact_path=location,
        model_uuid=model_id,
        run_id=run_id,
        model_id=model_id,
        signature=ModelSignature(inputs=text, outputs=text),
    )
    model.add_flavor(
        "transformers",
        transformers_version=importlib.metadata.version("transformers"),
        code=None,
        task="text-generation",
        instance_type="TextGenerationPipeline",
        pipeline_model_type=_architecture(folder),
        source_model_name="student",
        model_binary="model",
        components=["tokenizer"],
        tokenizer_type="AutoTokenizer",
    )
    pyfunc.add_to_model(
        model, loader_module="mlflow.transformers", conda_env="conda.yaml", python_env="python_env.yaml"
    )
    model.model_size_bytes = sum(path.stat().st_size for path in checkpoint_files(folder))
    model.save(str(envelope / "MLmodel"))
    needs = [f"mlflow=={importlib.metadata.version('mlflow')}"]
    needs += [f"{name}=={importlib.metadata.version(name)}" for name in _REQUIREMENTS]
    python = platform.python_version()
    (envelope / "requirements.txt").write_text("\n".join(needs) + "\n")
    pip = {"python": python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    (envelope / "python_env.yaml").write_text(yaml.safe_dump(pip, sort_keys=False))
    conda = {
        "name": "mlflow-env",
        "channels": ["conda-forge"],
        "dependencies": [f"python={python}", "pip", {"pip": needs}],
    }
    (envelope / "conda.yaml").write_text(yaml.safe_dump(conda, sort_keys=False))
    return envelope


def _architecture(folder: Path) -> str:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    names = config.get("architectures") or []
    if not names:
        raise UserError(f"{folder}/config.json: no `architectures` in it, so MLflow cannot describe the model")
    return str(names[0])


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
