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
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import torch

from bench.study.regimes import ALPHABET, Problem, Regime, answer_of
from dcod import storage
from dcod.config import TrainConfig
from dcod.engines import Sampling
from dcod.engines.transformers import TransformersEngine
from dcod.score.scores import read_scores, write_scores
from dcod.traces.scored import ScoredTrace
from dcod.train import loop

TOP_K = 8  # of the teacher, recorded
VERSION = 1  # moves with every change of what programs, networks or training here make
SELECTION, VALIDATION, TEST = 100_000, 200_000, 300_000  # seeds of problems, apart from those of training


@dataclass(frozen=True)
class Size:
    """A network: hidden size, layers, size of its MLP."""

    hidden: int
    layers: int
    inner: int


STUDENT, TEACHER = Size(64, 2, 192), Size(128, 3, 384)


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


def problems(regime: Regime, count: int, seed: int) -> list[Problem]:
    """Problems by their seed."""
    rng = Random(f"{regime.name}/{seed}")
    return [regime.problem(rng) for _ in range(count)]


def digest(regime: Regime) -> str:
    """Identity of what a regime makes: its numbers, and the version of the laboratory."""
    plain = {k: v for k, v in vars(regime).items() if not callable(v)}
    return hashlib.sha256(json.dumps([plain, VERSION]).encode()).hexdigest()[:12]


def cached(folder: Path, make: Callable[[Path], None]) -> Path:
    """A folder, made once; another process may be making it."""
    if not folder.is_dir():
        with storage.output_folder(folder) as scratch:
            make(scratch)
    return folder


def fit(model: Any, examples: list[ScoredTrace], steps: int, batch: int, rate: float, seed: int) -> None:
    """Plain fine-tuning on as many traces as the steps need."""
    needed = examples[: steps * batch]
    config = TrainConfig(
        learning_rate=rate, epochs=1, traces_per_step=batch, micro_batch_tokens=16384, validations=1, weight_decay=0.01
    )
    loop.train(model, needed, [], config, seed, save_best=lambda _: None, metrics=lambda *_: None)


def _written(texts: list[tuple[str, str]]) -> list[ScoredTrace]:
    return [ScoredTrace(str(i), str(i), encode(p), [*encode(c), 2], [], []) for i, (p, c) in enumerate(texts)]


def teacher(regime: Regime, work: Path) -> Path:
    """The teacher of a regime: trained on its program, with the hint in its prompt."""

    def make(folder: Path) -> None:
        rng, batch = Random(f"teacher/{regime.name}"), 8 if regime.max_new_tokens > 100 else 32
        texts = [
            (p.text + p.hint, regime.write(rng, p)) for p in problems(regime, regime.teacher_steps * batch, seed=-1)
        ]
        model = network(TEACHER, seed=1)
        fit(model, unscored(_written(texts)), regime.teacher_steps, batch, 3e-3, seed=1)
        model.save_pretrained(folder)

    return cached(work / f"teacher-{regime.name}-{digest(regime)}", make)


def unscored(examples: list[ScoredTrace]) -> list[ScoredTrace]:
    """Placeholders for scores that plain fine-tuning does not read."""
    return [replace(e, student_logprobs=[0.0] * len(e.completion_tokens)) for e in examples]


def start(regime: Regime, seed: int, work: Path) -> Path:
    """The student before distillation: half trained on the easy styles."""

    def make(folder: Path) -> None:
        rng, batch = Random(f"start/{regime.name}/{seed}"), regime.traces_per_step
        drawn = problems(regime, regime.start_steps * batch, seed=10_000 + seed)
        model = network(STUDENT, seed=100 + seed)
        texts = [(p.text, regime.basics(rng, p)) for p in drawn]
        fit(model, unscored(_written(texts)), regime.start_steps, batch, 3e-3, seed)
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


def sampled(regime: Regime, count: int, seed: int, work: Path) -> tuple[list[ScoredTrace], dict[str, float]]:
    """Traces that the teacher samples at temperature 1, and how good it is."""
    engine = TransformersEngine(teacher(regime, work), tokenizer())
    drawn = problems(regime, count, seed)
    order = [(index, copy) for index in range(count) for copy in range(regime.traces)]
    prompts = [encode(drawn[index].text + drawn[index].hint) for index, _ in order]
    sampling = Sampling(regime.max_new_tokens, temperature=1.0, seed=seed)
    written = engine.generate(prompts, sampling, batch_size=512)
    examples, right = [], 0
    for (index, copy), completion, prompt in zip(order, written, prompts, strict=True):
        fine = answer_of(completion.text) == drawn[index].answer
        right += fine
        if completion.truncated or (regime.verified and not fine):
            continue
        examples.append(ScoredTrace(f"{index}/{copy}", str(index), prompt, completion.token_ids, [], []))
    engine.annotate(examples, 16384, TOP_K)
    for example in examples:  # the teacher's scores become the sampler's; the hint leaves the prompt
        example.behavior_logprobs, example.student_logprobs, example.entropies = example.student_logprobs, [], []
        example.teacher_top_ids, example.teacher_top_logprobs = example.start_top_ids, example.start_top_logprobs
        example.start_top_ids = example.start_top_logprobs = None
        example.prompt_tokens = encode(drawn[int(example.prompt_id)].text)
    return examples, {"accuracy": right / len(order), "kept": len(examples) / len(order)}
