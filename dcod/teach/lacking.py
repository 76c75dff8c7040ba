"""Prompts that have too few verified traces: what a teacher is asked in the midst of a run.

  * those of the trace set, where fewer than ``teach.enough`` different traces of a prompt were verified;
  * those whose every trace was refused for its answer (:data:`REFUSED`), which stand in the quarantine alone;
  * those of ``teach.prompts``.

Only prompts for training: what is held back by the hash of the problem stays so. None without a reference, since an
answer to it could not be verified; and no problem of a benchmark, whose answers ingestion would refuse.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from dcod.config import Config
from dcod.config.schema import IngestConfig
from dcod.ingest import quarantine
from dcod.ingest.assemble import side
from dcod.ingest.contamination import Contamination
from dcod.storage import parquet
from dcod.teach import questions
from dcod.teach.questions import Question
from dcod.traces import Trace, prompt_digest, read_traces
from dcod.traces.formats import RowError
from dcod.traces.items import mapped, taken
from dcod.traces.rows import RawRow

REFUSED = ("no_answer", "wrong_answer", "flagged_wrong")  # of the answer, not of the prompt


def read(traces: Path, config: Config) -> tuple[list[Question], Mapping[str, set[str]]]:
    """The questions to ask, in order, and the different correct answers that are there, by question.

    Args:
        traces: a trace set.
        config: says how many are enough; ``never`` asks nothing.

    Raises:
        UserError: a source of ``teach.prompts`` is missing or empty.
    """
    enough = config.teach.enough
    if enough == "never":
        return [], {}
    known: dict[str, Question] = {}
    good: dict[str, set[str]] = {}
    there = set[str]()
    for trace in read_traces(traces):
        there.add(trace.prompt_id)
        if trace.split != "train" or trace.gold is None:
            continue
        question = known.setdefault(trace.prompt_id, Question(trace.prompt, trace.gold))
        right = good.setdefault(question.id, set())
        if trace.verdict == "correct":
            right.add(trace.trace_id)
    known |= _without(traces, config, there)
    asked = [question for question in known.values() if len(good.get(question.id, ())) < enough]
    return asked, {question.id: good.get(question.id, set()) for question in asked}


def _without(traces: Path, config: Config, there: set[str]) -> dict[str, Question]:
    """The prompts for training of which no trace came in, by their digest."""
    asked: dict[str, Question] = {}
    for question in (*_refused(traces, config.ingest), *_given(config)):
        name = prompt_digest(question.prompt)
        if question.gold is not None and name not in there and side(name, config.ingest) == "train":
            asked.setdefault(name, question)
    if not asked or not config.ingest.decontaminate:
        return asked
    known = Contamination(config.evaluate.benchmarks)
    hits = {name: known.find(question.prompt) for name, question in asked.items()}
    return {name: question for name, question in asked.items() if (hit := hits[name]) is None or hit.kind == "ngram"}


def _refused(traces: Path, ingest: IngestConfig) -> Iterator[Question]:
    """The prompts of the quarantined rows whose answer was refused."""
    if not parquet.shards(traces / quarantine.FILE):
        return
    for row in quarantine.refused(traces, REFUSED):
        for trace in _traces(row, ingest):
            yield Question(trace.prompt, trace.gold)


def _traces(row: RawRow, ingest: IngestConfig) -> list[Trace]:
    """The traces of a row as ingestion read it; of one that gave several, the one that was refused."""
    if row.row is None:
        return []
    try:
        read = mapped(row.row, row.map) if row.map and not row.format else taken(row.row, row.format or ingest.format)
    except RowError:  # another reading is configured by now
        return []
    items = read.items[row.item - 1 : row.item] if row.item else read.items
    return [item for item in items if isinstance(item, Trace)]


def _given(config: Config) -> list[Question]:
    """The prompts that the configuration names."""
    teach = config.teach
    return questions.read(teach.prompts, teach.asks)[0] if teach.prompts else []
