"""The method on a page: a student learns from a teacher's traces, those the more that it would write itself.

    dcod ingest … --out traces && dcod score --traces traces --student STUDENT --out scores    # docs/traces.md
    python examples/loop.py scores STUDENT new-student

docs/method.md derives what `plan` and `weights` do. dcod/train/loop.py takes the same steps, and adds what a real run
needs: live weights, packed batches, several GPUs, LoRA, a selection split, checkpoints.

Shapes: B traces of a step, T positions of a completion, N tokens of the completions of a micro-batch, D hidden size.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from dcod.config import CorrectionConfig, TrainConfig
from dcod.models import loading, selfcheck
from dcod.models.attention import hidden_states
from dcod.models.batches import collate, micro_batches, stored_record
from dcod.models.fused_head import weighted_loss
from dcod.objective.weighting import plan, weights
from dcod.score.scores import open_scores
from dcod.traces import prompts
from dcod.train.loop import learning_rate
from dcod.train.sets import Schedule, TraceSet


def train(model: Any, traces: TraceSet, config: TrainConfig, seed: int = 0) -> Iterator[tuple[float, float]]:
    """Trains a student in place; yields the loss and the largest weight of every step."""
    head = selfcheck.examine(model)  # how this student's hidden states become logits
    parameters = [p for p in model.parameters() if p.requires_grad]
    adam = torch.optim.AdamW(parameters, config.learning_rate, weight_decay=config.weight_decay, fused=True)
    schedule = Schedule(traces, config, seed)  # shuffled; all traces of a prompt are in one step
    model.train()
    for number in range(len(schedule)):
        step = schedule[number]
        # The student's log-probs and entropies, and the teacher's log-probs where it told them, [B, T] each, say how
        # far each trace is from what the student does. The plan tempers that: gamma, and the mean of each group.
        step_plan = plan(config.correction, stored_record(step))
        per_token = 1 / sum(len(trace.completion_tokens) for trace in step)  # the loss is a mean over the whole step
        total, largest = 0.0, 0.0
        for group in micro_batches(step, int(config.micro_batch_tokens), by_prompt=True):
            record, batch = stored_record(group), collate(group)
            weights_BT = weights(config.correction, step_plan, record)
            weights_N = weights_BT[batch.mask] * per_token
            hidden_ND = hidden_states(model, batch, head.body)
            loss, _ = weighted_loss(hidden_ND, head.head(model), batch.targets, weights_N)  # sum of -w log pi(y)
            loss.backward()
            total, largest = total + float(loss.detach()), max(largest, float(weights_BT.max()))
        for group_of_parameters in adam.param_groups:
            group_of_parameters["lr"] = learning_rate(config, number + 1, len(schedule))
        torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
        adam.step()
        adam.zero_grad()
        yield total, largest


def main(scores: str, student: str, out: str) -> None:
    """Opens the scores that `dcod score` made with this student, and trains it."""
    model = loading.load(Path(student))
    config = TrainConfig(correction=CorrectionConfig(name="surprisal"))  # needs nothing but the teacher's text
    for number, (loss, largest) in enumerate(train(model, open_scores(Path(scores))["train"], config), start=1):
        print(f"step {number:4d}  loss {loss:.4f}  largest weight {largest:.2f}", flush=True)
    model.save_pretrained(out)
    prompts.load_tokenizer(Path(student)).save_pretrained(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
