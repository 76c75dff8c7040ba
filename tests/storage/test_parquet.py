"""Tables in shards: bounded, in order, read by the run, replaced as a whole."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcod.storage import parquet
from dcod.traces import Trace, count_traces, read_batches, read_traces, write_traces

SCHEMA = pa.schema([("n", pa.int64()), ("name", pa.dictionary(pa.int32(), pa.string()))])


def table(begin: int, end: int) -> pa.Table:
    return pa.table({"n": range(begin, end), "name": [f"name{n % 7}" for n in range(begin, end)]}).cast(SCHEMA)


def written(folder: Path, shard_bytes: int) -> list[Path]:
    with parquet.Writer(folder, SCHEMA, shard_bytes) as writer:
        for begin in range(0, 300, 30):
            writer.write(table(begin, begin + 30))
    return parquet.shards(folder)


def numbers(folder: Path, rows: range | None = None) -> list[int]:
    return [n for batch in parquet.read(folder, rows, ["n"]) for n in batch["n"].to_pylist()]


def test_shards_are_bounded_and_read_as_one_table(tmp_path: Path) -> None:
    group = table(0, 30).nbytes
    found = written(tmp_path / "t", 2 * group)
    assert [path.name for path in found] == [f"part-{n:08d}.parquet" for n in range(5)]
    assert {pq.read_metadata(path).num_row_groups for path in found} == {2}
    assert parquet.count(tmp_path / "t") == 300
    assert numbers(tmp_path / "t") == list(range(300))
    whole = pq.read_table(tmp_path / "t")  # as everybody reads a folder
    assert whole["n"].to_pylist() == list(range(300))
    assert whole["name"].to_pylist()[6] == "name6"
    for begin, end in ((0, 0), (0, 1), (29, 31), (59, 61), (100, 300), (150, 151), (299, 300)):
        assert numbers(tmp_path / "t", range(begin, end)) == list(range(begin, end))


def test_a_table_that_is_written_again_keeps_no_old_shard(tmp_path: Path) -> None:
    assert len(written(tmp_path / "t", 1)) == 10
    assert len(written(tmp_path / "t", 2**20)) == 1
    assert parquet.count(tmp_path / "t") == 300


def test_a_single_file_and_an_empty_table_are_tables(tmp_path: Path) -> None:
    pq.write_table(table(0, 5), tmp_path / "t.parquet")
    assert numbers(tmp_path / "t.parquet", range(1, 3)) == [1, 2]
    with parquet.Writer(tmp_path / "empty", SCHEMA):
        pass
    assert parquet.count(tmp_path / "empty") == 0
    assert numbers(tmp_path / "empty") == []
    assert pq.read_table(tmp_path / "empty").schema.names == ["n", "name"]
    assert parquet.shards(tmp_path / "none") == []


def test_long_traces_make_small_row_groups_and_many_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written at once is bounded in bytes, not in traces; the traces come back in order."""
    monkeypatch.setattr("dcod.traces.schema._GROUP_BYTES", 2**16)
    prompt = [{"role": "user", "content": "?"}]
    made = [Trace(prompt, f"{n} {'x' * 3000}", source_file=f"f{n // 100}") for n in range(400)]
    assert write_traces(tmp_path / "traces.parquet", made, shard_bytes=2**18) == 400
    shards = parquet.shards(tmp_path / "traces.parquet")
    assert len(shards) == 4
    groups = [pq.read_metadata(path).row_group(0) for path in shards]
    assert [group.num_rows for group in groups] == [64, 64, 64, 16]
    assert list(read_traces(tmp_path)) == made
    assert list(read_traces(tmp_path, range(250, 260))) == made[250:260]
    assert count_traces(tmp_path) == 400
    files = [name for batch in read_batches(tmp_path, columns=["source_file"]) for name in batch[0].to_pylist()]
    assert files == [trace.source_file for trace in made]
