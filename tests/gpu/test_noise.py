"""Scores of a GPU against those of a CPU: the noise floor of docs/method.md, section 1.3, on a small student."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bench.gpu.noise import compared
from tests.gpu.students import DEVICE, engine, traces


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-4), (torch.bfloat16, 0.15)], ids=str)
def test_scores_are_those_of_a_cpu(dtype: torch.dtype, bound: float, record_property: Any) -> None:
    examples = traces(16)
    base = [one for one, _ in engine(torch.float32, "cpu").score(examples, 2048)]
    ours = [one for one, _ in engine(dtype).score(examples, 2048)]
    found = compared(ours, base)
    record_property(DEVICE, f"token mean {found['token_mean']:.1e}, max {found['token_max']:.1e}")
    assert found["token_max"] < bound
    assert found["trace_ess_share"] > 0.5
