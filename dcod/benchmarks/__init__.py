"""Benchmarks: one file each, with a module-level ``BENCHMARK``; found by looking into this folder.

A problem's split is a hash of its text: ``gate`` problems decide about promotion, ``report`` problems are only
reported, and the split does not move when the set grows. A new benchmark is a file here and nothing else.
"""

from dcod.benchmarks._load import (
    fingerprint,
    get,
    grade_all,
    key,
    load,
    names,
    normalise_problem,
    objects,
    plan,
    problem_texts,
    split,
)
from dcod.benchmarks._types import EIGHT, LONG, Benchmark, Problem, Row, SamplingPlan, grade_number, grade_text

__all__ = [
    "EIGHT",
    "LONG",
    "Benchmark",
    "Problem",
    "Row",
    "SamplingPlan",
    "fingerprint",
    "get",
    "grade_all",
    "grade_number",
    "grade_text",
    "key",
    "load",
    "names",
    "normalise_problem",
    "objects",
    "plan",
    "problem_texts",
    "split",
]
