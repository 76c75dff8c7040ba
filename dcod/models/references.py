"""Weights that MLflow names and does not hold: ``reference.json`` beside a model's other files says where they lie.

They lie once a digest, below one prefix of a bucket or one folder, that dcod alone writes and no run cleans up.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from dcod import storage
from dcod.errors import UserError
from dcod.models import loading
from dcod.storage.parts import Parts

FILE = "reference.json"
WEIGHTS = ".safetensors"


def put(folder: Path, place: str, digest: str, scratch: Path) -> Path:
    """Stores the weights of a checkpoint where they are not yet.

    Args:
        folder: the checkpoint.
        place: an ``s3://`` prefix or a folder, for the weights of all models.
        digest: of the checkpoint.
        scratch: an empty folder.

    Returns:
        The reference, in ``scratch``.

    Raises:
        UserError: the place refuses.
    """
    files = sorted(path for path in folder.glob(f"*{WEIGHTS}") if path.is_file())
    parts = Parts(place, mark=FILE)
    reference = scratch / FILE
    sizes = {path.name: path.stat().st_size for path in files}
    storage.write_json(reference, {"digest": digest, "files": sizes, "place": f"{parts.uri}/{digest}"})
    if digest not in parts.names():
        parts.put_files(digest, [*files, reference])
    return reference


def complete(folder: Path) -> Path:
    """Fetches the weights into a checkpoint folder that has a reference in their place; any other is left as it is.

    Raises:
        UserError: they are not there any more, or are others.
    """
    reference = folder / FILE
    if not reference.is_file():
        return folder
    read = storage.read_json(reference, made_by="dcod")
    place, digest = str(read["place"]), str(read["digest"])
    try:
        with storage.scratch(folder) as scratch:
            fetched = storage.fetch(place, scratch)
            for name in read["files"]:
                path = fetched / Path(name).name
                if path.suffix == WEIGHTS:  # what was downloaded is moved; what lies in a folder stays there, too
                    (shutil.move if path.is_relative_to(scratch) else shutil.copyfile)(path, folder / path.name)
    except (UserError, OSError) as error:
        raise UserError(
            f"{place}: the weights of a model that was logged by reference cannot be had: {error}"
        ) from None
    reference.unlink()
    if (have := loading.digest(folder)) != digest:
        raise UserError(f"{place}: not the weights that were logged (digest {have[:12]}, logged {digest[:12]})")
    return folder


def digest(folder: Path) -> str:
    """The digest of the whole checkpoint, without its weights."""
    return str(storage.read_json(folder / FILE, made_by="dcod")["digest"])


def is_reference(folder: Path) -> bool:
    """Whether a checkpoint folder has no weights of its own."""
    return (folder / FILE).is_file()
