"""Reads from a real S3 on a bad line: cut, throttled, spoiled, changed, vanished; nothing is lost or there twice."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from dcod import storage
from dcod.errors import UserError
from dcod.storage import downloads
from dcod.traces import sources
from tests.services import servers
from tests.services.proxy import Proxy, proxied

pytestmark = pytest.mark.service

PART = 1 << 20
CHUNK = 1 << 16  # what one read holds at most, and a cut may lose


@pytest.fixture
def line(s3_environment: servers.Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The bad line that dcod has to take; parts are small and pauses short."""
    monkeypatch.setattr(downloads, "PART", PART)
    monkeypatch.setattr(downloads, "_PAUSE_S", 0.01)
    with proxied(s3_environment.uri) as proxy:
        for name in ("AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL"):
            monkeypatch.setenv(name, proxy.uri)
        yield proxy


def put(store: Any, bucket: str, key: str, data: bytes) -> bytes:
    store.put_object(Bucket=bucket, Key=key, Body=data)
    return data


def begins(line: Proxy) -> list[int]:
    return sorted(int(asked.removeprefix("bytes=").partition("-")[0]) for asked in line.ranges)


def test_a_cut_connection_goes_on_from_its_byte(bucket: str, store: Any, line: Proxy) -> None:
    data = put(store, bucket, "rows", os.urandom(7 * PART - 1234))
    line.cuts = [100_000, 0, 200_000, 150_000, 70_000]  # whichever part meets several, what is left of it is longer
    assert storage.fetch(f"s3://{bucket}/rows").read_bytes() == data
    assert len(line.ranges) == 7 + 5
    assert len(data) <= line.sent <= len(data) + 5 * CHUNK, "what came is not read again"
    assert sum(begin % PART != 0 for begin in begins(line)) >= 4


def test_a_line_that_stays_dead_is_told_and_the_next_try_goes_on(bucket: str, store: Any, line: Proxy) -> None:
    """As after a kill: what is finished is noted, another process asks for the rest alone."""
    data = put(store, bucket, "rows", os.urandom(12 * PART))

    def die(number: int) -> None:
        if number > 8:
            line.cuts = [0] * 100

    line.before = die
    with pytest.raises(UserError, match=r"rows: the connection breaks off at byte \d+ again and again"):
        storage.fetch(f"s3://{bucket}/rows")
    (journal,) = (storage.cache_folder() / "s3" / bucket).glob(".rows.parts")
    noted = {int(number) for number in journal.read_text().split("\n")[1:-1]}
    assert 0 < len(noted) < 12
    line.before, line.cuts, line.ranges = lambda _number: None, [], []
    assert storage.fetch(f"s3://{bucket}/rows").read_bytes() == data
    assert begins(line) == [number * PART for number in range(12) if number not in noted]


def test_a_journal_that_a_kill_cut_short_loses_nothing(bucket: str, store: Any, line: Proxy) -> None:
    data = put(store, bucket, "rows", os.urandom(12 * PART))
    line.before = lambda number: setattr(line, "cuts", [0] * 100) if number > 6 else None
    with pytest.raises(UserError, match="breaks off"):
        storage.fetch(f"s3://{bucket}/rows")
    (journal,) = (storage.cache_folder() / "s3" / bucket).glob(".rows.parts")
    journal.write_text(journal.read_text() + "1")  # of part 11, say
    line.before, line.cuts = lambda _number: None, []
    assert storage.fetch(f"s3://{bucket}/rows").read_bytes() == data


def test_a_throttled_read_waits_and_goes_on(bucket: str, store: Any, line: Proxy) -> None:
    data = put(store, bucket, "rows", os.urandom(2 * PART))
    line.throttled = 4
    assert storage.fetch(f"s3://{bucket}/rows").read_bytes() == data
    assert line.throttled == 0
    assert begins(line) == [0, PART]


