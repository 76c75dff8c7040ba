"""`python -m bench.gpu.noise`: the ratio of a model against itself, across engines and number formats.

See docs/method.md, section 1.3.

A 135M shape with random weights, its logits stretched until it is about as sure as a trained one, writes answers at
temperature 1 and records the log-probs that it drew with; the same weights then score them. The ratio is 1 where
nothing is lost, so what is left of it is noise: the floor under every drift that a run reports.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any

import torch

from bench.gpu import shapes
from bench.gpu.shapes import Step
from dcod.engines import Sampling
from dcod.models.batches import ScoredTrace

SHAPE, STRETCH = "smollm2-135m", 12.0


def stretched(dtype: torch.dtype, device: str, quick: bool) -> Any:
    """The network, made on the CPU, so that all number formats and devices hold the same weights."""
    made = shapes.model(SHAPE, "cpu", torch.float32, quick)
    with torch.no_grad():
        made.model.norm.weight.mul_(STRETCH)
        for parameter in made.parameters():  # representable in both formats: what differs is arithmetic alone
            parameter.copy_(parameter.bfloat16().float())
    return shapes.engine(made.to(dtype), device)


def compared(ours: list[list[float]], base: list[list[float]]) -> dict[str, Any]:
    """Differences a token and a trace, and what trace weights made of them alone would keep of the sample."""
    tokens = [abs(a - b) for one, other in zip(ours, base, strict=True) for a, b in zip(one, other, strict=True)]
    sums = torch.tensor([sum(one) - sum(other) for one, other in zip(ours, base, strict=True)], dtype=torch.float64)
    weights = (sums - sums.logsumexp(0)).exp()
    octaves, start = {}, 0
    while any(len(one) > start for one in ours):
        stop = max(16, 2 * start)
        drift = [sum(one[:stop]) - sum(other[:stop]) for one, other in zip(ours, base, strict=True) if len(one) >= stop]
        if drift:
            octaves[f"first {stop}"] = statistics.fmean(map(abs, drift))
        start = stop
    ordered = sorted(tokens)
    return {
        "token_mean": statistics.fmean(tokens),
        "token_p99": ordered[int(0.99 * (len(ordered) - 1))],
        "token_max": ordered[-1],
        "trace_mean": float(sums.abs().mean()),
        "trace_max": float(sums.abs().max()),
        "trace_ess_share": float(1 / weights.square().sum() / len(sums)),
        "mean_drift": octaves,
    }


def main() -> None:
    step = Step()
    count, most = (8, 12) if step.quick else (32, 384)
    low, full = torch.bfloat16, torch.float32
    writer = stretched(low, step.device, step.quick)
    prompts = [e.prompt_tokens[:40] for e in shapes.traces(count, writer.model.config.vocab_size, step.quick)]
    sampling = Sampling(most, 1.0, record=True)
    answers = writer.generate(prompts, sampling, count)
    drawn = [list(answer.logprobs or []) for answer in answers]
    examples = [
        ScoredTrace(str(i), str(i), prompt, answer.token_ids, [], [])
        for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
    ]
    scored: dict[str, list[list[float]]] = {"written, bfloat16, " + step.device: drawn}
    entropy = 0.0
    for device in dict.fromkeys((step.device, "cpu")):
        for name, dtype in (("float32", full), ("bfloat16", low)):
            if device == "cpu" != step.device and name == "bfloat16":
                continue
            engine = writer if (dtype, device) == (low, step.device) else stretched(dtype, device, step.quick)
            copies = [replace(example) for example in examples]
            engine.annotate(copies, 8192)
            scored[f"scored, {name}, {device}"] = [copy.student_logprobs for copy in copies]
            entropy = statistics.fmean(value for copy in copies for value in copy.entropies)
    base = scored.pop("scored, float32, cpu")
    step.put("what", {"shape": SHAPE, "traces": count, "tokens": sum(map(len, base)), "mean_entropy": entropy})
    for name, values in scored.items():
        step.put(f"{name} against scored, float32, cpu", compared(values, base))


if __name__ == "__main__":
    main()
