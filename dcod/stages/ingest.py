"""Ingest: raw rows in, verified traces out; every row is accepted or quarantined with reason, file and line.

1. read the sources row by row (dcod.sources), find each row's format (dcod.formats);
2. clean the text (dcod.cleaning), refuse empty completions and loops;
3. verify the final answer against the gold one (dcod.grading), keep what ``ingest.keep`` says;
4. drop exact duplicates, and problems that stand in a configured benchmark;
5. drop what is too long in the student's own tokens, and problems beyond ``ingest.limit``;
6. split by problem into train and selection, write traces, quarantine and counts.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from dcod import benchmarks, cleaning, formats, grading, prompts, sources, storage
from dcod.config import Config
from dcod.errors import UserError
from dcod.formats import RowError
from dcod.sources import RawRow
from dcod.traces import Trace, Verdict, write_traces
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


def source_digests(config: Config) -> dict[str, str]:
    """The content of the sources, a part of the stage's digest."""
    if not config.ingest.sources:
        raise UserError("ingest.sources is empty: name files, folders, globs, s3://… or reasoning-gym://…")
    return sources.digests(config.ingest.sources)


def run(config: Config, out: Path, log: Log, *, student: Path) -> dict[str, float]:
    """Ingests the configured sources; see the module.

    Raises:
        UserError: a source is missing or empty, the student has no tokenizer, or nothing was accepted.
    """
    known = source_digests(config)
    intake = _Intake(config, prompts.load_tokenizer(student, config.student.chat_template))
    read, accepted = 0, list[Trace]()
    quarantine: list[dict[str, Any]] = []
    for raw in sources.read_rows(config.ingest.sources, config.seed):
        read += 1
        try:
            accepted.append(intake.take(raw))
        except RowError as error:
            place = {"source_file": raw.file, "source_line": raw.line, "source_digest": raw.digest}
            quarantine.append({"reason": error.code, "message": str(error), **place, "raw": raw.raw})
    assert read == len(accepted) + len(quarantine)
    reasons = Counter(row["reason"] for row in quarantine)
    if read == 0:
        raise UserError(f"ingest.sources: no rows in {', '.join(config.ingest.sources)}")
    if not accepted:
        told = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(4))
        first = quarantine[0]
        raise UserError(
            f"ingest: none of {read} rows was accepted ({told}); the first: {first['source_file']}:"
            f"{first['source_line']}: {first['message']}"
        )
    _split(accepted, config)
    write_traces(out / "traces.parquet", accepted)
    pq.write_table(pa.Table.from_pylist(quarantine, schema=QUARANTINE), out / "quarantine.parquet", compression="zstd")
    selection = sum(trace.split == "selection" for trace in accepted)
    counts = {
        "read": read,
        "accepted": len(accepted),
        "quarantined": dict(sorted(reasons.items())),
        "train": len(accepted) - selection,
        "selection": selection,
        "problems": len({trace.prompt_id for trace in accepted}),
        "sources": known,
    }
    storage.write_json(out / "counts.json", counts)
    log.text("quarantine.txt", "".join(f"{reason} {count}\n" for reason, count in reasons.most_common()))
    plain = {name: float(counts[name]) for name in ("read", "accepted", "problems", "train", "selection")}  # type: ignore[arg-type]
    return plain | {"quarantined": float(len(quarantine))}


