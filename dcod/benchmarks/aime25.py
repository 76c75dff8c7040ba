"""AIME 2025, both papers: integers from 0 to 999."""

from typing import Any

from dcod.benchmarks._types import EIGHT, Benchmark, Row


def _read(row: dict[str, Any], line: int) -> Row:
    return Row(str(row.get("id", f"aime25/{line}")), row["problem"], str(row.get("expected_answer") or row["answer"]))


BENCHMARK = Benchmark("aime25", 2, "math-ai/aime25", 30, _read, plan=EIGHT)
