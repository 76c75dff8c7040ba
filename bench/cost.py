"""`python -m bench.cost`: GPU hours, memory and storage of every stage, for 1.5B and 7B students; docs/cost.md.

Three kinds of figures, kept apart: *measured* here (bytes that dcod writes, traces a second of ingestion; kept in
results/cost.json with date and machine), *arithmetic* (FLOPs and bytes that follow from a model's shape), and
*assumed* (what a GPU reaches, how long a trace is). No figure of a GPU was measured.

`--measure` makes results/cost.json anew; without it the table is computed from the file.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

HERE = Path(__file__).parent
MEASURED = HERE / "results" / "cost.json"
GB, TB = 1e9, 1e12


@dataclass(frozen=True)
class Shape:
    """A decoder with gated MLPs, as Qwen2.5's configurations say it."""

    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool

    @property
    def body(self) -> int:
        """Weights of the blocks that multiply; norms and biases are left out."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.inner)

    @property
    def head(self) -> int:
        """Weights of the output head."""
        return self.hidden * self.vocabulary

    @property
    def parameters(self) -> int:
        """All weights."""
        return self.body + self.head * (1 if self.tied else 2)


STUDENTS = {
    "1.5B": Shape(28, 1536, 8960, 12, 2, 128, 151_936, tied=True),
    "7B": Shape(28, 3584, 18_944, 28, 4, 128, 152_064, tied=False),
}
TRACES = (100_000, 1_000_000, 10_000_000)


@dataclass(frozen=True)
class Assumed:
    """What is not measured: a trace, a GPU, an evaluation."""

    prompt: int = 150  # tokens
    completion: int = 4000
    epochs: int = 2
    gpu_flops: float = 989e12  # H100 SXM, dense bfloat16, from its data sheet
    gpu_bytes: float = 3.35e12  # its memory, bytes a second
    gpu_memory: float = 80e9
    train_share: float = 0.40  # of gpu_flops that training reaches
    score_share: float = 0.45  # the same, forward only
    decode_share: float = 0.50  # of gpu_bytes that generation reaches
    decode_batch: int = 256  # answers at once
    problems: int = 2000
    samples: int = 4
    answer: int = 2000  # tokens
    models: int = 3  # start, student, champion
    cpu_cores: int = 16  # beside the GPU


def forward_flops(shape: Shape, prompt: int, completion: int) -> float:
    """Of one trace: 2 a weight and token, the head at the completion alone, causal attention."""
    tokens = prompt + completion
    attention = 2.0 * shape.layers * shape.heads * shape.head_dim * tokens**2
    return 2.0 * (shape.body * tokens + shape.head * completion) + attention


def score_hours(shape: Shape, traces: int, assumed: Assumed) -> float:
    """GPU hours of one forward pass over all traces."""
    return (
        traces
        * forward_flops(shape, assumed.prompt, assumed.completion)
        / (assumed.gpu_flops * assumed.score_share * 3600)
    )


def train_hours(shape: Shape, traces: int, assumed: Assumed, recompute: bool) -> float:
    """GPU hours of all epochs: backward is two forwards, recomputed activations one more."""
    passes = 4 if recompute else 3
    flops = traces * assumed.epochs * passes * forward_flops(shape, assumed.prompt, assumed.completion)
    return flops / (assumed.gpu_flops * assumed.train_share * 3600)


def evaluate_hours(shape: Shape, assumed: Assumed) -> float:
    """GPU hours of generation: each token reads the weights once a batch, and its own keys and values (bfloat16)."""
    cache = 2 * 2.0 * shape.layers * shape.kv_heads * shape.head_dim * (assumed.prompt + assumed.answer / 2)
    per_token = 2.0 * (shape.body + shape.head) / assumed.decode_batch + cache
    answers = assumed.problems * assumed.samples * assumed.models
    return answers * assumed.answer * per_token / (assumed.gpu_bytes * assumed.decode_share * 3600)


def activation_bytes(shape: Shape, tokens: int, recompute: bool) -> float:
    """Kept between forward and backward of a micro-batch, bfloat16, attention without its matrix."""
    kv, queries = shape.kv_heads * shape.head_dim, shape.heads * shape.head_dim
    block = 2.0 * (5 * shape.hidden + 2 * queries + 2 * kv + 4 * shape.inner) * tokens
    if not recompute:
        return shape.layers * block
    return shape.layers * 2.0 * shape.hidden * tokens + block


def head_bytes(shape: Shape) -> float:
    """Chunks of logits and the head's float32 gradient, of the fused head; no full logits."""
    from dcod.models.heads import CHUNK_BYTES

    return 3.0 * CHUNK_BYTES["cuda"] + 4.0 * shape.head


