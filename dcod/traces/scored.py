"""A trace in the tokens of a student, with what the student and its teacher said of them.

A field is declared here, and its metadata say how it is stored (:mod:`dcod.score.scores`); None is of a trace without
it. It reaches a formula (:func:`dcod.models.batches.stored_record`) where ``StepScores`` has one of the same name, or
where it is recorded on demand (:func:`on_demand`): if a correction needs it, by a file of dcod/score/fields.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import pyarrow as pa

from dcod.config import TrainConfig
from dcod.objective.corrections import needed
from dcod.objective.feasibility import SCORED

# In a field's metadata: how it is stored; whether on demand; what to do where traces lack it.
KIND, DEMAND, WAY_OUT = "arrow", "demand", "way out"
_TEXT, _FLOAT = {KIND: pa.string()}, {KIND: pa.float32()}
_IDS, _FLOATS = {KIND: pa.list_(pa.int32())}, {KIND: pa.list_(pa.float32())}
_ID_LISTS, _FLOAT_LISTS = {KIND: pa.list_(pa.list_(pa.int32()))}, {KIND: pa.list_(pa.list_(pa.float32()))}
_TEACHER = "use `surprisal` (text only) or `none`, or record the teacher's log-probs in the student's tokens"
_RANKS, _LOCAL = (f"score with score.{SCORED[name][0]}" for name in ("start_ranks", "local_logprobs"))
_WEIGHT = "bring a `weight` with every row (docs/traces.md), or take another correction"


def on_demand(kind: pa.DataType) -> Any:
    """A field that is recorded only where a correction needs it.

    Args:
        kind: a number, or a list of numbers with one a completion token.
    """
    way_out = "score the traces again with this correction, or with an arm of it: only then is that recorded"
    return field(default=None, metadata={KIND: kind, DEMAND: True, WAY_OUT: way_out})


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
    behavior_logprobs: list[float] | None = field(default=None, metadata={**_FLOATS, WAY_OUT: _TEACHER})
    behavior_total: float | None = field(default=None, metadata=_FLOAT)
    teacher_top_ids: list[list[int]] | None = field(default=None, metadata=_ID_LISTS)
    teacher_top_logprobs: list[list[float]] | None = field(default=None, metadata=_FLOAT_LISTS)
    start_top_ids: list[list[int]] | None = field(default=None, metadata=_ID_LISTS)
    start_top_logprobs: list[list[float]] | None = field(default=None, metadata=_FLOAT_LISTS)
    start_mass: list[float] | None = field(default=None, metadata={**_FLOATS, WAY_OUT: _RANKS})
    start_ranks: list[int] | None = field(default=None, metadata={**_IDS, WAY_OUT: _RANKS})
    local_logprobs: list[float] | None = field(default=None, metadata={**_FLOATS, WAY_OUT: _LOCAL})
    given: float | None = field(default=None, metadata={**_FLOAT, WAY_OUT: _WEIGHT})
    gold: str | None = field(default=None, metadata=_TEXT)
    success: float | None = field(default=None, metadata=_FLOAT)

    def __len__(self) -> int:
        return len(self.prompt_tokens) + len(self.completion_tokens)


def told(what: str) -> dict[str, Any]:
    """What the metadata of the fields say of one matter, by their names; without those that say nothing."""
    return {each.name: each.metadata[what] for each in fields(ScoredTrace) if what in each.metadata}


def demanded(train: TrainConfig) -> list[str]:
    """The fields that a scoring records for a training and its arms, beyond what its own section says."""
    return sorted(needed(train) & told(DEMAND).keys())