class _Intake:
    """What must be remembered from row to row."""

    def __init__(self, config: Config, tokenizer: PreTrainedTokenizerBase) -> None:
        self.config, self.tokenizer = config.ingest, tokenizer
        self.max_length = config.student.max_length
        self.seen: set[str] = set()
        self.problems: set[str] = set()
        self.forbidden: dict[str, str] = {}
        if config.ingest.decontaminate:
            for benchmark in config.evaluate.benchmarks:
                self.forbidden |= dict.fromkeys(benchmarks.problem_texts(benchmark), benchmarks.key(benchmark))
        self.format = None if config.ingest.format == "auto" else formats.get(config.ingest.format)

    def take(self, raw: RawRow) -> Trace:
        """One row as a trace.

        Raises:
            RowError: with the reason why it is refused.
        """
        if raw.row is None:
            raise RowError(raw.code, raw.message)
        trace = (self.format or formats.detect(raw.row)).to_trace(raw.row)
        trace.source_file, trace.source_line, trace.source_digest = raw.file, raw.line, raw.digest
        self._clean(trace)
        self._verify(trace)
        if trace.trace_id in self.seen:
            raise RowError("duplicate", "the same prompt and completion came before")
        self.seen.add(trace.trace_id)
        self._decontaminate(trace)
        self._measure(trace)
        self.problems.add(trace.prompt_id)
        if self.config.limit != "all" and len(self.problems) > self.config.limit:
            self.problems.discard(trace.prompt_id)
            raise RowError("over_limit", f"beyond the first {self.config.limit} problems (ingest.limit)")
        return trace

    def _clean(self, trace: Trace) -> None:
        if self.config.strip_calculator and trace.token_ids is None:
            trace.completion = cleaning.strip_calculator(trace.completion)
        if not trace.completion.strip():
            raise RowError("empty_completion", "the completion is empty")
        if cleaning.loops(trace.completion):
            raise RowError("repetition", "the completion ends in a loop")
        trace.trace_id = ""
        trace.__post_init__()

    def _verify(self, trace: Trace) -> None:
        if trace.gold is None or not trace.gold.strip():
            trace.answer, trace.verdict = grading.extract(trace.completion), "unverified"
            if self.config.keep == "correct":
                raise RowError("unverified", "no gold answer to check against (ingest.keep=answered takes it)")
        else:
            grade = grading.grade(trace.completion, trace.gold)
            verdicts: dict[str, Verdict] = {"correct": "correct", "wrong": "wrong", "unparseable": "unparseable"}
            trace.answer, trace.verdict = grade.answer, verdicts.get(grade.outcome, "unverified")
            if self.config.keep == "correct" and trace.verdict == "wrong":
                raise RowError("wrong_answer", f"answer {trace.answer!r}, gold {trace.gold!r}")
            if self.config.keep == "correct" and trace.verdict == "unverified":
                raise RowError("not_comparable", f"answer {trace.answer!r} could not be compared with {trace.gold!r}")
        if trace.answer is None and self.config.keep != "all":
            raise RowError("no_answer", "no final answer in the completion (boxed, #### or `the answer is`)")

    def _decontaminate(self, trace: Trace) -> None:
        # The prompt may carry an instruction after the problem, so every line-wise beginning is looked up.
        lines = trace.problem.splitlines()
        for count in range(len(lines), 0, -1):
            hit = self.forbidden.get(benchmarks.normalise_problem("\n".join(lines[:count])))
            if hit:
                raise RowError("contaminated", f"the problem stands in {hit}")

    def _measure(self, trace: Trace) -> None:
        prompt = prompts.encode_prompt(self.tokenizer, trace.prompt)
        completion = trace.token_ids or prompts.encode_completion(self.tokenizer, trace.completion)
        length = len(prompt) + len(completion)
        if length > self.max_length:
            raise RowError(
                "too_long", f"{length} tokens of the student, at most {self.max_length} (student.max_length)"
            )


def _split(traces: list[Trace], config: Config) -> None:
    """Train or selection, by a hash of the problem; at least one problem is left to train on."""
    share = config.ingest.selection_share
    for trace in traces:
        drawn = int.from_bytes(hashlib.sha256(f"split:{trace.prompt_id}".encode()).digest()[:8]) / 2**64
        trace.split = "selection" if drawn < share else "train"
    if all(trace.split == "selection" for trace in traces):
        for trace in traces:
            if trace.prompt_id == traces[0].prompt_id:
                trace.split = "train"
