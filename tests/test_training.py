"""The loop: one trajectory for any micro-batch split, an independent reference, skipping, selection."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dcod import models, training
from dcod.config import CorrectionConfig, TrainConfig
from dcod.engines.transformers import TransformersEngine
from dcod.errors import UserError
from dcod.packing import Example, collate, micro_batches, steps
from dcod.prompts import load_tokenizer


@pytest.fixture(scope="module")
def examples(tiny_student: Path) -> list[Example]:
    """Scored traces: three of each of eight prompts, with a made-up teacher."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda n: torch.randint(3, 200, (n,), generator=generator).tolist()  # noqa: E731
    out = []
    for prompt in range(8):
        tokens = draw(5 + prompt)
        for copy in range(3):
            completion = [*draw(3 + 4 * copy + prompt), 2]
            behavior = (-3 - torch.rand(len(completion), generator=generator)).tolist()
            out.append(Example(f"{prompt}/{copy}", str(prompt), tokens, completion, [], [], behavior))
    engine = TransformersEngine(tiny_student, load_tokenizer(tiny_student))
    for example, (logprobs, entropies) in zip(out, engine.score(out, 512), strict=True):
        example.student_logprobs, example.entropies = logprobs, entropies
    return out


def run(student: Path, examples: list[Example], **knobs: object) -> tuple[training.Result, torch.Tensor]:
    values = {"learning_rate": 1e-2, "epochs": 2, "traces_per_step": 6, **knobs}
    model = models.load(student)
    rows: list[dict[str, float]] = []
    result = training.train(
        model, examples[6:], examples[:6], TrainConfig.model_validate(values), 0, lambda m: None,
        lambda values, step: rows.append(values),
    )  # fmt: skip
    assert len(rows) == len(result.history) + 1
    return result, torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("name", ["none", "prefix", "trace", "surprisal"])
def test_one_trajectory_for_any_micro_batch_split(tiny_student: Path, examples: list[Example], name: str) -> None:
    correction = CorrectionConfig(name=name, ess_floor=0.5)  # type: ignore[arg-type]
    whole, weights = run(tiny_student, examples, correction=correction, micro_batch_tokens=4096)
    split, split_weights = run(tiny_student, examples, correction=correction, micro_batch_tokens=1)
    for one, other in zip(whole.history, split.history, strict=True):
        for figure in ("loss", "grad_norm", "gamma"):
            assert one[figure] == pytest.approx(other[figure], rel=2e-4)
    torch.testing.assert_close(weights, split_weights, atol=2e-3, rtol=1e-2)


def test_gamma_zero_is_sft_bit_for_bit(tiny_student: Path, examples: list[Example]) -> None:
    _, plain = run(tiny_student, examples)
    _, tempered = run(tiny_student, examples, correction=CorrectionConfig(name="trace", gamma_max=0.0, floor=0.3))
    assert torch.equal(plain, tempered)
    _, corrected = run(tiny_student, examples, correction=CorrectionConfig(name="trace", ess_floor=0.1))
    assert not torch.equal(plain, corrected)


def test_the_first_loss_is_an_independent_cross_entropy(tiny_student: Path, examples: list[Example]) -> None:
    result, _ = run(tiny_student, examples, epochs=1)
    step = next(iter(steps(examples[6:], 6, 0, 0)))
    model, total, count = models.load(tiny_student), 0.0, 0
    for example in step:
        tokens = torch.tensor([example.prompt_tokens + example.completion_tokens])
        logits = model(tokens).logits[0, len(example.prompt_tokens) - 1 : -1]
        total += float(F.cross_entropy(logits, torch.tensor(example.completion_tokens), reduction="sum"))
        count += len(example.completion_tokens)
    assert result.history[0]["loss"] == pytest.approx(total / count, rel=1e-5)


def test_live_weights_of_the_first_step_equal_the_stored_ones(tiny_student: Path, examples: list[Example]) -> None:
    """The scored student is the one that starts, so its first live step sees the very same numbers."""
    stored, _ = run(tiny_student, examples, correction=CorrectionConfig(name="trace", ess_floor=0.5))
    live, _ = run(tiny_student, examples, correction=CorrectionConfig(name="trace", ess_floor=0.5, weights="live"))
    assert live.history[0]["loss"] == pytest.approx(stored.history[0]["loss"], rel=1e-4)
    assert live.history[0]["gamma"] == pytest.approx(stored.history[0]["gamma"], rel=1e-3)
    assert live.history[-1]["loss"] != pytest.approx(stored.history[-1]["loss"], rel=1e-9)


