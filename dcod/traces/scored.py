"""A trace in the tokens of a student, with what the student and its teacher said of them.

A new field is stored as its metadata say (:mod:`dcod.score.scores`), and reaches a formula where ``StepScores`` has one
of the same name (:func:`dcod.models.batches.stored_record`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

KIND = "arrow"  # in a field's metadata: how it is stored
_TEXT, _FLOAT = {KIND: pa.string()}, {KIND: pa.float32()}
_IDS, _FLOATS = {KIND: pa.list_(pa.int32())}, {KIND: pa.list_(pa.float32())}
_ID_LISTS, _FLOAT_LISTS = {KIND: pa.list_(pa.list_(pa.int32()))}, {KIND: pa.list_(pa.list_(pa.float32()))}


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

    trace_id: str = field(metadata=_TEXT)
    prompt_id: str = field(metadata=_TEXT)
    prompt_tokens: list[int] = field(metadata=_IDS)
    completion_tokens: list[int] = field(metadata=_IDS)
    student_logprobs: list[float] = field(metadata=_FLOATS)
    entropies: list[float] = field(metadata=_FLOATS)
    behavior_logprobs: list[float] | None = field(default=None, metadata=_FLOATS)
    behavior_total: float | None = field(default=None, metadata=_FLOAT)
    teacher_top_ids: list[list[int]] | None = field(default=None, metadata=_ID_LISTS)
    teacher_top_logprobs: list[list[float]] | None = field(default=None, metadata=_FLOAT_LISTS)
    start_top_ids: list[list[int]] | None = field(default=None, metadata=_ID_LISTS)
    start_top_logprobs: list[list[float]] | None = field(default=None, metadata=_FLOAT_LISTS)
    start_mass: list[float] | None = field(default=None, metadata=_FLOATS)
    start_ranks: list[int] | None = field(default=None, metadata=_IDS)
    local_logprobs: list[float] | None = field(default=None, metadata=_FLOATS)
    given: float | None = field(default=None, metadata=_FLOAT)
    gold: str | None = field(default=None, metadata=_TEXT)
    success: float | None = field(default=None, metadata=_FLOAT)

    def __len__(self) -> int:
        return len(self.prompt_tokens) + len(self.completion_tokens)
