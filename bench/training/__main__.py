"""`make bench`: tokens a second and peak memory of dcod, a plain loop and TRL, on the same steps, in one run.

Every contestant runs in a fresh process, one after the other, and all of them again in each repetition, so that a
busy machine slows all alike; ratios are taken within a repetition. With `--threads 1` processor time can be compared
as well, which others on the machine hardly change (with more threads, waiting counts as work). Before any figure is
written, the losses of those that optimise the same thing are compared, step by step.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.training import jobs, machine
from bench.training.contestant import CONTESTANTS, SAME
from dcod import storage
from dcod.models import loading
from dcod.score.scores import write_scores
from dcod.traces import prompts
from dcod.traces.scored import ScoredTrace

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results" / "training.json"
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
MODELS = ("smollm2-135m", "tiny")
TOLERANCE = 2e-3  # TRL logs its loss with four decimals
Row = dict[str, Any]


def tiny_model(folder: Path, tokenizer: Any) -> None:
    """A random network of 8 million parameters with SmolLM2's vocabulary: nearly all of it is the head."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = LlamaConfig(
        vocab_size=len(tokenizer), tie_word_embeddings=True, eos_token_id=tokenizer.eos_token_id, **shape
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def gsm8k(path: Path, tokenizer: Any, count: int) -> list[ScoredTrace]:
    """The first problems of the train split with their worked solutions, in a model's tokens."""
    out = []
    for index, line in enumerate(path.read_text(encoding="utf-8").splitlines()[:count]):
        row = json.loads(line)
        prompt = prompts.encode_prompt(tokenizer, [{"role": "user", "content": row["question"]}])
        completion = prompts.encode_completion(tokenizer, row["answer"])
        out.append(ScoredTrace(str(index), str(index), prompt, completion, [], []))
    return out


def prepare(folder: Path, name: str, data: Path, steps: int, threads: int) -> list[ScoredTrace]:
    """Makes the job of a model: its folder, and GSM8K scored by it."""
    from dcod.engines.transformers import TransformersEngine

    base = loading.resolve(SMOLLM2)
    tokenizer = prompts.load_tokenizer(base)
    if name == "tiny":
        base = folder / "model"
        tiny_model(base, tokenizer)
    job = jobs.Job(str(base), threads=threads)
    examples = gsm8k(data / "gsm8k" / "train.jsonl", tokenizer, (steps + jobs.WARM_UP) * job.traces_per_step)
    TransformersEngine(base, tokenizer).annotate(examples, 2048)
    write_scores(folder / "scores.parquet", examples, ["train"] * len(examples))
    jobs.save(folder, job)
    return examples


def child(threads: int, *arguments: str) -> Any:
    """The last line that a fresh Python of this environment prints, and how busy the others kept the machine."""
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    environment = {**os.environ, **limits, "HF_HUB_OFFLINE": "1"}
    began, busy = time.perf_counter(), machine.busy_seconds()
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr[-2000:]}")
    own = sum(os.times()[2:4])
    found = json.loads(done.stdout.splitlines()[-1])
    return found, (machine.busy_seconds() - busy, own, time.perf_counter() - began)


def check_losses(measured: Mapping[str, Row], tolerance: float = TOLERANCE) -> float:
    """Raises AssertionError where two that optimise the same thing differ; returns the largest difference."""
    largest = 0.0
    for names in SAME:
        runs = [measured[name]["losses"] for name in names if name in measured]
        for other in runs[1:]:
            differences = [abs(a - b) for a, b in zip(runs[0], other, strict=True)]
            largest = max(largest, *differences)
    assert largest < tolerance, f"losses differ by {largest}: the contestants do not do the same"
    return largest


def measure(folder: Path, name: str, names: Sequence[str], repetitions: int) -> Iterator[tuple[int, str, Row]]:
    """Runs all contestants on a job, again and again; the machine's matmul rate stands before each round."""
    threads = jobs.load(folder)[0].threads
    for index in range(repetitions):
        own = sum(os.times()[2:4])
        for contestant in ("matmul", *names):
            if contestant == "matmul":
                arguments = ["bench.training.machine", str(threads)]
            else:
                arguments = ["bench.training.contestant", str(folder), contestant]
            row, (busy, after, wall) = child(threads, *arguments)
            row["others_cores"] = round(max(0.0, (busy - (after - own)) / wall), 2)
            own = after
            print(f"{name}  {index + 1}/{repetitions}  {contestant}: {brief(row)}", file=sys.stderr, flush=True)
            yield index, contestant, row


def brief(row: Row) -> str:
    if "flops" in row:
        return f"{row['flops'] / 1e9:.0f} GFLOP/s, others use {row['others_cores']} cores"
    rate, gib = row["tokens"] / row["seconds"], row["peak_bytes"] / 2**30
    return f"{rate:.1f} tokens/s, {gib:.2f} GiB, others use {row['others_cores']} cores"


def spread(values: Sequence[float], digits: int = 2) -> dict[str, float]:
    """Smallest, median and largest."""
    return {
        "min": round(min(values), digits),
        "median": round(statistics.median(values), digits),
        "max": round(max(values), digits),
    }


