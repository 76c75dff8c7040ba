"""`python -m bench.gpu.training SHAPE`: tokens a second, utilisation and memory of dcod and of what one would take.

Every contestant sees the same traces; a step is some 65,000 tokens, in micro-batches of 16,384, the optimizer AdamW.
  dcod                 traces packed without padding, each seeing itself alone; weights bfloat16, masters float32
  dcod, autocast       the same with float32 weights
  dcod, live weights   surprisal weights from the same pass
  plain loop           rows of 4096 that cross the traces' borders (no mask, so flash attention): more than it may do
  TRL                  SFTTrainer with packing, autocast; with and without Liger; and with rows that cross borders
The profile of one more step of dcod stands beside them.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from bench.gpu import shapes
from bench.gpu.shapes import ROW, Step
from bench.training.machine import step_flops
from dcod.config import TrainConfig
from dcod.errors import one_line
from dcod.models import heads
from dcod.models.batches import ScoredTrace
from dcod.train import loop

TRACES, MICRO = 64, 4 * ROW  # of an optimizer step
ROWS = 2  # at once in the plain loop, whose logits of all positions take four times the room
WARM_UP, TIMED = 2, 4


class Clock:
    """Notes when an optimizer step ended; the first ones are not counted."""

    def __init__(self, device: str) -> None:
        self.device, self.ends, self.losses = device, list[float](), list[float]()

    def step(self, loss: float) -> None:
        shapes.wait(self.device)
        self.ends.append(time.perf_counter())
        self.losses.append(loss)

    @property
    def seconds(self) -> float:
        """Of the timed steps."""
        return self.ends[WARM_UP + TIMED - 1] - self.ends[WARM_UP - 1]


def knobs(**own: Any) -> TrainConfig:
    """As a user of dcod would write it."""
    base = {"epochs": 1, "warmup_share": 0.0, "validations": 1, "learning_rate": 1e-5, "traces_per_step": TRACES}
    return TrainConfig.model_validate({**base, "micro_batch_tokens": MICRO, **own})


def in_large_chunks(step: Step, shape: str, **own: Any) -> dict[str, Any]:
    """The same with another size of the head's chunks: 2 GiB of logits."""
    usual = dict(heads.CHUNK_BYTES)
    heads.CHUNK_BYTES["cuda"] = 2 * 2**30
    try:
        return ours(step, shape, torch.bfloat16, **own)
    finally:
        heads.CHUNK_BYTES.update(usual)


