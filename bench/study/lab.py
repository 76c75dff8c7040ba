"""The laboratory: networks, the teacher's traces with its log-probs, and the half-trained starts.

Everything is made from a seed and kept in a work folder by the digest of what made it, so that cells that
share a teacher, traces or a start share the files. All training goes through dcod.train.loop, all sampling and
scoring through dcod.engines: the study measures the code that users run.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import torch

from bench.study.regimes import ALPHABET, STUDENT, TEACHER, Problem, Regime, Size, answer_of
from dcod import storage
from dcod.config import TrainConfig
from dcod.engines import Sampling
from dcod.engines.transformers import TransformersEngine
from dcod.score.scores import read_scores, write_scores
from dcod.traces.scored import ScoredTrace
from dcod.train import loop

TOP_K = 8  # of the teacher, recorded
VERSION = 1  # moves with every change of what programs, networks or training here make
# What digests leave out where it is as it was before there was such a field.
LATER: dict[str, Any] = {
    "held_out": False, "far": None, "student": vars(STUDENT), "start_rate": 3e-3, "start_batch": 0,
}  # fmt: skip
# Added to the seed of a run, so that its problems for one thing are not those for another.
START, SELECTION, VALIDATION, TEST = 10_000, 100_000, 200_000, 300_000


@functools.cache
def tokenizer() -> Any:
    """One token a character, and three special ones."""
    from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate(["<pad>", "<start>", "<end>", *ALPHABET])}
    characters = Tokenizer(WordLevel(vocabulary, unk_token="<pad>"))  # noqa: S106
    characters.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    characters.decoder = decoders.Fuse()
    marks = {"pad_token": "<pad>", "bos_token": "<start>", "eos_token": "<end>"}
    return PreTrainedTokenizerFast(tokenizer_object=characters, **marks)


def encode(text: str) -> list[int]:
    """Token ids of a text."""
    return list(tokenizer()(text, add_special_tokens=False)["input_ids"])


def network(size: Size, seed: int) -> Any:
    """A new Llama."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(ALPHABET) + 3,
        hidden_size=size.hidden,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def problems(regime: Regime, count: int, seed: int, distinct: bool = False) -> list[Problem]:
    """Problems by their seed.

    Where the regime holds problems out, an eighth of all is for the validation of a seed and another for its test.

    Args:
        regime: which draws them.
        count: how many.
        seed: of the run, plus what they are for.
        distinct: no problem comes twice.
    """
    rng = Random(f"{regime.name}/{seed}")
    if not regime.held_out:
        return [regime.problem(rng) for _ in range(count)]
    wanted, seen, out = _bucket_for(seed), set[str](), list[Problem]()
    for _ in range(200 * count):
        problem = regime.problem(rng)
        if problem.text in seen or not wanted(_bucket(problem, seed)):
            continue
        out.append(problem)
        if distinct:
            seen.add(problem.text)
        if len(out) == count:
            return out
    raise AssertionError(f"{regime.name}: fewer than {count} problems")


def _bucket(problem: Problem, seed: int) -> int:
    """The eighth of the problems that one belongs to, by the seed of the run."""
    return hashlib.sha256(f"{seed % START}/{problem.text}".encode()).digest()[0] % 8


def _bucket_for(seed: int) -> Callable[[int], bool]:
    """Which eighths a seed may take; the teacher, which all runs share, may take all."""
    if seed < 0:
        return lambda _: True
    if seed >= VALIDATION:
        return lambda bucket: bucket == (0 if seed >= TEST else 1)
    return lambda bucket: bucket > 1


def digest(regime: Regime) -> str:
    """Identity of what a regime makes: its numbers, and the version of the laboratory."""
    plain = {k: v for k, v in vars(regime).items() if not callable(v)}
    later = {name: plain.pop(name) for name in LATER}
    later["far"] = regime.far and digest(regime.far)
    later["student"] = vars(regime.student)
    plain |= {k: v for k, v in later.items() if v != LATER[k]}  # what came later leaves earlier digests as they were
    return hashlib.sha256(json.dumps([plain, VERSION]).encode()).hexdigest()[:12]


def cached(folder: Path, make: Callable[[Path], None]) -> Path:
    """A folder, made once; another process may be making it."""
    if not folder.is_dir():
        with storage.output_folder(folder) as scratch:
            make(scratch)
    return folder


def fit(
    model: Any, examples: list[ScoredTrace], steps: int, batch: int, rate: float, seed: int, epochs: int = 1
) -> None:
    """Plain fine-tuning on as many traces as the steps of an epoch need."""
    needed = examples[: steps * batch]
    config = TrainConfig(
        learning_rate=rate,
        epochs=epochs,
        traces_per_step=batch,
        micro_batch_tokens=16384,
        validations=1,
        weight_decay=0.01,
    )
    loop.train(model, needed, [], config, seed, save_best=lambda _: None, metrics=lambda *_: None)


