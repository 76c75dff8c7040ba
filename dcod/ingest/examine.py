"""Examines one row by itself: gives its trace, or the reason why there is none. Several processes share the rows.

1. its format makes it a trace (dcod.traces.formats);
2. the completion is cleaned (dcod.traces.cleaning), each step as ``ingest`` says;
3. its final answer is verified against the reference, and ``ingest.keep`` says what stays;
4. the problem is looked for in the configured benchmarks (``contamination``), and the student's tokens are counted.

What depends on other rows - the limit, duplicates, the split - comes after it, in order, in dcod.ingest.assemble. The
outcome is the same for any number of processes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, cast

from dcod import grading
from dcod.config import Config, IngestConfig
from dcod.errors import UserError
from dcod.grading import thoughts
from dcod.grading.extract import extract
from dcod.ingest import duplicates
from dcod.ingest.contamination import SHARE, Contamination, Hit
from dcod.models import fitting
from dcod.storage import workers as processes
from dcod.traces import Message, Trace, Verdict, cleaning, formats, prompts, said, turns
from dcod.traces.bounded import LONGEST
from dcod.traces.formats import RowError
from dcod.traces.items import Reading, Taken, mapped, taken
from dcod.traces.mapping import tokens
from dcod.traces.rows import Block, RawRow

Closed = frozenset[str] | None  # the only problems that may still come, once the limit is reached
CHARACTERS = 32  # for a token of student.max_length: a text with more is too long, and is not cut into tokens
UNREAD = Reading("")
UNMARKED: tuple[Literal["last_number", "last_math"], ...] = ("last_number", "last_math")
IN_FLIGHT = 2**27  # bytes of blocks that are handed out or wait; a longer block goes alone
_CONTAMINATED = (("contaminated_inside", "holds one of"), ("contaminated", "is one of"))  # other kinds, `exact`
_PROMPTS = 4096  # of which the tokens and the hit are remembered: traces of a problem lie together


@dataclass(slots=True)
class Examined:
    """What became of a row.

    Attributes:
        trace: None where the row was refused before its duplicates matter.
        prompt_id: of the trace; empty where the row gave none.
        refused: the step that refused it: ``row`` (1 and 2), ``verdict`` (3), ``fit`` (4); empty for none.
        code, message: its reason.
        key, signature: see dcod.ingest.duplicates.
        changes: what cleaning changed, and how an unmarked answer was found; of a row without an answer, by which
            ``ingest.answers`` it would come in.
        ngram: a benchmark, and its problem that shares much of its wording.
        tokens: of prompt and completion.
        item: which trace of its row it is, from 1; 0 of a row that is one.
        first: it is the first of its row.
        reading: how the row was read, and which columns it leaves out.
        flags: what the row says of it.
    """

    trace: Trace | None = None
    prompt_id: str = ""
    refused: Literal["", "row", "verdict", "fit"] = ""
    code: str = ""
    message: str = ""
    key: bytes = b""
    signature: bytes = b""
    changes: tuple[str, ...] = ()
    ngram: tuple[str, str] | None = None
    tokens: tuple[int, int] = (0, 0)
    item: int = 0
    first: bool = True
    reading: Reading = UNREAD
    flags: tuple[str, ...] = ()


class Examiner:
    """Examines rows, one by one; made once a process.

    Raises:
        UserError: ``ingest.format`` or a language is unknown, the student has no tokenizer, or a benchmark is missing.
    """

    def __init__(self, config: Config, student: Path) -> None:
        ingest = config.ingest
        self.config, self.student = config, student
        self.tokenizer = prompts.of_student(student, config.student)
        self.digest = prompts.tokenizer_digest(self.tokenizer)
        self._own_prompts = prompts.digest_of_own_prompts(self.tokenizer)
        self._unknown = fitting.check_student(student, self.tokenizer, config.student.max_length)
        self._vocabulary = fitting.embeddings(student) or len(self.tokenizer)
        self._marks = turns.marks_of(self.tokenizer)
        if ingest.format != "auto":
            formats.get(ingest.format)
        unknown = sorted(set(ingest.languages).difference(cleaning.languages())) if ingest.languages else []
        if unknown:
            raise UserError(
                f"ingest.languages: {', '.join(unknown)} is not known; known: {', '.join(cleaning.languages())}"
            )
        share = min(SHARE, ingest.ngram_share or SHARE)
        self._known = Contamination(config.evaluate.benchmarks, share) if ingest.decontaminate else None
        self._of_prompt = lru_cache(_PROMPTS)(self._prompt)

    def block(self, block: Block, closed: Closed = None) -> list[Examined]:
        """Examines the rows of a block, in order; a row of several traces gives as many."""
        return [item for row in block.rows() for item in self.items(row, closed)]

    def row(self, row: RawRow, closed: Closed = None) -> Examined:
        """Examines a row of one trace."""
        return self.items(row, closed)[0]

    def items(self, row: RawRow, closed: Closed = None) -> list[Examined]:
        """Examines the traces of a row; a problem that can no longer come is not looked at any further."""
        try:
            read = self._read(row)
        except RowError as error:
            return [Examined(refused="row", code=error.code, message=error.message, item=row.item)]
        several = len(read.items) > 1
        outcomes = list[Examined]()
        for number, item in enumerate(read.items, 1):
            if row.item in (0, number):
                one = self._item(row, item, number if several else None, len(read.items), closed)
                one.item, one.first, one.reading = number if several else 0, not outcomes, read.reading
                one.flags = item.flags if isinstance(item, Trace) else ()
                outcomes.append(one)
        return outcomes

    def _read(self, row: RawRow) -> Taken:
        if row.row is None:
            raise RowError(row.error, row.message)
        if row.map and not row.format:
            read = mapped(row.row, row.map)
        else:
            read = taken(row.row, row.format or self.config.ingest.format)
        if not read.items or row.item > len(read.items):
            raise RowError("no_completion", f"the row gives {len(read.items)} traces")
        return read

    def _item(self, row: RawRow, item: Trace | RowError, number: int | None, attempts: int, closed: Closed) -> Examined:
        changes: list[str] = []
        try:
            if isinstance(item, RowError):
                raise item
            trace = self._trace(item, changes)
        except RowError as error:
            return Examined(refused="row", code=error.code, message=error.message)
        if closed is not None and trace.prompt_id not in closed:
            return Examined(prompt_id=trace.prompt_id)
        try:
            trace = verify(trace, self.config.ingest, changes)
        except RowError as error:
            unmarked = tuple(change for change in changes if change in UNMARKED)
            return Examined(
                prompt_id=trace.prompt_id, refused="verdict", code=error.code, message=error.message, changes=unmarked
            )
        trace = replace(
            trace,
            source_file=row.file,
            source_line=row.line,
            source_item=number,
            source_digest=row.digest,
            attempts=trace.attempts or (attempts if number else None),
        )
        outcome = Examined(trace, trace.prompt_id, key=duplicates.key(trace), changes=tuple(changes))
        if self.config.ingest.near_duplicates:
            outcome.signature = duplicates.signature(trace)
        try:
            self._fit(outcome, trace)
        except RowError as error:
            outcome.refused, outcome.code, outcome.message = "fit", error.code, error.message
        return outcome

    def _trace(self, trace: Trace, changes: list[str]) -> Trace:
        stop = trace.stopped_by
        self._bound(trace, max(LONGEST, CHARACTERS * self.config.student.max_length), trace.gold or "")
        trace = clean(trace, self.config.ingest, changes, self._marks)
        if trace.sampled_texts is not None:
            trace = tokens.student_tokens(trace, self.tokenizer, self.digest)
        for text in (trace.completion, *(message["content"] for message in trace.prompt)):
            if token := next((token for token in self._unknown if token in text), None):
                raise RowError("bad_field", f"{token!r} in a text: the student has no embedding for this token")
        if trace.tokenizer_digest == self._own_prompts and trace.prompt[0]["role"] == "system":
            trace = replace(trace, tokenizer_digest=self.digest)  # the same tokens, and the same in front of them
        if trace.tokenizer_digest == self.digest:
            ids = [*(trace.token_ids or ()), *(token for tokens in trace.top_ids or () for token in tokens)]
            if max(ids, default=0) >= self._vocabulary:
                raise RowError("bad_field", f"token {max(ids)}: the student's vocabulary has {self._vocabulary}")
            trace = self._whole(trace, changes)
            if trace.token_ids is not None:
                tokens.check_text(trace, self.tokenizer)
        if isinstance(stop, str) and cleaning.without_marks(f"x{stop}", self._marks) != "x":  # else it is an end itself
            changes.append("stop_string")
        if trace.left:
            changes.append("logprobs_left_out")
        return trace

    def _bound(self, trace: Trace, most: int, gold: str) -> None:
        """Refuses a trace that cannot fit, before anything looks at every part of it."""
        texts = [trace.completion, gold, *(message["content"] for message in trace.prompt)]
        size = sum(map(len, texts))
        if size > most:
            limit = f"student.max_length is {self.config.student.max_length}"
            raise RowError("too_long", f"{size} characters, at most {most} are looked at; {limit}")

    def _whole(self, trace: Trace, changes: list[str]) -> Trace:
        """A trace whose recorded tokens are one turn: what stands behind its first end goes, if it says nothing."""
        if trace.token_ids is None or trace.behavior_logprobs is None:
            return trace
        size = turns.ended(self.tokenizer, trace.token_ids)
        rest = trace.token_ids[size:]
        if not size:
            return tokens.with_end(trace, self.tokenizer)
        if not rest:
            return trace
        if str(self.tokenizer.decode(rest, skip_special_tokens=True)).strip():
            raise RowError("run_on", f"recorded tokens run on after the end of the turn: {len(rest)} more")
        changes.append("end_mark")
        lists = ("token_ids", "behavior_logprobs", "top_ids", "top_logprobs")
        return replace(trace, **{name: value[:size] for name in lists if (value := getattr(trace, name)) is not None})

    def _fit(self, outcome: Examined, trace: Trace) -> None:
        self._bound(trace, CHARACTERS * self.config.student.max_length, "")
        size, hit, whole = self._of_prompt(tuple((message["role"], message["content"]) for message in trace.prompt))
        own = trace.token_ids is not None and trace.tokenizer_digest == self.digest
        completion = (trace.token_ids if own else prompts.encode_completion(self.tokenizer, trace.completion)) or ()
        outcome.tokens = size, len(completion)
        outcome.changes += () if whole else (said.CUT,)
        if not own:
            said.check_completion(self.tokenizer, trace.completion, completion)
        if hit and hit.kind != "ngram":
            code, where = _CONTAMINATED[hit.kind == "exact"]
            raise RowError(code, f"the prompt {where} benchmark {hit.benchmark}")
        if hit and (allowed := self.config.ingest.ngram_share) and hit.share >= allowed:
            raise RowError(
                "contaminated_ngram",
                f"{hit.share:.0%} of a problem of benchmark {hit.benchmark} stand in the prompt; ingest.ngram_share is "
                f"{allowed:g}",
            )
        limit = self.config.student.max_length
        if sum(outcome.tokens) > limit:
            raise RowError("too_long", f"{sum(outcome.tokens)} tokens, student.max_length is {limit}")
        if hit:
            outcome.ngram = hit.benchmark, hit.problem

    def _prompt(self, messages: tuple[tuple[str, str], ...]) -> tuple[int, Hit | None, bool]:
        prompt: list[Message] = [{"role": role, "content": content} for role, content in messages]
        hit = self._known.find(prompt) if self._known else None
        try:
            ids = prompts.encode_prompt(self.tokenizer, prompt)
        except turns.TemplateError as error:
            raise RowError(error.code, str(error)) from None
        return len(ids), hit, said.check_prompt(self.tokenizer, prompt, ids)


def clean(trace: Trace, ingest: IngestConfig, changes: list[str] | None = None, marks: Sequence[str] = ()) -> Trace:
    """A trace that can be stored and taught. Recorded tokens are what was sampled: their text stays as it is.

    Args:
        trace: as its format gave it.
        ingest: says which steps are taken.
        changes: gets what was changed, and how thoughts are marked.
        marks: tokens of the student that end a turn; those of all families go as well.

    Raises:
        RowError: ``bad_encoding``, ``run_on``, ``thought``, ``language``, ``empty_completion`` or ``repetition``.
    """
    changes = [] if changes is None else changes
    texts = [trace.completion, trace.gold, trace.teacher, trace.licence, trace.tokenizer_digest]
    for text in (*texts, *(message["content"] for message in trace.prompt)):
        broken = cleaning.encoding_fault(text) if text else None
        if broken:
            raise RowError("bad_encoding", broken)
    recorded = trace.behavior_logprobs is not None or trace.token_ids is not None
    text = trace.completion
    if ingest.strip_calculator and not recorded:
        text = _changed(cleaning.strip_calculator(text), text, "calculator", changes)
    fault = cleaning.fault(text, loops=ingest.refuse_loops)
    if fault:
        raise RowError(*fault)
    text = _changed(cleaning.without_marks(text, marks), text, "end_mark", changes)
    cut = cleaning.cut_run_on(text) if ingest.cut_run_on else text
    if cut != text and recorded:
        raise RowError("run_on", f"recorded tokens run on after the answer: {text[len(cut) :]!r:.80}")
    text = _changed(cut, text, "run_on", changes)
    kind = thoughts.kind(text)
    if kind:
        changes.append(f"thought_{kind}")
        text = _changed(_thought(text, kind, ingest.thoughts, recorded), text, ingest.thoughts, changes)
    if ingest.languages:
        spoken = cleaning.language(text)
        if spoken is not None and spoken not in ingest.languages:
            raise RowError(
                "language", f"the completion is in {spoken}; ingest.languages: {', '.join(ingest.languages)}"
            )
    return trace if text == trace.completion else replace(trace, completion=text, trace_id="")


def _thought(text: str, marks: str, wanted: str, recorded: bool) -> str:
    if wanted == "keep":
        return text
    changed = thoughts.tagged(text) if wanted == "tag" else thoughts.without(text)
    if changed != text and recorded:
        raise RowError("thought", f"recorded tokens with a thought, and ingest.thoughts is {wanted}; use keep")
    if not changed.strip():
        raise RowError("thought", f"nothing is left without the thought, which is {marks}")
    return changed


def _changed(new: str, old: str, name: str, changes: list[str]) -> str:
    if new != old:
        changes.append(name)
    return new


def verify(trace: Trace, ingest: IngestConfig, changes: list[str] | None = None) -> Trace:
    """A trace with its answer and verdict, if ``ingest.keep`` wants it, or ``ingest.own`` one of the student's own.

    Args:
        trace: the cleaned one.
        ingest: says what is an answer, and what is kept.
        changes: gets how an unmarked answer was found; where none counts, by which ``ingest.answers`` the reference
            would be.

    Raises:
        RowError: ``no_answer``, ``wrong_answer``, ``flagged_wrong``, ``no_gold`` or ``unverified``.
    """
    changes = [] if changes is None else changes
    keep, way_out = (ingest.own, "ingest.own=all") if trace.own else (ingest.keep, "ingest.keep=answered")
    if trace.gold is None:
        answer, outcome = extract(trace.completion), "unverified"
    else:
        grade = grading.grade(trace.completion, trace.gold)
        if grade.answer is None and ingest.answers != "marked":
            grade = _unmarked(trace, ingest.answers)
            changes += [f"answer_{ingest.answers}"] if grade.answer else []
        answer, outcome = grade.answer, "unverified" if grade.outcome == "error" else grade.outcome
    if answer is None and keep != "all":
        would = [way for way in UNMARKED if trace.gold and _unmarked(trace, way).outcome == "correct"]
        changes += would
        told = f"; ingest.answers={would[0]} would find the reference" if would else ""
        raise RowError("no_answer", f"no final answer was found: no \\boxed, no ####, no 'the answer is'{told}")
    if outcome == "wrong" and keep == "correct":
        raise RowError("wrong_answer", f"the answer {answer!r:.80} is not the reference {trace.gold!r:.80}")
    if trace.flagged and keep != "all" and ingest.flags == "believe":
        raise RowError("flagged_wrong", f"{trace.flagged}: the row itself calls it wrong")
    if trace.flagged and trace.gold is None and ingest.flags == "believe":
        outcome = "wrong"
    if outcome == "unverified" and keep == "correct":
        if trace.no_gold:
            raise RowError("no_gold", f"{trace.no_gold}: no reference answer; {way_out} takes such traces")
        why = "there is no reference answer" if trace.gold is None else "the answers could not be compared"
        raise RowError("unverified", f"{why}; {way_out} takes such traces")
    return replace(trace, answer=answer, verdict=cast(Verdict, outcome))


def _unmarked(trace: Trace, way: Literal["last_number", "last_math"]) -> grading.Grade:
    last_math = way == "last_math"
    return grading.grade(trace.completion, trace.gold or "", last_number=not last_math, last_math=last_math)


def examined(
    blocks: Iterable[Block], examiner: Examiner, closed: Callable[[], Closed], workers: int
) -> Iterator[tuple[Block, list[Examined]]]:
    """Examines blocks, in their order.

    Args:
        blocks: of all sources; read no further ahead than the workers need.
        examiner: for this process; each worker process builds its own.
        closed: asked before each block is handed out.
        workers: processes; 1 for none but this one.
    """
    if workers == 1:
        for block in blocks:
            yield block, examiner.block(block, closed())
        return
    with processes.pool(workers, _make, examiner.config, examiner.student) as pool:
        waiting: deque[tuple[Block, Future[list[Examined]]]] = deque()
        size = 0
        for block in blocks:
            while waiting and (len(waiting) > 2 * workers or size + block.size > IN_FLIGHT):
                first, future = waiting.popleft()
                size -= first.size
                yield first, future.result()
            waiting.append((block, pool.submit(Examiner.block, block, closed())))
            size += block.size
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()


def _make(_: int, config: Config, student: Path) -> Examiner:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are parallel already
    return Examiner(config, student)
