"""Benchmarks found by name, and their problems, read and split.

A problem's split is a hash of its text: ``gate`` problems decide about promotion, ``report`` problems are only
reported, and the split does not move when the set grows.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from importlib import metadata
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from dcod import grading, storage
from dcod.benchmarks._types import SAMPLED, Benchmark, Problem, Row, SamplingPlan
from dcod.config import BenchmarkConfig
from dcod.config.mapping import JoinConfig
from dcod.errors import UserError, one_line
from dcod.grading import Grade
from dcod.traces import reading, sources, synthetic
from dcod.traces.bounded import LONGEST
from dcod.traces.mapping import joining
from dcod.traces.prompts import INSTRUCTIONS, prompt_for
from dcod.traces.reading import BLOCK_ROWS
from dcod.traces.refusals import RowError
from dcod.traces.rows import Block

GRADERS = ("math-verify", "latex2sympy2_extended", "sympy")  # their versions are part of every fingerprint
_READ = (
    "Parquet (.parquet) and JSON Lines, one object a line (.jsonl, .json, .ndjson), or one list of them (.json), also "
    "packed with gzip or zstd"
)
_LONG = ("row_too_long", "row_too_complex")  # sound perhaps, but beyond the limits of docs/traces.md
_JOINED = ("no_match", "joins_twice")
_EXAMPLES = {"reasoning_gym": ", such as reasoning-gym://chain_sum?problems=100&seed=1"}


def names() -> list[str]:
    """All benchmarks, sorted."""
    return sorted(
        module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]) if not module.name.startswith("_")
    )


def get(name: str) -> Benchmark:
    """A benchmark by name.

    Raises:
        UserError: there is none of that name.
    """
    if name not in names():
        raise UserError(f"evaluate.benchmarks: {name!r} is unknown; known: {', '.join(names())}")
    benchmark: Benchmark = importlib.import_module(f"dcod.benchmarks.{name}").BENCHMARK
    return benchmark


def key(config: BenchmarkConfig) -> str:
    """A readable name of a configured benchmark, such as ``reasoning_gym:chain_sum`` or ``custom:my-problems``."""
    if synthetic.is_synthetic(config.source):
        return f"{config.name}:{synthetic.parse(config.source).task}"
    if get(config.name).configure is None:
        return config.name
    benchmark, source = _configured(config)
    return f"{config.name}:{Path(source).stem}{benchmark.label}"


def load(config: BenchmarkConfig, report_share: float) -> list[Problem]:
    """The problems of a configured benchmark, each with its split.

    Raises:
        UserError: the source is missing or broken, or has another number of rows than the published set.
    """
    benchmark, rows = _rows(config)
    return [
        Problem(
            id=row.id,
            prompt=prompt_for(benchmark.asks, row.problem),
            gold=row.gold,
            split=split(row.problem, report_share),
            metadata=row.metadata,
            text=row.problem,
        )
        for row in rows
    ]


def grade_all(config: BenchmarkConfig, answers: Sequence[tuple[Problem, str, bool]]) -> list[Grade]:
    """Grades (problem, response, truncated) triples, in order, on all processors."""
    grade = _configured(config)[0].grade
    return grading.in_parallel(lambda answer: grade(*answer), answers)


def plan(config: BenchmarkConfig) -> SamplingPlan:
    """How a configured benchmark is sampled: what is said wins, then the benchmark's own plan."""
    own = get(config.name).plan
    samples = config.samples
    if samples == "auto":
        samples = 1 if config.temperature == 0.0 else own.samples
    temperature = config.temperature
    if temperature == "auto":
        temperature = 0.0 if samples == 1 else own.temperature or SAMPLED[0]
    top_p = config.top_p
    if top_p == "auto":
        top_p = SAMPLED[1] if temperature else 1.0
    limit = own.max_new_tokens if config.max_new_tokens == "auto" else config.max_new_tokens
    return SamplingPlan(samples, temperature, top_p, limit)


def fingerprint(config: BenchmarkConfig, evaluator: Mapping[str, Any] | None = None) -> str:
    """Identity of an evaluation: results of different fingerprints are never compared.

    It covers the versions of benchmark, grader and the libraries that compare, instruction, sampling, the rows, and
    what ran the model.

    Args:
        config: the benchmark.
        evaluator: engine with its versions, chat template, precision and seed.
    """
    benchmark, rows = _rows(config)
    libraries = [*GRADERS, *(["reasoning-gym"] if synthetic.is_synthetic(config.source) else []), *benchmark.libraries]
    sampling = plan(config)
    decides = {
        "benchmark": [benchmark.name, benchmark.version, grading.VERSION, INSTRUCTIONS[benchmark.asks]],
        "libraries": [[name, metadata.version(name)] for name in libraries],
        "sampling": [sampling.samples, sampling.temperature, sampling.top_p, sampling.max_new_tokens],
        "evaluator": dict(evaluator or {}),
        "rows": [[row.id, row.problem, row.gold] for row in rows],
    } | ({"described": benchmark.described} if benchmark.described else {})
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def normalise_problem(text: str) -> str:
    """A problem's text for exact matching: case folded, all white space removed."""
    return "".join(text.casefold().split())


