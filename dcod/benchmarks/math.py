"""MATH, test split: competition problems; the gold answer is the last box of the solution (Hendrycks et al. 2021)."""

from typing import Any

from dcod.answers import boxed
from dcod.benchmarks import Benchmark, Row
from dcod.errors import UserError


def _read(row: dict[str, Any], line: int) -> Row:
    answers = boxed(row["solution"])
    if not answers or not answers[-1]:
        raise UserError(f"math: row {line} has no boxed answer in its solution")
    return Row(row.get("unique_id", f"math/{line}"), row["problem"], answers[-1])


BENCHMARK = Benchmark("math", 1, "EleutherAI/hendrycks_math", 5000, _read)
