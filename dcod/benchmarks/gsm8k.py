"""GSM8K, test split: grade-school word problems; the gold answer stands after ``####`` (Cobbe et al. 2021)."""

from typing import Any

from dcod.benchmarks._types import Benchmark, Row, grade_number


def _read(row: dict[str, Any], line: int) -> Row:
    return Row(f"gsm8k/{line}", row["question"], row["answer"].rpartition("####")[2].strip())


BENCHMARK = Benchmark("gsm8k", 1, "openai/gsm8k#main", 1319, _read, asks="number", grade=grade_number)
