"""Which files a model folder would have loaded: safetensors that lie in it, and nothing else (promise 5).

transformers follows what a folder says of itself: the weight files that an index or the configuration names, wherever
they lie and whatever they are, and the base model that an adapter names. All of that is looked at before it is loaded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dcod.errors import UserError

INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
_MOST_BYTES = 2**26  # of an index or a configuration: a model of a million tensors has less


def check(folder: Path) -> None:
    """Refuses a model folder that names weights which are none of its own.

    Args:
        folder: with a config.json.

    Raises:
        UserError: a file that it names is no safetensors, not there, or outside the folder; or it is an adapter.
    """
    if (folder / "adapter_config.json").exists():  # with it transformers loads the base that it names instead
        raise UserError(f"student {folder}: holds an adapter (adapter_config.json); merge it into its base first")
    named = _object(folder / "config.json", folder).get("transformers_weights")
    if named is not None:
        _own(folder, "config.json", named)
    whole = (folder / WEIGHTS).exists()  # then transformers passes the index over
    for index in sorted(folder.glob("*.safetensors.index.json")):
        places = _object(index, folder).get("weight_map")
        if not isinstance(places, dict) or not places:
            raise UserError(f"student {folder}: {index.name} has no weight_map of tensors to files")
        names = list(places.values())
        for name in dict.fromkeys(names) if all(isinstance(name, str) for name in names) else names:
            _own(folder, index.name, name, there=not whole or index.name != INDEX)


def _own(folder: Path, where: str, name: Any, there: bool = True) -> None:
    """Refuses a name that is not that of a safetensors file of the folder."""
    shown = str(name)[:100]
    if not isinstance(name, str) or not name or Path(name).name != name or "\\" in name or "\0" in name:
        raise UserError(f"student {folder}: {where} names {shown!r}, which is no plain name of a file in the folder")
    if not name.endswith((".safetensors", ".safetensors.index.json") if where == "config.json" else ".safetensors"):
        raise UserError(f"student {folder}: {where} names {shown!r}; only *.safetensors are loaded: convert it")
    path = folder / name
    try:
        target, is_file = path.resolve(), path.is_file()
    except (OSError, RuntimeError):  # a name too long, links in a circle
        target, is_file = path, False
    if there and not is_file:
        raise UserError(f"student {folder}: {where} names {shown!r}, which is not there; the folder is not whole")
    if is_file and not any(target.is_relative_to(home) for home in _homes(folder)):
        raise UserError(f"student {folder}: {where} names {shown!r}, which is a link out of the folder; copy the file")


def _homes(folder: Path) -> list[Path]:
    """Where files of a folder may lie; in the hub's cache a snapshot links to the blobs beside it."""
    own = folder.resolve()
    return [own, own.parent.parent / "blobs"] if own.parent.name == "snapshots" else [own]


def _object(path: Path, folder: Path) -> dict[str, Any]:
    """A JSON object from a file of bounded size."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(
                f"student {folder}: {path.name} is larger than {_MOST_BYTES >> 20} MiB; it describes no model"
            )
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"student {folder}: {path.name} cannot be read as JSON ({type(error).__name__})") from None
    if not isinstance(content, dict):
        raise UserError(f"student {folder}: {path.name} holds no JSON object")
    return content
