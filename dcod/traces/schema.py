"""The trace: one prompt, one completion that a teacher wrote, and all that is known about them.

A trace set is a folder: ``traces.parquet`` (this schema, in shards), ``quarantine.parquet`` (what was refused, with
reason codes), ``sources.json`` (the files that were read) and ``manifest.json``. The schema is versioned; a reader
refuses a version it does not know.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dcod.errors import UserError
from dcod.storage import parquet

FILE = "traces.parquet"
SCHEMA_VERSION = 3
_READ = ("2", "3")  # versions; before 3 a row was one trace
OWN = "student:"  # before the name of a teacher that is the student itself
_TOKENIZER = "dcod.traces.schema.tokenizer"
_OF_SOURCE = ["source_digest", "source_file"]
_AT_ONCE = 64  # traces that become columns together
_GROUP_BYTES = 2**25  # of a row group that takes no more, before compression

Verdict = Literal["correct", "wrong", "unparseable", "unverified"]
Split = Literal["train", "selection", "pilot"]
Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": text}

SCHEMA = pa.schema(
    [
        ("trace_id", pa.string()),
        ("prompt_id", pa.string()),
        ("prompt", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("completion", pa.string()),
        ("answer", pa.string()),
        ("gold", pa.string()),
        ("verdict", pa.dictionary(pa.int8(), pa.string())),
        ("split", pa.dictionary(pa.int8(), pa.string())),
        ("teacher", pa.dictionary(pa.int32(), pa.string())),
        ("temperature", pa.float32()),
        ("top_p", pa.float32()),
        ("attempts", pa.int32()),
        ("tokenizer_digest", pa.dictionary(pa.int32(), pa.string())),
        ("token_ids", pa.list_(pa.int32())),
        ("behavior_logprobs", pa.list_(pa.float32())),
        ("top_ids", pa.list_(pa.list_(pa.int32()))),
        ("top_logprobs", pa.list_(pa.list_(pa.float32()))),
        ("source_file", pa.dictionary(pa.int32(), pa.string())),
        ("source_line", pa.int64()),
        ("source_item", pa.int32()),
        ("source_digest", pa.dictionary(pa.int32(), pa.string())),
        ("licence", pa.dictionary(pa.int32(), pa.string())),
        ("weight", pa.float32()),
    ],
    metadata={"dcod.traces.version": str(SCHEMA_VERSION)},
)
# Log-probs hardly repeat: a dictionary makes them longer than their four bytes, their bytes apart make them shorter.
_LOGPROBS = ("behavior_logprobs.list.element", "top_logprobs.list.element.list.element")
_ENCODING: dict[str, Any] = {
    "use_dictionary": [
        "prompt.list.element.role",
        "prompt.list.element.content",
        *(name for name in SCHEMA.names if name not in ("prompt", "completion", "behavior_logprobs", "top_logprobs")),
        "token_ids.list.element",
        "top_ids.list.element.list.element",
    ],
    "column_encoding": dict.fromkeys(_LOGPROBS, "BYTE_STREAM_SPLIT"),
}


@dataclass(slots=True)
class Trace:
    """One trace. Fields that are not known are None; nothing is guessed.

    Attributes:
        prompt: chat messages, the last one from the user.
        completion: what the teacher wrote, without the end-of-turn token.
        answer: the final answer found in the completion.
        gold: the reference answer of the problem.
        temperature, top_p: of the teacher's sampler; the behaviour log-probs are *after* both.
        attempts: how many completions the teacher tried for this prompt before filtering.
        token_ids: the completion as the teacher sampled it, end-of-turn included [T].
        behavior_logprobs: log mu(y_t | s_t) of the sampler, nats, aligned with ``token_ids`` [T].
        top_ids, top_logprobs: the sampler's likeliest tokens at each position and their log-probs, nats [T, <= K].
        source_line: 1-based line (or row) in ``source_file``; ``source_digest`` is that file's SHA-256.
        source_item: 1-based, of a row that gave several traces; None of any other.
        licence: of the text, as the source names it.
        weight: what the user gives the trace, above 0, for the correction `given`.
        sampled_texts: the sampled tokens of a format without ids; never stored, see dcod.traces.mapping.tokens.
        stopped_by: the stop string or stop token at which the engine ended it; never stored, likewise.
        flagged: the row's own flag that calls it wrong; empty for none. Never stored, nor are the next three.
        flags: all flags of the row's own, with their values.
        no_gold: the text that stands where a reference answer would, and says that there is none.
        left: what of the row was knowingly left out, such as log-probs of nobody knows which sampler.
    """

    prompt: list[Message]
    completion: str
    answer: str | None = None
    gold: str | None = None
    verdict: Verdict = "unverified"
    split: Split = "train"
    teacher: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    attempts: int | None = None
    tokenizer_digest: str | None = None
    token_ids: list[int] | None = None
    behavior_logprobs: list[float] | None = None
    top_ids: list[list[int]] | None = None
    top_logprobs: list[list[float]] | None = None
    source_file: str | None = None
    source_line: int | None = None
    source_item: int | None = None
    source_digest: str | None = None
    licence: str | None = None
    weight: float | None = None
    sampled_texts: list[str] | None = None
    stopped_by: str | int | None = None
    flagged: str = ""
    flags: tuple[str, ...] = ()
    no_gold: str = ""
    left: str = ""
    prompt_id: str = field(default="")
    trace_id: str = field(default="")

    def __post_init__(self) -> None:
        if not self.prompt_id:
            self.prompt_id = prompt_digest(self.prompt)
        if not self.trace_id:
            self.trace_id = _digest(self.prompt_id, self.completion, self.teacher or "")

    @property
    def own(self) -> bool:
        """Whether the student wrote it itself (`dcod teach` with ``teach.source=student``)."""
        return (self.teacher or "").startswith(OWN)

    @property
    def problem(self) -> str:
        """The text of the last user message."""
        return self.prompt[-1]["content"]


def prompt_digest(prompt: list[Message]) -> str:
    """Identity of a prompt: role and content with white space folded."""
    return _digest(*(part for m in prompt for part in (m["role"], " ".join(m["content"].split()))))


def write_traces(
    path: Path,
    traces: Iterable[Trace],
    rows_per_group: int = 4096,
    shard_bytes: int = parquet.SHARD_BYTES,
    tokenizer: str = "",
) -> int:
    """Writes a table of traces in shards; returns the number of rows. The caller makes it atomic.

    Args:
        path: of the table.
        traces: in their order.
        rows_per_group: at most.
        shard_bytes: of a shard that gets no more.
        tokenizer: the digest of the student's, for which they were ingested.
    """
    count = 0
    schema = SCHEMA.with_metadata({**(SCHEMA.metadata or {}), _TOKENIZER: tokenizer}) if tokenizer else SCHEMA
    with parquet.Writer(path, schema, shard_bytes, **_ENCODING) as writer:
        for group in _groups(traces, rows_per_group):
            writer.write(group)
            count += len(group)
    return count


def read_traces(folder: Path, rows: range | None = None) -> Iterator[Trace]:
    """Streams the traces of a trace set, or a run of them.

    Raises:
        UserError: there is no trace set, or it has another schema version.
    """
    for batch in read_batches(folder, rows):
        for row in batch.to_pylist():
            yield Trace(**row)


def read_batches(
    folder: Path, rows: range | None = None, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """As :func:`read_traces`, in Arrow's form, of all columns or of some."""
    return parquet.read(_table(folder), rows, columns)


