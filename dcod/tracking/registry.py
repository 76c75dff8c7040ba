"""The model registry: what is registered, and which version is champion. What a model holds is ``logged_models``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dcod import storage
from dcod.config import TrackingConfig
from dcod.errors import UserError, one_line
from dcod.models import loading, references
from dcod.tracking import cards
from dcod.tracking.logged_models import checkpoint, local
from dcod.tracking.runs import Tracker
from dcod.tracking.store import StoreError, quoted, user

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
CHALLENGER = "challenger"
_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND")  # how MLflow says that there is none


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
        self.models = self.tracker.models

    def register(
        self, name: str, folder: Path, run_id: str, tags: Mapping[str, str] | None = None, role: str = "student"
    ) -> Version:
        """The version of a checkpoint: the one with its digest, or a new one from its logged model.

        Nothing is registered twice. Hold the promotion lease: MLflow has no compare-and-set. ``role`` names the logged
        model, such as ``start``.
        """
        digest = loading.digest(folder)
        known = self.find(name, digest)
        if known is not None:
            self.tag(known, tags or {})
            return known
        self._create_name(name)
        logged = self.tracker.client.get_logged_model(self.models.log(folder, run_id, role, digest))
        version = self.tracker.client.create_model_version(
            name,
            logged.artifact_location,
            run_id=logged.source_run_id,
            tags={"dcod.digest": digest, **user("dcod.user"), **(tags or {})},
            model_id=logged.model_id,
        )
        made = _version(version)
        self.models.registered(logged.model_id, name, made.version)
        self.models.serve(logged, folder)
        return made

    def find(self, name: str, digest: str) -> Version | None:
        """The version with this digest, the oldest if another tool made several."""
        query = f"name = {quoted(name)} and tags.`dcod.digest` = {quoted(digest)}"
        versions = sorted(self.tracker.client.search_model_versions(query), key=lambda version: int(version.version))
        return _version(versions[0]) if versions else None

    def versions(self, name: str) -> list[Version]:
        """All versions of a model, oldest first."""
        items = self.tracker.client.search_model_versions(f"name = {quoted(name)}")
        return sorted((_version(item) for item in items), key=lambda item: item.version)

    def champion(self, name: str) -> Version | None:
        """The version with the alias ``champion``; None if there is none yet."""
        return self.by_alias(name, CHAMPION)

    def by_alias(self, name: str, alias: str) -> Version | None:
        """The version that an alias points to; None if nothing of that name is registered."""
        try:
            return _version(self.tracker.client.get_model_version_by_alias(name, alias))
        except StoreError as error:  # a missing alias is INVALID_PARAMETER_VALUE
            if error.code in _ABSENT:
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
            if error.code in _ABSENT:
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

    def clear_alias(self, name: str, alias: str, version: int) -> None:
        """Takes an alias away from a version; one that points elsewhere by now stays."""
        now = self.by_alias(name, alias)
        if now is not None and now.version == version:
            self.tracker.client.delete_registered_model_alias(name, alias)

    def attach(self, version: Version, path: Path, folder: str) -> None:
        """Puts a file beside the model of a version, so that its story lies with it."""
        logged = self.models.find(version.digest)
        if logged is not None:
            self.tracker.client.log_model_artifact(logged, str(path), folder)

    def attached(self, version: Version, folder: str, into: Path) -> Path:
        """What :meth:`attach` put beside the model of a version, copied into an empty folder; it may stay empty."""
        location = self.tracker.client.get_model_version_download_uri(version.name, str(version.version))
        here, logged = local(location), self.models.find(version.digest)
        if here is not None:
            if (here / folder).is_dir():
                shutil.copytree(here / folder, into, dirs_exist_ok=True)
        elif logged is not None and self.tracker.client.list_logged_model_artifacts(logged, folder):
            uri = f"{location.rstrip('/')}/{folder}"
            got = self.models.fetched(uri, into)
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
        logged = self.models.find(version.digest)
        artifacts = self.tracker.client.list_logged_model_artifacts(logged, "model") if logged else []
        if not any(Path(item.path).name == cards.FILE for item in artifacts):
            return ""
        place = self.tracker.client.get_model_version_download_uri(version.name, str(version.version)).rstrip("/")
        where = f"{place}/model/{cards.FILE}"
        with storage.scratch() as scratch:
            return self.models.fetched(where, scratch).read_text(encoding="utf-8")

    def note(self, name: str, key: str) -> str:
        """A tag of the registered model itself; empty where there is none."""
        models = self.tracker.client.search_registered_models(f"name = {quoted(name)}", max_results=1)
        return str(models[0].tags.get(key, "")) if models else ""

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
        here = local(location)
        if here is not None and not references.is_reference(folder := checkpoint(here, uri)):
            return folder
        cached = storage.cache_folder() / "registry" / (version.digest or f"{name}-{version.version}")
        if not cached.is_dir():
            with storage.output_folder(cached) as scratch:
                self.models.download(location, scratch)
        return checkpoint(cached, uri)

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

    def _create_name(self, name: str) -> None:
        if self._exists(name):
            return
        try:
            self.tracker.client.create_registered_model(name, description="Students that dcod distilled.")
        except StoreError as error:
            if error.code != "RESOURCE_ALREADY_EXISTS":
                raise UserError(f"promote.registered_model {name}: {one_line(error)[:300]}") from error

    def _exists(self, name: str) -> bool:
        return bool(self.tracker.client.search_registered_models(f"name = {quoted(name)}", max_results=1))


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
