"""dcod.storage against a real S3: the same bytes, wrong keys, vanished objects, leases between processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from dcod import storage
from dcod.errors import UserError
from tests.services import servers

pytestmark = pytest.mark.service


def holder(uri: str, *, ttl_s: float = 600, hold_s: float = 1.5, wait_s: float = 30) -> subprocess.Popen[str]:
    """Another process that says `held` and the time, holds a lease and says `freed` and the time."""
    code = f"""
        import time
        from dcod import storage
        with storage.lease({uri!r}, wait_s={wait_s}, ttl_s={ttl_s}):
            print("held", time.time(), flush=True)
            time.sleep({hold_s})
            print("freed", time.time(), flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))


def line(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split()


def test_upload_list_and_fetch_give_the_same_bytes(bucket: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep er").mkdir(parents=True)
    (source / "big.bin").write_bytes(os.urandom(20_000_000))  # several parts
    (source / "deep er" / "ü+&.txt").write_text("zwei", encoding="utf-8")
    (source / "empty").touch()
    storage.upload(source, f"s3://{bucket}/run")
    listed = storage.list_objects(f"s3://{bucket}/run")
    assert listed == [f"s3://{bucket}/run/{name}" for name in ("big.bin", "deep er/ü+&.txt", "empty")]
    fetched = storage.fetch(f"s3://{bucket}/run")
    assert storage.digest_folder(fetched) == storage.digest_folder(source)


def test_a_prefix_ends_at_a_slash_and_pages_are_joined(bucket: str, store: Any) -> None:
    for index in range(1005):
        store.put_object(Bucket=bucket, Key=f"many/{index:04}", Body=b"")
    store.put_object(Bucket=bucket, Key="many-others", Body=b"")
    assert len(storage.list_objects(f"s3://{bucket}/many")) == 1005


def test_only_what_changed_is_fetched_again(bucket: str, store: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        store.put_object(Bucket=bucket, Key=f"run/{name}", Body=b"1")
    folder = storage.fetch(f"s3://{bucket}/run")
    kept = (folder / "a").stat().st_mtime_ns
    store.put_object(Bucket=bucket, Key="run/b", Body=b"2")
    assert (storage.fetch(f"s3://{bucket}/run") / "b").read_text() == "2"
    assert (folder / "a").stat().st_mtime_ns == kept


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_keys_are_one_line_without_the_secret(bucket: str, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "wrong-key")
    servers.forget_keys(monkeypatch)
    uri = f"s3://{bucket}/run"
    with pytest.raises(UserError, match="check endpoint, keys and bucket") as caught:
        storage.fetch(uri)
    assert str(caught.value).startswith(uri)
    assert "\n" not in str(caught.value)
    assert servers.SECRET not in str(caught.value)


def test_wrong_keys_cannot_write_or_take_a_lease(
    bucket: str, store: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a").write_text("a")
    with monkeypatch.context() as wrong:
        wrong.setenv("AWS_SECRET_ACCESS_KEY", "wrong-key")
        servers.forget_keys(wrong)
        with pytest.raises(UserError, match="check endpoint, keys"):
            storage.upload(tmp_path / "a", f"s3://{bucket}/a")
        with pytest.raises(UserError, match="check endpoint, keys"), storage.lease(f"s3://{bucket}/lease", wait_s=0):
            pytest.fail("a lease without keys")
    assert "Contents" not in store.list_objects_v2(Bucket=bucket)


def test_no_server_is_one_line(monkeypatch: pytest.MonkeyPatch, bucket: str) -> None:
    (port,) = servers.free_ports(1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    with pytest.raises(UserError, match="Could not connect to the endpoint"):
        storage.fetch(f"s3://{bucket}/run")


def test_an_absent_bucket_or_prefix_is_named(bucket: str) -> None:
    for uri in (f"s3://{bucket}/none", "s3://there-is-no-such-bucket/none"):
        with pytest.raises(UserError, match=uri):
            storage.fetch(uri)


def test_an_object_that_vanishes_after_the_listing_is_named(
    bucket: str, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        store.put_object(Bucket=bucket, Key=f"run/{name}", Body=b"1")
    listing = storage.list_objects

    def list_then_lose(uri: str) -> list[str]:
        found = listing(uri)
        store.delete_object(Bucket=bucket, Key="run/b")
        return found

    monkeypatch.setattr("dcod.storage.s3.list_objects", list_then_lose)
    with pytest.raises(UserError, match=f"s3://{bucket}/run/b: ") as caught:
        storage.fetch(f"s3://{bucket}/run")
    assert "Not Found" in str(caught.value)


def test_two_processes_take_turns_at_a_lease(bucket: str, store: Any) -> None:
    uri = f"s3://{bucket}/locks/promotion"
    processes = [holder(uri) for _ in range(2)]
    spans = []
    for process in processes:
        (_, begun), (_, ended) = line(process), line(process)
        assert process.wait(30) == 0
        spans.append((float(begun), float(ended)))
    first, second = sorted(spans)
    assert first[1] <= second[0] + 0.05, "both held it"
    assert "Contents" not in store.list_objects_v2(Bucket=bucket)


def test_a_held_lease_is_refused_with_the_reason(bucket: str) -> None:
    uri = f"s3://{bucket}/locks/promotion"
    process = holder(uri, hold_s=3)
    assert line(process)[0] == "held"
    with pytest.raises(UserError, match="another promotion holds it"), storage.lease(uri, wait_s=0.5):
        pytest.fail("two holders")
    assert process.wait(30) == 0
    with storage.lease(uri, wait_s=0):
        pass


def test_the_lease_of_a_killed_holder_is_taken_over(bucket: str, store: Any) -> None:
    uri = f"s3://{bucket}/locks/promotion"
    process = holder(uri, hold_s=600, ttl_s=3)
    assert line(process)[0] == "held"
    tags = set()
    while len(tags) < 3:  # a holder that lives renews it
        tags.add(store.head_object(Bucket=bucket, Key="locks/promotion")["ETag"])
        time.sleep(0.1)
    process.kill()
    process.wait(10)
    with pytest.raises(UserError, match="another promotion"), storage.lease(uri, wait_s=0):
        pytest.fail("not seen to be dead")
    with storage.lease(uri, wait_s=30, ttl_s=1):
        pass
    assert "Contents" not in store.list_objects_v2(Bucket=bucket)


def test_only_one_of_two_takes_over_the_lease_of_a_dead_holder(bucket: str, store: Any) -> None:
    store.put_object(Bucket=bucket, Key="lease", Body=b"of a dead holder")
    processes = [holder(f"s3://{bucket}/lease", ttl_s=3, hold_s=1) for _ in range(2)]
    spans = sorted((float(line(p)[1]), float(line(p)[1])) for p in processes)
    assert [process.wait(30) for process in processes] == [0, 0]
    assert spans[0][1] <= spans[1][0] + 0.05, "both took it over"


def test_a_holder_that_lost_its_lease_does_not_delete_the_next_one(bucket: str, store: Any) -> None:
    uri = f"s3://{bucket}/lease"
    with storage.lease(uri):
        store.put_object(Bucket=bucket, Key="lease", Body=b"of another holder")
    assert store.get_object(Bucket=bucket, Key="lease")["Body"].read() == b"of another holder"


def test_a_holder_whose_lease_is_gone_ends_well(bucket: str, store: Any) -> None:
    with storage.lease(f"s3://{bucket}/lease"):
        store.delete_object(Bucket=bucket, Key="lease")


def test_a_probe_writes_reads_deletes_and_says_what_is_refused(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.probe(f"s3://{bucket}/work")
    assert storage.list_objects(f"s3://{bucket}/work") == []
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    servers.forget_keys(monkeypatch)
    with pytest.raises(UserError, match="check endpoint, keys and bucket"):
        storage.probe(f"s3://{bucket}/work")
