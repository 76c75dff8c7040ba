"""A registered student as a plain folder that transformers and vLLM load, with its model card; perhaps to a hub."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from dcod import storage
from dcod.config import TrackingConfig
from dcod.errors import UserError, one_line
from dcod.models import loading
from dcod.storage import outputs, places
from dcod.tracking import registry
from dcod.tracking.cards import FILE
from dcod.tracking.envelopes import checkpoint_files

_PRIVATE = storage.MANIFEST  # it names places of ours


def export(tracking: TrackingConfig, uri: str, out: Path) -> bool:
    """Copies weights, configuration, tokenizer and card of ``models:/name@alias`` or ``models:/name/version``.

    Returns:
        Whether there is a card; versions of another tool have none.

    Raises:
        UserError: there is no such version, or the folder cannot be written.
    """
    outputs.check_folder(out)
    store = registry.Registry(tracking)
    folder, card = store.resolve(uri), store.card(uri)
    outputs.check_apart(out, {"the model": folder}, places.kept(tracking))
    with storage.output_folder(out) as scratch:
        for path in checkpoint_files(folder):
            if path.name != _PRIVATE:
                shutil.copyfile(path, scratch / path.name)
        if card:
            storage.write_text(scratch / FILE, card)
    assert loading.digest(out) == loading.digest(folder), "a file of the model was lost"
    return bool(card)


def push(folder: Path, repo: str, kind: Literal["model", "dataset"] = "model", *, dry: bool = False) -> str:
    """Uploads an exported folder to a hub; a repository that does not exist yet is made, a private one.

    Args:
        folder: what :func:`export` or the data card's wrote.
        repo: owner and name.
        kind: of repository.
        dry: only say what would be uploaded; no hub is asked.

    Returns:
        The address of the commit, or what would be in it.

    Raises:
        UserError: the hub refuses or cannot be reached, or the name is none.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
        if dry:
            files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != storage.MARK)
            names = ", ".join(str(path.relative_to(folder)) for path in files)
            size = sum(path.stat().st_size for path in files) / 1e6
            return f"nothing was uploaded; {kind} {repo} would get {len(files)} files, {size:.1f} MB: {names}"
        hub = HfApi()
        hub.create_repo(repo, repo_type=kind, private=True, exist_ok=True)
        done = hub.upload_folder(
            repo_id=repo,
            repo_type=kind,
            folder_path=folder,
            commit_message="Exported by dcod",
            ignore_patterns=[storage.MARK],
        )
        return str(done.commit_url)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        line = one_line(error)[:200]
        raise UserError(f"--push {repo}: the hub does not take it ({line}); set HF_TOKEN, name it owner/name") from None
