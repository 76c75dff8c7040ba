"""Ingest: raw traces become verified training traces; every row is accepted or quarantined with a reason.

1. read the rows of all sources, broken ones too (dcod.sources);
2. turn each into a trace by its format (dcod.formats);
3. clean the completion: calculator marks and run-on text go, empty and looping ones are refused (dcod.cleaning);
4. verify its final answer against the problem's reference, and keep what ``ingest.keep`` says;
5. refuse exact duplicates, and problems that stand in a configured benchmark (dcod.contamination); prompts that only
   share much of their wording with one are counted, not refused;
6. refuse what does not fit into ``student.max_length`` of the student's tokens;
7. stop at ``ingest.limit`` problems: what comes after it is counted, but not examined;
8. split by problem into train and selection;
9. write traces.parquet, quarantine.parquet and counts.json, where read = accepted + quarantined.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from dcod import cleaning, formats, grading, prompts, sources, storage
from dcod.answers import extract
from dcod.config import Config, IngestConfig
from dcod.contamination import Contamination
from dcod.errors import UserError
from dcod.formats import RowError
from dcod.progress import track
from dcod.sources import RawRow
from dcod.traces import Split, Trace, Verdict, write_traces
from dcod.tracking import Log

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SECTIONS = ("student", "ingest", "evaluate")

QUARANTINE = pa.schema(
    [
        ("reason", pa.string()),
        ("message", pa.string()),
        ("source_file", pa.string()),
        ("source_line", pa.int64()),
        ("source_digest", pa.string()),
        ("raw", pa.string()),
    ]
)
_HITS = 20  # n-gram hits that are shown


def source_digests(config: Config) -> dict[str, str]:
    """What decides the content of the sources; part of the stage's digest."""
    return sources.digests(config.ingest.sources)


def run(config: Config, out: Path, log: Log, *, student: Path) -> dict[str, float]:
    """Makes a trace set; see the module.

    Args:
        config: the whole configuration.
        out: an empty folder.
        log: the counts by reason go there.
        student: the model folder, for its tokenizer.

    Raises:
        UserError: a source is missing or empty, the student has no tokenizer, or no row was accepted.
    """
    tokenizer = prompts.load_tokenizer(student, config.student.chat_template)
    digests = source_digests(config)
    rows = read(config.ingest.sources)
    try:
        with Quarantine(out / "quarantine.parquet") as quarantine:
            intake = Intake(config, tokenizer, quarantine)
            write_traces(out / "traces.parquet", split(intake.traces(rows), config.ingest.selection_share, intake))
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror or error}); choose another --out") from None
    counts = intake.counts(digests)
    assert counts["read"] == counts["accepted"] + sum(counts["quarantined"].values()), "a row was lost"
    if not counts["accepted"]:
        raise UserError(_nothing(quarantine, counts["read"]))
    storage.write_json(out / "counts.json", counts)
    log.text("quarantine.txt", "".join(f"{n} {reason}\n" for reason, n in quarantine.reasons.most_common()))
    return {
        "read": float(counts["read"]),
        "accepted": float(counts["accepted"]),
        "quarantined": float(sum(counts["quarantined"].values())),
        "problems": float(counts["problems"]),
        "train": float(counts["train"]),
        "selection": float(counts["selection"]),
    }


def read(uris: Sequence[str]) -> Iterable[RawRow]:
    """The rows of all sources, behind a progress bar.

    Raises:
        UserError: as :func:`dcod.sources.read_rows`; for an empty source before any row is read.
    """
    size = 0
    for uri in uris:
        found = sum(sources.count_rows(unit) for unit in sources.expand(uri))
        if not found:
            next(sources.read_rows(uri))  # says what is wrong
        size += found
    return track(cast(Sequence[RawRow], _Sized(size, uris)), "ingest")


class _Sized:
    """Rows with a known number of them, which is all that a progress bar asks for."""

    def __init__(self, size: int, uris: Sequence[str]) -> None:
        self.size, self.uris = size, uris

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[RawRow]:
        for uri in self.uris:
            yield from sources.read_rows(uri)


