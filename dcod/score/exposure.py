"""Exposure bias: do a student's errors add up, or compound (ExAccErr; Arora et al. 2022, arXiv 2204.01171)?

At each position t the error is KL(teacher || student): the mean of log p_T/p_S of a token that the *teacher* would
write there. On the teacher's prefixes their mean up to a length l is eps(l); on the student's own they add up to R(l).
If the student were as good where it gets itself as where the teacher was, R(l) would be l eps(l), so

    ExAccErr(l) = (R(l) - l eps(l)) / (l eps(l))

is 0 where errors only add up, and above 0 where they compound, which is what the correction is for. One static set of
the student's answers, with the teacher's likeliest tokens recorded at each position, gives the curve. The teacher's
distribution is its recorded top-k and a tail bucket, so the divergences are from below. Answers are drawn anew even
where the start's own stand among the training traces (`teach.source=student`): those answer other prompts, since none
to a held-back one comes in, and are the right ones alone unless told otherwise: no fair sample of what it writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dcod.engines import Sampling
from dcod.engines.transformers import TransformersEngine
from dcod.models import attention, fitting
from dcod.models.batches import collate, micro_batches, to_device
from dcod.models.heads import Logits
from dcod.objective.losses import forward_kl
from dcod.progress import track
from dcod.traces import Trace, prompts, read_traces
from dcod.traces.scored import ScoredTrace

if TYPE_CHECKING:
    from dcod.config import Config

FEWEST = 10  # traces that still go on at a length, for it to be on the curve

TOP_K, BATCH_TOKENS = 64, 4096  # of the teacher, at each position; padded tokens per forward pass


def compare(config: Config, teacher: Path, students: Mapping[str, Path], traces: Path) -> dict[str, Any]:
    """ExAccErr of several students, each on its own answers to the prompts of the same held-back traces.

    Each answers once, at temperature 1 and no longer than the longest of the traces. One model is loaded at a time.

    Args:
        config: ``promote.exposure_traces`` of the selection split are looked at, of different prompts.
        teacher: its folder.
        students: their folders, by their names.
        traces: a trace set.

    Raises:
        UserError: a model or its tokenizer cannot be loaded, or the teacher has no room for the longest text.

    Returns:
        ``why``, where nothing can be measured; else ``traces``, their mean ``length`` in tokens, and ``students``: the
        curve of :func:`excess` by name, with its value at that length, or where the curve ends, as ``excess_error``.
    """
    held = _held(traces, config.promote.exposure_traces)
    if len(held) < FEWEST:
        return {"why": f"{len(held)} prompts are held back (ingest.selection_share), {FEWEST} are the fewest"}
    said = prompts.load_tokenizer(teacher, config.teach.chat_template, config.teach.system_prompt)
    tokenizer = prompts.of_student(next(iter(students.values())), config.student)
    if said.get_vocab() != tokenizer.get_vocab():
        return {"why": "the teacher's tokens are not those of the student"}

    def student(name: str) -> TransformersEngine:
        return TransformersEngine(students[name], tokenizer, config.student.dtype)

    # No engine gets a name in here: the one before would stay loaded beside it.
    asked = [prompts.encode_prompt(tokenizer, trace.prompt) for trace in held]
    texts = {"": [prompts.encode_completion(tokenizer, trace.completion) for trace in held]}
    sampling = Sampling(max(map(len, texts[""])), temperature=1.0, seed=config.seed)
    for name in students:
        written = student(name).generate(asked, sampling, config.evaluate.batch_size)
        texts[name] = [answer.token_ids for answer in written]
    told = [prompts.encode_prompt(said, trace.prompt) for trace in held]
    longest = max(map(len, told)) + sampling.max_new_tokens
    fitting.check_room(teacher, longest, "promote.exposure_traces (prompt and answer)", "set it to 0")
    judged = _judged(TransformersEngine(teacher, said, config.teach.dtype), told, asked, texts)
    length = round(sum(map(len, texts[""])) / len(held))
    curves = {}
    for name in students:
        on_teacher, on_own = _divergences_of(student(name), judged[""], judged[name])
        curve = excess(on_teacher, on_own)
        end = min(length, len(curve["lengths"]))
        curves[name] = curve | ({"excess_error": curve["excess"][end - 1], "at": end} if end else {})
    return {"traces": len(held), "length": length, "students": curves}


def _held(traces: Path, count: int) -> list[Trace]:
    """One trace of each of the first prompts that are held back."""
    held: dict[str, Trace] = {}
    for trace in read_traces(traces):
        if len(held) == count:
            break
        if trace.split == "selection":
            held.setdefault(trace.prompt_id, trace)
    return list(held.values())


def _divergences_of(engine: TransformersEngine, *sets: list[ScoredTrace]) -> list[list[list[float]]]:
    return [divergences(engine, one, BATCH_TOKENS) for one in sets]


def _judged(
    expert: TransformersEngine,
    told: Sequence[list[int]],
    asked: Sequence[list[int]],
    texts: Mapping[str, Sequence[list[int]]],
) -> dict[str, list[ScoredTrace]]:
    """Texts with the teacher's likeliest tokens at every position, behind the prompts as the students read them."""
    judged = {}
    for name, given in texts.items():
        read = [
            ScoredTrace(f"{i}", f"{i}", prompt, text, [], [])
            for i, (prompt, text) in enumerate(zip(told, given, strict=True))
        ]
        expert.annotate(read, BATCH_TOKENS, TOP_K)
        judged[name] = [
            replace(
                one,
                prompt_tokens=prompt,
                teacher_top_ids=one.start_top_ids,
                teacher_top_logprobs=one.start_top_logprobs,
                start_top_ids=None,
                start_top_logprobs=None,
            )
            for one, prompt in zip(read, asked, strict=True)
        ]
    return judged


