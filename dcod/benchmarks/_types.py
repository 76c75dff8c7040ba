"""What a benchmark is: its rows and problems, how it is asked, sampled and graded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from dcod import grading
from dcod.config import BenchmarkConfig
from dcod.config.mapping import JoinConfig
from dcod.grading import Grade
from dcod.traces import Message


@dataclass(frozen=True)
class Row:
    """What a benchmark's file says about one problem."""

    id: str
    problem: str
    gold: str
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """One problem, ready to be asked; ``text`` is the problem alone."""

    id: str
    prompt: list[Message]
    gold: str
    split: Literal["gate", "report"]
    metadata: dict[str, Any] = field(default_factory=dict)
    text: str = ""


def grade_text(problem: Problem, response: str, truncated: bool) -> Grade:
    """Grades by the answer in ``\\boxed``, after ``####`` or "the answer is"."""
    return grading.grade(response, problem.gold, truncated=truncated)


def grade_number(problem: Problem, response: str, truncated: bool) -> Grade:
    """As :func:`grade_text`, and a bare last number counts as an answer."""
    return grading.grade(response, problem.gold, truncated=truncated, last_number=True)


@dataclass(frozen=True)
class SamplingPlan:
    """How a benchmark is sampled where the configuration says ``auto``; one sample is greedy.

    Attributes:
        samples: answers a problem.
        max_new_tokens: the limit of one answer.
    """

    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 256


SAMPLED = (0.6, 0.95)  # temperature and top_p of several samples, where nothing else is said
EIGHT = SamplingPlan(8, *SAMPLED, max_new_tokens=4096)  # 30 to 40 problems: one greedy answer each says next to nothing
LONG = SamplingPlan(max_new_tokens=2048)


@dataclass(frozen=True)
class Benchmark:
    """How a set is read, asked and graded.

    Attributes:
        version: moves with every change of what follows.
        default_source: ``id``, ``id#config`` or ``id@split`` of a hub data set, taken when no source is configured.
        rows: how many rows the published set has; another count is an error unless it is 0.
        read: the row of a file's object, or several; None for one that is not of the set.
        asks: a key of :data:`dcod.traces.prompts.INSTRUCTIONS`.
        plan: how it is sampled, unless the configuration says.
        configure: for a set that the user describes: from the configuration to the place of the rows, and the
            benchmark that reads them.
        begin: looks at the first rows before any is read.
        join: a second file, whose rows stand beside the set's.
        libraries: whose versions count in the fingerprint, besides those of the grader.
        figures: further figures of a set of grades, from the ``figures`` of each; IFEval has some.
        finish: what is done with all rows, once they are read.
        described, label: what counts in the fingerprint besides, and in the key.
    """

    name: str
    version: int
    default_source: str
    rows: int
    read: Callable[[dict[str, Any], int], Row | list[Row] | None]
    asks: str = "boxed"
    grade: Callable[[Problem, str, bool], Grade] = grade_text
    configure: Callable[[BenchmarkConfig], tuple[str, Benchmark]] | None = None
    plan: SamplingPlan = SamplingPlan()
    libraries: tuple[str, ...] = ()
    figures: Callable[[Sequence[dict[str, float]]], dict[str, float]] | None = None
    finish: Callable[[list[Row]], list[Row]] | None = None
    begin: Callable[[Sequence[dict[str, Any]]], None] | None = None
    join: JoinConfig | None = None
    described: str = ""
    label: str = ""
