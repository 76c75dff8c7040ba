"""The loader's memory, by its own bench: opening a set and reading from it holds a small part of its file at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_a_set_is_opened_and_read_with_a_small_part_of_it_in_memory(tmp_path: Path) -> None:
    results = tmp_path / "loader.json"
    command = [sys.executable, "-m", "bench.loader", "20000", "--seconds", "0.1", "--results", str(results)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    ((_, found),) = json.loads(results.read_text()).items()
    assert found["traces"] == 20_000
    assert found["index_bytes_per_trace"] == 8.0
    assert 0 < found["arrow_peak_mib"] < 0.5 * found["file_mib"]
