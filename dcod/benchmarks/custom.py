r"""A set of your own, described by a mapping: in the configuration (``map``), or, where that is short, by its source.

``problems.jsonl?problem=question&answer=gold&kind=number``: a path or s3:// address of a file, then what is not as
expected, written as in a web address (``%26`` for ``&``, ``%2B`` for ``+``):

``problem``   a column, a path as in a mapping (``turns[0].content``), or a template: ``problem={Body} {Question}``;
              default ``problem``
``answer``    that of the reference: an answer, a worked solution that marks it (``\boxed``, ``####``), or a
              list, which asks for all its members; default ``answer``
``id``        that of a name; default the number of the row
``kind``      how to ask and grade: ``boxed`` (default), ``number`` (``#### 5``, and a bare last number counts), or
              ``as_is``: no words are added to the problem, and a bare last number counts
``where``     ``source:HMMT``: only rows whose column says so, or whose list holds it; of several, all must hold
``absolute``, ``relative``   how far a number may lie from the reference, or from it as a share of it

``map`` says the same with the values of a mapping (dcod.config.mapping). Rows with the same problem and the same answer
are one problem, so a file of several responses each describes its set.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence, Set
from dataclasses import replace
from statistics import median
from typing import Any
from urllib.parse import parse_qsl

from dcod import grading
from dcod.benchmarks._types import Benchmark, Problem, Row
from dcod.config import BenchmarkConfig
from dcod.config.mapping import ProblemMap, Template, Value
from dcod.errors import UserError
from dcod.grading import Grade, extract, spelling
from dcod.grading.quantities import as_number
from dcod.traces.mapping import checking, paths, values
from dcod.traces.mapping.paths import MissingError
from dcod.traces.mapping.values import Mapped
from dcod.traces.prompts import INSTRUCTIONS
from dcod.traces.refusals import RowError

_OPTIONS = ("problem", "answer", "id", "kind", "where", "absolute", "relative")
_EXPECTED = (
    "path?problem=PATH&answer=PATH&id=PATH&kind=boxed|number|as_is&where=PATH:VALUE&absolute=NUMBER&relative=NUMBER; "
    "several columns: problem={Body} {Question}; more in `map`"
)
_HOLE = re.compile(r"\{([^{}]+)\}")
_SOLUTIONS = re.compile(
    r"solution|answer|rationale|explan|reason|respon|complet|generat|cot|thought|output|proof|code|program",
    re.IGNORECASE,
)
_LONGER, _MORE = 1.5, 40  # times, and characters, by which a column beside the problem is much longer
_VALUES = 10  # of a column that are named
_log = logging.getLogger(__name__)
_told = set[str]()


def _configure(config: BenchmarkConfig) -> tuple[str, Benchmark]:
    place, mark, query = config.source.partition("?")
    if not place:
        raise UserError(f"custom: no source; expected {_EXPECTED}")
    if not mark:
        where = [list(one.items()) for one in config.map.where]
        return place, _Described(place, config.map, where, written=False).benchmark()
    if config.map != ProblemMap():
        raise UserError(f"custom: {place}: what is read stands in its address and in `map`; say all of it in `map`")
    return place, _Described(place, *_of_query(query), written=True).benchmark()


Where = list[list[tuple[str, str | bool | int | float]]]  # all of one of these


def _of_query(query: str) -> tuple[ProblemMap, Where]:
    """What an address says."""
    given = parse_qsl(query, keep_blank_values=True)
    names = [name for name, _ in given if name != "where"]
    unknown = sorted(set(names) - set(_OPTIONS))
    twice = sorted({name for name in names if names.count(name) > 1})
    if unknown or twice:
        wrong = f"unknown option {', '.join(unknown)}" if unknown else f"{', '.join(twice)} stands twice"
        raise UserError(f"custom: {wrong}; expected {_EXPECTED}")
    option: dict[str, Any] = {name: value for name, value in given if name != "where"}
    if option.get("kind", "boxed") not in INSTRUCTIONS:
        raise UserError(f"custom: kind={option['kind']!r} is unknown; known: {', '.join(INSTRUCTIONS)}")
    for name in ("absolute", "relative"):
        option[name] = _tolerance(name, option.get(name, "0"))
    where = [(column, value) for name, text in given if name == "where" for column, value in [_filter(text)]]
    for name in ("problem", "answer"):
        if "{" in option.get(name, "") and not _HOLE.fullmatch(option[name]):
            option[name] = {"text": option[name]}
        elif hole := _HOLE.fullmatch(option.get(name, "")):
            option[name] = hole[1]
    return ProblemMap.model_validate(option), [list(where)] if where else []


def _filter(text: str) -> tuple[str, str]:
    column, mark, value = text.partition(":")
    if not (mark and column):
        raise UserError(f"custom: where={text!r}: expected where=COLUMN:VALUE, such as where=source:HMMT")
    return column, value


class _Described:
    """A set as its source or its mapping describes it."""

    def __init__(self, place: str, chosen: ProblemMap, where: Where, *, written: bool) -> None:
        """Begins with what is described.

        Args:
            place: of the rows.
            chosen: what of a row is what.
            where: which rows are taken.
            written: in an address, where the name of a column is no path, whatever signs stand in it.
        """
        self.place, self.chosen, self.where, self.written = place, chosen, where, written
        if not written:
            self._check_paths()
        self.other: dict[str, set[str]] = defaultdict(set)  # values of a filter's column that were left out
        self.lengths: dict[str, list[int]] = defaultdict(list)
        self.solved: Counter[str] = Counter()

    def benchmark(self) -> Benchmark:
        chosen = self.chosen
        graded = "".join(f"&{name}={value}" for name in ("absolute", "relative") if (value := getattr(chosen, name)))
        said = [_scalar(value) for one in self.where for _, value in one]
        label = "".join(f"-{re.sub(r'[^A-Za-z0-9_.]+', '-', value)}" for value in said)
        return Benchmark(
            "custom", 1, "", 0, self.read, asks=chosen.kind, grade=_grade, configure=_configure, finish=self.finish,
            begin=self.begin, join=next(iter(chosen.join), None), described=graded, label=label,
        )  # fmt: skip

    def _check_paths(self) -> None:
        for name, texts in values.paths_of(self.chosen).items():
            for text in texts:
                try:
                    paths.parse(text)
                except UserError as error:
                    raise UserError(f"custom: {self.place}: {name}: {error}") from None

    def begin(self, rows: Sequence[dict[str, Any]]) -> None:
        """Whether the paths fit the set at all, by its first rows."""
        if self.written:
            self._quote({column for row in rows for column in row})
            self._check_paths()
        named = f"custom: {self.place}"
        for text in (text for one in self.where for text, _ in one):
            if checking.lacks(text, rows):
                raise UserError(f"{named}: where: no row has {text!r}{checking.near(text, rows)}")
        asked = [row for line, row in enumerate(rows, 1) if self._asked(row, line)]
        checking.check(named, self.chosen, asked, but=("where",))

    def _quote(self, columns: Set[str]) -> None:
        """The names of columns in an address as paths of one step."""

        def quoted(text: str) -> str:
            return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"' if text in columns else text

        new: dict[str, Value] = {}
        for name in ("problem", "answer", "id"):
            said = getattr(self.chosen, name)
            if isinstance(said, Template):
                new[name] = Template(text=_HOLE.sub(lambda hole: f"{{{quoted(hole[1])}}}", said.text))
            elif said:
                new[name] = quoted(said)
        self.chosen = self.chosen.model_copy(update=new)
        self.where = [[(quoted(text), value) for text, value in one] for one in self.where]

    def _asked(self, row: dict[str, Any], line: int) -> bool:
        """Whether the set has a row."""
        one = Mapped(row, self.chosen)
        try:
            return not self.where or any(all(self._holds(one, *pair) for pair in some) for some in self.where)
        except MissingError as error:
            raise UserError(f"custom: {self.place}:{line}: where: {error}") from None

    def _holds(self, one: Mapped[ProblemMap], text: str, wanted: Any) -> bool:
        value = one.all(text) if paths.parse(text).stars else one.at(text)
        if says := _says(value, _scalar(wanted)):
            return says
        if len(self.other[text]) <= _VALUES:
            self.other[text].add(str(value)[:40])
        return False

    def read(self, row: dict[str, Any], line: int) -> list[Row]:
        if not self._asked(row, line):
            return []
        lead = values.starred(_leads(self.chosen.problem))
        places = values.places(row, lead)
        if not places or len(places) > paths.MOST:
            raise RowError("no_path", f"problem: {len(places)} items at {lead}, from 1 to {paths.MOST} are read")
        problems = [self._problem(Mapped(row, self.chosen, place), line) for place in places]
        if len(problems) > 1 and not any(paths.parse(text).stars for text in values.texts_of(self.chosen.id)):
            problems = [replace(one, id=f"{one.id}.{number}") for number, one in enumerate(problems, 1)]
        self._beside(row, problems[0].gold)
        return problems

    def _problem(self, one: Mapped[ProblemMap], line: int) -> Row:
        chosen = one.chosen
        answer = _answer(one)
        several = isinstance(answer, list)
        gold = ", ".join(map(_text, answer)) if several else _text(answer)
        told: dict[str, Any] = {"several": several, "last_number": chosen.kind != "boxed"}
        if chosen.absolute or chosen.relative:
            told["tolerance"] = max(chosen.absolute, chosen.relative * (0.0 if several else _size(gold)))
        return Row(one.text("id") if chosen.id else f"custom/{line}", one.text("problem"), gold, told)

    def finish(self, rows: list[Row]) -> list[Row]:
        """One row a problem, and a word about what looks wrong."""
        if not rows and self.other:
            column, others = next(iter(self.other.items()))
            wanted = " or ".join("&".join(f"where={_bare(c)}:{_scalar(v)}" for c, v in one) for one in self.where)
            some = ", ".join(sorted(others)[:_VALUES]) + (", …" if len(others) > _VALUES else "")
            raise UserError(f"custom: no row of {self.place} has {wanted}; values of {_bare(column)}: {some}")
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
        used = {paths.parse(text).column for name in ("problem", "answer") for text in self._texts(name)}
        for column, value in row.items():
            if not isinstance(value, str) or column in used:
                continue
            self.lengths[column].append(len(value))
            marked = "\\boxed" in value or "####" in value
            self.solved[column] += marked or re.search(rf"(?<![\w.]){re.escape(final[:200])}(?!\w)", value) is not None

    def _look_beside(self, asked: list[int]) -> None:
        """Warns of a story that is left out; a solution is longer, too, but it holds the answer."""
        usual = median(asked)
        template = self.chosen.problem.text if isinstance(self.chosen.problem, Template) else ""
        now = template or " ".join(f"{{{text}}}" for text in self._texts("problem"))
        now = _HOLE.sub(lambda hole: f"{{{_bare(hole[1])}}}", now)
        for column, lengths in self.lengths.items():
            long = median(lengths)
            solves = self.solved[column] >= 0.8 * len(lengths) or _SOLUTIONS.search(column)
            if long >= _LONGER * usual and long >= usual + _MORE and not solves and 2 * len(lengths) > len(asked):
                _tell(
                    f"custom: {self.place}: column {column} is much longer than what is asked ({long:.0f} characters "
                    f"against {usual:.0f}); if it is a part of the problem: problem={{{column}}} {now}"
                )

    def _texts(self, name: str) -> list[str]:
        return values.texts_of(getattr(self.chosen, name))


def _leads(problem: Value) -> list[str]:
    """The paths whose stars make several problems of a row; of a template those without a form."""
    if isinstance(problem, Template):
        return [path for path, form in values.holes(problem) if not form]
    return values.texts_of(problem) if isinstance(problem, (str, list)) else []


def _answer(one: Mapped[ProblemMap]) -> Any:
    """The reference as it stands; a list where it is one, or where its path finds several.

    Raises:
        RowError: it is none.
    """
    said = one.chosen.answer
    if isinstance(said, str) and paths.parse(said).stars > len(one.place):
        try:
            answer: Any = one.all(said)
        except MissingError as error:
            raise RowError("no_path", f"answer: {error}") from None
    else:
        answer = one.value("answer")
    parts = answer if isinstance(answer, list) else [answer]
    if wrong := next((part for part in parts if isinstance(part, (dict, list))), None):
        named = ", ".join(values.texts_of(said))
        raise RowError("bad_field", f"answer: {named}: expected text or a number, got {wrong!r:.60}")
    return answer


def _bare(text: str) -> str:
    """A path as it may be written in an address: the name of a column without its quotes."""
    steps = paths.parse(text).steps
    return steps[0].key if len(steps) == 1 and text.startswith('"') else text


def _scalar(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


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