def memory_bytes(shape: Shape, how: str, gpus: int, tokens: int = 4096) -> float:
    """Of one GPU while it trains, activations recomputed.

    Args:
        shape: the student's.
        how: ``full`` (weights, gradients and both moments of AdamW in float32, and the bfloat16 copy that the
            arithmetic reads, of one block at a time under FSDP) or ``lora`` (frozen weights in bfloat16; the updates,
            rank 16 of all linear layers, as ``full``).
        gpus: over how many FSDP splits it.
        tokens: of a micro-batch.
    """
    if how == "full":
        outside = shape.parameters - shape.body  # embeddings and head are gathered together
        copy = 2.0 * (shape.parameters if gpus == 1 else shape.body / shape.layers + outside)
        return (
            16.0 * shape.parameters / gpus + copy + activation_bytes(shape, tokens, recompute=True) + head_bytes(shape)
        )
    queries, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    sides = 2 * (shape.hidden + queries) + 2 * (shape.hidden + kv) + 3 * (shape.hidden + shape.inner)
    updates = 16.0 * shape.layers * sides
    frozen_head = head_bytes(shape) - 4.0 * shape.head
    return (2.0 * shape.parameters + 18.0 * updates) / gpus + activation_bytes(shape, tokens, True) + frozen_head


def storage_bytes(shape: Shape, traces: int, assumed: Assumed, measured: dict[str, Any]) -> dict[str, float]:
    """Of what each stage leaves: traces, scores, checkpoints (two, and the best student), the student."""
    prompt, completion = traces * assumed.prompt, traces * assumed.completion
    return {
        "traces": (prompt + completion) * measured["trace_bytes_per_token"],
        "scores": prompt * measured["prompt_bytes_per_token"] + completion * measured["score_bytes_per_token"],
        "with teacher": completion * measured["behavior_bytes_per_token"],
        "checkpoints": 2 * 12.0 * shape.parameters + 4.0 * shape.parameters,
        "student": 4.0 * shape.parameters,
    }


def ingest_hours(traces: int, assumed: Assumed, measured: dict[str, Any]) -> float:
    """Hours of one machine."""
    return traces / (measured["ingested_per_core_second"] * assumed.cpu_cores * 3600)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 0.1 else f"{value:.2g}"


