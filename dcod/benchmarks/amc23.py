"""AMC 2023, the 40 problems with a numeric answer; the file writes them as floats (27.0)."""

from typing import Any

from dcod.benchmarks._types import EIGHT, Benchmark, Row


def _read(row: dict[str, Any], line: int) -> Row:
    number = float(row["answer"])
    gold = str(int(number)) if number.is_integer() else str(number)
    return Row(f"amc23/{row.get('id', line)}", row.get("problem") or row["question"], gold)


BENCHMARK = Benchmark("amc23", 2, "math-ai/amc23", 40, _read, plan=EIGHT)