def test_an_object_that_changes_between_parts_is_never_mixed(bucket: str, store: Any, line: Proxy) -> None:
    """The new one is read from its beginning; one that always changes is told."""
    old, new = (bytes([value]) * (20 * PART) for value in b"on")
    put(store, bucket, "rows", old)
    line.before = lambda number: put(store, bucket, "rows", new) if number == 10 else None
    assert storage.fetch(f"s3://{bucket}/rows").read_bytes() == new
    assert len(line.ranges) > 20
    line.before = lambda number: put(store, bucket, "rows", os.urandom(20 * PART))
    put(store, bucket, "rows", old)
    with pytest.raises(UserError, match="rows: changed while it was read, 3 times over"):
        storage.fetch(f"s3://{bucket}/rows")
    assert (storage.cache_folder() / "s3" / bucket / "rows").read_bytes() == new, "the last whole one stays"


@pytest.mark.parametrize("uploaded", ["at once", "in parts"])
def test_a_spoiled_byte_is_found_and_read_again(
    bucket: str, store: Any, line: Proxy, tmp_path: Path, uploaded: str
) -> None:
    data = os.urandom(9_000_000)
    if uploaded == "at once":
        put(store, bucket, "rows", data)
    else:
        (tmp_path / "rows").write_bytes(data)
        storage.upload(tmp_path / "rows", f"s3://{bucket}/rows")
        assert store.head_object(Bucket=bucket, Key="rows")["ETag"].endswith('-2"')
    line.spoiled = 1
    assert storage.fetch(f"s3://{bucket}/rows").read_bytes() == data
    assert len(line.ranges) == 2 * -(-len(data) // PART)
    (storage.cache_folder() / "s3" / bucket / "rows").unlink()
    line.spoiled = 1000
    with pytest.raises(UserError, match="is not what its checksum says"):
        storage.fetch(f"s3://{bucket}/rows")


def test_an_object_that_vanishes_between_parts_is_named(bucket: str, store: Any, line: Proxy) -> None:
    put(store, bucket, "rows", os.urandom(20 * PART))
    line.before = lambda number: store.delete_object(Bucket=bucket, Key="rows") if number == 10 else None
    with pytest.raises(UserError, match=f"s3://{bucket}/rows: .*NoSuchKey") as caught:
        storage.fetch(f"s3://{bucket}/rows")
    assert "\n" not in str(caught.value)


def test_wrong_keys_are_one_line(bucket: str, store: Any, line: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, bucket, "rows.jsonl", b"{}\n")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    servers.forget_keys(monkeypatch)
    with pytest.raises(UserError, match="check endpoint, keys and bucket") as caught:
        list(sources.read_rows(f"s3://{bucket}/rows.jsonl"))
    assert "\n" not in str(caught.value)
    assert line.sent == 0


def test_packed_rows_under_a_prefix_and_a_glob_come_out_once(bucket: str, store: Any, line: Proxy) -> None:
    """Plain, gzip and zstd, keys with ? and #, on a line that is cut; every row with its place."""
    rows = [{"prompt": f"p{n}", "completion": os.urandom(300).hex()} for n in range(4000)]

    def lines(begin: int, end: int) -> bytes:
        return "".join(json.dumps(row) + "\n" for row in rows[begin:end]).encode()

    put(store, bucket, "set/a.jsonl", lines(0, 1000))
    put(store, bucket, "set/b.jsonl.gz", gzip.compress(lines(1000, 2000)))
    put(store, bucket, "set/deep er/c.jsonl.zst", zstandard.compress(lines(2000, 3000)))
    put(store, bucket, "set/what?#1.jsonl", lines(3000, 4000))
    put(store, bucket, "set/notes.txt", b"no rows")
    line.cuts, line.throttled = [50_000, 10_000, 0, 200_000, 1, 30_000], 1
    found = list(sources.read_rows(f"s3://{bucket}/set"))
    assert [row.row for row in found] == rows
    assert len({(row.file, row.line) for row in found}) == 4000
    for pattern, wanted in (("set/*.jsonl.*", rows[1000:3000]), ("set/?.jsonl", rows[:1000])):
        assert [row.row for row in sources.read_rows(f"s3://{bucket}/{pattern}")] == wanted
