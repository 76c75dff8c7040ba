"""IFEval: 541 prompts with instructions that a program can check (Zhou et al. 2023); see ``dcod.grading.instructions``.

Correct is the strict reading of a whole prompt: every instruction is followed. The loose reading, and both per
instruction, are its further figures. What a model thinks before it answers is not looked at.
"""

from collections.abc import Sequence
from typing import Any

from dcod.benchmarks._types import Benchmark, Problem, Row, SamplingPlan
from dcod.grading import Grade, extract, instructions, thoughts


def _read(row: dict[str, Any], line: int) -> Row:
    kinds = row["instruction_id_list"]
    given = [{name: value for name, value in one.items() if value is not None} for one in row["kwargs"]]
    instructions.followed(kinds, given, "")  # known kinds, as many arguments
    return Row(f"ifeval/{row.get('key', line)}", row["prompt"], ", ".join(kinds), {"kinds": kinds, "given": given})


def _grade(problem: Problem, response: str, truncated: bool) -> Grade:
    text = response[thoughts.last_end(response) :]
    if truncated and extract.thinking(response):
        return Grade("truncated")
    kinds, given = problem.metadata["kinds"], problem.metadata["given"]
    strict = instructions.followed(kinds, given, text)
    loose = instructions.followed(kinds, given, text, loose=True)
    figures = (
        ("instructions", float(len(kinds))),
        ("strict", float(sum(strict))),
        ("loose", float(sum(loose))),
        ("all_loose", float(all(loose))),
    )
    said = ", ".join(kind for kind, holds in zip(kinds, strict, strict=True) if holds)
    if all(strict):
        return Grade("correct", said, figures)
    if truncated:
        return Grade("truncated", said, figures)
    return Grade("wrong" if text.strip() else "unparseable", said, figures)


def _figures(graded: Sequence[dict[str, float]]) -> dict[str, float]:
    asked = sum(one.get("instructions", 0.0) for one in graded)
    if not asked:
        return {}
    return {
        "prompt_loose": sum(one.get("all_loose", 0.0) for one in graded) / len(graded),
        "instruction_strict": sum(one.get("strict", 0.0) for one in graded) / asked,
        "instruction_loose": sum(one.get("loose", 0.0) for one in graded) / asked,
    }


BENCHMARK = Benchmark(
    "ifeval", 1, "google/IFEval@train", 541, _read, "as_is", _grade,
    plan=SamplingPlan(max_new_tokens=1280), libraries=("langdetect",), figures=_figures,
)  # fmt: skip
