"""TRL's SFTTrainer, on tokens as it makes them itself: `input_ids` and `labels`, the prompt's being -100.

Since TRL 1.16 both of its losses, `nll` and `dft`, are computed in chunks of the vocabulary. With `micro_batch` the
step is accumulated over micro-batches of like length (the rows of a step are sorted); its optimizer is the default.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from bench.training.jobs import Clock, Job, steps
from dcod.traces.scored import ScoredTrace


def run(
    job: Job,
    examples: list[ScoredTrace],
    model: Any,
    clock: Clock,
    loss_type: str,
    micro_batch: int = 0,
    **knobs: Any,
) -> None:
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from dcod.traces.prompts import load_tokenizer

    batches = steps(job, examples)
    assert {len(batch) for batch in batches} == {job.traces_per_step}
    if micro_batch:
        batches = [sorted(batch, key=len, reverse=True) for batch in batches]
    rows = [
        {
            "input_ids": example.prompt_tokens + example.completion_tokens,
            "labels": [-100] * len(example.prompt_tokens) + example.completion_tokens,
        }
        for batch in batches
        for example in batch
    ]

    class Steps(TrainerCallback):
        def on_step_begin(self, _args: Any, state: Any, _control: Any, **kwargs: Any) -> None:
            for group in kwargs["optimizer"].param_groups:
                group["lr"] = job.rate(state.global_step + 1, len(batches))

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" in logs:
                clock.step(float(logs["loss"]))

    each = micro_batch or job.traces_per_step
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            loss_type=loss_type,
            per_device_train_batch_size=each,
            gradient_accumulation_steps=job.traces_per_step // each,
            train_sampling_strategy="sequential",
            num_train_epochs=1,
            learning_rate=job.learning_rate,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=1.0,
            max_length=None,
            bf16=False,
            use_cpu=True,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **{"activation_checkpointing": False, **knobs},
        )
        trainer = SFTTrainer(
            model=model,
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=load_tokenizer(Path(job.model)),
            callbacks=[Steps()],
        )
        trainer.train()
