"""The model registry: what is logged, registered, champion. With dcod.tracking the only mlflow import, and lazy.

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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

import yaml

from dcod import storage
from dcod.config import TrackingConfig
from dcod.errors import UserError, one_line
from dcod.models import loading
from dcod.tracking import Tracker, cards, store
from dcod.tracking.store import StoreError

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
CHALLENGER = "challenger"
UNDIGESTED = ("manifest.json", "generation_config.json")  # what dcod.models.loading.digest leaves out
_REQUIREMENTS = ("torch", "transformers", "safetensors", "tokenizers")


@dataclass(frozen=True)
class Version:
    """A version of a registered model.

    Attributes:
        digest: of the checkpoint, :func:`dcod.models.loading.digest`; empty if another tool registered the version.
        run_id: the run that made it.
        uri: ``models:/name/version``.
    """

    name: str
    version: int
    digest: str
    run_id: str
    uri: str
    tags: Mapping[str, str]


class Registry:
    """Models and their versions on one tracking store."""

    def __init__(self, tracking: Tracker | TrackingConfig) -> None:
        self.tracker = tracking if isinstance(tracking, Tracker) else Tracker(tracking)

    def log_model(self, folder: Path, run_id: str) -> str:
        """Logs a checkpoint folder as an MLflow model, once per digest; the id of the logged model."""
        from mlflow.entities import LoggedModelStatus

        client, digest = self.tracker.client, loading.digest(folder)
        earlier = self._logged(digest)
        if earlier is not None:
            self._link(run_id, earlier)
            return earlier
        logged = client.create_logged_model(
            self.tracker.experiment_id,
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

    def register(self, name: str, folder: Path, run_id: str, tags: Mapping[str, str] | None = None) -> Version:
        """The version of a checkpoint: the one with its digest, or a new one from its logged model.

        Nothing is registered twice. Hold the promotion lease: MLflow has no compare-and-set.
        """
        digest = loading.digest(folder)
        found = self.find(name, digest)
        if found is not None:
            self.tag(found, tags or {})
            return found
        self._create_name(name)
        logged = self.tracker.client.get_logged_model(self.log_model(folder, run_id))
        version = self.tracker.client.create_model_version(
            name,
            logged.artifact_location,
            run_id=logged.source_run_id,
            tags={"dcod.digest": digest, **(tags or {})},
            model_id=logged.model_id,
        )
        return _version(version)

    def find(self, name: str, digest: str) -> Version | None:
        """The version with this digest, the oldest if another tool made several."""
        query = f"name = {_quoted(name)} and tags.`dcod.digest` = {_quoted(digest)}"
        found = sorted(self.tracker.client.search_model_versions(query), key=lambda version: int(version.version))
        return _version(found[0]) if found else None

    def versions(self, name: str) -> list[Version]:
        """All versions of a model, oldest first."""
        found = self.tracker.client.search_model_versions(f"name = {_quoted(name)}")
        return sorted((_version(item) for item in found), key=lambda item: item.version)

    def champion(self, name: str) -> Version | None:
        """The version with the alias ``champion``; None if there is none yet."""
        return self.by_alias(name, CHAMPION)

    def by_alias(self, name: str, alias: str) -> Version | None:
        """The version that an alias points to; None if nothing of that name is registered."""
        try:
            return _version(self.tracker.client.get_model_version_by_alias(name, alias))
        except StoreError as error:  # a missing alias is INVALID_PARAMETER_VALUE
            if error.code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"):
                return None
            # To who is no administrator, a server with passwords denies what is not there.
            if "error code 403" in str(error) and not self.versions(name):
                return None
            raise

    def by_version(self, name: str, version: int) -> Version | None:
        """A version by its number; None if there is no such one."""
        try:
            return _version(self.tracker.client.get_model_version(name, str(version)))
        except StoreError as error:
            if error.code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"):
                return None
            raise

    def set_alias(self, name: str, alias: str, version: int) -> Version:
        """Points an alias at a version, and reads it back: there is no compare-and-set.

        Raises:
            UserError: somebody else moved it at the same moment.
        """
        self.tracker.client.set_registered_model_alias(name, alias, str(version))
        now = self.by_alias(name, alias)
        if now is None or now.version != version:
            seen = "nothing" if now is None else f"version {now.version}"
            raise UserError(
                f"models:/{name}@{alias}: points to {seen} right after it was set to version {version}; another tool "
                "moves it without the promotion lease"
            )
        return now

    def attach(self, version: Version, path: Path, folder: str) -> None:
        """Puts a file beside the model of a version, so that its story lies with it."""
        logged = self._logged(version.digest)
        if logged is not None:
            self.tracker.client.log_model_artifact(logged, str(path), folder)

    def attached(self, version: Version, folder: str, into: Path) -> Path:
        """What :meth:`attach` put beside the model of a version, copied into an empty folder; it may stay empty."""
        location = self.tracker.client.get_model_version_download_uri(version.name, str(version.version))
        local, logged = _local(location), self._logged(version.digest)
        if local is not None:
            if (local / folder).is_dir():
                shutil.copytree(local / folder, into, dirs_exist_ok=True)
        elif logged is not None and self.tracker.client.list_logged_model_artifacts(logged, folder):
            uri = f"{location.rstrip('/')}/{folder}"
            got = self._fetched(uri, into)
            if got.resolve() != into.resolve():
                shutil.copytree(got, into, dirs_exist_ok=True)
        return into

    def describe(self, version: Version, card: str) -> None:
        """Makes a model card the description of a version, and a README.md beside its weights."""
        text = cards.description(card)
        self.tracker.client.update_model_version(version.name, str(version.version), description=text)
        with storage.scratch() as scratch:
            path = scratch / cards.FILE
            path.write_text(card, encoding="utf-8")
            self.attach(version, path, "model")

    def card(self, uri: str) -> str:
        """The model card beside the weights of a version, from its URI; empty where there is none."""
        version = self.version_of(uri)
        logged = self._logged(version.digest)
        found = self.tracker.client.list_logged_model_artifacts(logged, "model") if logged else []
        if not any(Path(item.path).name == cards.FILE for item in found):
            return ""
        place = self.tracker.client.get_model_version_download_uri(version.name, str(version.version)).rstrip("/")
        where = f"{place}/model/{cards.FILE}"
        with storage.scratch() as scratch:
            return self._fetched(where, scratch).read_text(encoding="utf-8")

    def note(self, name: str, key: str) -> str:
        """A tag of the registered model itself; empty where there is none."""
        found = self.tracker.client.search_registered_models(f"name = {_quoted(name)}", max_results=1)
        return str(found[0].tags.get(key, "")) if found else ""

    def set_note(self, name: str, key: str, value: str) -> None:
        """Sets such a tag. Hold the promotion lease."""
        self.tracker.client.set_registered_model_tag(name, key, value)

    def tag(self, version: Version, tags: Mapping[str, str]) -> None:
        """Sets tags on a version."""
        for key, value in tags.items():
            self.tracker.client.set_model_version_tag(version.name, str(version.version), key, value)

    def resolve(self, uri: str) -> Path:
        """The local checkpoint folder of ``models:/name@alias`` or ``models:/name/version``.

        A folder of this machine is used where it lies; anything else is downloaded once into the cache.

        Raises:
            UserError: there is no such version, or it holds no checkpoint folder.
        """
        version = self.version_of(uri)
        name = version.name
        location = self.tracker.client.get_model_version_download_uri(name, str(version.version))
        local = _local(location)
        if local is not None:
            return _checkpoint(local, uri)
        cached = storage.cache_folder() / "registry" / (version.digest or f"{name}-{version.version}")
        if not cached.is_dir():
            with storage.output_folder(cached) as scratch:
                self.download(location, scratch)
        return _checkpoint(cached, uri)

    def version_of(self, uri: str) -> Version:
        """The version that ``models:/name@alias`` or ``models:/name/version`` means.

        Raises:
            UserError: there is none.
        """
        name, at, alias = uri.removeprefix("models:/").partition("@")
        if at:
            version = self.by_alias(name, alias)
        else:
            name, _, number = name.rpartition("/")
            if not name or not number.isdigit():
                raise UserError(f"{uri}: expected models:/name@alias or models:/name/version")
            version = self.by_version(name, int(number))
        if version is None:
            known = ", ".join(str(item.version) for item in self.versions(name)) if self._exists(name) else ""
            known = f"versions: {known}" if known else "no such registered model"
            raise UserError(f"{uri}: not in the registry of {self.tracker.config.uri} ({known})")
        return version

    def download(self, location: str, folder: Path) -> None:
        """Copies the checkpoint of a logged model into an empty folder, without the card that came later.

        Raises:
            UserError: the artifact store does not give it.
        """
        local = _local(location)
        if local is not None:
            without = shutil.ignore_patterns(cards.FILE)
            shutil.copytree(_checkpoint(local, location), folder, dirs_exist_ok=True, ignore=without)
            return
        try:
            got = self._fetched(f"{location.rstrip('/')}/model", folder)
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

    def _fetched(self, uri: str, into: Path) -> Path:
        """Downloads an artifact."""
        from mlflow.artifacts import download_artifacts

        with store.asked(self.tracker.config.uri, "download_artifacts"):
            return Path(download_artifacts(artifact_uri=uri, dst_path=str(into), tracking_uri=self.tracker.config.uri))

    def _logged(self, digest: str) -> str | None:
        from mlflow.entities import LoggedModelStatus

        query = f"tags.`dcod.digest` = {_quoted(digest)}"
        for model in self.tracker.client.search_logged_models([self.tracker.experiment_id], query):
            # By hand: MLflow 3.17 finds nothing when asked for status = 'READY' on sqlite.
            if model.status == LoggedModelStatus.READY and self.tracker.client.list_logged_model_artifacts(
                model.model_id, "model"
            ):
                return str(model.model_id)
        return None

    def _link(self, run_id: str, model_id: str) -> None:
        """Shows the model as an output of the run; MLflow refuses a second link."""
        from mlflow.entities import LoggedModelOutput

        outputs = self.tracker.client.get_run(run_id).outputs
        if outputs is None or model_id not in [item.model_id for item in outputs.model_outputs]:
            self.tracker.client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])

    def _create_name(self, name: str) -> None:
        if self._exists(name):
            return
        try:
            self.tracker.client.create_registered_model(name, description="Students that dcod distilled.")
        except StoreError as error:
            if error.code != "RESOURCE_ALREADY_EXISTS":
                raise UserError(f"promote.registered_model {name}: {one_line(error)[:300]}") from error

    def _exists(self, name: str) -> bool:
        return bool(self.tracker.client.search_registered_models(f"name = {_quoted(name)}", max_results=1))


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


def _version(item: ModelVersion) -> Version:
    told = str(item.version)  # str over REST, int on sqlite
    if not (told.isascii() and told.isdigit() and len(told) < 19 and item.name):
        raise StoreError(f"the registry says version {told[:40]!r} of {str(item.name)[:40]!r}: it is no MLflow server")
    number = int(told)
    return Version(
        name=item.name,
        version=number,
        digest=item.tags.get("dcod.digest", ""),
        run_id=item.run_id or "",
        uri=f"models:/{item.name}/{number}",
        tags=dict(item.tags),
    )


def _local(location: str) -> Path | None:
    parsed = urlparse(location)
    if parsed.scheme not in ("", "file"):
        return None
    return Path(unquote(parsed.path)) if parsed.scheme else Path(location)


def _checkpoint(folder: Path, uri: str) -> Path:
    for place in (folder / "model", folder):
        if (place / "config.json").is_file():
            return place
    raise UserError(f"{uri}: no checkpoint in {os.fspath(folder)}; it was deleted, or is no transformers model")


def _quoted(value: str) -> str:
    if "'" in value:
        raise UserError(f"{value!r}: an apostrophe is not allowed in the name of a model")
    return f"'{value}'"
