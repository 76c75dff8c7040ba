"""Teach: a teacher's attempts at prompts, with the log-probs that they were drawn with; `ingest` takes them in.

1. read the questions (dcod.teach.questions; in a run those of the prompts that have too few verified traces,
   dcod.teach.lacking), and what an earlier run of the same teacher left in ``teach.work``;
2. go round by round: one attempt at every question that has neither ``teach.attempts`` of them nor
   ``teach.enough`` different correct answers, each drawn with a seed of question and number;
3. verify each answer, and keep the attempts in shards as they come, wrong and truncated ones too;
4. write attempts.parquet (rows of ours, with the number of attempts at the question) and usage.json.

The behaviour policy is the teacher as it was sampled. A row's log-probs are those of the very draw, after temperature
and top-p; where the engine cannot tell them, there are none (docs/method.md, section 1.3).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcod import grading, progress, storage
from dcod.config import Config
from dcod.config.teach import TeachConfig
from dcod.engines import Completion, Sampling, by_name, seed_for
from dcod.engines.openai import OpenAIEngine, PartError
from dcod.errors import UserError
from dcod.models import fitting, loading
from dcod.teach import attempts, lacking, questions
from dcod.teach.attempts import FILE, VERSION, Attempts
from dcod.teach.questions import Question
from dcod.traces import Trace, cleaning, prompts, sources
from dcod.traces.schema import OWN

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from dcod.traces.schema import Message
    from dcod.tracking import Log

USAGE = "usage.json"
OUTCOMES = ("correct", "wrong", "unparseable", "unverified", "truncated", "error")

Ask = Callable[[Sequence[Question], Sampling], list[Completion]]


def source_digests(config: Config) -> dict[str, str]:
    """What decides the content of the prompts; part of the stage's digest."""
    return sources.digests(config.teach.prompts) if config.teach.prompts else {}


def run(
    config: Config, out: Path, log: Log, *, teacher: Path | None = None, traces: Path | None = None
) -> dict[str, float]:
    """Asks a teacher; see the module.

    Args:
        config: the whole configuration.
        out: an empty folder; where there is nothing to ask it gets no attempts.
        log: the counts go there, shard by shard.
        teacher: its model folder; of an endpoint that of the model it serves, none of a chat endpoint.
        traces: a trace set, whose lacking prompts are asked beside those of ``teach.prompts`` that it lacks.

    Raises:
        UserError: no teacher or no question is given, the engine refuses, or another run is at work.
    """
    teach = config.teach
    if traces is not None:
        asked, known = lacking.read(traces, config)
        if not asked:
            storage.write_json(out / USAGE, {"prompts": 0.0, "attempts": 0.0})
            return {"prompts": 0.0, "attempts": 0.0}
        return _taught(config, out, log, asked, Counter(), teacher, known)
    if not teach.prompts:
        raise UserError("teach.prompts is empty: give files, folders, globs or s3://bucket/prefix (--prompts)")
    return _taught(config, out, log, *questions.read(teach.prompts, teach.asks), teacher, {})


