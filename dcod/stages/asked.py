"""What a pilot asks, problems that were held back, and what its students answer; or how likely they find the traces.

With ``train.pilot.compare=nll`` nothing is generated or graded: a problem's value is the geometric mean probability of
a token of its traces, between 0 and 1 like a share of right answers, so that the statistics are the same. It favours
plain fine-tuning, which is trained for just that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from dcod import grading
from dcod.config import Config
from dcod.engines import Sampling
from dcod.errors import UserError
from dcod.evaluate import statistics, summaries
from dcod.objective import price
from dcod.traces import Trace, prompts, read_traces
from dcod.traces.scored import ScoredTrace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPLITS = ("selection", "pilot")
BATCH_TOKENS = 4096  # of a forward pass

SCHEMA = pa.schema(
    [
        ("split", pa.string()),
        ("seed", pa.int32()),
        ("temperature", pa.float64()),
        ("problem_id", pa.string()),
        ("sample", pa.int32()),
        ("value", pa.float64()),  # 1 of a right answer, 0 of any other; or how likely a trace is
        ("outcome", pa.string()),
        ("answer", pa.string()),
        ("gold", pa.string()),
        ("response", pa.string()),
        ("tokens", pa.int32()),
        ("truncated", pa.bool_()),
    ]
)


class Problem(NamedTuple):
    """A prompt that was held back, its reference answer, a trace's text, and all traces where these are scored."""

    split: str
    id: str
    tokens: list[int]
    gold: str
    trace: str
    said: tuple[list[int], ...] = ()


def problems(config: Config, traces: Path, tokenizer: PreTrainedTokenizerBase) -> list[Problem]:
    """The held-back prompts, at most :meth:`PilotConfig.most` of a split, by the hash of the prompt.

    Args:
        config: the whole configuration; answers are graded by references, so only prompts that have one are asked.
        traces: a trace set.
        tokenizer: of the start.

    Raises:
        UserError: a split has none.
    """
    by_nll = config.train.pilot.compare == "nll"
    known = askable(config, read_traces(traces))
    for split, held in known.items():
        if not held:
            which = "" if by_nll else " with a reference answer"
            way = "" if by_nll else ", train.pilot.compare=nll compares by likelihood (which favours plain fine-tuning)"
            raise UserError(
                f"pilot: {traces} holds back no {split} problem{which}: give ingest.{split}_share a part of the "
                f"problems and the traces their answers{way}, or leave train.arms out"
            )
    return [
        Problem(
            split, name, prompts.encode_prompt(tokenizer, held[name][0].prompt), held[name][0].gold or "",
            held[name][0].completion,
            tuple(prompts.encode_completion(tokenizer, one.completion) for one in held[name]) if by_nll else (),
        )
        for split, held in known.items()
        for name in sorted(held)[: config.train.pilot.most(split)]
    ]  # fmt: skip


def askable(config: Config, traces: Iterable[Trace]) -> dict[str, dict[str, list[Trace]]]:
    """The held-back traces that a pilot can ask, by split and prompt."""
    known: dict[str, dict[str, list[Trace]]] = {split: {} for split in SPLITS}
    for trace in traces:
        if trace.split in known and (trace.gold or config.train.pilot.compare == "nll"):
            known[trace.split].setdefault(trace.prompt_id, []).append(trace)
    return known


def cost(config: Config, tokenizer: PreTrainedTokenizerBase, problems: Sequence[Problem]) -> float:
    """What the answers of one student cost; see :func:`dcod.objective.price.answered`.

    Args:
        config: the whole configuration.
        tokenizer: of the start.
        problems: all that are asked.
    """
    pairs: dict[str, list[tuple[int, int]]] = {split: [] for split in SPLITS}
    by_nll = config.train.pilot.compare == "nll"
    for one in problems:  # all its traces are read, or one answer is written
        said = one.said if by_nll else (prompts.encode_completion(tokenizer, one.trace),)
        pairs[one.split] += [(len(one.tokens), len(each)) for each in said]
    return sum(price.answered(config.train.pilot, split, each) for split, each in pairs.items())


