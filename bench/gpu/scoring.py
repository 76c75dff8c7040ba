"""`python -m bench.gpu.scoring SHAPE`: scoring against the bare forward pass, and generation, tokens a second."""

from __future__ import annotations

import sys
import time
from typing import Any

import torch

from bench.gpu import shapes
from bench.gpu.card import timed
from bench.gpu.shapes import ROW, Step
from dcod.engines import Sampling
from dcod.errors import one_line
from dcod.models import attention
from dcod.models.batches import collate, micro_batches, to_device

TRACES, PROMPTS, WRITTEN = 128, 128, 128


def bare(engine: Any, examples: list[Any], tokens: int) -> None:
    """The body's forward pass, without a head, on the batches that scoring makes."""
    with torch.inference_mode():
        for group in micro_batches(examples, tokens, layout=engine.layout):
            batch = to_device(collate(group, layout=engine.layout), engine.device)
            attention.hidden_states(engine.model, batch, engine.reading.body)


def whole(engine: Any, examples: list[Any], tokens: int) -> None:
    """The model's own forward pass with logits of the positions that are scored: what any scorer needs at least."""
    with torch.inference_mode():
        for group in micro_batches(examples, tokens, layout=engine.layout):
            batch = to_device(collate(group, layout=engine.layout), engine.device)
            hidden = attention.hidden_states(engine.model, batch, engine.reading.body)
            for part in hidden.split(1024):
                engine.model.get_output_embeddings()(part)


def scored(step: Step, engine: Any) -> dict[str, Any]:
    """Seconds of each way over the same traces."""
    examples = shapes.traces(TRACES, engine.model.config.vocab_size, step.quick)
    tokens, batch = sum(map(len, examples)), (ROW // 8 if step.quick else 8 * ROW)
    seconds = 0.2 if step.quick else 4.0
    ways = {"bare": bare, "with logits": whole, "dcod": lambda e, x, t: e.annotate(x, t),
            "dcod, top 32": lambda e, x, t: e.annotate(x, t, 32)}  # fmt: skip
    took = {}
    for name, way in ways.items():
        way(engine, examples, batch)
        shapes.wait(step.device)
        runs, began = 0, time.perf_counter()
        while runs < 2 or time.perf_counter() - began < seconds / 4:
            way(engine, examples, batch)
            runs += 1
        shapes.wait(step.device)
        took[name] = (time.perf_counter() - began) / runs
    out = {name: {"tokens_per_second": round(tokens / value, 1)} for name, value in took.items()}
    for name, row in out.items():
        row["of_bare"], row["of_logits"] = (round(took[k] / took[name], 3) for k in ("bare", "with logits"))
    return {"layout": engine.layout, "batch_tokens": batch, "ways": out}


def written(step: Step, engine: Any) -> dict[str, Any]:
    """Generation as evaluation does it."""
    examples = shapes.traces(PROMPTS, engine.model.config.vocab_size, step.quick)
    prompts, most = [e.prompt_tokens for e in examples], 8 if step.quick else WRITTEN
    out: dict[str, Any] = {"padding": engine.padding}
    for name, temperature in (("greedy", 0.0), ("drawn", 1.0)):
        engine.generate(prompts[:4], Sampling(2, temperature), 4)
        shapes.wait(step.device)
        began = time.perf_counter()
        answers = engine.generate(prompts, Sampling(most, temperature), PROMPTS)
        shapes.wait(step.device)
        took, tokens = time.perf_counter() - began, sum(answer.wrote for answer in answers)
        out[name] = {"tokens_per_second": round(tokens / took, 1), "at_once": PROMPTS, "seconds": round(took, 2)}
    return out


def static(step: Step, engine: Any) -> dict[str, Any]:
    """The same with a static cache, which transformers compiles into CUDA graphs."""
    examples = shapes.traces(PROMPTS, engine.model.config.vocab_size, step.quick)
    width, most = (8 if step.quick else 128), (8 if step.quick else WRITTEN)
    ids = torch.tensor([(e.prompt_tokens * width)[:width] for e in examples], device=step.device)

    def write() -> None:
        engine.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=most, min_new_tokens=most,
            do_sample=False, pad_token_id=0, cache_implementation="static",
        )  # fmt: skip

    began = time.perf_counter()
    write()
    write()
    shapes.wait(step.device)
    compiled = time.perf_counter() - began
    took = timed(write, step.device, 1.0) if step.quick else _once(write, step.device)
    return {"tokens_per_second": round(len(ids) * most / took, 1), "compiling_seconds": round(compiled, 1)}


def _once(work: Any, device: str) -> float:
    began = time.perf_counter()
    work()
    shapes.wait(device)
    return time.perf_counter() - began


def main(shape: str, what: str) -> None:
    step = Step()
    engine = shapes.engine(shapes.model(shape, step.device, torch.bfloat16, step.quick), step.device)
    ways = {"static cache": static} if what == "static" else {"scoring": scored, "generation": written}
    for name, way in ways.items():
        try:
            step.put(name, way(step, engine))
        except Exception as error:  # one that fails is a finding
            step.put(name, {"error": f"{type(error).__name__}: {one_line(error)[:400]}"})


if __name__ == "__main__":
    main(*sys.argv[1:])
