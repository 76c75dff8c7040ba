"""From scored traces to batches: whole prompts a step, length-bucketed micro-batches, right padding.

On a CPU a padded batch of traces of like length is faster than one packed row, so that is what is made here.

Shape suffixes: B traces, S tokens of prompt and completion, T completion positions, N counted tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dcod.corrections import Record


@dataclass(slots=True)
class Example:
    """One scored trace in the student's tokens.

    Attributes:
        prompt_tokens, completion_tokens: token ids; the completion ends with the end-of-turn token.
        student_logprobs, entropies: of the student that scored it, nats, one a completion token.
        behavior_logprobs: of the teacher's sampler, or None.
    """

    trace_id: str
    prompt_id: str
    prompt_tokens: list[int]
    completion_tokens: list[int]
    student_logprobs: list[float]
    entropies: list[float]
    behavior_logprobs: list[float] | None = None

    def __len__(self) -> int:
        return len(self.prompt_tokens) + len(self.completion_tokens)


@dataclass
class Batch:
    """A micro-batch, right-padded.

    Attributes:
        input_ids, attention_mask: [B, S].
        rows, columns: where the hidden state stands that predicts each counted token [N] each.
        targets: the counted tokens themselves [N].
        mask: completion positions [B, T]; its True entries, row by row, are the N counted tokens.
    """

    examples: list[Example]
    input_ids: Tensor
    attention_mask: Tensor
    rows: Tensor
    columns: Tensor
    targets: Tensor
    mask: Tensor

    def spread(self, values_N: Tensor) -> Tensor:
        """Values of the counted tokens as [B, T], 0 elsewhere."""
        out = torch.zeros(self.mask.shape, dtype=values_N.dtype, device=values_N.device)
        out[self.mask.to(values_N.device)] = values_N
        return out


def collate(examples: Sequence[Example], pad_id: int = 0) -> Batch:
    """Pads examples into one micro-batch; the padding never reaches the loss, whatever ``pad_id`` is."""
    length = max(len(e) for e in examples)
    longest = max(len(e.completion_tokens) for e in examples)
    input_ids = torch.full((len(examples), length), pad_id, dtype=torch.long)
    attention_mask = torch.zeros((len(examples), length), dtype=torch.long)
    mask = torch.zeros((len(examples), longest), dtype=torch.bool)
    rows, columns, targets = [], [], []
    for row, example in enumerate(examples):
        tokens = example.prompt_tokens + example.completion_tokens
        input_ids[row, : len(tokens)] = torch.tensor(tokens)
        attention_mask[row, : len(tokens)] = 1
        count = len(example.completion_tokens)
        mask[row, :count] = True
        first = len(example.prompt_tokens) - 1
        rows.append(torch.full((count,), row))
        columns.append(torch.arange(first, first + count))
        targets.append(torch.tensor(example.completion_tokens, dtype=torch.long))
    return Batch(
        list(examples), input_ids, attention_mask, torch.cat(rows), torch.cat(columns), torch.cat(targets), mask
    )


def stored_record(examples: Sequence[Example]) -> Record:
    """The stored scores of some traces as one record [B, T] (float32)."""
    width = max(len(e.completion_tokens) for e in examples)

    def pad(name: str) -> Tensor | None:
        lists = [getattr(e, name) for e in examples]
        if any(values is None for values in lists):
            return None
        return torch.tensor([values + [0.0] * (width - len(values)) for values in lists], dtype=torch.float32)

    numbers: dict[str, int] = {}
    prompts = torch.tensor([numbers.setdefault(e.prompt_id, len(numbers)) for e in examples])
    lengths = torch.tensor([len(e.completion_tokens) for e in examples])
    logprobs = pad("student_logprobs")
    assert logprobs is not None
    mask = torch.arange(width)[None, :] < lengths[:, None]
    return Record(logprobs, mask, prompts, pad("behavior_logprobs"), pad("entropies"))


def steps(examples: Sequence[Example], traces_per_step: int, seed: int, epoch: int) -> Iterator[list[Example]]:
    """The optimizer steps of one epoch: shuffled prompts, all traces of a prompt in the same step.

    A step is closed as soon as it holds ``traces_per_step`` traces; the last one may be smaller.
    """
    by_prompt: dict[str, list[Example]] = {}
    for example in examples:
        by_prompt.setdefault(example.prompt_id, []).append(example)
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    names = list(by_prompt)
    step: list[Example] = []
    for index in torch.randperm(len(names), generator=generator).tolist():
        step.extend(by_prompt[names[index]])
        if len(step) >= traces_per_step:
            yield step
            step = []
    if step:
        yield step


def micro_batches(examples: Sequence[Example], max_tokens: int, by_prompt: bool = False) -> list[list[Example]]:
    """Splits a step into micro-batches of like length with at most ``max_tokens`` padded tokens each.

    Args:
        examples: the traces of a step (or of a rank's share of it).
        max_tokens: padded tokens of a micro-batch; a longer single trace stands alone.
        by_prompt: keep the traces of a prompt together (live per-trace weights compare them).
    """
    units: dict[str, list[Example]] = {}
    for index, example in enumerate(examples):
        units.setdefault(example.prompt_id if by_prompt else str(index), []).append(example)
    ordered = sorted(units.values(), key=lambda unit: max(len(e) for e in unit), reverse=True)
    out: list[list[Example]] = []
    longest = 0
    for unit in ordered:
        length = max(len(e) for e in unit)
        if out and max(longest, length) * (len(out[-1]) + len(unit)) <= max_tokens:
            out[-1].extend(unit)
            longest = max(longest, length)
        else:
            out.append(list(unit))
            longest = length
    return out