def answers(
    own: Config,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    seed: int,
    limit: int,
    config: Config,
    temperatures: Sequence[float],
) -> Iterator[dict[str, Any]]:
    """The graded answers of one student, or how likely it finds the traces, one row each."""
    from dcod.engines.transformers import TransformersEngine

    engine, pilot = TransformersEngine(folder, tokenizer, own.student.dtype), config.train.pilot
    if pilot.compare == "nll":
        yield from _likelihoods(engine, problems, seed)
        return
    tokens, batch = [problem.tokens for problem in problems], config.evaluate.batch_size
    for temperature in temperatures:
        for number in range(pilot.samples if temperature else 1):
            sampling = Sampling(limit, temperature, seed=own.seed, sample=seed * pilot.samples + number)
            written = engine.generate(tokens, sampling, batch)
            given = [(one.text, problem.gold, one.truncated) for one, problem in zip(written, problems, strict=True)]
            grades = grading.grade_many(given, last_number=config.ingest.answers != "marked")
            for problem, one, grade in zip(problems, written, grades, strict=True):
                yield {
                    "split": problem.split, "seed": seed, "temperature": temperature, "problem_id": problem.id,
                    "sample": number, "value": float(grade.outcome == "correct"), "outcome": grade.outcome,
                    "answer": grade.answer, "gold": problem.gold,
                    "response": one.text, "tokens": len(one.token_ids), "truncated": one.truncated,
                }  # fmt: skip


def best_of(rows: Iterable[Mapping[str, Any]]) -> float:
    """The temperature with the best mean value on the selection problems; of equals the lowest."""
    values: dict[float, list[float]] = {}
    for row in rows:
        if row["split"] == "selection":
            values.setdefault(row["temperature"], []).append(row["value"])
    return max(sorted(values), key=lambda way: sum(values[way]) / len(values[way]))


def _likelihoods(engine: Any, problems: Sequence[Problem], seed: int) -> Iterator[dict[str, Any]]:
    asked = [(problem, number, said) for problem in problems for number, said in enumerate(problem.said)]
    traces = [ScoredTrace(f"{p.id}/{number}", p.id, p.tokens, said, [], []) for p, number, said in asked]
    for (problem, number, said), (logprobs, _) in zip(asked, engine.score(traces, BATCH_TOKENS), strict=True):
        yield {
            "split": problem.split, "seed": seed, "temperature": 0.0, "problem_id": problem.id, "sample": number,
            "value": math.exp(sum(logprobs) / len(logprobs)), "outcome": "likelihood", "answer": None,
            "gold": problem.gold, "response": "", "tokens": len(said), "truncated": False,
        }  # fmt: skip


def of_answers(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What an arm's answers are like, and how often they are right.

    Returns:
        The mean value on the selection problems by temperature, such as ``selection/0.6``; that on the ``pilot``
        problems, at the ``temperature`` that they were asked at. ``mean_tokens``, and the share that was ``truncated``;
        of what was written the shares ``looping`` and ``contradicting``, ``repetition`` and ``openings`` as evaluations
        have them (:func:`dcod.evaluate.summaries.stability`), the last of the pilot problems' first answers, student by
        student.
    """
    hits: dict[str, list[float]] = {}
    for row in rows:
        name = "pilot" if row["split"] == "pilot" else f"selection/{row['temperature']:g}"
        hits.setdefault(name, []).append(row["value"])
    asked_at = {row["temperature"] for row in rows if row["split"] == "pilot"}
    return {
        **({"temperature": max(asked_at)} if asked_at else {}),
        "mean_tokens": sum(row["tokens"] for row in rows) / max(len(rows), 1),
        "truncated": sum(row["truncated"] for row in rows) / max(len(rows), 1),
        **_steady([row for row in rows if row["response"]]),
        **{name: sum(each) / len(each) for name, each in hits.items()},
    }


def _steady(written: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    if not written:
        return {}
    steady = summaries.stability([[{**row, **summaries.of_answer(row["response"])}] for row in written])
    begun: dict[int, list[str]] = {}
    for row in written:
        if (row["split"], row["sample"]) == ("pilot", 0):
            begun.setdefault(row["seed"], []).append(row["response"])
    return {
        **{name: steady[name] for name in ("looping", "contradicting", "repetition")},
        "openings": sum(map(statistics.openings, begun.values())) / max(len(begun), 1),
    }
