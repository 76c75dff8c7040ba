"""`python -m bench.gpu.curves`: the loss of 50 steps, GPU against CPU and bfloat16 against float32, in one picture."""

from __future__ import annotations

from random import Random
from typing import Any

import torch

from bench.gpu.shapes import Step
from dcod.config import TrainConfig
from dcod.models.batches import ScoredTrace
from dcod.train import loop, parallel

STEPS, VOCABULARY = 50, 512
WAYS = {  # name: device, student's number format, arithmetic
    "CPU, float32": ("cpu", torch.float32, "float32"),
    "GPU, float32": ("cuda", torch.float32, "float32"),
    "GPU, bfloat16 arithmetic": ("cuda", torch.float32, "bfloat16"),
    "GPU, bfloat16 weights": ("cuda", torch.bfloat16, "float32"),
}


def text(count: int) -> list[ScoredTrace]:
    """Traces that follow a permutation three times in four: something that can be learned."""
    random = Random(0)
    following = list(range(3, VOCABULARY))
    random.shuffle(following)
    out = []
    for index in range(count):
        tokens = [random.randrange(3, VOCABULARY)]
        for _ in range(random.randint(20, 60)):
            tokens.append(following[tokens[-1] - 3] if random.random() < 0.75 else random.randrange(3, VOCABULARY))
        size = len(tokens) - 4
        out.append(ScoredTrace(str(index), str(index), tokens[:4], tokens[4:], [-6.0] * size, [6.0] * size))
    return out


def run(device: str, dtype: torch.dtype, precision: str, steps: int, hidden: int = 256, step: int = 32) -> list[float]:
    """The losses of a small Qwen2 from the same start on the same steps, of ``step`` traces each."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from transformers import AutoModelForCausalLM, Qwen2Config

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=hidden, intermediate_size=3 * hidden, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True, max_position_embeddings=512,
    )  # fmt: skip
    made = AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(dtype)
    losses: list[float] = []
    knobs = TrainConfig.model_validate(
        {"epochs": 1, "traces_per_step": step, "learning_rate": 3e-3, "precision": precision, "validations": 1}
    )
    known = parallel.accelerator_for

    def on_the_cpu(_: TrainConfig) -> Any:
        return Accelerator(cpu=True)

    AcceleratorState._reset_state(reset_partial_state=True)  # it knows the device of the run before
    if device == "cpu" and torch.cuda.is_available():
        parallel.accelerator_for = on_the_cpu
    try:
        loop.train(
            made, text(step * steps), [], knobs, 0, save_best=lambda _: None,
            metrics=lambda row, _: losses.append(row["loss"]),
        )  # fmt: skip
    finally:
        parallel.accelerator_for = known
        AcceleratorState._reset_state(reset_partial_state=True)
    return losses


def main() -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    step, curves = Step(), dict[str, list[float]]()
    for name, (device, dtype, precision) in WAYS.items():
        if step.device == "cpu":
            if name == "GPU, float32":
                continue
            name, device = name.replace("GPU", "CPU"), "cpu"
        curves[name] = run(device, dtype, precision, *((10, 64, 6) if step.quick else (STEPS,)))
        step.put(name, [round(value, 5) for value in curves[name]])
    base = curves["CPU, float32"]
    step.put(
        "furthest_from_the_cpu",
        {n: max(abs(a - b) / b for a, b in zip(c, base, strict=True)) for n, c in curves.items() if c is not base},
    )
    figure, axes = plt.subplots(figsize=(7, 4))
    for name, curve in curves.items():
        axes.plot(range(1, len(curve) + 1), curve, label=name, alpha=0.8)
    axes.set(xlabel="optimizer step", ylabel="loss, nats a token", title="The same 50 steps")
    axes.legend()
    figure.tight_layout()
    figure.savefig(step.out.with_name("curves.png"), dpi=110)


if __name__ == "__main__":
    main()
