"""``manifest.json``: what an output says of itself, and what its stage found out by itself (:func:`note`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dcod import storage

_FACTS = "facts.json"  # until the manifest is written


def note(out: Path, **facts: Any) -> None:
    """Keeps what a stage found out by itself; it stands under ``facts`` in the manifest of its output."""
    storage.write_json(out / _FACTS, {**_facts(out), **facts})


def write(out: Path, decides: dict[str, Any], metrics: dict[str, float]) -> None:
    """Writes the manifest: what decided the output, the metrics, and the facts that were noted."""
    facts = _facts(out)
    (out / _FACTS).unlink(missing_ok=True)
    storage.write_json(out / storage.MANIFEST, {**decides, "metrics": metrics, "facts": facts})


def read(folder: Path) -> dict[str, Any]:
    """The manifest of an output.

    Raises:
        UserError: there is none.
    """
    return storage.read_json(folder / storage.MANIFEST, made_by="dcod")


def _facts(out: Path) -> dict[str, Any]:
    path = out / _FACTS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
