"""Recorded responses in, for grading without a model: rows of JSON Lines or Parquet, matched with their problems.

A row says ``response``, and ``problem_id`` or the text of the ``problem``; optional are ``benchmark`` (a key such as
``gsm8k`` or ``custom:mine``), ``sample``, ``truncated`` (or ``finish_reason`` = ``length``) and ``tokens``. So the
``examples.parquet`` of an evaluation can be graded anew. Texts are matched without case and white space.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcod import benchmarks
from dcod.benchmarks import Problem
from dcod.errors import UserError
from dcod.traces import cleaning
from dcod.traces.bounded import LONGEST

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Response:
    """One recorded answer; ``tokens`` counts words where the record does not say."""

    text: str
    truncated: bool
    tokens: int


def read(path: Path, asked: Sequence[tuple[str, Sequence[Problem]]]) -> list[list[list[Response]]]:
    """The responses to the problems of each benchmark.

    Args:
        path: the file.
        asked: benchmarks by their keys, with their problems.

    Returns:
        By benchmark and problem, in their order, the samples in theirs.

    Raises:
        UserError: a row is broken or belongs to no problem, or a problem has no response, or another number of them
            than the others.
    """
    by_name: dict[str, dict[str, str]] = {}
    for key, problems in asked:
        names = by_name.setdefault(key, {})
        for problem in problems:
            names[problem.id] = problem.id
            names[benchmarks.normalise_problem(problem.text)] = problem.id
    given: dict[tuple[str, str], list[tuple[int, Response]]] = defaultdict(list)
    for line, row in enumerate(benchmarks.objects(path), start=1):
        where = f"{path}:{line}"
        key, problem_id = _place(where, row, by_name)
        samples = given[key, problem_id]
        samples.append((_count(where, row, "sample", len(samples)), _response(where, row)))
    out = []
    for key, problems in asked:
        groups = [[r for _, r in sorted(given[key, p.id], key=lambda one: one[0])] for p in problems]
        missing = sum(not group for group in groups)
        if missing:
            raise UserError(
                f"{path}: {missing} of {len(groups)} problems of {key} have no response; record them all, or describe "
                "the problems that were asked as a custom benchmark"
            )
        if len({len(group) for group in groups}) > 1:
            raise UserError(
                f"{path}: problems of {key} have {sorted({len(g) for g in groups})} responses; give as many each"
            )
        out.append(groups)
    return out


def _place(where: str, row: Any, by_name: dict[str, dict[str, str]]) -> tuple[str, str]:
    if not isinstance(row, dict) or not ("problem_id" in row or "problem" in row):
        raise UserError(f"{where}: a recorded response needs `response`, and `problem_id` or `problem`")
    named = row.get("benchmark")
    keys = [named] if named in by_name else list(by_name) if len(by_name) == 1 or named is None else []
    asked = [str(row["problem_id"])] if "problem_id" in row else []
    asked += [benchmarks.normalise_problem(str(row["problem"]))] if "problem" in row else []
    for key in keys:
        for name in asked:
            if name in by_name[key]:
                return key, by_name[key][name]
    raise UserError(
        f"{where}: no configured benchmark has this problem ({asked[0][:60]!r}, benchmark {named!r}); configured: "
        f"{', '.join(by_name)}; a file that brings its own problems: custom, source=FILE?problem=COLUMN&answer=COLUMN"
    )


def _response(where: str, row: dict[str, Any]) -> Response:
    text = row.get("response")
    if not isinstance(text, str):
        raise UserError(f"{where}: `response` is missing or no text")
    long = f"{len(text)} characters, at most {LONGEST} are read," if len(text) > LONGEST else ""
    broken = long or cleaning.encoding_fault(text)
    if broken:  # ingestion refuses such a text; here it is no answer, and the run goes on
        _log.warning("%s: %s in `response`: graded as no answer", where, broken)
        text = ""
    truncated = bool(row.get("truncated", row.get("finish_reason") == "length"))
    return Response(text, truncated, _count(where, row, "tokens", 0) or len(text.split()))


def _count(where: str, row: dict[str, Any], name: str, default: int) -> int:
    value = row.get(name)
    if value is None:
        return default
    if isinstance(value, str) and len(value) < 20 and value.isdecimal():
        value = int(value)
    if not isinstance(value, (int, float)) or not 0 <= value < 2**53 or value != int(value):
        raise UserError(f"{where}: `{name}` must be a whole number from 0, got {value!r:.40}")
    return int(value)
