"""vLLM against transformers on one model: the same greedy tokens, the same log-probs; in the environment of vLLM."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from dcod import prompts
from dcod.engines import Sampling
from dcod.packing import Example

pytestmark = pytest.mark.vllm

TEXTS = ["What is 2 + 3?", "Tom has 3 pens and buys 4. How many pens has he?", "Name a colour.", "Why is the sky blue?"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of DCOD_TEST_MODEL, else a tiny one whose head size vLLM's attention takes."""
    given = os.environ.get("DCOD_TEST_MODEL")
    if given:
        return Path(given)
    from tests.tiny import save_tiny_student

    return save_tiny_student(tmp_path_factory.mktemp("tiny") / "student", hidden=256)


def test_recorded_log_probs_are_the_sampler_s(folder: Path) -> None:
    """After temperature and top-p: against the distribution computed alone, in float64."""
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM

    from dcod.engines.vllm import VllmEngine
    from tests.engines.test_recording import policy

    tokenizer = prompts.load_tokenizer(folder)
    asked = [prompts.encode_prompt(tokenizer, [{"role": "user", "content": text}]) for text in TEXTS]
    exact = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    sampling = Sampling(24, temperature=0.7, top_p=0.9, seed=3, record=True, top_k=3)
    for prompt, said in zip(asked, VllmEngine(folder, tokenizer).generate(asked, sampling, 4), strict=True):
        wanted = policy(exact, prompt, said.token_ids, 0.7, 0.9)
        chosen = wanted[np.arange(len(said.token_ids)), said.token_ids]
        np.testing.assert_allclose(said.logprobs, np.log(chosen), atol=1e-3)
        assert said.top_ids is not None
        assert all(1 <= len(ids) <= 3 and (row[ids] > 0).all() for ids, row in zip(said.top_ids, wanted, strict=True))


def test_greedy_tokens_and_log_probs_agree(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dcod.engines.transformers import TransformersEngine
    from dcod.engines.vllm import VllmEngine

    tokenizer = prompts.load_tokenizer(folder)
    asked = [prompts.encode_prompt(tokenizer, [{"role": "user", "content": text}]) for text in TEXTS]
    reference = TransformersEngine(folder, tokenizer)
    engine = VllmEngine(folder, tokenizer)
    theirs, ours = reference.generate(asked, Sampling(48), 4), engine.generate(asked, Sampling(48), 4)
    examples = [Example("t", "p", p, c.token_ids, [], []) for p, c in zip(asked, theirs, strict=True)]
    pairs = list(zip(engine.score(examples, 4096), reference.score(examples, 4096), strict=True))
    apart = [abs(a - b) for (left, _), (right, _) in pairs for a, b in zip(left, right, strict=True)]
    sums = [abs(sum(left) - sum(right)) for (left, _), (right, _) in pairs]
    same = sum(a.token_ids == b.token_ids for a, b in zip(ours, theirs, strict=True))
    with capsys.disabled():
        print(
            f"\n{same} of {len(TEXTS)} greedy completions equal ({sum(len(c.token_ids) for c in theirs)} tokens); "
            f"log-probs differ by at most {max(apart):.1e}, on average {sum(apart) / len(apart):.1e} nats; "
            f"summed over a completion by at most {max(sums):.1e}"
        )
    assert [(one.token_ids, one.text, one.truncated) for one in ours] == [
        (one.token_ids, one.text, one.truncated) for one in theirs
    ]
    assert max(apart) < 1e-3
    assert all(math.isnan(value) for (_, entropies), _ in pairs for value in entropies)
    sampling = Sampling(24, temperature=1.0, top_p=0.9, seed=3)
    drawn = engine.generate(asked, sampling, 4)
    assert [one.token_ids for one in engine.generate(asked[:2], sampling, 1)] == [one.token_ids for one in drawn[:2]]
    other = engine.generate(asked, Sampling(24, temperature=1.0, top_p=0.9, seed=4), 4)
    assert [one.token_ids for one in other] != [one.token_ids for one in drawn]