def written(texts: list[tuple[str, str]]) -> list[ScoredTrace]:
    """Prompts and completions as traces, without scores."""
    return [ScoredTrace(str(i), str(i), encode(p), [*encode(c), 2], [], []) for i, (p, c) in enumerate(texts)]


def teacher(regime: Regime, work: Path) -> Path:
    """The teacher of a regime: trained on its program, with the hint in its prompt."""

    def make(folder: Path) -> None:
        rng, batch = Random(f"teacher/{regime.name}"), 8 if regime.max_new_tokens > 100 else 32
        texts = [
            (p.text + p.hint, regime.write(rng, p)) for p in problems(regime, regime.teacher_steps * batch, seed=-1)
        ]
        model = network(TEACHER, seed=1)
        fit(model, unscored(written(texts)), regime.teacher_steps, batch, 3e-3, seed=1)
        model.save_pretrained(folder)

    return cached(work / f"teacher-{regime.name}-{digest(regime)}", make)


def unscored(examples: list[ScoredTrace]) -> list[ScoredTrace]:
    """Placeholders for scores that plain fine-tuning does not read."""
    return [replace(e, student_logprobs=[0.0] * len(e.completion_tokens)) for e in examples]


def start(regime: Regime, seed: int, work: Path) -> Path:
    """The student before distillation: half trained on the easy styles."""

    def make(folder: Path) -> None:
        rng, batch = Random(f"start/{regime.name}/{seed}"), regime.start_batch or regime.traces_per_step
        drawn = problems(regime, regime.start_steps * batch, seed=START + seed)
        model = network(regime.student, seed=100 + seed)
        texts = [(p.text, regime.basics(rng, p)) for p in drawn]
        fit(model, unscored(written(texts)), regime.start_steps, batch, regime.start_rate, seed)
        model.save_pretrained(folder)

    return cached(work / f"start-{regime.name}-{seed}-{digest(regime)}", make)


def traces(regime: Regime, seed: int, work: Path) -> dict[str, list[ScoredTrace]]:
    """What the teacher wrote for this seed, scored by teacher and start: ``train`` and held-out ``selection``."""

    def make(folder: Path) -> None:
        train, _ = sampled(regime, regime.train_problems, seed, work)
        held, _ = sampled(regime, 100, SELECTION + seed, work)
        engine = TransformersEngine(start(regime, seed, work), tokenizer())
        engine.annotate([*train, *held], 16384)
        splits = ["train"] * len(train) + ["selection"] * len(held)
        write_scores(folder / "scores.parquet", [*train, *held], splits)

    return read_scores(cached(work / f"traces-{regime.name}-{seed}-{digest(regime)}", make))


def sampled(
    regime: Regime, count: int, seed: int, work: Path, wrong: bool = False
) -> tuple[list[ScoredTrace], dict[str, float]]:
    """Traces that the teacher samples at temperature 1, or those that a verified regime drops; and how good it is."""
    drawn = problems(regime, count, seed, distinct=regime.held_out)
    if regime.far is None:
        return _sampled(regime, teacher(regime, work), drawn, range(regime.traces), seed, wrong)
    half = regime.traces // 2
    near, first = _sampled(regime, teacher(regime, work), drawn, range(half), seed, wrong)
    far, second = _sampled(regime, teacher(regime.far, work), drawn, range(half, regime.traces), seed, wrong)
    both = sorted([*near, *far], key=lambda e: [int(part) for part in e.trace_id.split("/")])
    return both, {key: (first[key] + second[key]) / 2 for key in first}


def _sampled(
    regime: Regime, model: Path, drawn: list[Problem], copies: range, seed: int, wrong: bool
) -> tuple[list[ScoredTrace], dict[str, float]]:
    """What one teacher samples."""
    engine = TransformersEngine(model, tokenizer())
    order = [(index, copy) for index in range(len(drawn)) for copy in copies]
    prompts = [encode(drawn[index].text + drawn[index].hint) for index, _ in order]
    sampling = Sampling(regime.max_new_tokens, temperature=1.0, seed=seed)
    written = engine.generate(prompts, sampling, batch_size=512)
    examples, right = [], 0
    for (index, copy), completion, prompt in zip(order, written, prompts, strict=True):
        fine = answer_of(completion.text) == drawn[index].answer
        right += fine
        if completion.truncated or (regime.verified and fine == wrong):
            continue
        examples.append(ScoredTrace(f"{index}/{copy}", str(index), prompt, completion.token_ids, [], []))
    engine.annotate(examples, 16384, TOP_K)
    for example in examples:  # the teacher's scores become the sampler's; the hint leaves the prompt
        example.behavior_logprobs, example.student_logprobs, example.entropies = example.student_logprobs, [], []
        example.teacher_top_ids, example.teacher_top_logprobs = example.start_top_ids, example.start_top_logprobs
        example.start_top_ids = example.start_top_logprobs = None
        example.prompt_tokens = encode(drawn[int(example.prompt_id)].text)
    return examples, {"accuracy": right / len(order), "kept": len(examples) / len(order)}
