"""Scoring in parts: runs of traces that are scored and kept on their own, so that a killed run goes on.

A part is sorted by length within itself: which process scores it, and in which attempt, changes nothing in it.
Several processes score several parts at once, each with a GPU of its own or with its share of the threads.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dcod import storage
from dcod.config import Config
from dcod.engines.transformers import TransformersEngine
from dcod.errors import UserError
from dcod.models import fitting, loading
from dcod.objective.price import Speed
from dcod.progress import track
from dcod.score import fields
from dcod.score.scores import write_scores
from dcod.storage import parts
from dcod.storage import workers as processes
from dcod.traces import Trace, prompts, read_traces
from dcod.traces.scored import ScoredTrace
from dcod.train.checkpoints import Checkpoints

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FILE, _PART = "scores.parquet", "part-"


class Parts:
    """Scored parts by number, each whole or absent, in a folder or under an s3:// prefix of this scoring alone."""

    def __init__(self, uri: str) -> None:
        self._parts = parts.Parts(uri, mark=_FILE)

    def done(self) -> set[int]:
        """The parts that are there."""
        return {int(name.removeprefix(_PART)) for name in self._parts.names() if name.startswith(_PART)}

    def put(self, number: int, examples: Sequence[ScoredTrace], splits: Sequence[str]) -> None:
        """Keeps a part."""
        with self._parts.put(f"{_PART}{number:08d}") as folder:
            write_scores(folder / _FILE, examples, splits)

    @contextmanager
    def file(self, number: int) -> Iterator[Path]:
        """The file of a part, to be read; none of a bucket stays in the cache."""
        with storage.scratch() as scratch:
            yield self._parts.get(f"{_PART}{number:08d}/{_FILE}", scratch)

    def clear(self) -> None:
        """Forgets the scoring: its output is kept elsewhere now."""
        for left in Path(self._parts.uri).glob(".part-????????.*"):  # by earlier versions, killed in the middle
            shutil.rmtree(left, ignore_errors=True)
        self._parts.clear()


@dataclass(frozen=True)
class Kept:
    """Where a preparation of a training keeps what is done, beside the checkpoints of that training.

    Attributes:
        uri: of those checkpoints.
        keep: how many.
        kind: of the preparation.
    """

    uri: str
    keep: int
    kind: str

    @property
    def parts(self) -> Parts:
        """The scored parts."""
        return Parts(f"{self.uri}-{self.kind}")

    def checkpoints(self, number: int) -> Checkpoints:
        """Of one of its students."""
        return Checkpoints(f"{self.uri}-{self.kind}-{number}", self.keep)

    def clear(self) -> None:
        """Forgets all of it."""
        for each in (self.parts, self.checkpoints(0), self.checkpoints(1)):
            each.clear()


@dataclass(frozen=True)
class Job:
    """What a process needs to score any part."""

    config: Config
    traces: Path
    student: Path
    parts: Parts


class Scorer:
    """One process's model, which scores the parts it is given."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.tokenizer = prompts.of_student(job.student, job.config.student)
        self.digest = prompts.tokenizer_digest(self.tokenizer)
        self.engine = TransformersEngine(job.student, self.tokenizer, job.config.student.dtype)

    @property
    def facts(self) -> dict[str, Any]:
        """How the student was run; see :mod:`dcod.models.selfcheck`. And how fast it was read, as far as it was."""
        facts = {**self.engine.reading.facts(), "layout": self.engine.layout}
        if self.engine.read:
            facts["speed"] = asdict(Speed(self.engine.read, self.engine.seconds, loading.device_name()))
        return facts

    def score(self, number: int) -> None:
        """Scores a part and keeps it."""
        section = self.job.config.score
        rows = range(number * section.checkpoints.every, (number + 1) * section.checkpoints.every)
        traces = list(read_traces(self.job.traces, rows))
        examples = [in_tokens(trace, self.tokenizer, self.digest) for trace in traces]
        longest = max(examples, key=len)
        where = f"score: trace {longest.trace_id} of {self.job.traces}"
        fitting.check_room(self.job.student, len(longest), where, "ingest the traces with a lower student.max_length")
        fields.annotate(self.engine, examples, section, fields.asked(self.job.config))
        self.job.parts.put(number, examples, [trace.split for trace in traces])


def score_parts(job: Job, numbers: Sequence[int]) -> dict[str, Any]:
    """Scores the parts with as many processes as are configured; returns how the student was run."""
    asked = job.config.score.workers
    workers = min(max(1, torch.cuda.device_count()) if asked == "auto" else asked, len(numbers))
    if workers <= 1:
        scorer = Scorer(job)  # also where earlier attempts have scored all: the output says how the student is run
        for number in track(numbers, "score"):
            scorer.score(number)
        return scorer.facts
    threads = max(1, torch.get_num_threads() // workers)
    facts: dict[str, Any] = {}
    with processes.pool(workers, _make, job, threads) as pool:
        try:
            for future in track([pool.submit(_score, number) for number in numbers], "score"):
                facts = future.result()
        except BrokenProcessPool:
            raise UserError(
                f"score: one of {workers} processes ended, perhaps for want of memory; lower score.workers or "
                "score.batch_tokens; the same run goes on with the parts that are left"
            ) from None
    return facts


def _make(turn: int, job: Job, threads: int) -> Scorer:
    """Makes a fresh process a scorer."""
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        torch.cuda.set_device(turn % torch.cuda.device_count())
    return Scorer(job)


def _score(scorer: Scorer, number: int) -> dict[str, Any]:
    scorer.score(number)
    return scorer.facts


def in_tokens(trace: Trace, tokenizer: PreTrainedTokenizerBase, digest: str) -> ScoredTrace:
    """A trace in the student's tokens.

    The sampler's log-probs come along token by token where the tokens are the student's own. Of another
    tokenizer only their sum does: the text is tokenised anew, which `trace` allows (docs/method.md, section 1.3).
    """
    logprobs, ids = trace.behavior_logprobs, trace.token_ids
    if logprobs is not None and ids is not None and len(logprobs) != len(ids):
        raise UserError(
            f"trace {trace.trace_id} ({trace.source_file}:{trace.source_line}): {len(logprobs)} log-probs for "
            f"{len(ids)} tokens"
        )
    own = logprobs is not None and ids is not None and trace.tokenizer_digest == digest
    return ScoredTrace(
        trace_id=trace.trace_id,
        prompt_id=trace.prompt_id,
        prompt_tokens=prompts.encode_prompt(tokenizer, trace.prompt),
        completion_tokens=ids if own and ids is not None else prompts.encode_completion(tokenizer, trace.completion),
        student_logprobs=[],
        entropies=[],
        behavior_logprobs=logprobs if own else None,
        behavior_total=None if logprobs is None else sum(logprobs),
        teacher_top_ids=trace.top_ids if own else None,
        teacher_top_logprobs=trace.top_logprobs if own else None,
        given=trace.weight,
        gold=trace.gold,
    )
