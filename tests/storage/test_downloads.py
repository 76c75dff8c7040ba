"""What stands in the cache and no download brought stays as it is, byte for byte."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dcod import storage
from dcod.errors import UserError
from dcod.storage import downloads


@pytest.fixture
def bucket(bucket: Any) -> Any:
    bucket.put_object(Bucket="traces", Key="a", Body=b"1")
    return bucket


def _file(place: Path, _: Path) -> None:
    place.write_bytes(b"of a user")


def _same_size(place: Path, _: Path) -> None:
    place.write_bytes(b"u")


def _link(place: Path, home: Path) -> None:
    (home / "notes").write_bytes(b"of a user")
    place.symlink_to(home / "notes")


def _dead_link(place: Path, home: Path) -> None:
    place.symlink_to(home / "nowhere")


def _folder(place: Path, _: Path) -> None:
    place.mkdir()
    (place / "notes").write_bytes(b"of a user")


FOREIGN = [_file, _same_size, _link, _dead_link, _folder]


def _seen(place: Path) -> object:
    """What stands in a place, whatever it is."""
    if place.is_symlink():
        return place.readlink(), place.read_bytes() if place.exists() else b""
    return sorted(path.read_bytes() for path in place.iterdir()) if place.is_dir() else place.read_bytes()


@pytest.mark.parametrize("make", FOREIGN)
def test_what_stands_there_already_stays(bucket: Any, tmp_path: Path, make: Callable[[Path, Path], None]) -> None:
    place = tmp_path / "cache" / "s3" / "traces" / "a"
    place.parent.mkdir(parents=True)
    make(place, tmp_path)
    before = _seen(place)
    with pytest.raises(UserError, match=r"dcod did not bring it.*DCOD_CACHE|leaves its folder"):
        storage.fetch("s3://traces/a")
    assert _seen(place) == before


@pytest.mark.parametrize("vanishes", [True, False])
def test_what_was_changed_since_stays(bucket: Any, tmp_path: Path, vanishes: bool) -> None:
    bucket.put_object(Bucket="traces", Key="set/b", Body=b"1")
    bucket.put_object(Bucket="traces", Key="set/c", Body=b"1")
    folder = storage.fetch("s3://traces/set")
    (folder / "b").write_bytes(b"2")
    if vanishes:
        bucket.delete_object(Bucket="traces", Key="set/b")
    else:
        bucket.put_object(Bucket="traces", Key="set/b", Body=b"3")
    with pytest.raises(UserError, match=r"b: stands where a download is kept"):
        storage.fetch("s3://traces/set")
    assert (folder / "b").read_bytes() == b"2"
    (folder / "b").unlink()
    storage.fetch("s3://traces/set")
    assert (folder / "b").exists() is not vanishes


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("at", ["before", "after"])
def test_a_kill_at_the_change_is_no_change_of_the_users(
    bucket: Any, monkeypatch: pytest.MonkeyPatch, first: bool, at: str
) -> None:
    if not first:
        storage.fetch("s3://traces/a")
    bucket.put_object(Bucket="traces", Key="a", Body=b"22")
    replace = os.replace

    def killed(source: Any, target: Any) -> None:
        if Path(target).name == "a":
            if at == "after":
                replace(source, target)
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(downloads.os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            storage.fetch("s3://traces/a")
    bucket.put_object(Bucket="traces", Key="a", Body=b"333")
    assert storage.fetch("s3://traces/a").read_bytes() == b"333"


def test_something_that_comes_during_the_download_stays(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place = storage.cache_folder() / "s3" / "traces" / "a"

    def comes(*given: Any) -> bool:
        place.write_bytes(b"of a user")
        return True

    monkeypatch.setattr(downloads, "_whole", comes)
    with pytest.raises(UserError, match="stands where a download is kept"):
        storage.fetch("s3://traces/a")
    assert place.read_bytes() == b"of a user"
