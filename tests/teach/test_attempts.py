"""The shards of attempts: parts of the one store, the same in a folder and in a bucket, those of before among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcod.errors import UserError
from dcod.storage import parts
from dcod.teach import attempts
from dcod.teach.attempts import FILE, SCHEMA

QUESTIONS = ["one", "two"]


def rows(number: int) -> list[dict[str, Any]]:
    """One more attempt at each question."""
    fixed = dict.fromkeys(SCHEMA.names) | {"verdict": "wrong", "finish_reason": "stop", "read": 3, "wrote": 5}
    return [{**fixed, "question": name, "attempt": number, "completion": f"{name} {number}"} for name in QUESTIONS]


def written(place: str, path: Path, limit: int = 9) -> list[str]:
    """What a run that asks nothing more writes."""
    with attempts.opened(place, QUESTIONS, limit, 0, {}) as kept:
        kept.write(path)
    said: list[str] = pq.read_table(path)["completion"].to_pylist()
    return said


def test_shards_of_earlier_versions_are_taken_over(work_place: str, tmp_path: Path) -> None:
    """They lay as files beside each other; what is new stands behind them, and they stay as they are."""
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    for number in range(2):
        pq.write_table(pa.Table.from_pylist(rows(number), schema=SCHEMA), earlier / f"shard-{number:08d}.parquet")
    (earlier / "notes.parquet").write_text("of a user's own")
    parts.copy(earlier, work_place)
    with attempts.opened(work_place, QUESTIONS, 3, 0, {}) as kept:
        assert [kept.tallies[name].tries for name in QUESTIONS] == [2, 2]
        kept.add(rows(2))
        assert kept.due() == []
        assert kept.counts == {"attempts": 6, "wrong": 6, "input_tokens": 18, "output_tokens": 30}
    store = parts.Parts(work_place, FILE)
    assert store.names() == ["shard-00000002"]
    assert [name for name in store.loose() if name != "lock"] == [
        "notes.parquet", "shard-00000000.parquet", "shard-00000001.parquet",
    ]  # fmt: skip
    assert written(work_place, tmp_path / "all") == [f"{name} {number}" for number in range(3) for name in QUESTIONS]
    assert written(work_place, tmp_path / "less", limit=1) == ["one 0", "two 0"]


def test_what_is_kept_is_written_by_the_run_that_made_it_and_by_the_next(work_place: str, tmp_path: Path) -> None:
    with attempts.opened(work_place, QUESTIONS, 9, 0, {}) as kept:
        for number in range(3):
            kept.add(rows(number))
        kept.write(tmp_path / "first")
    assert parts.Parts(work_place, FILE).names() == [f"shard-{number:08d}" for number in range(3)]
    said = [f"{name} {number}" for number in range(3) for name in QUESTIONS]
    assert pq.read_table(tmp_path / "first")["completion"].to_pylist() == said
    assert written(work_place, tmp_path / "next") == said


def test_a_shard_that_cannot_be_written_is_none(work_place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither it nor its attempts count, and the next one has its number."""
    with attempts.opened(work_place, QUESTIONS, 9, 0, {}) as kept:
        kept.add(rows(0))
        with monkeypatch.context() as patch:
            patch.setattr(attempts.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises(UserError, match=r"there is no space left.* set another teach\.work"):
                kept.add(rows(1))
        assert [kept.tallies[name].tries for name in QUESTIONS] == [1, 1]
        kept.add(rows(1))
    assert parts.Parts(work_place, FILE).names() == ["shard-00000000", "shard-00000001"]
