"""`python -m bench.loader`: the loader alone, from a thousand to a million scored traces, each in a process of its own.

What is measured is one epoch's steps, as training asks for them; of a large set only the first ones, for so many
seconds. Memory is the process's peak, less its peak before the set was opened.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from dcod import storage
from dcod.config import TrainConfig
from dcod.score import scores
from dcod.train.sets import Schedule

RESULTS = Path(__file__).parent / "results" / "loader.json"
PROMPT, COMPLETION, PER_PROMPT, GROUP = 50, 150, 4, 1000


def write(path: Path, count: int) -> None:
    """Traces of about 200 random tokens, four a prompt, with the teacher's log-probs."""
    rng = np.random.default_rng(0)
    with pq.ParquetWriter(path, scores.SCHEMA, compression="zstd") as writer:
        for begin in range(0, count, GROUP):
            size = min(GROUP, count - begin)
            lengths = rng.integers(COMPLETION // 2, 3 * COMPLETION // 2, size)
            ends = np.concatenate([[0], lengths.cumsum()]).astype(np.int32)
            prompts = np.arange(size + 1, dtype=np.int32) * PROMPT
            tokens = [rng.integers(0, 49_152, n, dtype=np.int32) for n in (prompts[-1], ends[-1])]
            values = [pa.ListArray.from_arrays(ends, -rng.random(ends[-1], dtype=np.float32)) for _ in range(3)]
            columns = {
                "trace_id": [f"{begin + i:016x}" for i in range(size)],
                "prompt_id": [f"{(begin + i) // PER_PROMPT:016x}" for i in range(size)],
                "split": ["train"] * size,
                "prompt_tokens": pa.ListArray.from_arrays(prompts, tokens[0]),
                "completion_tokens": pa.ListArray.from_arrays(ends, tokens[1]),
                **dict(zip(("student_logprobs", "entropies", "behavior_logprobs"), values, strict=True)),
            }
            empty = {name: pa.nulls(size, SCHEMA_TYPES[name]) for name in scores.SCHEMA.names if name not in columns}
            writer.write_table(pa.table(columns | empty).select(scores.SCHEMA.names).cast(scores.SCHEMA))


SCHEMA_TYPES = {field.name: field.type for field in scores.SCHEMA}


def peak_mib() -> float:
    """The most memory that this process had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(folder: Path, seconds: float) -> dict[str, float]:
    """Opens a set and reads its steps."""
    before, began, cpu = peak_mib(), time.perf_counter(), time.process_time()
    traces = scores.open_scores(folder)["train"]
    opened = time.perf_counter() - began
    opened_cpu = time.process_time() - cpu
    schedule = Schedule(traces, TrainConfig(epochs=1, traces_per_step=16), 0)
    read, number, began, cpu = 0, 0, time.perf_counter(), time.process_time()
    while number < len(schedule) and time.perf_counter() - began < seconds:
        read += len(schedule[number])
        number += 1
    spent, cpu = time.perf_counter() - began, time.process_time() - cpu
    index = (traces.prompts.nbytes + traces.sizes.nbytes) / len(traces)
    return {
        "traces": len(traces),
        "open_seconds": round(opened, 2),
        "open_cpu_seconds": round(opened_cpu, 2),
        "traces_read": read,
        "traces_per_second": round(read / spent),
        "traces_per_cpu_second": round(read / cpu),
        "tokens_per_second": round(read / spent * float(traces.sizes.mean())),
        "file_mib": round((folder / "scores.parquet").stat().st_size / 2**20, 1),
        "arrow_peak_mib": round(pa.default_memory_pool().max_memory() / 2**20, 1),
        "peak_mib": round(peak_mib()),
        "peak_over_imports_mib": round(peak_mib() - before),
        "index_bytes_per_trace": round(index, 2),
    }


def main(
    sizes: Annotated[list[int] | None, typer.Argument(help="Numbers of traces.")] = None,
    seconds: Annotated[float, typer.Option(help="At most, for the reading of one size.")] = 20.0,
    results: Path = RESULTS,
    inside: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measures each size and writes its row of the results."""
    if inside:
        print(json.dumps(measure(inside, seconds)))
        return
    for size in sizes or [1_000, 10_000, 100_000, 1_000_000]:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder) / "scores.parquet", size)
            command = [sys.executable, "-m", "bench.loader", "--inside", folder, "--seconds", str(seconds)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        row = {
            **json.loads(done.stdout),
            "date": datetime.now(UTC).date().isoformat(),
            "machine": f"{os.cpu_count()} cores, no GPU, {platform.machine()}",
            "command": f"python -m bench.loader {size} --seconds {seconds:g}",
            "load_average": round(os.getloadavg()[0], 1),
        }
        known = json.loads(results.read_text(encoding="utf-8")) if results.is_file() else {}
        storage.write_json(results, known | {f"{size:07d}": row})
        print(row, flush=True)


if __name__ == "__main__":
    typer.run(main)
