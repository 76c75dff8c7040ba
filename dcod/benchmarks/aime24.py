"""AIME 2024, both papers: integers from 0 to 999."""

from typing import Any

from dcod.benchmarks._types import EIGHT, Benchmark, Row


def _read(row: dict[str, Any], line: int) -> Row:
    return Row(str(row.get("id", f"aime24/{line}")), row["problem"], str(row.get("expected_answer") or row["answer"]))


BENCHMARK = Benchmark("aime24", 2, "HuggingFaceH4/aime_2024@train", 30, _read, plan=EIGHT)
