r"""MATH, test split: competition problems; the gold answer stands in the solution's last box (Hendrycks et al. 2021).

Where boxes stand side by side (``\boxed{1}$ and $\boxed{9}``) all of them are the answer.
"""

from typing import Any

from dcod.benchmarks._types import LONG, Benchmark, Row
from dcod.errors import UserError
from dcod.grading.boxes import boxed


def _read(row: dict[str, Any], line: int) -> Row:
    answers = boxed(row["solution"])
    if not answers:
        raise UserError(f"math: row {line} has no boxed answer in its solution")
    return Row(row.get("unique_id", f"math/{line}"), row["problem"], answers[-1])


BENCHMARK = Benchmark("math", 2, "DigitalLearningGmbH/MATH-lighteval", 5000, _read, plan=LONG)
