"""A loop as one writes it with transformers alone: one padded batch a step, the model's own loss on all logits."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from bench.training.jobs import Clock, Job, steps
from dcod.traces.scored import ScoredTrace


def run(job: Job, examples: list[ScoredTrace], model: Any, clock: Clock) -> None:
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=job.learning_rate, weight_decay=0.0)
    batches = steps(job, examples)
    for number, batch in enumerate(batches, start=1):
        tokens = [torch.tensor(e.prompt_tokens + e.completion_tokens) for e in batch]
        labels = [torch.tensor([-100] * len(e.prompt_tokens) + e.completion_tokens) for e in batch]
        loss = model(
            input_ids=pad_sequence(tokens, batch_first=True),
            attention_mask=pad_sequence([torch.ones_like(t) for t in tokens], batch_first=True),
            labels=pad_sequence(labels, batch_first=True, padding_value=-100),
            use_cache=False,
        ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = job.rate(number, len(batches))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        clock.step(loss.item())
