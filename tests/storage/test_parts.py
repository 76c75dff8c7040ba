"""The store of parts: whole or absent by name, the same in a folder and in a bucket."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcod import storage
from dcod.errors import UserError
from dcod.storage import marks
from dcod.storage import parts as stores
from dcod.storage.parts import Parts


def put(store: Parts, name: str, text: str) -> None:
    with store.put(name) as folder:
        (folder / "a-mark").write_text("done")
        (folder / "values").write_text(text)


def test_parts_are_put_read_listed_and_removed(work_place: str) -> None:
    store = Parts(f"{work_place}/", "a-mark")
    assert store.names() == []
    for name in ("b", "a"):
        put(store, name, f"of {name}")
    assert Parts(work_place, "a-mark").names() == ["a", "b"]
    assert (store.get("a") / "values").read_text() == "of a"
    assert store.get("b/values").read_text() == "of b"
    store.remove("a")
    store.remove("never")
    assert store.names() == ["b"]
    with pytest.raises(UserError):
        store.get("a")
    store.clear()
    store.clear()
    assert store.names() == []


def test_two_may_forget_the_same_work_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, looks = Parts(str(tmp_path / "work"), "a-mark"), marks._entries
    for name in ("a", "b"):
        put(store, name, name)

    def gone(folder: Path) -> Iterator[str]:
        shutil.rmtree(folder)
        return looks(folder)

    monkeypatch.setattr(marks, "_entries", gone)
    store.clear()
    assert store.names() == []
    assert not (tmp_path / "work").exists()


def test_a_part_that_was_not_ended_is_none(work_place: str) -> None:
    store = Parts(work_place, "a-mark")

    def cut_short() -> None:
        with store.put("a") as folder:
            (folder / "a-mark").write_text("done")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_short()
    assert store.names() == []


def test_the_mark_goes_up_last(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    monkeypatch.setattr(stores, "upload", lambda path, uri: sent.append(uri))
    put(Parts("s3://traces/work", "a-mark"), "a", "of a")
    assert sent == ["s3://traces/work/a/values", "s3://traces/work/a/a-mark"]


def test_files_that_are_there_become_a_part(work_place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mark last, whatever the order; and on the way to a bucket none is copied."""
    sent, send = [], stores.upload

    def upload(path: Path, uri: str) -> None:
        sent.append(path)
        send(path, uri)

    monkeypatch.setattr(stores, "upload", upload)
    files = [tmp_path / "a-mark", tmp_path / "values"]
    for path in files:
        path.write_text(f"in {path.name}")
    store = Parts(work_place, "a-mark")
    store.put_files("a", files)
    assert store.names() == ["a"]
    assert (store.get("a") / "values").read_text() == "in values"
    assert sent == (files[::-1] if storage.is_s3(work_place) else [])
    assert all(path.is_file() for path in files)


def test_files_beside_the_parts_are_no_parts(work_place: str, tmp_path: Path) -> None:
    store = Parts(work_place, "a-mark")
    put(store, "a", "of a")
    for name in ("z", "a-mark"):
        (tmp_path / "beside").write_text(name)
        stores.copy(tmp_path / "beside", f"{work_place}/{name}")
    assert store.loose() == ["a-mark", "z"]
    assert store.names() == ["a"]
    assert store.get("z").read_text() == "z"


def test_clearing_a_bucket_takes_what_was_half_written(work_place: str, tmp_path: Path) -> None:
    store = Parts(work_place, "a-mark")
    put(store, "a", "of a")
    if storage.is_s3(work_place):
        (tmp_path / "half").write_text("half")
        storage.upload(tmp_path / "half", f"{work_place}/b/values")
    assert store.names() == ["a"]
    store.clear()
    assert not storage.list_objects(f"{work_place}/") if storage.is_s3(work_place) else not Path(work_place).exists()
