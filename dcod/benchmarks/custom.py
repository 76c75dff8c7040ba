"""A set of your own, described by its source alone: ``problems.jsonl?problem=question&answer=gold&kind=number``.

A path or s3:// address of JSON Lines or Parquet, then what is not as expected, written as in a web address (``%26`` for
``&``, ``%2B`` for ``+``):

``problem``   a column, or several put together: ``problem={Body} {Question}``; default ``problem``
``answer``    the column of the reference: an answer, a worked solution that marks it (``\\boxed``, ``####``), or a
              list, which asks for all its members; default ``answer``
``id``        a column of names; default the number of the row
``kind``      how to ask and grade: ``boxed`` (default), or ``number`` (``#### 5``, and a bare last number counts)
``where``     ``source:HMMT``: only rows whose column says so, or whose list holds it; of several, all must hold
``absolute``, ``relative``   how far a number may lie from the reference, or from it as a share of it

Rows with the same problem and the same answer are one problem, so a file of several responses each describes its set.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter, defaultdict
from statistics import median
from typing import Any
from urllib.parse import parse_qsl

from dcod import grading
from dcod.benchmarks._types import Benchmark, Problem, Row
from dcod.errors import UserError
from dcod.grading import Grade, extract, spelling
from dcod.grading.quantities import as_number

_OPTIONS = {"problem": "problem", "answer": "answer", "id": "", "kind": "boxed", "absolute": "0", "relative": "0"}
_KINDS = ("boxed", "number")
_EXPECTED = (
    "path?problem=COLUMN&answer=COLUMN&id=COLUMN&kind=boxed|number&where=COLUMN:VALUE&absolute=NUMBER&relative=NUMBER; "
    "several columns: problem={Body} {Question}"
)
_FIELD = re.compile(r"\{([^{}]+)\}")
_SOLUTIONS = re.compile(
    r"solution|answer|rationale|explan|reason|respon|complet|generat|cot|thought|output|proof|code|program",
    re.IGNORECASE,
)
_LONGER, _MORE = 1.5, 40  # times, and characters, by which a column beside the problem is much longer
_VALUES = 10  # of a column that are named
_log = logging.getLogger(__name__)
_told = set[str]()


def _configure(source: str) -> tuple[str, Benchmark]:
    place, _, query = source.partition("?")
    given = parse_qsl(query, keep_blank_values=True)
    names = [name for name, _ in given if name != "where"]
    unknown = sorted(set(names) - set(_OPTIONS))
    twice = sorted({name for name in names if names.count(name) > 1})
    if not place or unknown or twice:
        wrong = f"unknown option {', '.join(unknown)}" if unknown else f"{', '.join(twice)} stands twice"
        raise UserError(f"custom: {wrong if place else 'no source'}; expected {_EXPECTED}")
    described = _Described(place, {**_OPTIONS, **dict(given)}, [value for name, value in given if name == "where"])
    return place, described.benchmark()


class _Described:
    """A set as its source describes it."""

    def __init__(self, place: str, option: dict[str, str], where: list[str]) -> None:
        self.place, self.option = place, option
        if option["kind"] not in _KINDS:
            raise UserError(f"custom: kind={option['kind']!r} is unknown; known: {', '.join(_KINDS)}")
        self.absolute, self.relative = (_tolerance(name, option[name]) for name in ("absolute", "relative"))
        self.columns = _FIELD.findall(option["problem"])
        if not self.columns:
            self.columns, self.template = [option["problem"]], f"{{{option['problem']}}}"
        else:
            self.template = option["problem"]
        self.where = [one.partition(":")[::2] for one in where]
        if not all(":" in one and column for one, (column, _) in zip(where, self.where, strict=True)):
            raise UserError(f"custom: where={where[0]!r}: expected where=COLUMN:VALUE, such as where=source:HMMT")
        self.other: dict[str, set[str]] = defaultdict(set)  # values of a filter's column that were left out
        self.lengths: dict[str, list[int]] = defaultdict(list)
        self.solved: Counter[str] = Counter()

    def benchmark(self) -> Benchmark:
        kind = self.option["kind"]
        graded = "".join(
            f"&{name}={self.option[name]}" for name in ("absolute", "relative") if float(self.option[name])
        )
        label = "".join(f"-{re.sub(r'[^A-Za-z0-9_.]+', '-', value)}" for _, value in self.where)
        return Benchmark(
            "custom", 1, "", 0, self.read, asks=kind, grade=_grade, configure=_configure, finish=self.finish,
            described=graded, label=label,
        )  # fmt: skip

    def read(self, row: dict[str, Any], line: int) -> Row | None:
        for column, wanted in self.where:
            if not _says(row[column], wanted):
                if len(self.other[column]) <= _VALUES:
                    self.other[column].add(str(row[column])[:40])
                return None
        answer = row[self.option["answer"]]
        several = isinstance(answer, list)
        gold = ", ".join(map(_text, answer)) if several else _text(answer)
        name = _text(row[self.option["id"]]) if self.option["id"] else f"custom/{line}"
        problem = _FIELD.sub(lambda field: _text(row[field[1]]), self.template)
        if len(self.columns) > 1:
            problem = problem.strip()
        self._beside(row, gold)
        told: dict[str, Any] = {"several": several, "last_number": self.option["kind"] == "number"}
        if self.absolute or self.relative:
            told["tolerance"] = max(self.absolute, self.relative * (0.0 if several else _size(gold)))
        return Row(name, problem, gold, told)

    def finish(self, rows: list[Row]) -> list[Row]:
        """One row a problem, and a word about what looks wrong."""
        if not rows and self.other:
            column, values = next(iter(self.other.items()))
            wanted = "&".join(f"where={column}:{value}" for column, value in self.where)
            some = ", ".join(sorted(values)[:_VALUES]) + (", …" if len(values) > _VALUES else "")
            raise UserError(f"custom: no row of {self.place} has {wanted}; values of {column}: {some}")
        kept: dict[str, Row] = {}
        names: dict[str, str] = {}
        for row in rows:
            first = kept.setdefault(row.problem, row)
            if first.gold != row.gold:
                raise UserError(
                    f"custom: {self.place}: {first.id} and {row.id} ask the same with different answers "
                    f"({first.gold!r:.60} and {row.gold!r:.60}); keep one of them"
                )
            if names.setdefault(row.id, row.problem) != row.problem:
                raise UserError(f"custom: {self.place}: two problems are named {row.id!r:.60}; names must differ")
        if len(kept) < len(rows):
            again = len(rows) - len(kept)
            _tell(f"custom: {self.place}: {again} of {len(rows)} rows repeat a problem; each is asked once")
        if rows:
            self._look_beside([len(row.problem) for row in kept.values()])
        return list(kept.values())

    def _beside(self, row: dict[str, Any], gold: str) -> None:
        final = extract.extract(gold) or gold
        for column, value in row.items():
            if not isinstance(value, str) or column in self.columns or column == self.option["answer"]:
                continue
            self.lengths[column].append(len(value))
            marked = "\\boxed" in value or "####" in value
            self.solved[column] += marked or re.search(rf"(?<![\w.]){re.escape(final[:200])}(?!\w)", value) is not None

    def _look_beside(self, asked: list[int]) -> None:
        """Warns of a story that is left out; a solution is longer, too, but it holds the answer."""
        usual = median(asked)
        for column, lengths in self.lengths.items():
            long = median(lengths)
            solves = self.solved[column] >= 0.8 * len(lengths) or _SOLUTIONS.search(column)
            if long >= _LONGER * usual and long >= usual + _MORE and not solves and 2 * len(lengths) > len(asked):
                _tell(
                    f"custom: {self.place}: column {column} is much longer than what is asked ({long:.0f} characters "
                    f"against {usual:.0f}); if it is a part of the problem: problem={{{column}}} "
                    f"{{{'} {'.join(self.columns)}}}"
                )


def _grade(problem: Problem, response: str, truncated: bool) -> Grade:
    return grading.grade(
        response,
        problem.gold,
        truncated=truncated,
        last_number=problem.metadata["last_number"],
        several=problem.metadata["several"],
        tolerance=problem.metadata.get("tolerance", 0.0),
    )


def _tolerance(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value < math.inf:
        raise UserError(f"custom: {name}={text!r:.40}: expected a number, 0 or more, such as {name}=0.01")
    return value


def _size(gold: str) -> float:
    """How large a reference is; 0 where it is no number, and nothing but itself is right."""
    number = as_number(spelling.tidy(extract.extract(gold) or gold))
    try:
        return abs(float(number)) if number is not None else 0.0
    except OverflowError:
        return 0.0


def _says(value: Any, wanted: str) -> bool:
    if isinstance(value, list):
        return any(_says(one, wanted) for one in value)
    if isinstance(value, bool):
        return str(value).lower() == wanted.lower()
    if isinstance(value, (int, float)):
        try:
            return float(wanted) == value
        except ValueError:
            return False
    return _text(value) == wanted


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _tell(text: str) -> None:
    if text not in _told:
        _told.add(text)
        _log.warning("%s", text)


def _read(row: dict[str, Any], line: int) -> Row:
    raise AssertionError(f"row {line} is read by what the source describes: {row}")


BENCHMARK = Benchmark("custom", 1, "", 0, _read, grade=_grade, configure=_configure)
