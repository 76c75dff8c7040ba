"""OlympiadBench, the 675 English text-only competition problems with a final answer (He et al. 2024).

Several required answers count in any order, all of them and no others. Where the row names an error, a number may
differ by it. A unit may be given or left out.
"""

from typing import Any

from dcod import grading
from dcod.benchmarks._types import LONG, Benchmark, Problem, Row
from dcod.grading import Grade


def _read(row: dict[str, Any], line: int) -> Row:
    problem = "\n".join(part for part in (row.get("context"), row["question"]) if part)
    metadata = {
        "several": bool(row["is_multiple_answer"]),
        "tolerance": max((float(part) for part in str(row.get("error") or 0).split(",")), default=0.0),
        "unit": row.get("unit") or "",
    }
    return Row(f"olympiadbench/{row.get('id', line)}", problem, ", ".join(row["final_answer"]), metadata)


def _grade(problem: Problem, response: str, truncated: bool) -> Grade:
    return grading.grade(
        response,
        problem.gold,
        truncated=truncated,
        several=problem.metadata["several"],
        tolerance=problem.metadata["tolerance"],
    )


BENCHMARK = Benchmark("olympiadbench", 1, "", 675, _read, grade=_grade, plan=LONG)