class Quarantine:
    """Refused rows, written as they come; a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reasons: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> Quarantine:
        self._writer = pq.ParquetWriter(self.path, QUARANTINE, compression="zstd")
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()

    def add(self, row: RawRow, reason: str, message: str) -> None:
        """Refuses a row."""
        self.reasons[reason] += 1
        self.examples.setdefault(reason, f"{row.file}:{row.line}: {message}")
        values = (reason, _storable(message), row.file, row.line, row.digest, _storable(row.raw))
        self._rows.append(dict(zip(QUARANTINE.names, values, strict=True)))
        if len(self._rows) >= 1024:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=QUARANTINE))
            self._rows.clear()


@dataclass
class Intake:
    """Steps 2 to 7, with the counts that they leave."""

    config: Config
    tokenizer: PreTrainedTokenizerBase
    quarantine: Quarantine
    splits: Counter[str] = field(default_factory=Counter)
    files: dict[str, Counter[str]] = field(default_factory=dict)
    problems: set[str] = field(default_factory=set)
    changes: Counter[str] = field(default_factory=Counter)
    ngrams: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ingest = self.config.ingest
        self._format = None if ingest.format == "auto" else formats.get(ingest.format)
        self._known = Contamination(self.config.evaluate.benchmarks) if ingest.decontaminate else None
        self._tokenizer_digest = prompts.tokenizer_digest(self.tokenizer)
        self._seen: set[bytes] = set()

    def traces(self, rows: Iterable[RawRow]) -> Iterator[Trace]:
        """The accepted traces, in source order; every other row goes into the quarantine."""
        for row in rows:
            count = self.files.setdefault(row.file, Counter())
            count["read"] += 1
            try:
                trace = self._examine(row)
            except RowError as error:
                count[error.code] += 1
                self.quarantine.add(row, error.code, error.message)
                continue
            count["accepted"] += 1
            yield trace

    def counts(self, digests: dict[str, str]) -> dict[str, Any]:
        """Everything counted, for counts.json."""
        return {
            "read": sum(count["read"] for count in self.files.values()),
            "accepted": sum(count["accepted"] for count in self.files.values()),
            "quarantined": dict(sorted(self.quarantine.reasons.items())),
            "train": self.splits["train"],
            "selection": self.splits["selection"],
            "problems": len(self.problems),
            "sources": digests,
            "changes": dict(sorted(self.changes.items())),
            "ngram_hits": {name: len(found) for name, found in sorted(self.ngrams.items())},
            "ngram_examples": [text for _, found in sorted(self.ngrams.items()) for text in found[:_HITS]],
            "files": {name: dict(sorted(count.items())) for name, count in self.files.items()},
        }

    def _examine(self, row: RawRow) -> Trace:
        ingest = self.config.ingest
        if row.row is None:
            raise RowError(row.error, row.message)
        chosen = formats.get(row.format) if row.format else self._format or formats.get(formats.detect(row.row))
        trace = clean(chosen.to_trace(row.row), ingest, self.changes)
        if ingest.limit != "all" and len(self.problems) >= ingest.limit and trace.prompt_id not in self.problems:
            raise RowError("over_limit", f"{ingest.limit} problems were accepted before it (ingest.limit)")
        trace = verify(trace, ingest)
        key = hashlib.sha256(f"{trace.prompt_id}{trace.completion}".encode()).digest()[:16]
        if key in self._seen:
            raise RowError("duplicate", "an earlier row has this prompt and completion")
        self._seen.add(key)
        hit = self._known.find(trace.prompt) if self._known else None
        if hit and hit.kind != "ngram":
            where = "is one of" if hit.kind == "exact" else "holds one of"
            code = "contaminated" if hit.kind == "exact" else "contaminated_inside"
            raise RowError(code, f"the prompt {where} benchmark {hit.benchmark}")
        self._fits(trace)
        if hit:
            self.ngrams.setdefault(hit.benchmark, []).append(f"{row.file}:{row.line}: {hit.problem:.80}")
        self.problems.add(trace.prompt_id)
        return replace(trace, source_file=row.file, source_line=row.line, source_digest=row.digest)

    def _fits(self, trace: Trace) -> None:
        prompt = prompts.encode_prompt(self.tokenizer, trace.prompt)
        own = trace.token_ids is not None and trace.tokenizer_digest == self._tokenizer_digest
        completion = trace.token_ids if own else prompts.encode_completion(self.tokenizer, trace.completion)
        size = len(prompt) + len(completion or ())
        if size > self.config.student.max_length:
            raise RowError("too_long", f"{size} tokens, student.max_length is {self.config.student.max_length}")


def clean(trace: Trace, ingest: IngestConfig, changes: Counter[str] | None = None) -> Trace:
    """A trace that can be stored and taught. Recorded tokens are what was sampled: their text stays as it is.

    Args:
        trace: as its format gave it.
        ingest: says whether calculator marks go.
        changes: counts what was changed, and how thoughts are marked.

    Raises:
        RowError: ``bad_encoding``, ``run_on``, ``empty_completion`` or ``repetition``.
    """
    changes = Counter() if changes is None else changes
    texts = [trace.completion, trace.gold, trace.teacher, trace.licence, trace.tokenizer_digest]
    for text in (*texts, *(message["content"] for message in trace.prompt)):
        broken = cleaning.encoding_fault(text) if text else None
        if broken:
            raise RowError("bad_encoding", broken)
    if ingest.strip_calculator and trace.token_ids is None:
        stripped = cleaning.strip_calculator(trace.completion)
        if stripped != trace.completion:
            changes["calculator"] += 1
            trace = replace(trace, completion=stripped, trace_id="")
    found = cleaning.fault(trace.completion)
    if found:
        raise RowError(*found)
    cut = cleaning.cut_run_on(trace.completion)
    if cut != trace.completion:
        if trace.token_ids is not None:
            raise RowError("run_on", f"recorded tokens run on after the answer: {trace.completion[len(cut) :]!r:.80}")
        changes["run_on"] += 1
        trace = replace(trace, completion=cut, trace_id="")
    marks = cleaning.thought(trace.completion)
    if marks:
        changes[f"thought_{marks}"] += 1
    return trace


def verify(trace: Trace, ingest: IngestConfig) -> Trace:
    """A trace with its answer and verdict, if ``ingest.keep`` wants it.

    Raises:
        RowError: ``no_answer``, ``wrong_answer`` or ``unverified``.
    """
    if trace.gold is None:
        answer, outcome = extract(trace.completion), "unverified"
    else:
        grade = grading.grade(trace.completion, trace.gold, last_number=False)
        answer, outcome = grade.answer, "unverified" if grade.outcome == "error" else grade.outcome
    if answer is None and ingest.keep != "all":
        raise RowError("no_answer", "no final answer was found: no \\boxed, no ####, no 'the answer is'")
    if outcome == "wrong" and ingest.keep == "correct":
        raise RowError("wrong_answer", f"the answer {answer!r:.80} is not the reference {trace.gold!r:.80}")
    if outcome == "unverified" and ingest.keep == "correct":
        why = "there is no reference answer" if trace.gold is None else "the answers could not be compared"
        raise RowError("unverified", f"{why}; ingest.keep=answered takes such traces")
    return replace(trace, answer=answer, verdict=cast(Verdict, outcome))


def split(traces: Iterable[Trace], share: float, intake: Intake) -> Iterator[Trace]:
    """Traces with their split, a hash of the problem; the first problem is for training if no other is."""
    waiting: list[Trace] = []
    for trace in traces:
        side: Split = "selection" if int(trace.prompt_id, 16) / 16 ** len(trace.prompt_id) < share else "train"
        waiting.append(replace(trace, split=side))
        if side == "train" or intake.splits["train"]:
            yield from _counted(waiting, intake)
    if waiting:
        first = waiting[0].prompt_id
        waiting = [replace(trace, split="train" if trace.prompt_id == first else "selection") for trace in waiting]
    yield from _counted(waiting, intake)


def _counted(traces: list[Trace], intake: Intake) -> Iterator[Trace]:
    while traces:
        trace = traces.pop(0)
        intake.splits[trace.split] += 1
        yield trace


def _nothing(quarantine: Quarantine, size: int) -> str:
    top = quarantine.reasons.most_common(3)
    reasons = "; ".join(f"{n} {reason} ({quarantine.examples[reason]})" for reason, n in top)
    return f"ingest: none of {size} rows was accepted: {reasons}"


def _storable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
