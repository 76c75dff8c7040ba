"""A trace in the tokens of a student, with what the student and its teacher said of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class ScoredTrace:
    """One scored trace in the student's tokens.

    Attributes:
        prompt_tokens, completion_tokens: token ids; the completion ends with the end-of-turn token.
        student_logprobs, entropies: of the student that scored it, nats, one a completion token.
        behavior_logprobs: of the teacher's sampler, or None.
        behavior_total: their sum as the teacher's own tokenizer gave it, or None; see docs/method.md, section 1.3.
        teacher_top_ids, teacher_top_logprobs: the sampler's likeliest tokens at each position, or None.
        start_top_ids, start_top_logprobs: the same of the student that scored it, or None.
        start_mass: the probability of each token and of all less likely ones in that student's eyes, or None.
        start_ranks: how many tokens that student finds at least as likely, itself included, or None.
        local_logprobs: of that student, given the few tokens before the sentence alone, or None.
        given: the weight that the user gave the trace, or None.
        gold: the reference answer of the problem, or None.
        success: how often the student is right in the manner of the trace, in (0, 1), or None (dcod.score.success).
    """

    trace_id: str
    prompt_id: str
    prompt_tokens: list[int]
    completion_tokens: list[int]
    student_logprobs: list[float]
    entropies: list[float]
    behavior_logprobs: list[float] | None = None
    behavior_total: float | None = None
    teacher_top_ids: list[list[int]] | None = None
    teacher_top_logprobs: list[list[float]] | None = None
    start_top_ids: list[list[int]] | None = None
    start_top_logprobs: list[list[float]] | None = None
    start_mass: list[float] | None = None
    start_ranks: list[int] | None = None
    local_logprobs: list[float] | None = None
    given: float | None = None
    gold: str | None = None
    success: float | None = None

    def __len__(self) -> int:
        return len(self.prompt_tokens) + len(self.completion_tokens)
