"""`python -m bench.scoring`: tokens scored a second, against the body alone (the most there is), full logits and vLLM.

All variants take turns within a round, on the same traces, so that a busy machine slows all of them alike. The ratios
of processor time say more than those of the clock where others are at work; OMP_NUM_THREADS=1, else waiting threads
count as work. vLLM runs in its own environment (`make test-vllm` makes it; `--vllm-python .venv-vllm/bin/python`), in a
process that waits while the others have their turn; its log-probs must be dcod's. Its processes together use more than
one core with one thread each: on a quiet machine the clock is the fairer one to it. Then the same parts by one process
with two threads and by two processes with one each, by the clock, model loading included.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from dcod import storage
from dcod.config import Config
from dcod.engines.transformers import TransformersEngine
from dcod.models import attention, loading
from dcod.models.batches import collate, micro_batches
from dcod.score import parts as scoring
from dcod.traces import Trace, prompts, write_traces
from dcod.traces.scored import ScoredTrace

STUDENT = "HuggingFaceTB/SmolLM2-135M-Instruct"
ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "scoring.json"
BATCH_TOKENS = 2048
BARE = "body alone"
VLLM = "vLLM, prompt_logprobs"
TOLERANCE = 1e-3  # nats, float32


def examples(count: int, vocabulary: int) -> list[ScoredTrace]:
    """Traces of 40 + 60 to 240 random tokens."""
    generator = torch.Generator().manual_seed(0)
    out = []
    for index in range(count):
        size = int(torch.randint(60, 241, (), generator=generator))
        tokens = torch.randint(3, vocabulary, (40 + size,), generator=generator).tolist()
        out.append(ScoredTrace(str(index), str(index), tokens[:40], tokens[40:], [], []))
    return out


@torch.inference_mode()
def body(engine: TransformersEngine, traces: list[ScoredTrace]) -> None:
    """The forward pass without a head."""
    for group in micro_batches(traces, BATCH_TOKENS):
        attention.hidden_states(engine.model, collate(group))


@torch.inference_mode()
def full_logits(engine: TransformersEngine, traces: list[ScoredTrace]) -> None:
    """Log-softmax over the logits of all positions; log-probs and entropies of the completion."""
    for group in micro_batches(traces, BATCH_TOKENS):
        batch = collate(group)
        out = engine.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
        logprobs = torch.log_softmax(out.logits.float(), dim=-1)
        entropies = -(logprobs.exp() * logprobs).sum(-1)
        rows = logprobs[batch.rows, batch.columns]
        _ = rows.gather(1, batch.targets[:, None]).tolist(), entropies[batch.rows, batch.columns].tolist()


VARIANTS: dict[str, Callable[[TransformersEngine, list[ScoredTrace]], None]] = {
    BARE: body,
    "dcod": lambda engine, traces: engine.annotate(traces, BATCH_TOKENS),
    "dcod, top 32": lambda engine, traces: engine.annotate(traces, BATCH_TOKENS, 32),
    "log_softmax on full logits": full_logits,
}


class Vllm:
    """vLLM in another interpreter, which waits between rounds; see bench/scoring_vllm.py."""

    def __init__(self, python: Path, folder: Path, traces: list[ScoredTrace]) -> None:
        command = [str(python.absolute()), "-m", "bench.scoring_vllm", str(folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self._say(json.dumps([[trace.prompt_tokens, trace.completion_tokens] for trace in traces]))

    def score(self) -> dict[str, Any]:
        """Seconds by the clock and of the processor, and the log-probs."""
        self._say("")
        assert self.process.stdout is not None
        answer = self.process.stdout.readline()
        assert answer, f"{self.process.args}: ended"
        return dict(json.loads(answer))

    def close(self) -> None:
        self.process.communicate()

    def _say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()


def timed(function: Callable[[TransformersEngine, list[ScoredTrace]], None], *arguments: Any) -> dict[str, float]:
    """Seconds by the clock and of the processor."""
    began, spent = time.perf_counter(), time.process_time()
    function(*arguments)
    return {"clock": time.perf_counter() - began, "processor": time.process_time() - spent}


def compared(engine: TransformersEngine, traces: list[ScoredTrace], rounds: int, vllm: Vllm | None) -> dict[str, Any]:
    """What each variant scores a second, and its speed as a share of the body's; ratios are taken within a round."""
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in (*VARIANTS, *([VLLM] if vllm else []))}
    apart = 0.0
    for number in range(rounds + 1):
        for name in measured:
            if name != VLLM:
                seconds = timed(VARIANTS[name], engine, traces)
            elif vllm:
                seconds = vllm.score()
                apart = max(apart, largest_difference(traces, seconds.pop("logprobs")))
            if number:  # the first round warms up
                measured[name].append(seconds)
    tokens = sum(map(len, traces))
    table: dict[str, Any] = {
        name: {
            f"by_{clock}": {
                "tokens_per_second": round(tokens / statistics.median(row[clock] for row in rows), 1),
                **shares([bare[clock] / row[clock] for bare, row in zip(measured[BARE], rows, strict=True)]),
            }
            for clock in ("processor", "clock")
        }
        for name, rows in measured.items()
    }
    return {"variants": table, **({"vllm_apart_nats": float(f"{apart:.1e}")} if vllm else {})}


def largest_difference(traces: list[ScoredTrace], theirs: list[list[float]]) -> float:
    """Between dcod's log-probs, which the traces carry, and another's; raises AssertionError where it is not noise."""
    pairs = [
        pair
        for trace, other in zip(traces, theirs, strict=True)
        for pair in zip(trace.student_logprobs, other, strict=True)
    ]
    largest = max(abs(ours - other) for ours, other in pairs)
    assert largest < TOLERANCE, f"log-probs differ by {largest} nats: vLLM does not score the same"
    return largest


def shares(ratios: list[float]) -> dict[str, Any]:
    """Of the body's speed: the median, and from the least to the most."""
    found = [round(value, 3) for value in (statistics.median(ratios), min(ratios), max(ratios))]
    return {"speed_of_body": found[0], "speed_of_body_range": found[1:]}


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


def main(
    traces: int = 24,
    rounds: int = 5,
    tiny_traces: Annotated[int, typer.Option(help="Traces for the tiny model.")] = 400,
    shared_traces: Annotated[int, typer.Option(help="Traces for one process against two; 0: not measured.")] = 64,
    vllm_python: Annotated[
        Path | None, typer.Option(help="The Python of vLLM's environment, such as .venv-vllm/bin/python.")
    ] = None,
    results: Path = RESULTS,
) -> None:
    """Measures and writes the results."""
    from tests.tiny import save_tiny_student

    with tempfile.TemporaryDirectory() as scratch:
        tiny = save_tiny_student(Path(scratch) / "tiny", hidden=128, layers=4)
        base = loading.resolve(STUDENT)
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
            scored = examples(count, vocabulary)
            vllm = Vllm(vllm_python, folder, scored) if vllm_python else None
            found["models"][name] = compared(engine, scored, rounds, vllm)
            if vllm:
                vllm.close()
        found["seconds_by_the_clock"] = shared(base, shared_traces) if shared_traces else "not measured"
        found["load_average_at_the_end"] = round(os.getloadavg()[0], 1)
    storage.write_json(results, found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    typer.run(main)
