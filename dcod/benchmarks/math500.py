"""MATH500: the 500 problems of MATH's test split chosen for PRM800K (Lightman et al. 2023)."""

from typing import Any

from dcod.benchmarks._types import LONG, Benchmark, Row


def _read(row: dict[str, Any], line: int) -> Row:
    return Row(row.get("unique_id", f"math500/{line}"), row["problem"], row["answer"])


BENCHMARK = Benchmark("math500", 1, "HuggingFaceH4/MATH-500", 500, _read, plan=LONG)