def tables(measured: dict[str, Any], assumed: Assumed | None = None) -> str:
    """The Markdown of docs/cost.md."""
    given = assumed or Assumed()
    lines = ["| student | traces | ingest, CPU h | score, GPU h | train, GPU h | evaluate, GPU h | together, GPU h |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, shape in STUDENTS.items():
        for traces in TRACES:
            score = score_hours(shape, traces, given)
            train, ask = train_hours(shape, traces, given, recompute=True), evaluate_hours(shape, given)
            cells = [ingest_hours(traces, given, measured) * given.cpu_cores, score, train, ask, score + train + ask]
            lines.append(f"| {name} | {traces:,} | " + " | ".join(map(_number, cells)) + " |")
    lines += ["", "| GB a GPU | 1 GPU | 4 GPUs, FSDP | 8 GPUs, FSDP |", "|---|---|---|---|"]
    for name, shape in STUDENTS.items():
        for how in ("full", "lora"):
            cells = [memory_bytes(shape, how, gpus) / GB for gpus in (1, 4, 8)]
            shown = [f"{c:.0f}" + ("" if c < 0.9 * given.gpu_memory / GB else " (too much)") for c in cells]
            lines.append(f"| {name}, {how} | " + " | ".join(shown) + " |")
    heads = "traces | scores | teacher's log-probs | checkpoints | student"
    lines += ["", f"| student | traces | {heads} |", "|---|---|---|---|---|---|---|"]
    for name, shape in STUDENTS.items():
        for traces in TRACES:
            sizes = storage_bytes(shape, traces, given, measured).values()
            lines.append(f"| {name} | {traces:,} | " + " | ".join(f"{_number(s / GB)} GB" for s in sizes) + " |")
    return "\n".join(lines)


def measure(data: Path, student: str, count: int) -> dict[str, Any]:
    """Bytes a token of what dcod writes, and its rate of ingestion: rows verified, cleaned and split, by one core."""
    from dcod.config import parse_config
    from dcod.engines.transformers import TransformersEngine
    from dcod.models import loading
    from dcod.score.scores import write_scores
    from dcod.stages import ingest
    from dcod.traces import prompts, read_traces
    from dcod.traces.scored import ScoredTrace
    from dcod.tracking import NullLog

    base = loading.resolve(student)
    source = data / "traces" / "skythought" / "Qwen2.5-14B-Instruct__math500.jsonl"
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        config = parse_config(json.dumps({"ingest": {"sources": [str(source)], "keep": "all"}}))
        began = time.process_time()
        ingest.run(config, folder, log=NullLog(), student=base)
        spent = time.process_time() - began
        traces = list(read_traces(folder))
        found["ingested_per_core_second"] = round(len(traces) / spent, 1)
        tokenizer = prompts.load_tokenizer(base)
        examples = [
            ScoredTrace(
                t.trace_id,
                t.prompt_id,
                prompts.encode_prompt(tokenizer, t.prompt),
                prompts.encode_completion(tokenizer, t.completion),
                [],
                [],
            )
            for t in traces
        ]
        tokens = sum(len(e) for e in examples)
        stored = sum(shard.stat().st_size for shard in (folder / "traces.parquet").iterdir())
        found["trace_bytes_per_token"] = round(stored / tokens, 3)
        some = examples[:count]
        TransformersEngine(base, tokenizer).annotate(some, 2048)
        rows = _many(some, tokens=1_500_000)

        def size(rows: list[ScoredTrace]) -> int:
            write_scores(folder / "scores.parquet", rows, ["train"] * len(rows))
            return (folder / "scores.parquet").stat().st_size

        completion = sum(len(e.completion_tokens) for e in rows)
        alone = size(rows)
        prompts_alone = size([ScoredTrace(e.trace_id, e.prompt_id, e.prompt_tokens, [], [], []) for e in rows])
        for example, other in zip(rows, _many(some, tokens=1_500_000, seed=1), strict=True):
            example.behavior_logprobs = other.student_logprobs  # the teacher's are as hard to compress
        found["prompt_bytes_per_token"] = round(prompts_alone / sum(len(e.prompt_tokens) for e in rows), 3)
        found["score_bytes_per_token"] = round((alone - prompts_alone) / completion, 3)
        found["behavior_bytes_per_token"] = round((size(rows) - alone) / completion, 3)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, no GPU",
        "source": f"{source.name}: {len(traces)} traces of {tokens / len(traces):.0f} tokens; {count} scored",
        **found,
    }


def _many(examples: list[Any], tokens: int, seed: int = 0) -> list[Any]:
    """Enough traces for the encodings of a large file: copies with other tokens, and log-probs moved by a little."""
    from dataclasses import replace
    from random import Random

    rng, out, held = Random(seed), list[Any](), 0
    while held < tokens:
        source = examples[len(out) % len(examples)]
        moved = [v * (1 + 1e-3 * rng.random()) for v in source.student_logprobs]
        spread = [v * (1 + 1e-3 * rng.random()) for v in source.entropies]
        ids = rng.sample(source.completion_tokens, len(source.completion_tokens))
        asked = rng.sample(source.prompt_tokens, len(source.prompt_tokens))
        name = str(len(out))
        changed = {"prompt_tokens": asked, "completion_tokens": ids, "student_logprobs": moved, "entropies": spread}
        out.append(replace(source, trace_id=name, prompt_id=name, **changed))
        held += len(source)
    return out


def main(
    remeasure: Annotated[bool, typer.Option("--measure", help="Make results/cost.json anew.")] = False,
    data_dir: Annotated[Path, typer.Option(help="Folder of the data sets.")] = HERE.parents[1] / "shared" / "data",
    student: str = "HuggingFaceTB/SmolLM2-135M-Instruct",
    scored: Annotated[int, typer.Option(help="Traces that are scored for the size of scores.")] = 16,
) -> None:
    """Prints the tables of docs/cost.md."""
    from dcod import storage

    if remeasure:
        storage.write_json(MEASURED, measure(data_dir, student, scored))
    print(tables(json.loads(MEASURED.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    typer.run(main)
