"""What of files all use: where downloads are kept, digests, and whether a place is a bucket.

Outputs are those of :mod:`dcod.storage.outputs`, buckets those of :mod:`dcod.storage.s3`.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def cache_folder() -> Path:
    """Where downloads are kept: ``$DCOD_CACHE``, else ``$XDG_CACHE_HOME/dcod``, else ``~/.cache/dcod``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("DCOD_CACHE") or Path(base) / "dcod")


def digest_file(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_folder(folder: Path) -> str:
    """SHA-256 over relative names and contents of all files of a folder, hidden ones left out."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder)
        if not any(part.startswith(".") for part in name.parts):
            total.update(f"{name.as_posix()}\x1f{digest_file(path)}\x1e".encode())
    return total.hexdigest()


def is_s3(uri: str) -> bool:
    """Whether a URI is an S3 one."""
    return uri.startswith("s3://")
