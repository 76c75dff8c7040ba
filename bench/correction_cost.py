"""`python -m bench.correction_cost`: what a correction costs, as a ratio to plain SFT in the same loop.

Steps of all variants alternate within one run, on the same traces and from the same weights, so that a busy
machine slows all of them alike; and what is compared is processor time, not the clock. The ratio is of medians; the
interval is a bootstrap of the mean ratio over rounds. OMP_NUM_THREADS=1: waiting threads would count as work.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import torch
import typer

from dcod import storage
from dcod.config import TrainConfig
from dcod.engines.transformers import TransformersEngine
from dcod.evaluate import statistics as metrics
from dcod.models import loading
from dcod.traces import prompts
from dcod.traces.scored import ScoredTrace
from dcod.train import loop

STUDENT = "HuggingFaceTB/SmolLM2-135M-Instruct"
RESULTS = Path(__file__).parent / "results" / "correction_cost.json"
VARIANTS = {
    "SFT": {},
    "prefix, stored": {"correction": {"name": "prefix"}},
    "trace, stored": {"correction": {"name": "trace"}},
    "surprisal, stored": {"correction": {"name": "surprisal"}},
    "trace, live": {"correction": {"name": "trace", "weights": "live"}},
    "surprisal, live": {"correction": {"name": "surprisal", "weights": "live"}},
}


def examples(base: Path, count: int, completion: int) -> list[ScoredTrace]:
    """Scored traces of random tokens, four a prompt; the arithmetic does not depend on what they say."""
    generator = torch.Generator().manual_seed(0)
    out = []
    for index in range(count):
        tokens = torch.randint(100, 40_000, (40 + completion,), generator=generator).tolist()
        behavior = (-2 * torch.rand(completion, generator=generator)).tolist()
        out.append(ScoredTrace(str(index), str(index // 4), tokens[:40], tokens[40:], [], [], behavior))
    TransformersEngine(base, prompts.load_tokenizer(base)).annotate(out, 2048)
    return out


def main(
    rounds: int = 9,
    traces: int = 8,
    completion: Annotated[int, typer.Option(help="Tokens of a completion.")] = 88,
    results: Path = RESULTS,
) -> None:
    """Measures and writes the ratios."""
    base = loading.resolve(STUDENT)
    step = examples(base, traces, completion)
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    trained = loading.load(base)
    for index in range(rounds + 1):
        for name, knobs in VARIANTS.items():
            config = TrainConfig.model_validate(
                {"learning_rate": 1e-6, "epochs": 1, "traces_per_step": traces, "micro_batch_tokens": 512, **knobs}
            )
            began = time.process_time()
            loop.train(trained, step, [], config, 0, save_best=lambda _: None, metrics=lambda *_: None)
            if index:  # the first round warms up
                seconds[name].append(time.process_time() - began)
    table = {}
    for name, values in seconds.items():
        ratios = [value / plain for value, plain in zip(values, seconds["SFT"], strict=True)]
        low, high = metrics.bootstrap_interval(ratios)
        table[name] = {
            "processor_seconds": round(statistics.median(values), 3),
            "ratio": round(statistics.median(values) / statistics.median(seconds["SFT"]), 4),
            "mean_ratio_interval": [round(low, 4), round(high, 4)],
        }
    found = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {torch.get_num_threads()} threads, float32",
        "step": f"{traces} traces of 40 + {completion} tokens, {STUDENT}",
        "rounds": rounds,
        "variants": table,
    }
    storage.write_json(results, found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    typer.run(main)
