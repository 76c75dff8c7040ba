"""Parts of a work that goes on after a kill: each whole or absent, by name, in a folder or under an s3:// prefix."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dcod.storage.files import is_s3
from dcod.storage.outputs import output_folder, remove_folder
from dcod.storage.s3 import fetch, list_objects, remove, split, upload
from dcod.storage.temporary import scratch


class Parts:
    """The parts of one work, a folder each.

    Args:
        uri: a folder or ``s3://bucket/prefix`` of this work alone.
        mark: a file that every part has. In a bucket it comes last and goes first: a part without it is none.
    """

    def __init__(self, uri: str, mark: str) -> None:
        self.uri = uri.rstrip("/")
        self.mark = mark

    def names(self) -> list[str]:
        """The parts that are there, sorted."""
        if is_s3(self.uri):
            paths = (key.split("/") for key in self._keys())
            names = [first for first, *rest in paths if rest == [self.mark]]
        else:
            names = [path.parent.name for path in Path(self.uri).glob(f"*/{self.mark}")]
        return sorted(name for name in names if not name.startswith("."))  # what begins so was being written

    def loose(self) -> list[str]:
        """The files beside the parts, sorted; ``get`` reads one. Earlier versions kept some parts so."""
        if is_s3(self.uri):
            return [key for key in self._keys() if "/" not in key]
        return sorted(path.name for path in Path(self.uri).glob("*") if path.is_file())

    @contextmanager
    def put(self, name: str) -> Iterator[Path]:
        """Yields an empty folder, which is the part when the block ends well."""
        if not is_s3(self.uri):
            with output_folder(Path(self.uri) / name) as folder:
                yield folder
            return
        with scratch() as folder:
            yield folder
            self._send(name, folder.iterdir())

    def put_files(self, name: str, files: Iterable[Path]) -> None:
        """Puts a part of files that lie elsewhere, the mark among them; none is copied on its way to a bucket."""
        if is_s3(self.uri):
            self._send(name, files)
            return
        with self.put(name) as folder:
            for path in files:
                shutil.copyfile(path, folder / path.name)

    def _keys(self) -> list[str]:
        """Of a bucket: all that is in the work, sorted, without the prefix."""
        bucket, prefix = split(f"{self.uri}/")
        return [key.removeprefix(f"s3://{bucket}/{prefix}") for key in list_objects(f"{self.uri}/")]

    def _send(self, name: str, files: Iterable[Path]) -> None:
        for path in sorted(files, key=lambda path: path.name == self.mark):
            upload(path, f"{self.uri}/{name}/{path.name}")

    def get(self, name: str, folder: Path | None = None) -> Path:
        """Where a part, or a file ``PART/FILE``, can be read; of a bucket in ``folder``, else in the cache.

        Raises:
            UserError: it is not there.
        """
        return fetch(f"{self.uri}/{name}", folder)

    def remove(self, name: str) -> None:
        """Removes a part; the mark goes first, so that a kill never leaves half a part that counts as whole."""
        if is_s3(self.uri):
            remove(f"{self.uri}/{name}/{self.mark}")
            remove(f"{self.uri}/{name}")
            return
        (Path(self.uri) / name / self.mark).unlink(missing_ok=True)
        remove_folder(Path(self.uri) / name)

    def clear(self) -> None:
        """Forgets the work: what came of it is kept elsewhere now."""
        for name in self.names():
            self.remove(name)
        if is_s3(self.uri):
            remove(self.uri)  # what a kill left half
            return
        with suppress(OSError):  # another file is in it, or nothing ever was
            Path(self.uri).rmdir()


def copy(path: Path, place: str) -> None:
    """Copies a file or a folder to an s3:// URI or to a place on a shared volume, not at once."""
    if is_s3(place):
        upload(path, place)
    elif path.is_file():
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    else:
        shutil.copytree(path, place, dirs_exist_ok=True)
