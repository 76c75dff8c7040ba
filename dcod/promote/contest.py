"""Who meets whom before the gate: the student, what it must beat, and their answers side by side by benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dcod.config import PromoteConfig
from dcod.evaluate.results import Answer, AskedBenchmark, ModelRef, Results
from dcod.promote.compare import Comparison

SPLIT = "gate"

Values = dict[str, list[float]]  # by problem, of each of its answers
AnswersByProblem = Mapping[str, list[Answer]]  # in the order of the samples


@dataclass(frozen=True)
class Contest:
    """What was found out about the student and whatever it may have to beat.

    Attributes:
        student: its results.
        baselines: results that may be the champion's, the likeliest first.
        twin: results of an SFT twin of the student; None where there is none.
        contamination: training traces by how they hold problems of the benchmarks; None where there are no traces.
    """

    student: Results
    baselines: tuple[Results, ...]
    twin: Results | None = None
    contamination: Mapping[str, Any] | None = None

    def baseline(self, champion: ModelRef) -> Results:
        """The results of the champion; the likeliest ones where it was not evaluated."""
        evaluated = (one for one in self.baselines if one.model.digest == champion.digest)
        return next(evaluated, self.baselines[0])


@dataclass(frozen=True)
class Spending:
    """What became of a test's request to the budget of its period: tests spent so far, and whether it is one."""

    tests: int
    granted: bool


@dataclass(frozen=True)
class Standing:
    """What the registry says.

    Attributes:
        champion: the registered one.
        student_version: that the student has already; 0 for none.
        rolled_back: whether that version was champion and was taken back.
        spending: of this test; None where tests are not counted.
    """

    champion: ModelRef
    student_version: int = 0
    rolled_back: bool = False
    spending: Spending | None = None


@dataclass(frozen=True)
class Pair:
    """The student and another model on one benchmark; one of the two may not have been asked it.

    Attributes:
        key: of the benchmark.
        ours: what the student was asked.
        theirs: what the other was asked.
        answers: the student's, by problem.
        other_answers: the other's.
    """

    key: str
    ours: AskedBenchmark | None
    theirs: AskedBenchmark | None
    answers: AnswersByProblem
    other_answers: AnswersByProblem

    @property
    def role(self) -> str:
        """What the benchmark is for; of the student's side, where it has one."""
        asked = self.ours or self.theirs
        assert asked is not None  # a pair is made of what one of the two was asked
        return asked.role


@dataclass(frozen=True)
class Match:
    """All that a rule of the gate may look at.

    Attributes:
        contest: the results.
        standing: what the registry says.
        baseline: the results that the student is compared with.
        pairs: every benchmark that one of the two was asked.
        comparisons: of those that can be compared.
        config: limits and margins.
        level: of one test.
    """

    contest: Contest
    standing: Standing
    baseline: Results
    pairs: tuple[Pair, ...]
    comparisons: tuple[Comparison, ...]
    config: PromoteConfig
    level: float

    def compared(self, role: str) -> list[Comparison]:
        """The comparisons on benchmarks of one role."""
        return [one for one in self.comparisons if one.role == role]

    @property
    def deciding(self) -> list[tuple[Pair, Comparison]]:
        """Primaries and guards that can be compared."""
        by_key = {one.benchmark: one for one in self.comparisons}
        return [(pair, by_key[pair.key]) for pair in self.pairs if pair.role != "report" and pair.key in by_key]


def level_of(config: PromoteConfig) -> float:
    """The level of one test: a part of that of the period where gates are repeated."""
    return config.level / config.tests_per_period if config.schedule == "repeated" else config.level


def pair_up(student: Results, other: Results, split: str) -> tuple[Pair, ...]:
    """The two side by side on every benchmark that one of them was asked, zero-shot, in one split."""
    ours, theirs = student.by_problem(split), other.by_problem(split)
    return tuple(
        Pair(key, student.benchmarks.get(key), other.benchmarks.get(key), ours.get(key, {}), theirs.get(key, {}))
        for key in sorted({*student.benchmarks, *other.benchmarks})
    )


def correctness(answers: AnswersByProblem) -> Values:
    """By problem, 1 for each right answer and 0 for any other."""
    return {problem: [float(answer.outcome == "correct") for answer in group] for problem, group in answers.items()}
