"""Any task of reasoning-gym; the source is a ``reasoning-gym://TASK?…`` URI, and the task's own scorer decides."""

from typing import Any

from dcod import synthetic
from dcod.answers import extract, normalise
from dcod.benchmarks import Benchmark, Problem, Row
from dcod.grading import Grade


def _read(row: dict[str, Any], line: int) -> Row:
    raise AssertionError(f"row {line}: reasoning-gym problems are generated, not read: {row}")


def _grade(problem: Problem, response: str, truncated: bool) -> Grade:
    answer = extract(response, last_number=not truncated)
    if answer is None:
        return Grade("truncated" if truncated else "unparseable")
    right = any(synthetic.score(problem.metadata["problem"], text) for text in (answer, normalise(answer)))
    return Grade("correct" if right else "wrong", answer)


BENCHMARK = Benchmark("reasoning_gym", 1, "", 0, _read, asks="number", grade=_grade)
