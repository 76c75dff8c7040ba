"""Ingestion in shards: any number of them makes the set that one pod makes, byte for byte."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from dcod import storage
from dcod.config import Config
from dcod.errors import UserError
from dcod.ingest import examined_rows, feed
from dcod.stages.execute import RunContext, execute
from dcod.traces import read_traces, reading
from tests.stages.test_ingest import response, solved

HERE = RunContext(tracked=False)
SECTIONS = {"limit": 50, "near_duplicates": 0.8, "selection_share": 0.3, "row_bytes": 3000}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A large file, small ones, a cut one, a made set: with repeats, faults and contamination across all shards."""
    monkeypatch.setattr(reading, "BLOCK_ROWS", 7)
    long = " ".join(f"word{n}" for n in range(100))
    rows = [response(n, "The answer is 5.") for n in range(5)] + [{"foo": 1}, response(3, "\ud83d \\boxed{6}")]
    rows += [response(n, f"{long} {n % 3} \\boxed{{{2 * n}}}") for n in range(30, 40)]
    rows += [solved(n % 31) for n in range(80)]
    lines = [json.dumps(row) for row in rows] + ['{"question": "broken', json.dumps({"long": "x" * 4000})]
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "large.jsonl").write_text("".join(f"{line}\n" for line in lines))
    (tmp_path / "raw" / "small.json").write_text(json.dumps([solved(2), solved(200), 7]))
    cut = gzip.compress("".join(json.dumps(solved(n)) + "\n" for n in range(60, 80)).encode())
    (tmp_path / "raw" / "cut.jsonl.gz").write_bytes(cut[:-20])
    legs = "reasoning-gym://leg_counting?problems=9&traces=2&seed=1"
    section = {**SECTIONS, "sources": [legs, str(tmp_path / "raw")]}
    benchmark = {"name": "reasoning_gym", "source": "reasoning-gym://leg_counting?problems=3&seed=1"}
    return Config.model_validate({"ingest": section, "evaluate": {"benchmarks": [benchmark]}})


def sharded(config: Config, folder: Path, student: Path, count: int) -> dict[str, Path]:
    parts = {}
    for number in range(1, count + 1):
        out = folder / f"{number}-of-{count}"
        execute("examine", config, out, {"student": student}, HERE, part=f"{number}/{count}")
        parts[f"part{number - 1}"] = out
    return parts


def test_any_number_of_shards_makes_the_set_of_one_pod(config: Config, tmp_path: Path, tiny_student: Path) -> None:
    whole = execute("ingest", config, tmp_path / "whole", {"student": tiny_student}, HERE)
    counts = json.loads((tmp_path / "whole" / "counts.json").read_text())
    reasons = {"over_limit", "wrong_answer", "bad_row", "bad_json", "row_too_long", "duplicate", "near_duplicate"}
    assert reasons | {"contaminated", "broken_file", "bad_encoding", "unknown_format"} <= set(counts["quarantined"])
    assert len({trace.source_file for trace in read_traces(tmp_path / "whole")}) >= 2
    for count in (1, 2, 5):
        parts = sharded(config, tmp_path, tiny_student, count)
        shuffled = {name: parts[name] for name in sorted(parts, reverse=True)}
        joined = execute("join", config, tmp_path / "joined", {"student": tiny_student, **shuffled}, HERE)
        assert joined == whole
        assert storage.digest_folder(tmp_path / "joined") == storage.digest_folder(tmp_path / "whole")


def test_what_cannot_be_joined(config: Config, tmp_path: Path, tiny_student: Path) -> None:
    """A shard that is missing, twice there, or of another configuration; a file that came between shards and join."""
    parts = sharded(config, tmp_path, tiny_student, 2)
    other = config.model_copy(update={"ingest": config.ingest.model_copy(update={"keep": "all"})})

    def refused(given: Config, **folders: Path) -> str:
        with pytest.raises(UserError) as caught:
            execute("join", given, tmp_path / "out", {"student": tiny_student, **folders}, HERE)
        assert not (tmp_path / "out").exists()
        return str(caught.value)

    assert "shard 1/2 of another ingestion" in refused(config, part0=parts["part0"])
    assert "shard 1/2 of another ingestion" in refused(config, part0=parts["part0"], part1=parts["part0"])
    assert "shard 1/2 of another ingestion" in refused(other, **parts)
    late = tmp_path / "raw" / "late.jsonl"
    late.write_text(json.dumps(solved(300)) + "\n")
    assert refused(config, **parts).startswith(f"source {late}: changed, or came, while the shards")
    with pytest.raises(UserError, match="shard '3/2': expected k/n"):
        execute("examine", config, tmp_path / "out", {"student": tiny_student}, HERE, part="3/2")


def test_the_rows_of_the_shards_are_those_of_the_blocks(config: Config, tmp_path: Path, tiny_student: Path) -> None:
    """Nothing is put beside another row, even where the digests of the sources are the same."""
    parts = sharded(config, tmp_path, tiny_student, 2)
    files = [parts[name] / examined_rows.FILE for name in ("part0", "part1")]
    blocks = list(feed.blocks(feed.files(config), SECTIONS["row_bytes"]))
    assert [block for block, _ in examined_rows.joined(blocks, files)] == blocks
    for wrong in (blocks[1:], blocks[:-1], [*blocks, blocks[0]]):
        with pytest.raises(UserError, match="run it again"):
            list(examined_rows.joined(wrong, files))