def _taught(
    config: Config,
    out: Path,
    log: Log,
    asked: Sequence[Question],
    passed: Counter[str],
    teacher: Path | None,
    known: Mapping[str, Set[str]],
) -> dict[str, float]:
    """Steps 2 to 4: asks questions, of which ``known`` has correct answers already; how many rows were passed over."""
    teach, by_id = config.teach, {question.id: question for question in asked}
    tokenizer = prompts.load_tokenizer(teacher, teach.chat_template, teach.system_prompt) if teacher else None
    constant = {
        "teacher": (OWN if teach.source == "student" else "") + (teach.engine.model or teach.model or str(teacher)),
        "temperature": teach.temperature,
        "top_p": teach.top_p,
        "tokenizer_digest": prompts.tokenizer_digest(tokenizer) if tokenizer and teach.logprobs else None,
    }
    sampling = Sampling(
        teach.max_new_tokens, teach.temperature, teach.top_p, config.seed, record=teach.logprobs, top_k=teach.top_k
    )
    place = f"{teach.work.rstrip('/')}/{_policy(teach, sampling, teacher)}"
    enough = 0 if teach.enough == "never" else teach.enough
    with (
        attempts.opened(place, list(by_id), teach.attempts, enough, known) as kept,
        progress.counted(len(by_id) * teach.attempts, "teach") as move,
    ):
        if kept.due():  # the model is loaded only where there is something to ask
            ask = _asker(teach, sampling, asked, teacher, tokenizer)
        while due := kept.due():
            for begin in range(0, len(due), teach.batch_size):
                names = due[begin : begin + teach.batch_size]
                numbers = [kept.tallies[name].tries for name in names]
                rows, failed = _attempts(ask, sampling, constant, [by_id[name] for name in names], numbers)
                if rows:
                    kept.add(rows)
                if failed is not None:
                    raise failed
                figures = _figures(teach, kept)
                log.metrics(figures, step=int(figures["attempts"]))
                ended = sum(teach.attempts if kept.done(name) else kept.tallies[name].tries for name in by_id)
                move(ended, f"{figures['correct']:.0f} of {figures['attempts']:.0f} correct")
        kept.write(out / FILE)
    figures = _figures(teach, kept)
    sampler = {
        **constant,
        "engine": by_name.identity(teach.engine),
        "dtype": teach.dtype,
        "max_new_tokens": teach.max_new_tokens,
        "log_probs": "after temperature and top_p" if teach.logprobs else "not recorded",
    }
    tries = Counter(str(tally.tries) for tally in kept.tallies.values())
    usage = {"passed_over": passed, "attempts_by_prompts": tries, "sampler": sampler}
    storage.write_json(out / USAGE, figures | usage)
    return figures


def settled(config: Config) -> Config:
    """The configuration of who answers: with ``teach.source=student`` the student, as an evaluation runs it.

    Raises:
        UserError: a teacher is named besides.
    """
    teach, student = config.teach, config.student
    if teach.source == "teacher":
        return config
    own: dict[str, Any] = {"model": student.model, "revision": student.revision, "dtype": student.dtype}
    own |= {"chat_template": student.chat_template, "system_prompt": student.system_prompt}
    own |= {"engine": config.evaluate.engine}
    other = [name for name in ("model", "engine") if getattr(teach, name) not in (own[name], _UNSET[name])]
    if other:
        raise UserError(
            f"teach.source=student: teach.{other[0]} names a teacher; leave it out, since student.model and "
            "evaluate.engine say who answers"
        )
    return config.model_copy(update={"teach": TeachConfig.model_validate(dict(teach) | own)})


_UNSET = {name: TeachConfig.model_fields[name].get_default() for name in ("model", "engine")}


def table(folder: Path) -> str:
    """The figures of a folder as lines of text."""
    usage = storage.read_json(folder / USAGE, made_by="dcod teach")
    passed = ", ".join(f"{count} {reason}" for reason, count in usage["passed_over"].items())
    outcomes = ", ".join(f"{usage[name]:.0f} {name}" for name in OUTCOMES if usage[name])
    lines = {
        "prompts": f"{usage['prompts']:.0f}, {usage['solved']:.0f} of them solved"
        + (f"; rows passed over: {passed}" if passed else ""),
        "attempts": f"{usage['attempts']:.0f}: {outcomes}",
        "tokens": f"{usage['input_tokens']:.0f} read, {usage['output_tokens']:.0f} written",
        "cost": f"{usage['cost']:.4f}" if usage["cost"] else "no price is given",
        "log-probs": usage["sampler"]["log_probs"],
    }
    return "\n".join(f"{name:<10}{text}" for name, text in lines.items())


def _policy(teach: TeachConfig, sampling: Sampling, teacher: Path | None) -> str:
    """Identity of the behaviour policy; where a server stands and how fast it is asked is no part of it."""
    engine = (
        [teach.engine.name, teach.engine.model] if teach.engine.name == "openai" else by_name.identity(teach.engine)
    )
    model = loading.digest(teacher) if teacher else ""
    decides: list[Any] = [VERSION, engine, model, teach.dtype, teach.chat_template, teach.endpoint_logprobs]
    decides += [sampling.max_new_tokens, sampling.temperature, sampling.top_p, sampling.seed, sampling.record]
    decides += [teach.source] if teach.source == "student" else []  # the rows say so
    decides += [] if teach.system_prompt == prompts.OF_TEMPLATE else [{"system": teach.system_prompt}]
    return hashlib.sha256(json.dumps([*decides, sampling.top_k]).encode()).hexdigest()[:16]


