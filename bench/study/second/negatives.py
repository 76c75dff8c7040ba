"""Wrong traces as negatives, after the fine-tuning: REDI (arXiv 2505.24850).

One epoch over pairs of a right and a wrong trace of a prompt, with -log p(y+)/|y+| + 0.8 log p(y-)/|y-|. Published with
a rate of 1e-6 behind fine-tuning at some fifty times that; here the rate is a fiftieth of the cell's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from bench.study import lab
from bench.study.lab import cached, digest
from bench.study.regimes import Regime
from dcod.score.scores import read_scores, write_scores
from dcod.traces.scored import ScoredTrace

SHARE = 0.8  # of the wrong trace in the loss
SLOWER = 50.0


def wrong(regime: Regime, seed: int, work: Path) -> list[ScoredTrace]:
    """What the teacher of a verified regime wrote for this seed, and was dropped as wrong."""

    def make(folder: Path) -> None:
        found, _ = lab.sampled(regime, regime.train_problems, seed, work, wrong=True)
        found = lab.unscored(found)
        for trace in found:
            trace.entropies = trace.student_logprobs
        write_scores(folder / "scores.parquet", found, ["train"] * len(found))

    return read_scores(cached(work / f"wrong-{regime.name}-{seed}-{digest(regime)}", make))["train"]


def pairs(right: Sequence[ScoredTrace], wrong: Sequence[ScoredTrace]) -> list[tuple[ScoredTrace, ScoredTrace]]:
    """Every wrong trace with a right one of its prompt, in turn; those of prompts without a right one are left out."""
    known = defaultdict[str, list[ScoredTrace]](list)
    for trace in right:
        known[trace.prompt_id].append(trace)
    taken, out = defaultdict[str, int](int), list[tuple[ScoredTrace, ScoredTrace]]()
    for trace in wrong:
        if fitting := known[trace.prompt_id]:
            out.append((fitting[taken[trace.prompt_id] % len(fitting)], trace))
            taken[trace.prompt_id] += 1
    return out


def unteach(
    model: Any, right: Sequence[ScoredTrace], wrong: Sequence[ScoredTrace], rate: float, seed: int, batch: int
) -> int:
    """Trains a fine-tuned model on the pairs, in place; returns how many there were."""
    found = pairs(right, wrong)
    Random(seed).shuffle(found)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate / SLOWER, weight_decay=0.0)
    model.train()
    for begin in range(0, len(found), batch):
        some = found[begin : begin + batch]
        likely, unlikely = (mean_logprobs(model, [pair[place] for pair in some]) for place in (0, 1))
        optimiser.zero_grad()
        (SHARE * unlikely - likely).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    model.eval()
    return len(found)


def mean_logprobs(model: Any, traces: Sequence[ScoredTrace]) -> Tensor:
    """The mean log-prob of a completion's tokens [B]."""
    texts = [[*trace.prompt_tokens, *trace.completion_tokens] for trace in traces]
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(text) for text in texts], batch_first=True)
    places = torch.arange(ids.shape[1])[None]
    ends = torch.tensor([len(text) for text in texts])[:, None]
    begins = torch.tensor([len(trace.prompt_tokens) for trace in traces])[:, None]
    logits = model(input_ids=ids, attention_mask=(places < ends).long()).logits[:, :-1].float()
    said = torch.log_softmax(logits, -1).gather(-1, ids[:, 1:, None])[..., 0]
    mask = ((places >= begins) & (places < ends))[:, 1:]
    return said.masked_fill(~mask, 0.0).sum(1) / mask.sum(1)
