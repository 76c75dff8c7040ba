"""`python -m bench.ingest --data-dir DATA`: what ingest does in a second, step by step, and what memory it takes.

The rows are the problems and solutions of GSM8K's train split, their numbers and wording varied, four traces a problem;
one row in fifty repeats an earlier one. Rates are per second of processor time of one core, so that a busy machine
does not change them; wall time stands beside the whole runs. Every run is a fresh process; memory is the peak
resident size of it and of its children, measured by the kernel.
"""

from __future__ import annotations

import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from dcod import storage
from dcod.config import BenchmarkConfig, Config, EvaluateConfig, IngestConfig, StudentConfig
from dcod.ingest import duplicates
from dcod.ingest.examine import Examiner, clean, verify
from dcod.models import loading
from dcod.stages import ingest
from dcod.stages.execute import RunContext, execute
from dcod.traces import Trace, prompts, reading, write_traces
from dcod.traces.items import taken
from dcod.tracking import NullLog

STUDENT = "HuggingFaceTB/SmolLM2-135M-Instruct"
RESULTS = Path(__file__).parent / "results" / "ingest.json"
PODS = ("1/4", "2/4", "3/4", "4/4", "join")
app = typer.Typer(pretty_exceptions_enable=False)


def rows(gsm8k: Path, count: int) -> Iterator[str]:
    """JSON rows, every one with another text but each fiftieth."""
    known = [json.loads(line) for line in gsm8k.read_text(encoding="utf-8").splitlines()]
    generator = random.Random(0)
    last = ""
    for index in range(count):
        if index % 50 != 49:
            problem = index // 4
            row = known[problem % len(known)]
            words = row["answer"].split(" ")
            words.insert(generator.randrange(len(words) - 1), f"(way {index})")
            last = json.dumps({"problem": f"Case {problem}. {row['question']}", "response": " ".join(words),
                               "gold": row["answer"].rpartition("#### ")[2], "model": "bench"})  # fmt: skip
        yield last


def config(file: Path, data_dir: Path, *, every: bool) -> Config:
    """Every step, or only those that account for rows and find exact duplicates."""
    benchmarks = [BenchmarkConfig(name="gsm8k", source=str(data_dir / "gsm8k/test.jsonl"))] if every else []
    section: dict[str, Any] = {"near_duplicates": 0.9} if every else {"keep": "all", "refuse_loops": False}
    return Config(
        student=StudentConfig(model=STUDENT),
        ingest=IngestConfig(sources=[str(file)], **section),
        evaluate=EvaluateConfig(benchmarks=benchmarks),
    )


