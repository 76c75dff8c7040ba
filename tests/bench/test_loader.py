"""The loader's memory: opening a set holds a small part of its file at once."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from bench import loader
from dcod import scores


def test_opening_a_set_holds_a_small_part_of_its_file(tmp_path: Path) -> None:
    path, before = tmp_path / "scores.parquet", pa.default_memory_pool()
    loader.write(path, 12_000)
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    try:
        traces = scores.open_scores(tmp_path)["train"]
    finally:
        pa.set_memory_pool(before)
    assert len(traces) == 12_000
    assert 0 < pool.max_memory() < path.stat().st_size / 2


def test_a_measurement_says_what_was_read(tmp_path: Path) -> None:
    loader.write(tmp_path / "scores.parquet", 40)
    found = loader.measure(tmp_path, seconds=600.0)
    assert found["traces"] == found["traces_read"] == 40
    assert found["index_bytes_per_trace"] == 8.0