def sources_of(folder: Path) -> dict[str, str]:
    """The files that the traces of a set came from: names by SHA-256."""
    by_digest: dict[str, str] = {}
    for batch in read_batches(folder, columns=_OF_SOURCE):
        distinct = pa.Table.from_batches([batch]).group_by(_OF_SOURCE).aggregate([])
        by_digest |= {row["source_digest"]: row["source_file"] for row in distinct.to_pylist() if row["source_digest"]}
    return by_digest


def count_traces(folder: Path) -> int:
    """How many traces there are.

    Raises:
        UserError: as :func:`read_traces`.
    """
    return parquet.count(_table(folder))


def schema_of(folder: Path) -> pa.Schema:
    """The schema of a trace set, with the tokenizer for which it was ingested."""
    return pq.read_schema(parquet.shards(_table(folder))[0])


def tokenizer_of(folder: Path) -> str:
    """The digest of the student's tokenizer for which a set was ingested; "" where it does not say."""
    return (schema_of(folder).metadata or {}).get(_TOKENIZER.encode(), b"").decode()


def check_tokenizer(folder: Path, tokenizer: str, student: str) -> None:
    """Refuses a set with token ids of the student for which it was ingested, where that is another.

    Texts serve every student, and token ids of a teacher of its own are kept for the sum of their log-probs. But ids
    that ingestion found to be the student's would quietly become such a sum.

    Args:
        folder: a trace set.
        tokenizer: the digest of the student's.
        student: its name, for the message.

    Raises:
        UserError: as said.
    """
    known = tokenizer_of(folder)
    if known in ("", tokenizer):
        return
    for batch in read_batches(folder, columns=["tokenizer_digest", "token_ids"]):
        own = pc.and_(pc.equal(batch["tokenizer_digest"].cast(pa.string()), known), pc.is_valid(batch["token_ids"]))
        if pc.any(own).as_py():
            raise UserError(
                f"{folder}: has token ids of tokenizer and template {known}, for which it was ingested; those of "
                f"{student} are {tokenizer}; ingest the sources again with student.model={student}"
            )


def _table(folder: Path) -> Path:
    """The table of a trace set, checked."""
    path = folder / FILE
    shards = parquet.shards(path)
    if not shards:
        raise UserError(f"{folder}: no {FILE} in it; make a trace set with `dcod ingest`")
    version = (pq.read_schema(shards[0]).metadata or {}).get(b"dcod.traces.version", b"?").decode()
    if version not in _READ:
        raise UserError(f"{path}: schema version {version}, this dcod reads {SCHEMA_VERSION}; ingest the sources again")
    return path


def _groups(traces: Iterable[Trace], rows: int) -> Iterator[pa.Table]:
    """Traces as row groups, of which few and then their bytes are in memory: long traces make small groups."""
    group: list[pa.Table] = []
    waiting = iter(traces)
    while some := list(islice(waiting, min(rows, _AT_ONCE))):
        columns = {name: [getattr(trace, name) for trace in some] for name in SCHEMA.names}
        group.append(pa.Table.from_pydict(columns, schema=SCHEMA))
        if sum(map(len, group)) >= rows or sum(table.nbytes for table in group) >= _GROUP_BYTES:
            yield pa.concat_tables(group).unify_dictionaries()
            group.clear()
    if group:
        yield pa.concat_tables(group).unify_dictionaries()


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]
