"""`python -m bench.scoring`: tokens scored a second, against the body alone (the most there is) and full logits.

All variants take turns within a round, on the same length-sorted micro-batches, so that a busy machine slows all of
them alike; processor time is compared, not the clock. Then the same parts by one process with two threads and by two
processes with one each, by the clock, model loading included. vLLM is measured where it can be imported.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from dcod import models, prompts, scoring, storage
from dcod.config import Config
from dcod.engines.transformers import TransformersEngine
from dcod.packing import Example, collate, micro_batches
from dcod.traces import Trace, write_traces

STUDENT = "HuggingFaceTB/SmolLM2-135M-Instruct"
RESULTS = Path(__file__).parent / "results" / "scoring.json"
BATCH_TOKENS = 2048


def examples(count: int, vocabulary: int) -> list[Example]:
    """Traces of 40 + 60 to 240 random tokens."""
    generator = torch.Generator().manual_seed(0)
    out = []
    for index in range(count):
        size = int(torch.randint(60, 241, (), generator=generator))
        tokens = torch.randint(3, vocabulary, (40 + size,), generator=generator).tolist()
        out.append(Example(str(index), str(index), tokens[:40], tokens[40:], [], []))
    return out


@torch.inference_mode()
def body(engine: TransformersEngine, traces: list[Example]) -> None:
    """The forward pass without a head."""
    for group in micro_batches(traces, BATCH_TOKENS):
        models.hidden_states(engine.model, collate(group))


@torch.inference_mode()
def full_logits(engine: TransformersEngine, traces: list[Example]) -> None:
    """Log-softmax over the logits of all positions; log-probs and entropies of the completion."""
    for group in micro_batches(traces, BATCH_TOKENS):
        batch = collate(group)
        out = engine.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
        logprobs = torch.log_softmax(out.logits.float(), dim=-1)
        entropies = -(logprobs.exp() * logprobs).sum(-1)
        rows = logprobs[batch.rows, batch.columns]
        _ = rows.gather(1, batch.targets[:, None]).tolist(), entropies[batch.rows, batch.columns].tolist()


VARIANTS: dict[str, Callable[[TransformersEngine, list[Example]], None]] = {
    "body alone": body,
    "dcod": lambda engine, traces: engine.annotate(traces, BATCH_TOKENS),
    "dcod, top 32": lambda engine, traces: engine.annotate(traces, BATCH_TOKENS, 32),
    "log_softmax on full logits": full_logits,
}


def compared(engine: TransformersEngine, traces: list[Example], rounds: int) -> dict[str, Any]:
    """Processor seconds of each variant, and its speed as a share of the body's."""
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for number in range(rounds + 1):
        for name, function in VARIANTS.items():
            began = time.process_time()
            function(engine, traces)
            if number:  # the first round warms up
                seconds[name].append(time.process_time() - began)
    tokens = sum(map(len, traces))
    table = {}
    for name, values in seconds.items():
        ratios = [bare / value for bare, value in zip(seconds["body alone"], values, strict=True)]
        table[name] = {
            "tokens_per_cpu_second": round(tokens / statistics.median(values), 1),
            "speed_of_body": round(statistics.median(ratios), 3),
            "speed_of_body_range": [round(min(ratios), 3), round(max(ratios), 3)],
        }
    return table


def shared(base: Path, count: int) -> dict[str, float]:
    """Tokens a second by the clock of the same traces: two threads in one process, one in each of two."""
    out = {}
    text = "So the first number is 12 and the second is 7, and 12 times 7 is 84. "
    made = [Trace([{"role": "user", "content": f"{i}?"}], text * (1 + i % 6)) for i in range(count)]
    for name, workers in (("1 process, 2 threads", 1), ("2 processes, 1 thread each", 2)):
        torch.set_num_threads(2)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            write_traces(folder / "traces.parquet", made)
            section = {"workers": workers, "batch_tokens": BATCH_TOKENS, "checkpoints": {"every": max(1, count // 4)}}
            parts = scoring.Parts(str(folder / "parts"))
            began = time.perf_counter()
            job = scoring.Job(Config.model_validate({"score": section}), folder, base, parts)
            scoring.score_parts(job, range(-(-count // max(1, count // 4))))
            out[name] = round(time.perf_counter() - began, 1)
    return out


def by_vllm(base: Path, traces: list[Example]) -> str | float:
    """Tokens a second of vLLM's prompt_logprobs, by the clock; it tells no entropies."""
    if importlib.util.find_spec("vllm") is None:
        return "not measured: vllm is not installed here"
    from dcod.engines.vllm import VllmEngine

    engine = VllmEngine(base, prompts.load_tokenizer(base))
    engine.score(traces[:2], BATCH_TOKENS)
    began = time.perf_counter()
    engine.score(traces, BATCH_TOKENS)
    return round(sum(map(len, traces)) / (time.perf_counter() - began), 1)


def main(
    traces: int = 24,
    rounds: int = 5,
    tiny_traces: Annotated[int, typer.Option(help="Traces for the tiny model.")] = 400,
    shared_traces: Annotated[int, typer.Option(help="Traces for one process against two; 0: not measured.")] = 64,
    results: Path = RESULTS,
) -> None:
    """Measures and writes the results."""
    from tests.tiny import save_tiny_student

    with tempfile.TemporaryDirectory() as scratch:
        tiny = save_tiny_student(Path(scratch) / "tiny", hidden=128, layers=4)
        base = models.resolve(STUDENT)
        found: dict[str, Any] = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": f"{os.cpu_count()} cores, no GPU, {platform.machine()}, float32",
            "command": "python -m bench.scoring",
            "threads": torch.get_num_threads(),
            "rounds": rounds,
            "models": {},
        }
        for name, folder, count, vocabulary in ((STUDENT, base, traces, 49_000), ("tiny", tiny, tiny_traces, 259)):
            engine = TransformersEngine(folder, prompts.load_tokenizer(folder))
            found["models"][name] = compared(engine, examples(count, vocabulary), rounds)
        found["seconds_by_the_clock"] = shared(base, shared_traces) if shared_traces else "not measured"
        found["vllm_tokens_per_second"] = by_vllm(base, examples(traces, 49_000))
        found["load_average_at_the_end"] = round(os.getloadavg()[0], 1)
    storage.write_json(results, found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    typer.run(main)
