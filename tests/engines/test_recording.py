"""The recorded log-probs are those of the sampler: against the distribution computed alone, in float64."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import AutoModelForCausalLM

from dcod.engines import Sampling
from dcod.engines.transformers import TransformersEngine
from dcod.traces import prompts
from dcod.traces.prompts import prompt_for
from tests.tiny import TWICE

SETTINGS = [(1.0, 1.0), (0.7, 1.0), (1.0, 0.8), (1.4, 0.9)]


@pytest.fixture(scope="module")
def engine(tiny_teacher: Path) -> TransformersEngine:
    return TransformersEngine(tiny_teacher, prompts.load_tokenizer(tiny_teacher))


@pytest.fixture(scope="module")
def exact(tiny_teacher: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(tiny_teacher, dtype=torch.float64).eval()


def asked(engine: TransformersEngine) -> list[list[int]]:
    return [prompts.encode_prompt(engine.tokenizer, prompt_for("as_is", text)) for text in TWICE]


def policy(
    model: torch.nn.Module, prompt: list[int], tokens: list[int], temperature: float, top_p: float
) -> np.ndarray:
    """Probabilities of the truncated, tempered distribution before each token [T, V]: the smallest set of the likeliest
    tokens that holds ``top_p``, in float64, without padding and without a cache."""
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + tokens]), use_cache=False).logits[0, len(prompt) - 1 : -1].numpy()
    raised = np.exp((logits - logits.max(-1, keepdims=True)) / temperature)
    out = raised / raised.sum(-1, keepdims=True)
    for row in out:
        order = np.argsort(-row)
        before = np.cumsum(row[order]) - row[order]
        row[order[before >= top_p]] = 0.0
        row /= row.sum()
    return out


@pytest.mark.parametrize(("temperature", "top_p"), SETTINGS)
def test_log_probs_are_of_the_tempered_and_truncated_distribution(
    engine: TransformersEngine, exact: torch.nn.Module, temperature: float, top_p: float
) -> None:
    sampling = Sampling(12, temperature, top_p, seed=3, record=True, top_k=5)
    tokens, cut = 0, 0
    for prompt, said in zip(asked(engine), engine.generate(asked(engine), sampling, 4), strict=True):
        assert said.logprobs is not None
        assert said.top_ids is not None
        assert said.top_logprobs is not None
        wanted = policy(exact, prompt, said.token_ids, temperature, top_p)
        chosen = wanted[np.arange(len(said.token_ids)), said.token_ids]
        assert (chosen > 0).all()
        np.testing.assert_allclose(said.logprobs, np.log(chosen), atol=1e-4)
        for ids, values, row in zip(said.top_ids, said.top_logprobs, wanted, strict=True):
            assert len(ids) == min(5, (row > 0).sum())
            np.testing.assert_allclose(np.exp(values), np.sort(row)[::-1][: len(ids)], atol=1e-5)
            np.testing.assert_allclose(np.exp(values), row[ids], atol=1e-5)
        tokens, cut = tokens + len(said.token_ids), cut + int((wanted == 0).any(-1).sum())
        assert (said.read, said.wrote) == (len(prompt), len(said.token_ids))
    assert tokens >= 24
    assert (cut > 0) == (top_p < 1)


def test_tokens_come_as_often_as_their_log_probs_say(engine: TransformersEngine, exact: torch.nn.Module) -> None:
    """Chance of failing rightly: one in a million, on any processor. How sharp the trained teacher came out differs
    between them, so the temperature is what leaves at least ten tokens likely."""
    prompt, count, top_p = asked(engine)[0], 3000, 0.9

    def distribution(temperature: float, top_p: float) -> np.ndarray:
        return policy(exact, prompt, [0], temperature, top_p)[0]

    temperature = next(t for t in (1.8, 2.5, 4.0, 7.0, 15.0) if (distribution(t, top_p) * count >= 5).sum() >= 10)
    drawn = engine.generate([prompt] * count, Sampling(1, temperature, top_p, seed=11, record=True), 500)
    seen = np.bincount([one.token_ids[0] for one in drawn], minlength=len(engine.tokenizer))

    def p_value(probabilities: np.ndarray) -> float:
        """Pearson's test; tokens that are expected less than five times are taken together."""
        often = probabilities * count >= 5
        observed = np.append(seen[often], seen[~often].sum())
        expected = np.append(probabilities[often], probabilities[~often].sum()) * count
        kept = expected > 0
        return float(
            stats.chisquare(observed[kept], expected[kept] * observed[kept].sum() / expected[kept].sum()).pvalue
        )

    right = distribution(temperature, top_p)
    assert seen[right == 0].sum() == 0
    assert p_value(right) > 1e-6
    assert 0.5 * np.abs(seen / count - distribution(1.0, 1.0)).sum() > 0.1  # the test above can tell them apart


def test_a_prompt_s_tokens_hang_on_its_own_seed(engine: TransformersEngine) -> None:
    everything = asked(engine)
    sampling = Sampling(10, 1.2, seeds=tuple(range(70, 70 + len(everything))), record=True)
    together = engine.generate(everything, sampling, 6)
    (alone,) = engine.generate(everything[4:5], Sampling(10, 1.2, seeds=(74,), record=True), 1)
    assert alone.token_ids == together[4].token_ids
    (other,) = engine.generate(everything[4:5], Sampling(10, 1.2, seeds=(75,), record=True), 1)
    assert other.token_ids != alone.token_ids


def test_generation_settings_of_the_folder_change_nothing(
    engine: TransformersEngine, tiny_teacher: Path, tmp_path: Path
) -> None:
    """A repetition penalty or min-p of the folder would be a part of the policy that no record tells."""
    folder = shutil.copytree(tiny_teacher, tmp_path / "teacher")
    settings = {"repetition_penalty": 5.0, "min_p": 0.5, "top_k": 2, "do_sample": True, "temperature": 0.1}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    other = TransformersEngine(folder, engine.tokenizer)
    for sampling in (Sampling(10, 1.2, seed=5, record=True), Sampling(10, 1.2, seed=5), Sampling(10)):
        assert other.generate(asked(engine), sampling, 3) == engine.generate(asked(engine), sampling, 3)
