"""Draws of different seeds, prompts and samples are different ones; what is asked beside a prompt changes nothing."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from dcod.engines import Sampling, seed_for
from dcod.engines.transformers import TransformersEngine
from dcod.traces import prompts
from dcod.traces.prompts import prompt_for

PROMPTS = [[5, number] for number in range(20)]


def test_no_two_draws_share_a_seed() -> None:
    """Added, sample 1 of seed 0 would be sample 0 of seed 1."""
    every = [
        seed
        for run, sample in product(range(12), range(12))
        for seed in Sampling(4, 1.0, 1.0, run, sample=sample).seeds_of(PROMPTS)
    ]
    assert len(set(every)) == len(every) == 12 * 12 * 20
    assert all(0 <= seed < 2**31 for seed in every)


def test_a_seed_hangs_on_its_prompt_alone_and_one_asked_twice_has_two() -> None:
    sampling = Sampling(4, 1.0, seed=3)
    alone = [sampling.seeds_of([prompt])[0] for prompt in PROMPTS]
    assert sampling.seeds_of(PROMPTS) == alone
    assert sampling.seeds_of(PROMPTS[::-1]) == alone[::-1]
    twice = sampling.seeds_of([PROMPTS[0], PROMPTS[1], PROMPTS[0]])
    assert twice[:2] == alone[:2]
    assert twice[2] not in alone
    assert Sampling(4, seeds=(1, 2)).seeds_of(PROMPTS[:2]) == [1, 2]
    assert seed_for(0, "a", 1) != seed_for(0, "a", 0)


def test_an_engine_draws_each_prompt_by_itself(tiny_teacher: Path) -> None:
    engine = TransformersEngine(tiny_teacher, prompts.load_tokenizer(tiny_teacher))
    asked = [prompts.encode_prompt(engine.tokenizer, prompt_for("as_is", f"twice {n}?")) for n in range(1, 7)]

    def said(seed: int, sample: int, some: list[list[int]], at_once: int = 6) -> list[list[int]]:
        return [one.token_ids for one in engine.generate(some, Sampling(10, 2.0, 1.0, seed, sample=sample), at_once)]

    whole = said(0, 1, asked)
    assert said(0, 1, asked, at_once=2) == whole
    assert said(0, 1, asked[2:4]) == whole[2:4]
    assert said(1, 0, asked) != whole
    assert said(0, 0, asked) != whole
