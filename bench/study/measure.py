"""What is measured of a student: accuracy greedy and sampled, truncation, repetition, NLL, exposure bias."""

from __future__ import annotations

from pathlib import Path

import torch

from bench.study.lab import TEST, VALIDATION, encode, problems, tokenizer
from bench.study.regimes import Problem, Regime, answer_of
from dcod.engines import Completion, Sampling
from dcod.engines.transformers import TransformersEngine
from dcod.models.attention import hidden_states
from dcod.models.batches import collate, micro_batches
from dcod.models.fused_head import likeliest
from dcod.traces.scored import ScoredTrace

SAMPLES, VALIDATION_SAMPLES = 8, 4


def measure(student: Path, regime: Regime, seed: int, held: list[ScoredTrace], quick: bool = False) -> dict[str, float]:
    """All metrics of one student.

    Args:
        student: its folder.
        regime: what it was taught, and is asked.
        seed: of problems and samples.
        held: traces of the teacher that nothing was trained on.
        quick: a quarter of the problems.
    """
    engine = TransformersEngine(student, tokenizer())
    part = 4 if quick else 1
    test = problems(regime, regime.test_problems // part, TEST + seed)
    validation = problems(regime, regime.test_problems // 2 // part, VALIDATION + seed)
    greedy = _answers(engine, regime, test, 1, 0.0, seed)
    sampled = _answers(engine, regime, test, SAMPLES, 1.0, seed)
    chosen = _answers(engine, regime, validation, VALIDATION_SAMPLES, 1.0, seed)
    own = [step.right for p, c in zip(test, greedy, strict=True) for step in regime.steps(p, c.text)]
    taught = _step_accuracy(engine, regime, seed, held)
    return {
        "sampled_accuracy": _share_right(test, sampled, SAMPLES),
        "greedy_accuracy": _share_right(test, greedy, 1),
        "validation_accuracy": _share_right(validation, chosen, VALIDATION_SAMPLES),
        "truncated": sum(c.truncated for c in sampled) / len(sampled),
        "repeated": sum(_repeats(c.text) for c in sampled) / len(sampled),
        "length": sum(len(c.token_ids) for c in sampled) / len(sampled),
        "held_out_nll": nll(engine, held),
        "step_accuracy_given_teacher": taught,
        "step_accuracy_given_self": sum(own) / len(own) if own else 0.0,
    }


def _answers(
    engine: TransformersEngine, regime: Regime, drawn: list[Problem], samples: int, temperature: float, seed: int
) -> list[Completion]:
    prompts = [encode(p.text) for p in drawn for _ in range(samples)]
    sampling = Sampling(regime.max_new_tokens, temperature=temperature, seed=seed)
    return engine.generate(prompts, sampling, batch_size=800)


def _share_right(drawn: list[Problem], written: list[Completion], samples: int) -> float:
    gold = [p.answer for p in drawn for _ in range(samples)]
    right = [not c.truncated and answer_of(c.text) == answer for c, answer in zip(written, gold, strict=True)]
    return sum(right) / len(right)


def _repeats(text: str) -> bool:
    """Whether a step stands twice in a text."""
    steps = [step for step in text.split(";") if "=" in step]
    return len(set(steps)) < len(steps)


def nll(engine: TransformersEngine, held: list[ScoredTrace]) -> float:
    """Mean NLL of held-out traces, nats a token."""
    scores = engine.score(held, 16384)
    return -sum(sum(logprobs) for logprobs, _ in scores) / sum(len(logprobs) for logprobs, _ in scores)


@torch.inference_mode()
def _step_accuracy(engine: TransformersEngine, regime: Regime, seed: int, held: list[ScoredTrace]) -> float:
    """Share of the right steps of held-out traces whose result is the likeliest text after the teacher's prefix."""
    from bench.study.lab import SELECTION

    drawn = problems(regime, 1 + max(int(e.prompt_id) for e in held), SELECTION + seed)
    head = engine.reading.head(engine.model)
    fine = total = 0
    for group in micro_batches(held, 16384):
        batch = collate(group)
        best = likeliest(hidden_states(engine.model, batch, engine.reading.body), head, 1).ids[:, 0] == batch.targets
        for example, hit in zip(group, best.split([len(e.completion_tokens) for e in group]), strict=True):
            text = engine.tokenizer.decode(example.completion_tokens, skip_special_tokens=True)
            for step in regime.steps(drawn[int(example.prompt_id)], text):
                if step.right:
                    total += 1
                    fine += bool(hit[step.start : step.stop].all())
    return fine / total if total else 0.0
