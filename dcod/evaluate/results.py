"""What a model was found to answer, read once from a results folder: figures by benchmark and split, and the answers.

``summary.json`` holds the figures, ``examples.parquet`` one row an answer; :mod:`dcod.stages.evaluate` writes both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dcod.errors import UserError

SUMMARY, EXAMPLES = "summary.json", "examples.parquet"
ZERO_SHOT = "zero_shot"


@dataclass(frozen=True)
class ModelRef:
    """A model that was evaluated.

    Attributes:
        digest: of its checkpoint.
        uri: where it was when it was evaluated.
        version: in the registry; 0 when it is not registered.
    """

    digest: str
    uri: str = ""
    version: int = 0


@dataclass(frozen=True)
class AskedBenchmark:
    """How a benchmark was asked; results with different fingerprints cannot be compared."""

    role: str
    fingerprint: str


@dataclass(frozen=True)
class SplitFigures:
    """The figures of one benchmark on one split, as :func:`dcod.evaluate.summaries.summarise` counts them.

    Attributes:
        benchmark: its key.
        prompting: ``zero_shot`` or ``few_shot``.
        split: ``gate`` or ``report``.
        n: problems; each has ``samples`` answers.
        accuracy: ``low`` to ``high`` is its 95 % interval.
        detectable: the gain over this model that a paired test on so many problems would find.
        outcomes: answers by their outcome.
        at_k: value and both ends of its interval, by names such as ``maj@4``.
        stability: shares of answers, and counts of tokens.
        figures: what else the benchmark counts.
        mean_tokens: of an answer.
    """

    benchmark: str
    prompting: str
    split: str
    n: int
    samples: int
    accuracy: float
    low: float
    high: float
    detectable: float
    outcomes: Mapping[str, int]
    at_k: Mapping[str, Sequence[float]]
    stability: Mapping[str, float]
    figures: Mapping[str, float]
    mean_tokens: float


class Answer(NamedTuple):
    """One answer to one problem, without its text."""

    benchmark: str
    problem_id: str
    split: str
    prompting: str
    sample: int
    outcome: str
    answer: str | None
    truncated: bool
    looping: bool
    contradicting: bool


@dataclass(frozen=True)
class Results:
    """The results of one model.

    Attributes:
        model: the one that was evaluated.
        benchmarks: by their keys.
        rows: figures by benchmark, prompting and split, in the order of the summary.
        answers: one an answer.
        contamination: counts of training traces that hold a problem; empty where none were given.
        folder: where they lie.
    """

    model: ModelRef
    benchmarks: Mapping[str, AskedBenchmark]
    rows: tuple[SplitFigures, ...] = ()
    answers: Sequence[Answer] = ()
    contamination: Mapping[str, Any] = field(default_factory=dict)
    folder: Path = Path()

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of each benchmark."""
        return {key: asked.fingerprint for key, asked in self.benchmarks.items()}

    def on(self, split: str) -> list[SplitFigures]:
        """The figures of a split that has problems, by benchmark."""
        return sorted((row for row in self.rows if row.split == split and row.n), key=lambda row: row.benchmark)

    def told(self) -> list[dict[str, Any]]:
        """What it answered to the report problems of each benchmark, guards among them, as JSON holds it."""
        figures = ("n", "samples", "accuracy", "low", "high", "mean_tokens")
        return [
            {
                "benchmark": row.benchmark,
                "role": self.benchmarks[row.benchmark].role,
                **{name: getattr(row, name) for name in figures},
                "at_k": {name: list(value) for name, value in row.at_k.items()},
                "stability": dict(row.stability),
            }
            for row in self.on("report")
            if row.prompting == ZERO_SHOT
        ]

    def by_problem(self, split: str) -> dict[str, dict[str, list[Answer]]]:
        """Zero-shot answers of a split, by benchmark and problem, in the order of the samples."""
        sampled: dict[str, dict[str, dict[int, Answer]]] = {}
        for answer in self.answers:
            if answer.split == split and answer.prompting == ZERO_SHOT:
                problems = sampled.setdefault(answer.benchmark, {})
                problems.setdefault(answer.problem_id, {})[answer.sample] = answer
        return {
            key: {problem: [samples[i] for i in sorted(samples)] for problem, samples in problems.items()}
            for key, problems in sampled.items()
        }

    def texts(self, split: str) -> dict[tuple[str, str, int], dict[str, Any]]:
        """All that was recorded of the zero-shot answers of a split, by benchmark, problem and sample."""
        import pyarrow.parquet as pq

        filters = [("split", "=", split), ("prompting", "=", ZERO_SHOT)]
        rows = pq.read_table(self.folder / EXAMPLES, filters=filters).to_pylist()
        return {(row["benchmark"], row["problem_id"], row["sample"]): row for row in rows}


def load_results(folder: Path) -> Results:
    """Reads a results folder.

    Raises:
        UserError: it is none.
    """
    import pyarrow.parquet as pq

    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        columns = pq.read_table(folder / EXAMPLES, columns=list(Answer._fields)).select(list(Answer._fields)).columns
        answers = list(map(Answer._make, zip(*(column.to_pylist() for column in columns), strict=True)))
        return of_summary(summary, answers, folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder}: no results of an evaluation ({error}); make them with `dcod evaluate`") from None


def of_summary(summary: Mapping[str, Any], answers: Sequence[Answer] = (), folder: Path = Path()) -> Results:
    """Results from what ``summary.json`` says.

    Raises:
        KeyError: it lacks something; TypeError, AttributeError: it is built otherwise.
    """
    return Results(
        model=ModelRef(summary["model"]["digest"], summary["model"]["uri"]),
        benchmarks={
            key: AskedBenchmark(entry["role"], entry["fingerprint"]) for key, entry in summary["benchmarks"].items()
        },
        rows=tuple(
            SplitFigures(benchmark=key, prompting=prompting, split=split, **figures)
            for key, entry in summary["benchmarks"].items()
            for prompting, splits in entry["prompting"].items()
            for split, figures in splits.items()
        ),
        answers=answers,
        contamination=summary.get("contamination") or {},
        folder=folder,
    )
