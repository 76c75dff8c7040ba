"""`python -m bench.grading GSM8K/test.jsonl MATH500/test.jsonl`: answers graded a second, workers' start included.

The responses are the sets' own worked solutions, so every one must be graded correct.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated

import typer

from dcod import benchmarks
from dcod.config import BenchmarkConfig


def main(
    gsm8k: Annotated[Path, typer.Argument(help="Rows with question and answer.")],
    math500: Annotated[Path, typer.Argument(help="Rows with problem, solution and answer.")],
) -> None:
    """Grades both sets and prints the rates."""
    for name, path, column in (("gsm8k", gsm8k, "answer"), ("math500", math500, "solution")):
        config = BenchmarkConfig(name=name, source=str(path))
        texts = [json.loads(line)[column] for line in path.read_text(encoding="utf-8").splitlines()]
        answers = [(p, text, False) for p, text in zip(benchmarks.load(config, 0.5), texts, strict=True)]
        began = time.perf_counter()
        right = sum(grade.outcome == "correct" for grade in benchmarks.grade_all(config, answers))
        seconds = time.perf_counter() - began
        rate = len(answers) / seconds
        print(f"{name}: {right} of {len(answers)} correct, {rate:.0f} answers a second on {os.cpu_count()} cores")


if __name__ == "__main__":
    typer.run(main)