@torch.inference_mode()
def divergences(engine: TransformersEngine, traces: Sequence[ScoredTrace], batch_tokens: int) -> list[list[float]]:
    """KL(teacher || the engine's model) at every token of each trace, nats, in their order.

    Args:
        engine: the student's.
        traces: with the teacher's likeliest tokens; whoever wrote them, they are the prefixes.
        batch_tokens: padded tokens per forward pass.
    """
    by_number: dict[int, list[float]] = {}
    numbers = {id(trace): number for number, trace in enumerate(traces)}
    head = engine.reading.head(engine.model)
    for group in track(micro_batches(traces, batch_tokens, layout=engine.layout), "diverge"):
        batch = to_device(collate(group, layout=engine.layout), engine.device)
        assert batch.teacher is not None, "no top-k of the teacher"
        logits = Logits(attention.hidden_states(engine.model, batch, engine.reading.body), head)
        parts = [forward_kl(logits[part], batch.teacher.rows(part)) for part in logits.parts]
        each = torch.cat(parts).cpu().split([len(trace.completion_tokens) for trace in group])
        by_number |= {numbers[id(trace)]: values.tolist() for trace, values in zip(group, each, strict=True)}
    return [by_number[number] for number in range(len(traces))]


def excess(on_teacher: Sequence[Sequence[float]], on_student: Sequence[Sequence[float]]) -> dict[str, Any]:
    """The curve of ExAccErr over lengths.

    Args:
        on_teacher: divergences on the teacher's prefixes, a list a trace.
        on_student: the same on the student's.

    Returns:
        ``lengths``, and at each ``epsilon`` (nats a token), ``accumulated`` (R, nats) and ``excess``; up to the length
        that :data:`FEWEST` traces of both kinds reach. Empty lists where none does.
    """
    teacher, student = (_by_position(values) for values in (on_teacher, on_student))
    lengths = np.arange(1, min(len(teacher), len(student)) + 1)
    teacher, student = teacher[: len(lengths)], student[: len(lengths)]
    linear, accumulated = np.cumsum(teacher), np.cumsum(student)
    return {
        "lengths": lengths.tolist(),
        "epsilon": (linear / lengths).tolist(),
        "accumulated": accumulated.tolist(),
        "excess": ((accumulated - linear) / np.maximum(linear, np.finfo(float).tiny)).tolist(),
    }


def _by_position(values: Sequence[Sequence[float]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The mean at each position over the traces that reach it."""
    longest = max(map(len, values), default=0)
    sums, counts = np.zeros(longest), np.zeros(longest)
    for row in values:
        sums[: len(row)] += row
        counts[: len(row)] += 1
    enough = int((counts >= FEWEST).sum())
    return sums[:enough] / counts[:enough]
