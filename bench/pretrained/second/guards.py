"""What a student must not lose: stable answers, and following instructions (IFEval), beside what it was taught."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.pretrained.second import lab
from bench.pretrained.second.tasks import Problem
from dcod import benchmarks
from dcod.config import BenchmarkConfig
from dcod.engines import Completion, Sampling
from dcod.engines.transformers import TransformersEngine
from dcod.evaluate import summaries

PROMPTS, TOKENS = 128, 256  # of IFEval the first so many, answered greedily up to this length
MARKS = ("looping", "contradicting")


def steady(written: Sequence[Completion]) -> dict[str, int]:
    """How many answers go round in circles, and how many hold a sum that is wrong."""
    marks = [summaries.of_answer(one.text) for one in written]
    return {name: sum(bool(mark[name]) for mark in marks) for name in MARKS}


def followed(engine: TransformersEngine, source: str) -> dict[str, Any]:
    """Which prompts of IFEval are followed in all they ask; an answer that the limit cut is read as it stands."""
    one = BenchmarkConfig(name="ifeval", source=source, role="report")
    asked = benchmarks.load(one, 1.0)[:PROMPTS]
    tokens = [lab.ask(Problem(problem.text, "", {})) for problem in asked]
    written = engine.generate(tokens, Sampling(TOKENS), lab.BATCH)
    pairs = zip(asked, written, strict=True)
    grades = benchmarks.grade_all(one, [(problem, said.text, said.truncated) for problem, said in pairs])
    right = [int(grade.outcome == "correct") for grade in grades]
    return {"ifeval": right, "ifeval_truncated": sum(said.truncated for said in written)}