def summary(rounds: Sequence[Mapping[str, Row]], needs: Mapping[str, float], reference: str) -> dict[str, Row]:
    """The figures of each contestant; ratios to the reference are taken within a round."""
    out = {}
    for name in (name for name in rounds[0] if name != "matmul"):
        rows = [round_[name] for round_ in rounds]
        rate = [row["tokens"] / row["seconds"] for row in rows]
        base = [round_[reference]["tokens"] / round_[reference]["seconds"] for round_ in rounds]
        share = [r * needs["six_n"] / round_["matmul"]["flops"] for r, round_ in zip(rate, rounds, strict=True)]
        spent = [row["tokens"] / row["cpu_seconds"] for row in rows]
        base_spent = [round_[reference]["tokens"] / round_[reference]["cpu_seconds"] for round_ in rounds]
        limits = [round_["matmul"]["cpu_flops"] / needs["six_n"] for round_ in rounds]
        peak = statistics.median(row["peak_bytes"] for row in rows)
        out[name] = {
            "tokens_per_second": spread(rate, 1),
            "tokens_per_cpu_second": spread(spent, 1),
            "speed_ratio": spread([r / b for r, b in zip(rate, base, strict=True)]),
            "cpu_ratio": spread([r / b for r, b in zip(spent, base_spent, strict=True)]),
            "peak_gib": round(peak / 2**30, 2),
            "above_model_gib": round(statistics.median(row["above_model_bytes"] for row in rows) / 2**30, 2),
            "memory_ratio": round(peak / statistics.median(r[reference]["peak_bytes"] for r in rounds), 2),
            "matmul_share": spread(share),
            "cpu_matmul_share": spread([r / limit for r, limit in zip(spent, limits, strict=True)]),
            "needed_share": spread([s * needs["needed"] / needs["six_n"] for s in share]),
            "others_cores": spread([row["others_cores"] for row in rows]),
        }
    return out


def table(figures: Mapping[str, Row], reference: str) -> str:
    """Plain text; medians, and the range of the ratio over the repetitions."""
    lines = [
        f"{'':22}{'by the clock':>8}{'':31}{'processor time':>14}{'':31}{'peak memory':>14}",
        f"{'':22}{'tokens/s':>8}{'x ' + reference + ' (range)':>24}{'of matmul':>11}"
        f"{'tokens/s':>10}{'x (range)':>24}{'of matmul':>11}{'GiB':>8}{'x':>6}",
    ]
    for name, row in figures.items():
        clock, cpu = (
            f"{row[key]['median']:.2f} ({row[key]['min']:.2f} to {row[key]['max']:.2f})"
            for key in ("speed_ratio", "cpu_ratio")
        )
        lines.append(
            f"{name:22}{row['tokens_per_second']['median']:8.1f}{clock:>24}{row['matmul_share']['median']:11.0%}"
            f"{row['tokens_per_cpu_second']['median']:10.1f}{cpu:>24}{row['cpu_matmul_share']['median']:11.0%}"
            f"{row['peak_gib']:8.2f}{row['memory_ratio']:6.2f}"
        )
    return "\n".join(lines)


def needs_per_token(folder: Path, examples: Sequence[ScoredTrace]) -> dict[str, float]:
    """FLOPs that a token of the job needs, by both counts."""
    job, _ = jobs.load(folder)
    model = loading.load(Path(job.model))
    flops = machine.step_flops(model.config, model.num_parameters(), examples)
    tokens = sum(map(len, examples))
    return {name: value / tokens for name, value in flops.items()}


def main(
    data_dir: Annotated[Path, typer.Option(help="Folder with gsm8k/train.jsonl.")] = ROOT.parent / "shared" / "data",
    model: Annotated[list[str], typer.Option(help="smollm2-135m, tiny.")] = list(MODELS),  # noqa: B006 (typer copies)
    contestant: Annotated[list[str], typer.Option(help="Names; all by default.")] = [],  # noqa: B006
    threads: int = 2,
    steps: Annotated[int, typer.Option(help="Timed optimizer steps of 8 problems; one more warms up.")] = 2,
    repetitions: int = 3,
    results: Path = RESULTS,
) -> None:
    """Measures, checks that the contestants do the same, and writes the figures."""
    names = contestant or [name for name in CONTESTANTS if not name.endswith(("sorted 1", "sorted 2", "recomputing"))]
    reference = "TRL, DFT" if "TRL, DFT" in names else names[0]
    found: Row = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, no GPU, {threads} threads, float32",
        "command": f"python -m bench.training --threads {threads} --steps {steps} --repetitions {repetitions}",
        "models": {},
    }
    for name in model:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            examples = prepare(folder, name, data_dir, steps, threads)
            needs = needs_per_token(folder, examples)
            rounds: list[dict[str, Row]] = [{} for _ in range(repetitions)]
            for index, who, row in measure(folder, name, names, repetitions):
                rounds[index][who] = row
        largest = max(check_losses(round_) for round_ in rounds)
        figures = summary(rounds, needs, reference)
        found["models"][name] = {
            "tokens_timed": rounds[0][names[0]]["tokens"],
            "largest_loss_difference": largest,
            "matmul_gflops": spread([r["matmul"]["flops"] / 1e9 for r in rounds], 0),
            "matmul_gflops_per_cpu_second": spread([r["matmul"]["cpu_flops"] / 1e9 for r in rounds], 0),
            "torch_mm_gflops": spread([r["matmul"]["mm_flops"] / 1e9 for r in rounds], 0),
            "torch_mm_gflops_per_cpu_second": spread([r["matmul"]["mm_cpu_flops"] / 1e9 for r in rounds], 0),
            "flops_per_token": {key: round(value) for key, value in needs.items()},
            "contestants": figures,
            "rounds": rounds,
        }
        storage.write_json(results, found)
        print(f"{name}: {repetitions} repetitions of {steps} steps; losses agree within {largest:.1e}")
        print(table(figures, reference), flush=True)


if __name__ == "__main__":
    typer.run(main)
