"""Any task of reasoning-gym; the source is a ``reasoning-gym://TASK?…`` URI, and the task's own scorer decides.

Some scorers evaluate the answer, so they run in a worker with limits, ``python -m dcod.benchmarks.reasoning_gym``,
which makes the problems anew from the same URI.
"""

import functools
from typing import Any

from dcod import grading
from dcod.benchmarks._types import Benchmark, Problem, Row
from dcod.grading import Grade, spelling, worker
from dcod.traces import synthetic


def _read(row: dict[str, Any], line: int) -> Row:
    raise AssertionError(f"row {line}: reasoning-gym problems are generated, not read: {row}")


def _grade(problem: Problem, response: str, truncated: bool) -> Grade:
    answer = grading.find(response, truncated=truncated, last_number=True)
    if answer is None:
        return Grade("truncated" if truncated else "unparseable")
    if answer == problem.gold:
        return Grade("correct", answer)
    if len(answer) > spelling.LONGEST:
        return Grade("wrong", answer)
    right = worker.ask("dcod.benchmarks.reasoning_gym", [problem.metadata["source"], problem.id, answer])
    return Grade("error" if right is None else "correct" if right else "wrong", answer)


@functools.lru_cache(maxsize=4)
def _problems(source: str) -> dict[str, synthetic.SyntheticProblem]:
    return {problem.id: problem for problem in synthetic.problems(source)}


def _score(source: str, name: str, answer: str) -> bool:
    """Runs in the worker."""
    return any(synthetic.score(_problems(source)[name], text) for text in (answer, spelling.normalise(answer)))


BENCHMARK = Benchmark("reasoning_gym", 2, "", 0, _read, asks="number", grade=_grade)

if __name__ == "__main__":
    worker.serve(_score, "reasoning_gym", prepare=lambda source, *_: _problems(source))
