"""What stages leave in the store: kept with their run, found again by the digest of what decided it, restored whole."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from dcod import storage
from dcod.errors import UserError, one_line
from dcod.models import loading
from dcod.tracking import logged_models
from dcod.tracking.envelopes import checkpoint_files
from dcod.tracking.store import StoreError, quoted

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PLACE = "output"  # among the artifacts of a run


class Outputs:
    """The outputs of the stages of one experiment.

    Args:
        client: every call goes through it.
        models: that are logged in the experiment: a student is kept once, as one of them.
    """

    def __init__(self, client: MlflowClient, models: logged_models.LoggedModels) -> None:
        self.client, self.models = client, models

    def keep(self, run_id: str, path: Path) -> None:
        """Stores the output of a run: a student as an MLflow model, what lies beside it and all else as a folder."""
        if (path / "config.json").is_file() and any(path.glob("*.safetensors")):
            kind, model_id = "model", self.models.log(path, run_id)
            shared = {file for file in checkpoint_files(path) if file.name not in loading.UNDIGESTED}
            for file in sorted(item for item in path.rglob("*") if item.is_file() and item not in shared):
                place = Path(_PLACE, file.relative_to(path).parent).as_posix()
                self.client.log_artifact(run_id, str(file), place)
            self.client.set_tag(run_id, "dcod.model_id", model_id)
        else:
            kind = "folder"
            self.client.log_artifacts(run_id, str(path), _PLACE)
        self.client.set_tag(run_id, "dcod.output_digest", storage.digest_folder(path))
        self.client.set_tag(run_id, "dcod.output", kind)

    def find(self, stage: str, digest: str) -> str | None:
        """The newest finished run of a stage with this digest whose output is still stored."""
        query = (
            f"tags.`dcod.stage` = {quoted(stage)} and tags.`dcod.digest` = {quoted(digest)} "
            "and attributes.status = 'FINISHED'"
        )
        newest_first = ["attributes.start_time DESC"]
        for run in self.client.search_runs([self.models.experiment_id], query, order_by=newest_first):
            tags = run.data.tags
            if tags.get("dcod.output") == "model" and self._has_model(tags["dcod.model_id"]):
                return str(run.info.run_id)
            if tags.get("dcod.output") == "folder" and self.client.list_artifacts(run.info.run_id, _PLACE):
                return str(run.info.run_id)
        return None

    def fetch(self, run_id: str, folder: Path) -> None:
        """Restores the output of a run, all or nothing, checked against the digest taken when it was stored.

        Raises:
            UserError: the run has no output, or what is stored has changed.
        """
        tags = self.client.get_run(run_id).data.tags
        with storage.output_folder(folder) as scratch:
            if tags.get("dcod.output") == "model":
                self.models.download(self.client.get_logged_model(tags["dcod.model_id"]).artifact_location, scratch)
                if self.client.list_artifacts(run_id, _PLACE):  # what this run wrote beside the weights
                    self._download(run_id, scratch)
            elif tags.get("dcod.output") == "folder":
                self._download(run_id, scratch)
            else:
                raise UserError(f"run {run_id}: no output is stored with it; run the stage again")
            if storage.digest_folder(scratch) != tags["dcod.output_digest"]:
                raise UserError(
                    f"run {run_id}: its stored output differs from what was written; delete the run, or set "
                    "tracking.reuse=false"
                )

    def _has_model(self, model_id: str) -> bool:
        with contextlib.suppress(StoreError):
            return bool(self.client.list_logged_model_artifacts(model_id, "model"))
        return False

    def _download(self, run_id: str, scratch: Path) -> None:
        try:
            self.client.download_artifacts(run_id, _PLACE, str(scratch))
        except StoreError as error:
            raise UserError(f"run {run_id}: its output cannot be fetched ({one_line(error)[:200]})") from error
        inner = (scratch / _PLACE).rename(scratch / ".fetched")
        shutil.copytree(inner, scratch, dirs_exist_ok=True, copy_function=shutil.move)
        shutil.rmtree(inner)
