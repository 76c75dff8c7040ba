"""Documents in a packed row, traces scored together, prompts written to together: none sees its neighbours.

What stands beside one is changed, with the attention that is really used on this device.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch

from dcod.config import TrainConfig
from dcod.engines import Sampling
from dcod.models import attention
from dcod.models.attention import hidden_states
from dcod.models.batches import ScoredTrace, collate, to_device
from dcod.train import learner
from tests.gpu.students import DEVICE, V, engine, student

WAYS = {  # the number format of the weights, and of the arithmetic
    "float32": (torch.float32, False),
    "bfloat16": (torch.bfloat16, False),
    "autocast": (torch.float32, True),
}
SIZES = (40, 9, 77, 33)
Say = Callable[[str, object], None]


def examples(low: int, high: int, seed: int) -> list[ScoredTrace]:
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.randint(low, high, (size,), generator=generator).tolist() for size in SIZES)
    return [ScoredTrace(str(i), str(i), tokens[:2], tokens[2:], [], []) for i, tokens in enumerate(drawn)]


def arithmetic(low: bool) -> AbstractContextManager[Any]:
    return torch.autocast(DEVICE, torch.bfloat16) if low else nullcontext()


@pytest.mark.parametrize("way", WAYS)
def test_packed_documents_do_not_see_each_other(
    way: str, monkeypatch: pytest.MonkeyPatch, record_property: Say
) -> None:
    dtype, low = WAYS[way]
    model = student(dtype).to(DEVICE).eval()
    config = TrainConfig.model_validate({"precision": "bfloat16" if low else "float32"})
    assert learner.way_of(config, model, torch.device(DEVICE))[1] == "packed"
    calls = []
    own = attention._by_varlen
    monkeypatch.setattr(attention, "_by_varlen", lambda *rest: calls.append(1) or own(*rest))
    ours, others = examples(3, V // 2, 0), examples(V // 2, V, 1)
    mixed = [ours[0], others[1], ours[2], others[3]]

    def states(traces: list[ScoredTrace]) -> torch.Tensor:
        with arithmetic(low):
            return hidden_states(model, to_device(collate(traces, layout="packed"), DEVICE)).float()

    sizes = [size - 2 for size in SIZES]
    with torch.no_grad():
        together, beside = states(ours).split(sizes), states(mixed).split(sizes)
        alone = [states([trace]) for trace in ours]
    record_property("attention", "varlen flash" if calls else f"{model.config._attn_implementation} through sdpa")
    half = dtype == torch.bfloat16 or low
    assert bool(calls) == (half and DEVICE == "cuda")
    for place in (0, 2):
        torch.testing.assert_close(beside[place], together[place], atol=1e-6, rtol=0)
    for place in (1, 3):  # the trial can fail
        assert (beside[place] - together[place]).abs().max() > 0.1
    for one, other in zip(together, alone, strict=True):
        assert float((one - other).norm() / other.norm()) < (2e-2 if half else 1e-5)
    # a loss on documents of one kind has no gradient in tokens of the other
    chosen = states(mixed).split(sizes)
    (chosen[0].square().sum() + chosen[2].sin().sum()).backward()
    grad = model.get_input_embeddings().weight.grad
    assert float(grad[: V // 2].abs().max()) > 0
    assert float(grad[V // 2 :].abs().max()) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_scoring_and_writing_do_not_see_neighbours(dtype: torch.dtype, record_property: Say) -> None:
    scorer = engine(dtype)
    ours, others = examples(3, V // 2, 0), examples(V // 2, V, 1)
    mixed = [ours[0], others[1], ours[2], others[3]]
    together, beside = (scorer.score(traces, 4096) for traces in (ours, mixed))
    for place in (0, 2):
        assert together[place][0] == pytest.approx(beside[place][0], abs=1e-6)
    assert together[1][0] != pytest.approx(beside[1][0], abs=1e-2)
    alone = [scorer.score([trace], 4096)[0][0] for trace in ours]
    bound = 1e-4 if dtype == torch.float32 else 0.1
    for (one, _), other in zip(together, alone, strict=True):
        assert one == pytest.approx(other, abs=bound)
    record_property("layout of scoring", scorer.layout)
    assert scorer.padding == "left"
    if dtype == torch.float32:  # coarser numbers tie
        prompts = [trace.prompt_tokens + trace.completion_tokens for trace in ours]
        answers = scorer.generate(prompts, Sampling(6), 8)
        for prompt, answer in zip(prompts, answers, strict=True):
            assert scorer.generate([prompt], Sampling(6), 1)[0].token_ids == answer.token_ids


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
def test_the_flash_kernel_is_there() -> None:
    assert attention.varlen_usable(torch.device("cuda"))