def _asker(
    teach: TeachConfig,
    sampling: Sampling,
    asked: Sequence[Question],
    teacher: Path | None,
    tokenizer: PreTrainedTokenizerBase | None,
) -> Ask:
    """From questions to completions, by the configured engine."""
    if teacher is None or tokenizer is None:
        if teach.engine.name != "openai":
            raise UserError("teach: no teacher; give --teacher, set teach.model, or ask an endpoint (teach.engine)")
        chat = by_name.load_chat(teach.engine)
        own = teach.system_prompt
        behind = [] if own == prompts.OF_TEMPLATE else [{"role": "system", "content": own}]
        return lambda some, how: chat.chat([_behind(behind, one.prompt) for one in some], how, teach.batch_size)
    encoded = {one.id: prompts.encode_prompt(tokenizer, one.prompt) for one in asked}
    longest = max(map(len, encoded.values())) + teach.max_new_tokens
    fitting.check_tokenizer(teacher, tokenizer)
    fitting.check_room(teacher, longest, "teach (prompt and max_new_tokens)", "lower teach.max_new_tokens")
    fitting.check_tokens(teacher, list(encoded.values()), "teach")
    engine = by_name.load(teach.engine, teacher, tokenizer, teach.dtype)
    if isinstance(engine, OpenAIEngine) and teach.logprobs and (teach.temperature, teach.top_p) != (1.0, 1.0):
        engine.check_processed(list(encoded.values()), sampling)
    return lambda some, how: engine.generate([encoded[one.id] for one in some], how, teach.batch_size)


def _behind(system: list[Message], prompt: list[Message]) -> list[Message]:
    """A prompt behind a system prompt, unless it has one."""
    return prompt if prompt[0]["role"] == "system" else [*system, *prompt]


def _attempts(
    ask: Ask, sampling: Sampling, constant: dict[str, Any], questions: Sequence[Question], numbers: Sequence[int]
) -> tuple[list[dict[str, Any]], PartError | None]:
    """One more attempt at each question, verified, as rows; and what kept the engine from answering all."""
    asked = list(zip(questions, numbers, strict=True))
    seeds = tuple(seed_for(sampling.seed, question.id, number) for question, number in asked)
    failed: PartError | None = None
    try:
        written: list[Completion | None] = [*ask(questions, replace(sampling, seeds=seeds))]
    except PartError as error:  # what was got is paid for
        failed, written = error, error.got
    rows = grading.in_parallel(
        lambda item: {"question": item[0].id, "attempt": item[1], **constant, **_row(item[0], item[2])},
        [(*one, said) for one, said in zip(asked, written, strict=True) if said],
    )
    return rows, failed


def _row(question: Question, said: Completion) -> dict[str, Any]:
    """An attempt, verified; no verdict on one that was cut or that cannot be stored as it is: it is not taught."""
    text = said.text.encode("utf-8", "backslashreplace").decode("utf-8")
    whole = not said.fault and cleaning.encoding_fault(said.text) is None
    finish = "length" if said.truncated else "stop" if whole else "error"
    verdict, answer = "unverified", None
    if question.gold is not None and finish == "stop":
        grade = grading.grade(text, question.gold)
        verdict, answer = "unverified" if grade.outcome == "error" else grade.outcome, grade.answer
    # What ingest would refuse is no reason to stop.
    sound = cleaning.fault(text) is None and cleaning.cut_run_on(text) == text
    good = Trace(question.prompt, text).trace_id if verdict == "correct" and sound else None
    return {
        "prompt": question.prompt,
        "completion": text,
        "answer": answer,
        "gold": question.gold,
        "verdict": verdict,
        "token_ids": said.token_ids if said.logprobs is not None else None,
        "behavior_logprobs": said.logprobs,
        "top_ids": said.top_ids,
        "top_logprobs": said.top_logprobs,
        "finish_reason": finish,
        "good": good,
        "read": said.read,
        "wrote": said.wrote,
    }


def _figures(teach: TeachConfig, kept: Attempts) -> dict[str, float]:
    counts = kept.counts
    cost = (counts["input_tokens"] * teach.input_price + counts["output_tokens"] * teach.output_price) / 1e6
    return {
        "prompts": float(len(kept.tallies)),
        "solved": float(sum(bool(tally.good) for tally in kept.tallies.values())),
        **{name: float(counts[name]) for name in ("attempts", *OUTCOMES, "input_tokens", "output_tokens")},
        "cost": cost,
    }