@app.command()
def whole(file: Path, data_dir: Path, kind: str, workers: int) -> None:
    """One run of the stage; prints what it took."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=file.parent) as out:
        chosen = config(file, data_dir, every=kind == "every")
        found = ingest.run(chosen, Path(out), NullLog(), student=loading.resolve(STUDENT), workers=workers)
        size = sum(path.stat().st_size for path in Path(out).rglob("*") if path.is_file())
    wall = time.perf_counter() - began
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps({
        "wall_s": round(wall, 1),
        "cpu_s": round(sum(usage.ru_utime + usage.ru_stime for usage in usages), 1),
        "peak_mib_parent": usages[0].ru_maxrss // 1024,
        "peak_mib_largest_child": usages[1].ru_maxrss // 1024,
        "output_mib": round(size / 2**20, 1),
        "accepted": int(found["accepted"]),
        "quarantined": int(found["quarantined"]),
    }))  # fmt: skip


@app.command()
def pod(file: Path, data_dir: Path, kind: str, folder: Path, part: str) -> None:
    """One pod of an ingestion in shards: ``part`` is 2/4, say, or `join`; prints what it took, imports left out."""
    chosen, student = config(file, data_dir, every=kind == "every"), loading.resolve(STUDENT)
    began = time.process_time()
    if part == "join":
        parts = {f"part{number}": path for number, path in enumerate(sorted(folder.glob("part-*")))}
        execute("join", chosen, folder / "joined", {"student": student, **parts}, RunContext(tracked=False))
    else:
        out = folder / f"part-{part.partition('/')[0]}"
        execute("examine", chosen, out, {"student": student}, RunContext(tracked=False), part=part)
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    taken = time.process_time() - began + others.ru_utime + others.ru_stime
    print(json.dumps({"cpu_s": round(taken, 1), "peak_mib_parent": own.ru_maxrss // 1024}))


@app.command()
def steps(file: Path, data_dir: Path) -> None:
    """Traces per second of processor time, by step; prints them."""
    chosen = config(file, data_dir, every=True)
    examiner = Examiner(chosen, loading.resolve(STUDENT))
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        began = time.process_time()
        found = work()
        seconds[name] = time.process_time() - began
        return found

    raw = timed("read", lambda: [row for block in reading.blocks(file, "f", "d") for row in block.rows()])
    traces: list[Trace] = timed("format", lambda: [taken(row.row).items[0] for row in raw])
    traces = timed("clean", lambda: [clean(trace, chosen.ingest) for trace in traces])
    traces = timed("verify", lambda: [verify(trace, chosen.ingest) for trace in traces])
    contamination = examiner._known
    assert contamination is not None
    # A problem is looked for once; its other traces are told from memory.
    timed("contamination", lambda: [contamination.find(trace.prompt) for trace in traces[::4]])
    timed("tokens", lambda: [prompts.encode_completion(examiner.tokenizer, trace.completion) for trace in traces])
    with tempfile.TemporaryDirectory() as scratch:
        for name, threshold in (("exact duplicates", 0.0), ("near duplicates", 0.9)):
            with closing(duplicates.Index(Path(scratch) / f"{threshold}.sqlite", threshold)) as index:
                timed(name, lambda index=index, near=threshold > 0: _index(index, traces, near))
        timed("write", lambda: write_traces(Path(scratch) / "t.parquet", traces))
    print(json.dumps({name: round(len(raw) / taken) for name, taken in seconds.items()}))


def _index(index: duplicates.Index, traces: list[Trace], near: bool) -> None:
    for trace in traces:
        key, signature = duplicates.key(trace), duplicates.signature(trace) if near else b""
        if index.find(key, signature) is None:
            index.add(trace.trace_id, trace.prompt_id, key, signature)


@app.command()
def measure(
    data_dir: Annotated[Path, typer.Option(help="With gsm8k/train.jsonl and gsm8k/test.jsonl.")],
    every: Annotated[list[int], typer.Option(help="Sizes that go through every step.")] = [10_000, 100_000],  # noqa: B006
    exact: Annotated[list[int], typer.Option(help="Sizes that are read, accounted for, and compared exactly.")] = [  # noqa: B006
        10_000,
        100_000,
        1_000_000,
    ],
    workers: int = 2,
    results: Path = RESULTS,
) -> None:
    """Measures everything, each size in a fresh process, and writes the results as they come."""
    found: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, no GPU, shared with other work at the time",
        "student": f"{STUDENT} (its tokenizer)",
        "workers": workers,
        "runs": [],
    }
    with tempfile.TemporaryDirectory() as scratch:
        for size in sorted({*every, *exact}):
            file = Path(scratch) / "rows.jsonl"
            with file.open("w", encoding="utf-8") as out:
                out.writelines(f"{row}\n" for row in rows(data_dir / "gsm8k/train.jsonl", size))
            if "traces_per_cpu_second" not in found:
                found["traces_per_cpu_second"] = _fresh("steps", file, data_dir)
            for kind in ("exact", "every"):
                if size in (every if kind == "every" else exact):
                    told = _fresh("whole", file, data_dir, kind, workers)
                    told |= {"traces": size, "steps": kind, "source_mib": file.stat().st_size >> 20}
                    told["traces_per_cpu_s"] = round(size / told["cpu_s"])  # starting up included
                    found["runs"].append(told)
                    with tempfile.TemporaryDirectory(dir=scratch) as folder:
                        pods = {part: _fresh("pod", file, data_dir, kind, folder, part) for part in PODS}
                    told["pods"] = pods
                    print(json.dumps(told), flush=True)
                    storage.write_json(results, found)


def _fresh(command: str, *arguments: object) -> Any:
    called = [sys.executable, "-m", "bench.ingest", command, *map(str, arguments)]
    return json.loads(subprocess.run(called, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


if __name__ == "__main__":
    app()
