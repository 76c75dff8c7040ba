"""A set of your own, described by its source alone: ``problems.jsonl?problem=question&answer=gold&kind=number``.

A path or s3:// address of JSON Lines or Parquet, then what is not as expected: ``problem`` and ``answer`` name the
columns (default: those names), ``id`` an optional one, ``kind`` says how to ask and grade: ``boxed`` (default) or
``number`` (``#### 5``, and a bare last number counts). An answer that is a list asks for all its members.
"""

from typing import Any
from urllib.parse import parse_qsl

from dcod import grading
from dcod.benchmarks import Benchmark, Problem, Row
from dcod.errors import UserError
from dcod.grading import Grade

_OPTIONS = {"problem": "problem", "answer": "answer", "id": "", "kind": "boxed"}
_KINDS = ("boxed", "number")


def _configure(source: str) -> tuple[str, Benchmark]:
    place, _, query = source.partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(set(given) - set(_OPTIONS))
    if not place or unknown:
        wrong = f"unknown option {', '.join(unknown)}" if unknown else "no source"
        raise UserError(f"custom: {wrong}; expected path?problem=COLUMN&answer=COLUMN&id=COLUMN&kind=boxed|number")
    option = {**_OPTIONS, **given}
    if option["kind"] not in _KINDS:
        raise UserError(f"custom: kind={option['kind']!r} is unknown; known: {', '.join(_KINDS)}")

    def read(row: dict[str, Any], line: int) -> Row:
        answer = row[option["answer"]]
        several = isinstance(answer, list)
        gold = ", ".join(str(one) for one in answer) if several else str(answer)
        name = str(row[option["id"]]) if option["id"] else f"custom/{line}"
        return Row(
            name, str(row[option["problem"]]), gold, {"several": several, "last_number": option["kind"] == "number"}
        )

    return place, Benchmark("custom", 1, "", 0, read, asks=option["kind"], grade=_grade)


def _grade(problem: Problem, response: str, truncated: bool) -> Grade:
    return grading.grade(
        response,
        problem.gold,
        truncated=truncated,
        last_number=problem.metadata["last_number"],
        several=problem.metadata["several"],
    )


def _read(row: dict[str, Any], line: int) -> Row:
    raise AssertionError(f"row {line} is read by what the source describes: {row}")


BENCHMARK = Benchmark("custom", 1, "", 0, _read, grade=_grade, configure=_configure)
