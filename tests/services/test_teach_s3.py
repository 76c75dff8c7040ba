"""Attempts of a teacher on a real S3: another machine goes on from them, and two never work at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dcod import storage
from dcod.errors import UserError
from dcod.teach.attempts import Attempts
from tests.stages.test_teach import Killed, asked, run, section

pytestmark = pytest.mark.service

__all__ = ["asked"]  # a fixture


def test_a_run_that_was_killed_goes_on_elsewhere(
    tmp_path: Path, asked: Path, tiny_teacher: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shards that were uploaded are not asked again; the rows are those of a run on local disk."""
    whole = run(tmp_path / "whole", tiny_teacher, section(asked, tmp_path / "work"))
    given = section(asked, tmp_path) | {"work": f"s3://{bucket}/teach/"}
    add, shards = Attempts.add, 0

    def dying(self: Attempts, rows: Any) -> None:
        nonlocal shards
        shards += 1
        if shards == 3:
            raise Killed
        add(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Attempts, "add", dying)
        with pytest.raises(Killed):
            run(tmp_path / "never", tiny_teacher, given)
    kept = storage.list_objects(f"s3://{bucket}/teach")
    assert [name.split("/")[-2:] for name in kept] == [[f"shard-{n:08d}", "attempts.parquet"] for n in range(2)]
    assert run(tmp_path / "again", tiny_teacher, given) == whole
    assert len(storage.list_objects(f"s3://{bucket}/teach")) == 6
    assert run(tmp_path / "more", tiny_teacher, given | {"attempts": 2}) == [
        {**row, "attempts": 2} for row in whole if row["attempt"] < 2
    ]


def test_two_at_once_are_refused(
    tmp_path: Path, asked: Path, tiny_teacher: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcod.teach.attempts._DEAD_S", 3.0)
    given = section(asked, tmp_path, attempts=1) | {"work": f"s3://{bucket}/teach"}
    run(tmp_path / "out", tiny_teacher, given)
    lock = storage.list_objects(f"s3://{bucket}/teach")[0].rsplit("/", 2)[0] + "/lock"
    with storage.lease(lock, ttl_s=3), pytest.raises(UserError, match="another `dcod teach` works there"):
        run(tmp_path / "out", tiny_teacher, given)