def ours(step: Step, shape: str, dtype: torch.dtype, profile: bool = False, **own: Any) -> dict[str, Any]:
    """The loop of dcod, as its `train` stage calls it."""
    quick = step.quick
    own = {**({"micro_batch_tokens": MICRO // 32} if quick else {}), **own}
    made, config = shapes.model(shape, step.device, dtype, quick), knobs(**own)
    count = WARM_UP + TIMED + (2 if profile else 0)
    examples = shapes.traces(TRACES * count, made.config.vocab_size, quick)
    clock, told = Clock(step.device), dict[str, Any]()
    activities = [torch.profiler.ProfilerActivity.CPU]
    activities += [torch.profiler.ProfilerActivity.CUDA] if step.device == "cuda" else []
    profiler = torch.profiler.profile(activities=activities)

    def metrics(row: dict[str, float], number: int) -> None:
        clock.step(row["loss"])
        told["micro_batch_tokens"] = row["micro_batch_tokens"]
        if profile and number == WARM_UP + TIMED + 1:
            profiler.start()
        if profile and number == WARM_UP + TIMED + 2:
            profiler.stop()

    result = loop.train(made, examples, [], config, 0, save_best=lambda _: None, metrics=metrics)
    if profile:
        step.put("profile", kernels(profiler, clock.ends[-1] - clock.ends[-2]))
    from dcod.train.sets import ListedTraces, Schedule

    schedule = Schedule(ListedTraces(examples), config, 0)
    timed = [example for number in range(WARM_UP, WARM_UP + TIMED) for example in schedule[number]]
    attention = made.config._attn_implementation
    return {**told, "student": result.student, "attention": attention, **figures(made, timed, clock)}


def kernels(profiler: Any, seconds: float) -> dict[str, Any]:
    """The ten that take the most time, what all take together, and the gaps between them."""
    rows = [e for e in profiler.key_averages() if e.self_device_time_total > 0] or list(profiler.key_averages())
    cost = (lambda e: e.self_device_time_total) if rows[0].self_device_time_total else (lambda e: e.self_cpu_time_total)
    rows.sort(key=cost, reverse=True)
    rows = [e for e in rows if not e.key.startswith(("aten::", "Optimizer", "ProfilerStep"))] or rows
    spans = sorted(
        (e.time_range.start, e.time_range.end)
        for e in profiler.events()
        if e.device_type == torch.autograd.DeviceType.CUDA
    )
    busy, end = 0.0, 0.0
    for start, stop in spans:
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    whole = spans[-1][1] - spans[0][0] if spans else 0.0
    return {
        "step_seconds": round(seconds, 4),
        "kernels_seconds": round(busy / 1e6, 4),
        "gaps_share": round(1 - busy / whole, 4) if whole else None,
        "count": len(spans),
        "top": [{"kernel": e.key[:120], "calls": e.count, "ms": round(cost(e) / 1e3, 2)} for e in rows[:20]],
    }


def figures(made: Any, timed: list[ScoredTrace], clock: Clock) -> dict[str, Any]:
    """From the traces of the timed steps."""
    needs = step_flops(made.config, made.num_parameters(), timed)
    tokens = sum(map(len, timed))
    return measures(tokens, clock, needs["six_n"] / tokens, needs["needed"] / tokens)


def measures(tokens: float, clock: Clock, six_n: float, needed: float) -> dict[str, Any]:
    rate = tokens / clock.seconds
    return {
        "tokens_per_second": round(rate, 1),
        "tflops_six_n": round(rate * six_n / 1e12, 2),
        "tflops_needed": round(rate * needed / 1e12, 2),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if clock.device == "cuda" else None,
        "step_seconds": [round(b - a, 4) for a, b in zip(clock.ends, clock.ends[1:], strict=False)],
        "losses": [round(value, 4) for value in clock.losses[: WARM_UP + TIMED]],
    }


def plain(step: Step, shape: str) -> dict[str, Any]:
    """A loop as one writes it with transformers alone: autocast, the model's own loss on all logits."""
    made = shapes.model(shape, step.device, torch.float32, step.quick).train()
    row = ROW // 32 if step.quick else ROW
    examples = shapes.traces(TRACES * (WARM_UP + TIMED) * 5 // 4, made.config.vocab_size, step.quick)
    ids = torch.tensor([t for e in examples for t in e.prompt_tokens + e.completion_tokens])
    labels = torch.tensor([t for e in examples for t in [-100] * len(e.prompt_tokens) + e.completion_tokens])
    batches = len(ids) // (ROWS * row)
    ids, labels = (x[: batches * ROWS * row].view(batches, ROWS, row).to(step.device) for x in (ids, labels))
    optimizer = torch.optim.AdamW(made.parameters(), lr=1e-5, weight_decay=0.0, fused=True)
    clock = Clock(step.device)
    for number in range(WARM_UP + TIMED):
        total = 0.0
        for index in range(number * 16 // ROWS, (number + 1) * 16 // ROWS):
            with torch.autocast(step.device, torch.bfloat16):
                loss = made(input_ids=ids[index], labels=labels[index], use_cache=False).loss * ROWS / 16
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(made.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        clock.step(total)
    needs = step_flops(made.config, made.num_parameters(), examples)
    tokens = sum(map(len, examples))
    return measures(TIMED * 16 * row, clock, needs["six_n"] / tokens, needs["needed"] / tokens)


def trl(step: Step, shape: str, liger: bool, strategy: str = "bfd") -> dict[str, Any]:
    """TRL's SFTTrainer with packed rows of 4096 tokens, four at once, four times a step.

    Its packing keeps traces apart by a mask where no flash-attn package is there; ``wrapped`` does not keep them apart.
    """
    import tempfile

    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    made = shapes.model(shape, step.device, torch.float32, step.quick)
    row = ROW // 32 if step.quick else ROW
    examples = shapes.traces(TRACES * (WARM_UP + TIMED) * 5 // 4, made.config.vocab_size, step.quick)
    rows = [
        {
            "input_ids": e.prompt_tokens + e.completion_tokens,
            "labels": [-100] * len(e.prompt_tokens) + e.completion_tokens,
        }
        for e in examples
    ]
    clock = Clock(step.device)

    class Steps(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.step(0.0)

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" in logs and clock.losses:
                clock.losses[-1] = float(logs["loss"])

    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder, max_length=row, packing=True, packing_strategy=strategy, per_device_train_batch_size=4,
            gradient_accumulation_steps=4, max_steps=WARM_UP + TIMED, learning_rate=1e-5,
            lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=1.0, bf16=True,
            use_cpu=step.device == "cpu", logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True,
            gradient_checkpointing=False, use_liger_kernel=liger, optim="adamw_torch_fused", dataset_num_proc=None,
        )  # fmt: skip
        trainer = SFTTrainer(
            model=made, args=config, train_dataset=Dataset.from_list(rows),
            processing_class=shapes.tokenizer(made.config.vocab_size), callbacks=[Steps()],
        )  # fmt: skip
        packed = [len(ids) for ids in trainer.train_dataset["input_ids"]]
        trainer.train()
    needs = step_flops(made.config, made.num_parameters(), examples)
    tokens = sum(map(len, examples))
    mean = sum(packed) / len(packed)
    return measures(TIMED * 16 * mean, clock, needs["six_n"] / tokens, needs["needed"] / tokens)


def contestants(step: Step, shape: str) -> dict[str, Callable[[], dict[str, Any]]]:
    """By name, the most important first."""
    low, full = torch.bfloat16, torch.float32
    live = {"name": "surprisal", "weights": "live"}
    cheap = shape != "qwen2.5-1.5b"
    found: dict[str, Callable[[], dict[str, Any]]] = {
        "dcod": lambda: ours(step, shape, low, profile=not cheap),
        "TRL, Liger": lambda: trl(step, shape, True),
        "TRL, Liger, borders crossed": lambda: trl(step, shape, True, "wrapped"),
        "plain loop": lambda: plain(step, shape),
        "dcod, live weights": lambda: ours(step, shape, low, correction=live),
        "dcod, live weights, chunks of 2 GiB": lambda: in_large_chunks(step, shape, correction=live),
        "dcod, chunks of 2 GiB": lambda: in_large_chunks(step, shape),
        "TRL": lambda: trl(step, shape, False),
        "dcod, autocast": lambda: ours(step, shape, full, precision="bfloat16"),
        "dcod, 32,768 at once": lambda: ours(
            step, shape, low, micro_batch_tokens=2 * MICRO // (32 if step.quick else 1)
        ),
    }
    if cheap:
        for name in [name for name in found if "GiB" in name or "once" in name or "auto" in name]:
            del found[name]
        del found["TRL"]
    if step.device == "cpu":
        del found["TRL, Liger"], found["TRL, Liger, borders crossed"]  # its kernels are Triton's
    return found


def main(shape: str) -> None:
    step = Step()
    for name, run in contestants(step, shape).items():
        gc.collect()
        if step.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        try:
            found = run()
        except Exception as error:  # one that fails is a finding, and the others still run
            found = {"error": f"{type(error).__name__}: {one_line(error)[:400]}"}
        step.put(name, {**found, "wall_seconds": round(time.perf_counter() - began, 1)})


if __name__ == "__main__":
    main(sys.argv[1])
