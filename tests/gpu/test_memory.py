"""Memory that does not hold a micro-batch: `auto` finds a size that fits; what never fits is one line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from dcod.errors import UserError
from dcod.models.batches import Batch
from dcod.train.learner import StudentWithLoss
from tests.gpu.students import DEVICE, furthest, run, traces

EXAMPLES = traces(48, longest=600 if DEVICE == "cuda" else 60)
KNOBS: dict[str, Any] = {"traces_per_step": 24, "micro_batch_tokens": "auto"}


@pytest.fixture
def room(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """So much memory: MiB of a GPU beyond what is taken; 0, or on a CPU: tokens of a forward pass."""
    mib, tokens = request.param
    if DEVICE == "cuda" and mib:
        some = torch.ones(64, 64, device=DEVICE)
        assert float((some @ some).sum()) > 0  # the library's own workspace is taken before
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + mib * 2**20) / total)
        yield
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
        return
    own = StudentWithLoss.forward

    def forward(self: Any, batch: Batch, *rest: Any, **named: Any) -> Any:
        if batch.input_ids.numel() > tokens:
            raise torch.OutOfMemoryError
        return own(self, batch, *rest, **named)

    monkeypatch.setattr(StudentWithLoss, "forward", forward)
    yield


def test_automatic_micro_batches_are_the_steps_themselves() -> None:
    history, _ = run(EXAMPLES, **KNOBS)
    assert history[-1]["micro_batch_tokens"] == (65536 if DEVICE == "cuda" else 2048)


@pytest.mark.parametrize("room", [(120, 500)], indirect=True)
def test_automatic_micro_batches_fit(room: None, record_property: Any) -> None:
    history, _ = run(EXAMPLES, **KNOBS)
    size = int(history[-1]["micro_batch_tokens"])
    record_property("size", size)
    assert 64 <= size < (65536 if DEVICE == "cuda" else 2048)
    if DEVICE == "cuda":
        torch.cuda.set_per_process_memory_fraction(1.0)
        assert furthest(run(EXAMPLES, **{**KNOBS, "micro_batch_tokens": size})[0], history) < 1e-3


@pytest.mark.parametrize("room", [(0, 5)], indirect=True)
def test_what_never_fits_is_one_line(room: None) -> None:
    with pytest.raises(UserError, match=r"out of memory with train\.micro_batch_tokens=\d+ .*; lower it") as caught:
        run(EXAMPLES, **KNOBS)
    assert "\n" not in str(caught.value)