def test_scores_do_not_depend_on_the_batch(tiny_student: Path, examples: list[Example]) -> None:
    engine = TransformersEngine(tiny_student, load_tokenizer(tiny_student))
    alone = engine.score(examples, 1)
    for example, (logprobs, entropies) in zip(examples, alone, strict=True):
        assert logprobs == pytest.approx(example.student_logprobs, abs=1e-4)
        assert entropies == pytest.approx(example.entropies, abs=1e-4)


def test_missing_log_probs_stop_with_counts(tiny_student: Path, examples: list[Example]) -> None:
    from dataclasses import replace

    lacking = [replace(e, behavior_logprobs=None) if i % 2 else e for i, e in enumerate(examples)]
    with pytest.raises(UserError, match="behavior_logprobs, which 9 of 18 traces lack"):
        run(tiny_student, lacking, correction=CorrectionConfig(name="prefix"))


def test_non_finite_steps_are_skipped_then_stop(
    tiny_student: Path, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = training._accumulate, iter(range(100))

    def sometimes(*arguments: object) -> object:
        loss, *rest = original(*arguments)  # type: ignore[arg-type]
        return (float("nan") if next(calls) in bad else loss), *rest

    monkeypatch.setattr(training, "_accumulate", sometimes)
    bad = {1}
    assert run(tiny_student, examples)[0].skipped == 1
    bad, calls = {1, 2, 3}, iter(range(100))
    with pytest.raises(UserError, match="not finite in 3 steps in a row"):
        run(tiny_student, examples)


def test_steps_keep_prompts_together_and_lose_nothing(examples: list[Example]) -> None:
    found = list(steps(examples, 5, seed=1, epoch=0))
    assert sorted(e.trace_id for step in found for e in step) == sorted(e.trace_id for e in examples)
    assert all(len(step) == 6 for step in found)
    assert found != list(steps(examples, 5, seed=1, epoch=1))
    groups = micro_batches(examples, 100, by_prompt=True)
    assert sorted(e.trace_id for g in groups for e in g) == sorted(e.trace_id for e in examples)
    for prompt in {e.prompt_id for e in examples}:
        assert sum(any(e.prompt_id == prompt for e in g) for g in groups) == 1


def test_ranks_share_a_step_without_loss(examples: list[Example]) -> None:
    shares = [training.rank_share(examples, rank, 3) for rank in range(3)]
    assert sorted(e.trace_id for s in shares for e in s) == sorted(e.trace_id for e in examples)
    assert all(shares)


@pytest.mark.parametrize("weights", ["stored", "live"])
def test_two_ranks_follow_the_trajectory_of_one(
    tiny_student: Path, examples: list[Example], weights: str, tmp_path: Path
) -> None:
    """Two processes on gloo, a global normaliser, gamma over both: the loss and the norm of every step agree."""
    correction = CorrectionConfig(name="trace", ess_floor=0.5, weights=weights)  # type: ignore[arg-type]
    alone, _ = run(tiny_student, examples, correction=correction)
    config = TrainConfig(learning_rate=1e-2, epochs=2, traces_per_step=6, correction=correction)
    (tmp_path / "examples").write_bytes(pickle.dumps(examples))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "tests.two_ranks", str(tiny_student), str(tmp_path / "examples"), config.model_dump_json()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [*command, str(tmp_path / "history")], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    both = json.loads((tmp_path / "history").read_text())
    assert len(both) == len(alone.history) == 6
    for one, other in zip(alone.history, both, strict=True):
        assert set(one) == set(other)
        for figure in {"loss", "grad_norm", "gamma", "selection_nll"} & set(one):
            assert one[figure] == pytest.approx(other[figure], rel=1e-3), figure


def test_padding_is_never_counted(examples: list[Example]) -> None:
    batch = collate(examples[:3], pad_id=2)
    assert len(batch.targets) == sum(len(e.completion_tokens) for e in examples[:3])
    assert (
        batch.spread(batch.targets)[0, : len(examples[0].completion_tokens)].tolist() == examples[0].completion_tokens
    )