def split(problem: str, report_share: float) -> Literal["gate", "report"]:
    """Whether the gate decides by a problem, or it is only reported: by a hash of its text."""
    digest = hashlib.sha256(normalise_problem(problem).encode()).digest()
    return "report" if int.from_bytes(digest[:8]) / 2**64 < report_share else "gate"


def problem_texts(config: BenchmarkConfig) -> set[str]:
    """The texts of all problems of a benchmark's source, for decontamination."""
    return {row.problem for row in _rows(config.model_copy(update={"limit": "all"}))[1]}


def _configured(config: BenchmarkConfig) -> tuple[Benchmark, str]:
    """The benchmark and the place of its rows."""
    benchmark = get(config.name)
    if benchmark.configure is None:
        return benchmark, config.source
    source, benchmark = benchmark.configure(config)
    return benchmark, source


def _rows(config: BenchmarkConfig) -> tuple[Benchmark, list[Row]]:
    benchmark, source = _configured(config)
    count = None if config.limit == "all" else config.limit
    if synthetic.is_synthetic(source):
        generated = synthetic.problems(source)[:count]
        return benchmark, [Row(p.id, p.question, p.answer, {"problem": p, "source": source}) for p in generated]
    rows = list[Row]()
    objects = iter(_objects(benchmark, source, config.revision))
    first = list(islice(objects, BLOCK_ROWS))
    if benchmark.begin is not None:
        benchmark.begin(first)
    for line, row in enumerate(chain(first, objects), start=1):
        try:
            read = benchmark.read(row, line)
        except RowError as error:
            raise UserError(f"{benchmark.name}: {source}:{line}: {one_line(error.message)}") from None
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"{benchmark.name}: {source}:{line} is not a row of this set ({type(error).__name__}: "
                f"{one_line(error)[:200]}); its columns: {one_line(', '.join(row))[:500]}"
            ) from None
        for one in read if isinstance(read, list) else [read] if read else []:
            if not one.gold.strip() or not one.problem.strip():
                raise UserError(f"{benchmark.name}: {source}:{line} has an empty problem or answer; remove the row")
            if (size := len(one.problem) + len(one.gold)) > LONGEST:
                raise UserError(f"{benchmark.name}: {source}:{line} has {size} characters, at most {LONGEST} are read")
            rows.append(one)
    if benchmark.finish is not None:
        rows = benchmark.finish(rows)
    if benchmark.rows and len(rows) != benchmark.rows:
        part = "limit takes" if count else "take"
        raise UserError(
            f"{benchmark.name}: {source or benchmark.default_source} has {len(rows)} rows, the published set "
            f"{benchmark.rows}; {part} part of the whole set{'' if count else ' with limit'}; a file that "
            "holds a part of it, or other problems, is read by the benchmark custom"
        )
    return benchmark, rows[:count]


def _objects(benchmark: Benchmark, source: str, revision: str) -> Iterable[dict[str, Any]]:
    if not source:
        return _from_hub(benchmark, revision)
    path = storage.fetch(source)
    if path.is_dir():
        raise UserError(f"{benchmark.name}: {source} is a folder; name its JSON Lines or Parquet file")
    return objects(path, benchmark.join)


def objects(path: Path, join: JoinConfig | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file (``.parquet``), or of one of JSON Lines, whatever its ending.

    The reader and its limits are those of ingestion (:mod:`dcod.traces.reading`); a row that it refuses is an error
    here: a benchmark that lacks a row is another benchmark.

    Args:
        path: of the file.
        join: a second one, whose rows stand beside its own.

    Raises:
        UserError: it is none, or cannot be read.
    """
    if why := sources.odd(path):
        raise UserError(f"{path}: {why}")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    return _sound(path, join)


def _sound(path: Path, join: JoinConfig | None) -> Iterator[dict[str, Any]]:
    with ExitStack() as stack:
        partner = stack.enter_context(joining.joined(join)) if join else None
        for block in _blocks(path):
            for row in (partner.block(block) if partner else block).rows():
                if row.row is None:
                    if row.error in _JOINED:
                        raise UserError(f"{path}:{row.line}: {row.message}")
                    kind = "a Parquet file" if path.suffix == ".parquet" else "a JSON object"
                    what = row.message if row.error in _LONG else f"not {kind} ({row.message})"
                    raise UserError(f"{path}:{row.line}: {what}; read are {_READ}")
                yield row.row


def _blocks(path: Path) -> Iterator[Block]:
    try:
        yield from reading.blocks(path, str(path), "")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check who may read it") from None


def _from_hub(benchmark: Benchmark, revision: str) -> Iterable[dict[str, Any]]:
    if not benchmark.default_source:
        raise UserError(f"{benchmark.name}: needs a source: a path or s3:// address{_EXAMPLES.get(benchmark.name, '')}")
    from datasets import load_dataset

    name, _, split = benchmark.default_source.partition("@")
    name, _, subset = name.partition("#")
    try:
        return list(load_dataset(name, *([subset] if subset else []), split=split or "test", revision=revision))
    except Exception as error:  # the hub's errors have no common base
        raise UserError(
            f"{benchmark.name}: the hub set {name} ({revision}) cannot be read: {type(error).__name__}; "
            "give a source file"
        ) from None
