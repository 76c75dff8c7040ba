"""Prompts of a trace set that have too few verified traces: what a teacher is asked in the midst of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dcod.teach.questions import Question
from dcod.traces import read_traces


def read(traces: Path, enough: int) -> tuple[list[Question], Mapping[str, set[str]]]:
    """The questions to ask, in the order of the set, and the different correct answers that are there, by question.

    A prompt is asked where it is trained on, has a reference, and fewer than ``enough`` different traces that were
    verified; whoever wrote them. One without a reference is left: an answer to it could not be verified.

    Args:
        traces: a trace set.
        enough: as said; 0 asks nothing.
    """
    found: dict[str, Question] = {}
    good: dict[str, set[str]] = {}
    for trace in read_traces(traces):
        if trace.split != "train" or trace.gold is None:
            continue
        question = found.setdefault(trace.prompt_id, Question(trace.prompt, trace.gold))
        right = good.setdefault(question.id, set())
        if trace.verdict == "correct":
            right.add(trace.trace_id)
    asked = [question for question in found.values() if len(good[question.id]) < enough]
    return asked, {question.id: good[question.id] for question in asked}
