"""Weights from the success of the student's own answers: what it can carry out, not what is familiar to it.

Likelihood prefers what a student would write, right or not. Its own answers to the same prompts, verified, say more: a
prompt that it solves, and a way of solving like those of its answers that were right. Ours; no model is asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from dcod.traces.scored import ScoredTrace

GRAM = 4  # tokens; two texts are as alike as the share of these that they have in common
PRIOR = 1.0  # answers that the mean counts for, of all prompts and then of the prompt


def is_right(answer: ScoredTrace) -> bool:
    """Whether one of the student's own answers was right; its id says so."""
    return answer.trace_id.endswith("/right")


def likeness(one: Sequence[int], other: Sequence[int]) -> float:
    """The Jaccard index of the runs of ``GRAM`` tokens of two texts, from 0 to 1."""
    left, right = ({tuple(text[i : i + GRAM]) for i in range(max(1, len(text) - GRAM + 1))} for text in (one, other))
    return len(left & right) / len(left | right)


def weighted(
    traces: Sequence[ScoredTrace], own: Sequence[ScoredTrace], attempts: int, within: bool
) -> list[ScoredTrace]:
    """Copies of traces with ``given`` weights.

    A prompt's chance of success is the share of its own answers that were right, drawn towards that of all prompts; a
    trace's that of the own answers to its prompt, each counted as much as it is like the trace, drawn towards the
    prompt's.

    Args:
        traces: the teacher's.
        own: the student's own answers; one that the limit cut is missing, and was not right.
        attempts: answers a prompt, the missing ones too.
        within: only compare the traces of a prompt: the mean weight of every prompt is 1.
    """
    answers, by_prompt = defaultdict[str, list[ScoredTrace]](list), defaultdict[str, list[ScoredTrace]](list)
    for trace in traces:
        by_prompt[trace.prompt_id].append(trace)
    for answer in own:
        answers[answer.prompt_id].append(answer)
    overall = sum(map(is_right, own)) / (attempts * len(by_prompt))
    out = list[ScoredTrace]()
    for prompt, some in by_prompt.items():
        known = answers[prompt]
        share = (PRIOR * overall + sum(map(is_right, known))) / (PRIOR + attempts)
        chances = list[float]()
        for trace in some:
            like = [likeness(trace.completion_tokens, answer.completion_tokens) for answer in known]
            hits = sum(near for near, answer in zip(like, known, strict=True) if is_right(answer))
            chances.append((PRIOR * share + hits) / (PRIOR + sum(like)))
        scale = sum(chances) / len(chances) if within else 1.0
        out += [replace(trace, given=chance / scale) for trace, chance in zip(some, chances, strict=True)]
    return out
