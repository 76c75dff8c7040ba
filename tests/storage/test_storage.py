"""Storage: whole or not at all, the same bytes, one holder of a lease; S3 parts against an in-process fake."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dcod import storage
from dcod.errors import UserError

HOLD_A_LEASE = """
    import sys, time
    from dcod import storage
    with storage.lease(sys.argv[1], wait_s=20, ttl_s=float(sys.argv[2])):
        print("held", flush=True)
        time.sleep(float(sys.argv[3]))
    print("released", flush=True)
"""


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def earlier(out: Path) -> Path:
    """An output of dcod."""
    with storage.output_folder(out) as scratch:
        (scratch / "old.txt").write_text("old")
    return out


class TestOutputFolder:
    def test_a_new_folder_appears_whole(self, tmp_path: Path) -> None:
        out = tmp_path / "deep" / "out"
        with storage.output_folder(out) as scratch:
            (scratch / "a.txt").write_text("a")
            assert not out.exists()
        assert (out / "a.txt").read_text() == "a"
        assert out.stat().st_mode & 0o777 == 0o755
        assert left_over(out.parent) == ["out"]
        assert left_over(out) == [storage.MARK, "a.txt"]

    def test_an_old_folder_is_replaced_whole(self, tmp_path: Path) -> None:
        out = earlier(tmp_path / "out")
        with storage.output_folder(out) as scratch:
            (scratch / "new.txt").write_text("new")
            assert (out / "old.txt").exists()
        assert left_over(out) == [storage.MARK, "new.txt"]
        assert left_over(tmp_path) == ["out"]

    def test_an_error_leaves_the_old_folder_and_nothing_else(self, tmp_path: Path) -> None:
        out = earlier(tmp_path / "out")

        def fail_in_the_middle() -> None:
            with storage.output_folder(out) as scratch:
                (scratch / "half.txt").write_text("half")
                raise RuntimeError("in the middle")

        with pytest.raises(RuntimeError, match="in the middle"):
            fail_in_the_middle()
        assert left_over(out) == [storage.MARK, "old.txt"]
        assert left_over(tmp_path) == ["out"]

    def test_a_killed_process_leaves_the_old_folder(self, tmp_path: Path) -> None:
        out = earlier(tmp_path / "out")
        process = python(
            """
            import sys, time
            from pathlib import Path
            from dcod import storage
            with storage.output_folder(Path(sys.argv[1])) as scratch:
                (scratch / "half.txt").write_text("half")
                print("writing", flush=True)
                time.sleep(60)
            """,
            str(out),
        )
        assert said(process) == "writing"
        process.send_signal(signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
        assert left_over(out) == [storage.MARK, "old.txt"]
        with storage.output_folder(out) as scratch:  # which removes what the dead one left behind
            (scratch / "new.txt").write_text("new")
        assert left_over(tmp_path) == ["out"]
        assert left_over(out) == [storage.MARK, "new.txt"]

    def test_a_place_that_cannot_be_written_is_named_with_the_way_out(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with (
            pytest.raises(UserError, match=r"file/out: cannot be written .* --out"),
            storage.output_folder(tmp_path / "file" / "out"),
        ):
            pytest.fail("the block must not be entered")


class TestFiles:
    def test_text_is_replaced_and_nothing_is_left_over(self, tmp_path: Path) -> None:
        file = tmp_path / "deep" / "a.txt"
        for text in ("one", "zwei ÄÖ"):
            storage.write_text(file, text)
            assert file.read_text(encoding="utf-8") == text
        assert file.stat().st_mode & 0o777 == 0o644
        assert left_over(file.parent) == ["a.txt"]

    def test_a_failed_write_leaves_the_old_text(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = tmp_path / "a.txt"
        storage.write_text(file, "old")

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"a\.txt: there is no space left; make room, and run it again"):
            storage.write_text(file, "new")
        assert file.read_text() == "old"
        assert left_over(tmp_path) == ["a.txt"]

    def test_json_is_sorted_and_refuses_what_json_does_not_know(self, tmp_path: Path) -> None:
        storage.write_json(tmp_path / "a.json", {"b": 1, "a": "ü"})
        assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "a": "ü",\n  "b": 1\n}\n'
        with pytest.raises(ValueError, match="JSON"):
            storage.write_json(tmp_path / "a.json", {"a": float("nan")})

    def test_the_digest_of_a_file_is_its_sha256(self, tmp_path: Path) -> None:
        (tmp_path / "abc").write_bytes(b"abc")
        assert (
            storage.digest_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        )

    def test_the_digest_of_a_folder_sees_names_and_bytes_and_no_hidden_files(self, tmp_path: Path) -> None:
        def digest(files: dict[str, str]) -> str:
            folder = tmp_path / f"case{len(left_over(tmp_path))}"
            folder.mkdir()
            for name, text in files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(text)
            return storage.digest_folder(folder)

        base = digest({"a": "1", "b/c": "2"})
        assert digest({"b/c": "2", "a": "1"}) == base
        assert digest({"a": "1", "b/c": "2", ".hidden": "x", ".git/d": "y"}) == base
        others = [
            digest(f) for f in ({"a": "1", "b/c": "3"}, {"a": "1", "b/d": "2"}, {"a": "1"}, {"a": "12", "b/c": ""})
        ]
        assert len({base, *others}) == 5

    def test_a_missing_path_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="absent: no such file or folder"):
            storage.fetch(str(tmp_path / "absent"))
        assert storage.fetch(f"file://{tmp_path}") == tmp_path


class TestLocalLease:
    def test_two_processes_take_turns(self, tmp_path: Path) -> None:
        uri = str(tmp_path / "deep" / "lease")
        process = python(HOLD_A_LEASE, uri, "600", "1.5")
        assert said(process) == "held"
        begun = time.monotonic()
        with (
            pytest.raises(UserError, match="another promotion holds it"),
            storage.lease(uri, wait_s=0.3),
        ):
            pytest.fail("two holders")
        with storage.lease(uri, wait_s=20):
            assert time.monotonic() - begun > 0.5
        assert process.wait(10) == 0

    def test_a_killed_holder_frees_it(self, tmp_path: Path) -> None:
        uri = str(tmp_path / "lease")
        process = python(HOLD_A_LEASE, uri, "600", "60")
        assert said(process) == "held"
        process.kill()
        process.wait(10)
        with storage.lease(uri, wait_s=1):
            pass

    def test_an_error_inside_frees_it(self, tmp_path: Path) -> None:
        uri = str(tmp_path / "lease")
        with pytest.raises(RuntimeError), storage.lease(uri):
            raise RuntimeError
        with storage.lease(uri, wait_s=0):
            pass

    def test_threads_take_turns(self, tmp_path: Path) -> None:
        uri, inside, most = str(tmp_path / "lease"), [0], [0]

        def work() -> None:
            with storage.lease(uri, wait_s=30):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.02)
                inside[0] -= 1

        threads = [threading.Thread(target=work) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert (inside, most) == ([0], [1])


class TestS3:
    def put(self, bucket: Any, **objects: str) -> None:
        for name, text in objects.items():
            bucket.put_object(Bucket="traces", Key=name.replace("__", "/"), Body=text.encode())

    def test_a_prefix_ends_at_a_slash(self, bucket: Any) -> None:
        self.put(bucket, run__a="1", run__b__c="2", running="3")
        assert storage.list_objects("s3://traces/run") == ["s3://traces/run/a", "s3://traces/run/b/c"]
        assert storage.list_objects("s3://traces/run/") == storage.list_objects("s3://traces/run")
        assert storage.list_objects("s3://traces/running") == ["s3://traces/running"]
        assert len(storage.list_objects("s3://traces")) == 3

    def test_more_than_a_page_is_listed(self, bucket: Any) -> None:
        self.put(bucket, **{f"many__{index:04}": "" for index in range(1003)})
        assert len(storage.list_objects("s3://traces/many")) == 1003

    def test_fetch_brings_a_folder_and_only_what_changed(self, bucket: Any, tmp_path: Path) -> None:
        self.put(bucket, run__a="1", run__b__c="2")
        folder = storage.fetch("s3://traces/run", tmp_path / "here")
        assert [(folder / name).read_text() for name in ("a", "b/c")] == ["1", "2"]
        before = {path: path.stat().st_mtime_ns for path in (folder / "a", folder / "b" / "c")}
        self.put(bucket, run__a="9")
        assert storage.fetch("s3://traces/run", tmp_path / "here") == folder
        assert (folder / "a").read_text() == "9"
        assert (folder / "b" / "c").stat().st_mtime_ns == before[folder / "b" / "c"]

    def test_an_object_is_fetched_as_a_file(self, bucket: Any) -> None:
        self.put(bucket, run__a="1")
        assert storage.fetch("s3://traces/run/a").read_text() == "1"

    def test_upload_and_fetch_give_the_same_folder(self, bucket: Any, tmp_path: Path) -> None:
        source = tmp_path / "source"
        (source / "deep").mkdir(parents=True)
        (source / "deep" / "big.bin").write_bytes(os.urandom(9_000_000))  # more than one part
        (source / "a.txt").write_text("ü")
        storage.upload(source, "s3://traces/up/")
        assert storage.digest_folder(storage.fetch("s3://traces/up")) == storage.digest_folder(source)
        storage.upload(source / "a.txt", "s3://traces/one.txt")
        assert storage.fetch("s3://traces/one.txt").read_text(encoding="utf-8") == "ü"

    @pytest.mark.parametrize("uri", ["s3://", "s3:///key", "s3:/traces/key"])
    def test_a_malformed_uri_says_the_form(self, bucket: Any, uri: str) -> None:
        with pytest.raises(UserError, match=r"s3://bucket/key|no such file"):
            storage.fetch(uri)

    @pytest.mark.parametrize("uri", ["s3://traces/none", "s3://nobucket/none"])
    def test_nothing_there_is_an_error_with_the_uri(self, bucket: Any, uri: str) -> None:
        with pytest.raises(UserError, match=uri):
            storage.fetch(uri)

    def test_a_key_cannot_leave_its_folder(self, bucket: Any, tmp_path: Path) -> None:
        bucket.put_object(Bucket="traces", Key="run/../../escaped", Body=b"x")
        with pytest.raises(UserError, match="leaves its folder"):
            storage.fetch("s3://traces/run", tmp_path / "here")
        assert not (tmp_path / "escaped").exists()

    def test_a_lease_is_freed_at_the_end_and_after_an_error(self, bucket: Any) -> None:
        uri = "s3://traces/locks/promotion"
        with storage.lease(uri):
            assert storage.list_objects(uri) == [uri]
            with pytest.raises(UserError, match="another promotion"), storage.lease(uri, wait_s=0):
                pytest.fail("two holders")
        with pytest.raises(RuntimeError), storage.lease(uri, wait_s=0):
            raise RuntimeError
        assert storage.list_objects(uri) == []

    def test_a_lease_is_renewed_as_long_as_it_is_held(self, bucket: Any) -> None:
        uri = "s3://traces/lock"
        with storage.lease(uri, ttl_s=0.6):
            seen = bucket.head_object(Bucket="traces", Key="lock")["ETag"]
            for _ in range(1000):
                if bucket.head_object(Bucket="traces", Key="lock")["ETag"] != seen:
                    break
                time.sleep(0.1)
            else:
                pytest.fail("it was never renewed")
            with pytest.raises(UserError, match="another promotion"), storage.lease(uri, wait_s=0):
                pytest.fail("two holders")
        assert storage.list_objects(uri) == []

    def test_the_lease_of_a_dead_holder_is_taken_over(self, bucket: Any) -> None:
        self.put(bucket, lock="of a dead holder")
        with storage.lease("s3://traces/lock", wait_s=60, ttl_s=0.5):
            assert bucket.get_object(Bucket="traces", Key="lock")["Body"].read() != b"of a dead holder"
        assert storage.list_objects("s3://traces/lock") == []

    def test_a_holder_that_lost_its_lease_leaves_the_next_one_alone(self, bucket: Any) -> None:
        with storage.lease("s3://traces/lock", ttl_s=0.3):
            self.put(bucket, lock="of another")
            time.sleep(0.2)  # it would have been renewed by now
        assert bucket.get_object(Bucket="traces", Key="lock")["Body"].read() == b"of another"

    def test_what_the_bucket_lost_is_lost_here_too(self, bucket: Any, tmp_path: Path) -> None:
        self.put(bucket, run__a="1", run__deep__b="2")
        folder = storage.fetch("s3://traces/run", tmp_path / "here")
        (folder / "own.txt").write_text("not from the bucket")
        bucket.delete_object(Bucket="traces", Key="run/deep/b")
        assert storage.fetch("s3://traces/run", tmp_path / "here") == folder
        assert not (folder / "deep" / "b").exists()
        assert [(folder / name).read_text() for name in ("a", "own.txt")] == ["1", "not from the bucket"]

    def test_a_folder_marker_is_no_object(self, bucket: Any, tmp_path: Path) -> None:
        bucket.put_object(Bucket="traces", Key="run/", Body=b"")
        self.put(bucket, run__a="1")
        assert storage.list_objects("s3://traces/run") == ["s3://traces/run/a"]
        assert (storage.fetch("s3://traces/run/", tmp_path / "here") / "a").read_text() == "1"

    def test_a_missing_path_is_not_uploaded_silently(self, bucket: Any, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="absent: no such file or folder; nothing to upload"):
            storage.upload(tmp_path / "absent", "s3://traces/up")

    def test_a_lease_that_was_removed_ends_well(self, bucket: Any) -> None:
        with storage.lease("s3://traces/lock"):
            bucket.delete_object(Bucket="traces", Key="lock")


class Careless:
    """A client that heeds no conditions, or is said to know none."""

    def __init__(self, inner: Any, ignores: tuple[str, ...] = ("IfNoneMatch", "IfMatch"), code: str = "") -> None:
        self.inner, self.ignores, self.code = inner, ignores, code

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def put_object(self, **given: Any) -> Any:
        from botocore.exceptions import ClientError

        if self.code and set(given) & set(self.ignores):
            raise ClientError({"Error": {"Code": self.code, "Message": "x"}}, "PutObject")
        return self.inner.put_object(**{name: value for name, value in given.items() if name not in self.ignores})


class TestStoresWithoutConditions:
    @pytest.mark.parametrize(
        ("ignores", "code", "text"),
        [
            (("IfNoneMatch", "IfMatch"), "", "ignores If-None-Match"),
            (("IfMatch",), "", "ignores If-Match"),
            (("IfNoneMatch", "IfMatch"), "NotImplemented", "knows no conditions of writes"),
            (("IfNoneMatch",), "PreconditionFailed", "refuses If-None-Match on a new object"),
            (("IfMatch",), "PreconditionFailed", "refuses If-Match on the object that it named"),
        ],
    )
    def test_neither_lease_nor_probe_relies_on_them(
        self, bucket: Any, monkeypatch: pytest.MonkeyPatch, ignores: tuple[str, ...], code: str, text: str
    ) -> None:
        for module in ("s3", "leases"):
            monkeypatch.setattr(f"dcod.storage.{module}.connect", lambda: Careless(bucket, ignores, code))
        with pytest.raises(UserError, match=f"{text}.*promote.lease"), storage.lease("s3://traces/lock", wait_s=0):
            pytest.fail("a lease that two can hold")
        with pytest.raises(UserError, match=text):
            storage.probe("s3://traces/work")
        assert storage.list_objects("s3://traces") == []

    def test_one_that_heeds_them_is_taken(self, bucket: Any) -> None:
        storage.probe("s3://traces/work")
        assert storage.list_objects("s3://traces") == []

    def test_a_lost_lease_is_noticed_before_the_step(self, bucket: Any) -> None:
        with storage.lease("s3://traces/lock") as still:
            still()
            bucket.put_object(Bucket="traces", Key="lock", Body=b"of another")
            with pytest.raises(UserError, match="lost, since this process stood still"):
                still()

    def test_a_key_in_the_address_is_not_shown(self, bucket: Any) -> None:
        with pytest.raises(UserError, match=r"s3://bucket/key") as caught:
            storage.fetch("s3://AKIA:PLANTED@traces/run")
        assert "PLANTED" not in str(caught.value)
