"""What is measured of a student: accuracy at every temperature, what it writes, how its errors add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench.study import lab
from bench.study.lab import encode, problems
from bench.study.regimes import Problem, Regime, answer_of
from bench.study.second.regimes import is_far
from dcod.engines import Completion, Sampling
from dcod.engines.transformers import TransformersEngine
from dcod.score import exposure
from dcod.traces.scored import ScoredTrace

TEMPERATURES = {"greedy": 0.0, "0.3": 0.3, "0.6": 0.6, "1.0": 1.0}
VALIDATION_SHARE, VALIDATION_SAMPLES = 4 / 7, 2  # 400 problems beside 700 of the test
SAMPLED_SHARE, MAJORITY = 0.5, 8  # of the test problems, each asked 8 times at every temperature above 0
STATES = 128  # answers whose states ExAccErr looks at
BATCH = 800

Measured = dict[str, Any]


def validation(engine: TransformersEngine, regime: Regime, seed: int, part: int) -> Measured:
    """Accuracy at each temperature on the problems that choose, and the share of either teacher's style."""
    count = round(regime.test_problems * VALIDATION_SHARE) // part
    drawn = problems(regime, count, lab.VALIDATION + seed, distinct=True)
    accuracy, styles = {}, Measured()
    for name, temperature in TEMPERATURES.items():
        samples = 1 if temperature == 0.0 else VALIDATION_SAMPLES
        written = answers(engine, regime, drawn, samples, temperature, seed)
        accuracy[name] = _mean(right(drawn, written, samples))
        if regime.far and temperature == 1.0:
            styles = _styles(drawn, written, samples)
    return {"validation": accuracy, **styles}


def tested(engine: TransformersEngine, regime: Regime, seed: int, part: int) -> Measured:
    """The same on the problems that decide, with majority of 8 and pass@8."""
    whole = problems(regime, regime.test_problems // part, lab.TEST + seed, distinct=True)
    out: Measured = {"test": {}, "majority": {}, "pass": {}}
    for name, temperature in TEMPERATURES.items():
        sampled = temperature > 0.0
        samples, drawn = (MAJORITY, whole[: round(len(whole) * SAMPLED_SHARE)]) if sampled else (1, whole)
        written = answers(engine, regime, drawn, samples, temperature, seed)
        hits = right(drawn, written, samples)
        out["test"][name] = _mean(hits)
        if not sampled:
            continue
        out["pass"][name] = _mean([max(hits[i : i + MAJORITY]) for i in range(0, len(hits), MAJORITY)])
        out["majority"][name] = _mean([
            _voted(written[i * MAJORITY : (i + 1) * MAJORITY]) == problem.answer for i, problem in enumerate(drawn)
        ])  # fmt: skip
        if temperature == 1.0:
            out["truncated"] = _mean([c.truncated for c in written])
            out["length"] = sum(len(c.token_ids) for c in written) / len(written)
            out |= _styles(drawn, written, samples) if regime.far else {}
    return out


def answers(
    engine: TransformersEngine, regime: Regime, drawn: Sequence[Problem], samples: int, temperature: float, seed: int
) -> list[Completion]:
    """``samples`` answers a problem, those of a problem side by side."""
    prompts = [encode(p.text) for p in drawn for _ in range(samples)]
    return engine.generate(prompts, Sampling(regime.max_new_tokens, temperature=temperature, seed=seed), BATCH)


def right(drawn: Sequence[Problem], written: Sequence[Completion], samples: int) -> list[bool]:
    """Which answers are right; one that the limit cut is not."""
    gold = [p.answer for p in drawn for _ in range(samples)]
    return [not c.truncated and answer_of(c.text) == answer for c, answer in zip(written, gold, strict=True)]


def known(traces: Sequence[ScoredTrace]) -> Measured:
    """How much of its traces a start knows: mean p_0 of a token, and the share of tokens below 0.2."""
    logprobs = torch.tensor([value for e in traces for value in e.student_logprobs], dtype=torch.float64)
    return {"p_0": float(logprobs.exp().mean()), "unlikely": float((logprobs.exp() < 0.2).double().mean())}


def excess_error(
    student: TransformersEngine, regime: Regime, seed: int, held: Sequence[ScoredTrace], work: Path
) -> Measured:
    """ExAccErr (:mod:`dcod.score.exposure`) at the mean length of the traces, over the whole vocabulary.

    The teacher knows its hint, the student does not.
    """
    drawn = problems(regime, 1 + max(int(e.prompt_id) for e in held), lab.SELECTION + seed, distinct=True)
    asked = [drawn[int(e.prompt_id)] for e in held[:STATES]]
    own = answers(student, regime, asked, 1, 1.0, seed)
    texts = [[e.completion_tokens for e in held[:STATES]], [c.token_ids for c in own]]
    expert = TransformersEngine(lab.teacher(regime, work), lab.tokenizer())
    vocabulary = len(lab.tokenizer())
    found = []
    for tokens in texts:
        pairs = list(zip(asked, tokens, strict=True))
        told = [ScoredTrace(str(i), str(i), encode(p.text + p.hint), said, [], []) for i, (p, said) in enumerate(pairs)]
        expert.annotate(told, 16384, vocabulary)
        states = [
            replace(e, prompt_tokens=encode(p.text), teacher_top_ids=e.start_top_ids, start_top_ids=None,
                    teacher_top_logprobs=e.start_top_logprobs, start_top_logprobs=None)
            for e, p in zip(told, asked, strict=True)
        ]  # fmt: skip
        found.append(exposure.divergences(student, states, 16384))
    curve = exposure.excess(*found)["excess"]
    length = round(sum(map(len, texts[0])) / len(asked))
    return {"excess_error": curve[min(length, len(curve)) - 1] if curve else 0.0}


def _styles(drawn: Sequence[Problem], written: Sequence[Completion], samples: int) -> Measured:
    found = [is_far(p, c.text) for p, c in zip([p for p in drawn for _ in range(samples)], written, strict=True)]
    return {"near_written": found.count(False) / len(found), "far_written": found.count(True) / len(found)}


def _voted(written: Sequence[Completion]) -> str | None:
    """The answer given most often; of two, the one given first."""
    given = [answer_of(c.text) for c in written if not c.truncated]
    given = [answer for answer in given if answer is not None]
    return max(given, key=given.count) if given else None


def _mean(values: Sequence[bool]) -> float:
    return sum(values) / len(values)
