"""`python -m bench.mapped measure --data-dir DATA`: does a mapped Parquet stream, or does memory grow with it?

The rows are those of ``bench.ingest`` in columns of their own: the question as a chat in a list of structs, attempts in
another (every fourth row has two), reference and teacher in a text of JSON. A mapping finds them; every trace is
accounted for and compared exactly. Each size runs in a fresh process; memory is its peak resident size by the kernel.
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
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer

from bench.ingest import STUDENT, rows
from dcod import storage
from dcod.config import Config, IngestConfig, StudentConfig
from dcod.config.mapping import MapConfig, SourceConfig
from dcod.models import loading
from dcod.stages import ingest
from dcod.tracking import NullLog

RESULTS = Path(__file__).parent / "results" / "mapped.json"
GROUP = 4096  # rows of a row group
MAP = {
    "prompt": "turns",
    "completion": "attempts[*].text",
    "finish_reason": "attempts[*].finish",
    "gold": "meta.final",
    "teacher": "meta.by",
}
SCHEMA = pa.schema(
    [
        ("turns", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("attempts", pa.list_(pa.struct([("text", pa.string()), ("finish", pa.string())]))),
        ("meta", pa.string()),
    ]
)
app = typer.Typer(pretty_exceptions_enable=False)


def shaped(gsm8k: Path, count: int) -> Iterator[dict[str, Any]]:
    """So many rows; every fourth has a second attempt."""
    for index, line in enumerate(rows(gsm8k, count)):
        row = json.loads(line)
        said = [row["response"], f"(again {index}) {row['response']}"][: 2 if index % 4 == 0 else 1]
        yield {
            "turns": [{"role": "user", "content": f"{row['problem']} ({index})"}],
            "attempts": [{"text": text, "finish": "stop"} for text in said],
            "meta": json.dumps({"final": row["gold"], "by": row["model"]}),
        }


def write(path: Path, gsm8k: Path, count: int) -> None:
    """The rows as Parquet, a row group after the other."""
    with pq.ParquetWriter(path, SCHEMA) as writer:
        group: list[dict[str, Any]] = []
        for row in shaped(gsm8k, count):
            group.append(row)
            if len(group) == GROUP:
                writer.write_table(pa.Table.from_pylist(group, schema=SCHEMA))
                group = []
        writer.write_table(pa.Table.from_pylist(group, schema=SCHEMA))


@app.command()
def whole(file: Path, student: Path, workers: int) -> None:
    """One run of the stage; prints what it took."""
    source = SourceConfig(path=str(file), map=[MapConfig.model_validate(MAP)])
    chosen = Config(
        student=StudentConfig(model=STUDENT),
        ingest=IngestConfig(sources=[source], keep="all", refuse_loops=False),
    )
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=file.parent) as out:
        found = ingest.run(chosen, Path(out), NullLog(), student=student, workers=workers)
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps({
        "wall_s": round(time.perf_counter() - began, 1),
        "cpu_s": round(sum(one.ru_utime + one.ru_stime for one in (own, others)), 1),
        "peak_mib_parent": own.ru_maxrss // 1024,
        "peak_mib_largest_child": others.ru_maxrss // 1024,
        "accepted": int(found["accepted"]),
        "quarantined": int(found["quarantined"]),
    }))  # fmt: skip


@app.command()
def measure(
    data_dir: Annotated[Path, typer.Option(help="With gsm8k/train.jsonl.")],
    sizes: Annotated[list[int], typer.Option(help="Rows; a million takes 25 minutes of a core.")] = [  # noqa: B006
        100_000,
        200_000,
    ],
    workers: int = 1,
    results: Path = RESULTS,
) -> None:
    """Measures each size in a fresh process, and writes the results as they come."""
    found: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, no GPU, shared with other work at the time",
        "student": f"{STUDENT} (its tokenizer)",
        "workers": workers,
        "runs": [],
    }
    student = loading.resolve(STUDENT)  # here, since what unpacks it takes more memory than what is measured
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes:
            file = Path(scratch) / "rows.parquet"
            write(file, data_dir / "gsm8k/train.jsonl", size)
            called = [sys.executable, "-m", "bench.mapped", "whole", str(file), str(student), str(workers)]
            told = subprocess.run(called, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
            found["runs"].append({"rows": size, "source_mib": file.stat().st_size >> 20, **json.loads(told)})
            print(json.dumps(found["runs"][-1]), flush=True)
            storage.write_json(results, found)


if __name__ == "__main__":
    app()
