"""The loop: one trajectory for any micro-batch split, an independent reference, skipping, selection."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dcod.config import CorrectionConfig, TrainConfig
from dcod.config.schema import ScoreConfig
from dcod.engines.transformers import TransformersEngine
from dcod.errors import UserError
from dcod.models import loading
from dcod.models.batches import collate, micro_batches, stored_record
from dcod.objective import weighting
from dcod.objective.corrections import CORRECTIONS
from dcod.objective.losses import LOSSES
from dcod.score import fields
from dcod.score.fields._find import ways
from dcod.traces.prompts import load_tokenizer
from dcod.traces.scored import ScoredTrace
from dcod.train import loop
from dcod.train import step as stepping
from dcod.train.sets import ListedTraces, Schedule


@pytest.fixture(scope="module")
def examples(tiny_student: Path) -> list[ScoredTrace]:
    """Scored traces: three of each of eight prompts, with a made-up teacher."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda n: torch.randint(3, 200, (n,), generator=generator).tolist()  # noqa: E731
    out = []
    for prompt in range(8):
        tokens = draw(5 + prompt)
        for copy in range(3):
            completion = [*draw(3 + 4 * copy + prompt), 2]
            behavior = (-3 - torch.rand(len(completion), generator=generator)).tolist()
            out.append(ScoredTrace(f"{prompt}/{copy}", str(prompt), tokens, completion, [], [], behavior))
    engine = TransformersEngine(tiny_student, load_tokenizer(tiny_student))
    fields.annotate(engine, out, ScoreConfig(batch_tokens=512, local_window=4), ways())
    for number, example in enumerate(out):
        example.success = 1 / (2 + number % 5)
        example.given = 1.0 + number % 5
    return out


def run(student: Path, examples: list[ScoredTrace], **knobs: object) -> tuple[loop.Result, torch.Tensor]:
    values = {"learning_rate": 1e-2, "epochs": 2, "traces_per_step": 6, **knobs}
    model = loading.load(student)
    rows: list[dict[str, float]] = []
    result = loop.train(
        model, examples[6:], examples[:6], TrainConfig.model_validate(values), 0, lambda m: None,
        lambda values, step: rows.append(values),
    )  # fmt: skip
    assert len(rows) == len(result.history) + 1
    return result, torch.cat([p.detach().flatten() for p in model.parameters()])


# iw_sft compares the student with its start, so stored scores, which are the start's, are refused
ONLY = {"iw_sft": ("live",), "success": ("stored",)}
WEIGHED = [(n, w) for n in sorted(CORRECTIONS) for w in ONLY.get(n, ("stored", "live"))]


@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize(("name", "weights"), WEIGHED)
def test_one_trajectory_for_any_micro_batch_split(
    tiny_student: Path, examples: list[ScoredTrace], name: str, weights: str, layout: str
) -> None:
    # the threshold parts the tokens of this student, to which all are some 1/259
    options = {"name": name, "ess_floor": 0.5, "weights": weights, "threshold": 0.0035}
    knobs = {"correction": CorrectionConfig.model_validate(options), "epochs": 1}
    whole, found = run(tiny_student, examples, micro_batch_tokens=4096, **knobs)
    split, other_found = run(tiny_student, examples, micro_batch_tokens=1, layout=layout, **knobs)
    for one, other in zip(whole.history, split.history, strict=True):
        for figure in ("loss", "grad_norm", "gamma"):
            assert one[figure] == pytest.approx(other[figure], rel=2e-4)
    torch.testing.assert_close(found, other_found, atol=2e-3, rtol=1e-2)
    assert whole.weights["counts"] == split.weights["counts"] or weights == "live"  # live: to the last digit only


def test_weights_that_leave_nothing_are_refused(tiny_student: Path, examples: list[ScoredTrace]) -> None:
    with pytest.raises(UserError, match=r"token_support leaves no token of step 1 any weight"):
        run(tiny_student, examples, correction=CorrectionConfig(name="token_support", threshold=0.9), epochs=1)


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_loss_learns_and_follows_one_trajectory(
    tiny_student: Path, examples: list[ScoredTrace], loss: str
) -> None:
    """With the teacher's top-k travelling along, an anchor, and a correction."""
    told = [replace(e) for e in examples]
    TransformersEngine(tiny_student, load_tokenizer(tiny_student)).annotate(told, 512, top_k=4)
    for example in told:  # a teacher that is sure of what it wrote
        example.teacher_top_ids = [[token, 3] for token in example.completion_tokens]
        example.teacher_top_logprobs = [[-0.1, -5.0] for _ in example.completion_tokens]
    knobs = {"correction": CorrectionConfig(name="trace", ess_floor=0.5), "loss": {"name": loss}, "anchor": 0.1}
    whole, _ = run(tiny_student, told, micro_batch_tokens=4096, epochs=6, **knobs)
    split, _ = run(tiny_student, told, micro_batch_tokens=1, epochs=1, layout="packed", **knobs)
    for one, other in zip(whole.history, split.history, strict=False):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)
        break  # the schedules part after the first step
    assert whole.best_nll < whole.start_nll


def test_lagged_statistics_are_those_of_a_scoring_pass(tiny_student: Path, examples: list[ScoredTrace]) -> None:
    """Live: gamma of step n is what a scoring pass with the student before step n - 1 would have chosen for it."""
    train_set, correction = examples[6:], CorrectionConfig(name="trace", ess_floor=0.7, weights="live")
    config = TrainConfig(learning_rate=1e-2, epochs=1, traces_per_step=6, correction=correction)
    model = loading.load(tiny_student)
    scored: list[float] = []
    schedule = Schedule(ListedTraces(train_set), config, 0)
    order = [schedule[number] for number in range(len(schedule))]

    def score(step: list[ScoredTrace]) -> None:
        copies = [replace(e) for e in step]
        engine = TransformersEngine(tiny_student, load_tokenizer(tiny_student))
        engine.model.load_state_dict(model.state_dict())
        engine.annotate(copies, 512)
        scored.append(weighting.plan(correction, stored_record(copies)).gamma)

    score(order[0])  # the first step has no step before it: it takes the stored scores
    score(order[0])

    def after(_: dict[str, float], number: int) -> None:
        if 0 < number < len(order):
            score(order[number])

    result = loop.train(model, train_set, [], config, 0, lambda m: None, after)
    gammas = [row["gamma"] for row in result.history]
    assert gammas == pytest.approx(scored[: len(gammas)], rel=1e-3)
    assert len(set(gammas)) > 1


def test_staleness_says_how_far_the_student_has_moved(tiny_student: Path, examples: list[ScoredTrace]) -> None:
    """Zero at the first step, whose student is the one that was scored, and growing from there."""
    result, _ = run(tiny_student, examples, correction=CorrectionConfig(name="trace"))
    moved = [row["staleness"] for row in result.history]
    assert moved[0] == pytest.approx(0.0, abs=1e-4)
    assert 0.0 < moved[1] < moved[-1]


def test_totals_serve_a_mixture_of_tokenizers(tiny_student: Path, examples: list[ScoredTrace]) -> None:
    """One trace without per-token log-probs: all are compared by their totals; `prefix` refuses."""
    mixed = [replace(e, behavior_logprobs=None, behavior_total=-9.0) if i == 9 else e for i, e in enumerate(examples)]
    known = Schedule(ListedTraces(mixed), TrainConfig(traces_per_step=len(mixed)), 0)[0]
    assert len(known) == len(mixed)
    assert all(e.behavior_logprobs is None and e.behavior_total is not None for e in known)
    run(tiny_student, mixed, correction=CorrectionConfig(name="trace"))
    with pytest.raises(UserError, match="behavior_logprobs, which 1 of 18 traces lack"):
        run(tiny_student, mixed, correction=CorrectionConfig(name="prefix"))


def test_divergences_and_anchor_say_what_is_missing(tiny_student: Path, examples: list[ScoredTrace]) -> None:
    with pytest.raises(UserError, match="teacher_top_ids, which 18 of 18"):
        run(tiny_student, examples, loss={"name": "jsd"})
    with pytest.raises(UserError, match=r"score.top_k"):
        run(tiny_student, examples, anchor=0.5)
    with pytest.raises(ValueError, match="focus multiplies"):
        TrainConfig.model_validate({"focus": 1.0, "loss": {"name": "gce"}})


def test_an_anchor_keeps_the_student_near_its_start(tiny_student: Path, examples: list[ScoredTrace]) -> None:
    told = [replace(e) for e in examples]
    engine = TransformersEngine(tiny_student, load_tokenizer(tiny_student))
    engine.annotate(told, 512, top_k=259)  # the whole vocabulary: within the tail an anchor is blind
    free, _ = run(tiny_student, told, epochs=12, learning_rate=2e-3)
    held, _ = run(tiny_student, told, epochs=12, learning_rate=2e-3, anchor=500.0)
    assert held.history[-1]["staleness"] < 0.5 * free.history[-1]["staleness"]


def test_gamma_zero_is_sft_bit_for_bit(tiny_student: Path, examples: list[ScoredTrace]) -> None:
    _, plain = run(tiny_student, examples)
    _, tempered = run(tiny_student, examples, correction=CorrectionConfig(name="trace", gamma_max=0.0, floor=0.3))
    assert torch.equal(plain, tempered)
    _, corrected = run(tiny_student, examples, correction=CorrectionConfig(name="trace", ess_floor=0.1))
    assert not torch.equal(plain, corrected)


def test_the_first_loss_is_an_independent_cross_entropy(tiny_student: Path, examples: list[ScoredTrace]) -> None:
    result, _ = run(tiny_student, examples, epochs=1)
    step = Schedule(ListedTraces(examples[6:]), TrainConfig(traces_per_step=6), 0)[0]
    model, total, count = loading.load(tiny_student), 0.0, 0
    for example in step:
        tokens = torch.tensor([example.prompt_tokens + example.completion_tokens])
        logits = model(tokens).logits[0, len(example.prompt_tokens) - 1 : -1]
        total += float(F.cross_entropy(logits, torch.tensor(example.completion_tokens), reduction="sum"))
        count += len(example.completion_tokens)
    assert result.history[0]["loss"] == pytest.approx(total / count, rel=1e-5)


def test_live_weights_of_the_first_step_equal_the_stored_ones(tiny_student: Path, examples: list[ScoredTrace]) -> None:
    """The scored student is the one that starts, so its first live step sees the very same numbers."""
    stored, _ = run(tiny_student, examples, correction=CorrectionConfig(name="trace", ess_floor=0.5))
    live, _ = run(tiny_student, examples, correction=CorrectionConfig(name="trace", ess_floor=0.5, weights="live"))
    assert live.history[0]["loss"] == pytest.approx(stored.history[0]["loss"], rel=1e-4)
    assert live.history[0]["gamma"] == pytest.approx(stored.history[0]["gamma"], rel=1e-3)
    assert live.history[-1]["loss"] != pytest.approx(stored.history[-1]["loss"], rel=1e-9)


def test_scores_do_not_depend_on_the_batch(tiny_student: Path, examples: list[ScoredTrace]) -> None:
    engine = TransformersEngine(tiny_student, load_tokenizer(tiny_student))
    alone = engine.score(examples, 1)
    for example, (logprobs, entropies) in zip(examples, alone, strict=True):
        assert logprobs == pytest.approx(example.student_logprobs, abs=1e-4)
        assert entropies == pytest.approx(example.entropies, abs=1e-4)


def test_missing_log_probs_stop_with_counts(tiny_student: Path, examples: list[ScoredTrace]) -> None:
    lacking = [replace(e, behavior_logprobs=None) if i % 2 else e for i, e in enumerate(examples)]
    with pytest.raises(UserError, match="behavior_logprobs, which 9 of 18 traces lack"):
        run(tiny_student, lacking, correction=CorrectionConfig(name="prefix"))


def test_non_finite_steps_are_skipped_then_stop(
    tiny_student: Path, examples: list[ScoredTrace], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = stepping._accumulate, iter(range(100))

    def sometimes(*arguments: object) -> object:
        loss, *rest = original(*arguments)  # type: ignore[arg-type]
        return (float("nan") if next(calls) in bad else loss), *rest

    monkeypatch.setattr(stepping, "_accumulate", sometimes)
    bad = {1}
    assert run(tiny_student, examples)[0].skipped == 1
    bad, calls = {1, 2, 3}, iter(range(100))
    with pytest.raises(UserError, match="not finite in 3 steps in a row"):
        run(tiny_student, examples)


def test_out_of_memory_halves_the_micro_batches_and_nothing_else(
    tiny_student: Path, examples: list[ScoredTrace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step is split further, the row says so, and the trajectory stays what it was."""
    correction = CorrectionConfig(name="trace", ess_floor=0.5)
    calm, weights = run(tiny_student, examples, correction=correction)
    original = stepping._accumulate

    def small(learner: object, parts: list[tuple[list[ScoredTrace], object]], *rest: object) -> object:
        if max(len(g) * max(map(len, g)) for g, _ in parts) > 150:
            raise torch.OutOfMemoryError
        return original(learner, parts, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(stepping, "_accumulate", small)
    found, same = run(tiny_student, examples, correction=correction)
    assert calm.history[0]["micro_batch_tokens"] == 2048
    assert found.history[0]["micro_batch_tokens"] < 256
    for one, other in zip(calm.history, found.history, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=2e-4)
    assert found.weights["counts"] == calm.weights["counts"]
    torch.testing.assert_close(same, weights, atol=2e-3, rtol=1e-2)
    monkeypatch.setattr(stepping, "_accumulate", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError()))
    with pytest.raises(UserError, match=r"out of memory with train\.micro_batch_tokens="):
        run(tiny_student, examples)


def test_patience_ends_a_run_that_no_longer_gets_better(tiny_student: Path, examples: list[ScoredTrace]) -> None:
    knobs = {"epochs": 8, "validations": 24, "learning_rate": 0.05}
    long, _ = run(tiny_student, examples, **knobs)
    short, _ = run(tiny_student, examples, patience=2, **knobs)
    measured = [row["selection_nll"] for row in short.history if "selection_nll" in row]
    assert len(short.history) < len(long.history)
    assert short.best_step == long.best_step
    assert min(measured) < min(measured[-2:])


def test_steps_keep_prompts_together_and_lose_nothing(examples: list[ScoredTrace]) -> None:
    schedule = Schedule(ListedTraces(examples), TrainConfig(traces_per_step=5, epochs=2), seed=1)
    both = [schedule[number] for number in range(len(schedule))]
    found, again = both[: len(both) // 2], both[len(both) // 2 :]
    assert sorted(e.trace_id for step in found for e in step) == sorted(e.trace_id for e in examples)
    assert all(len(step) == 6 for step in found)
    assert found != again
    groups = micro_batches(examples, 100, by_prompt=True)
    assert sorted(e.trace_id for g in groups for e in g) == sorted(e.trace_id for e in examples)
    for prompt in {e.prompt_id for e in examples}:
        assert sum(any(e.prompt_id == prompt for e in g) for g in groups) == 1


def test_ranks_share_a_step_without_loss(examples: list[ScoredTrace]) -> None:
    shares = [stepping.rank_share(examples, rank, 3) for rank in range(3)]
    assert sorted(e.trace_id for s in shares for e in s) == sorted(e.trace_id for e in examples)
    assert all(shares)


@pytest.mark.parametrize(
    ("name", "weights", "layout"),
    [("trace", "stored", "padded"), ("trace", "live", "packed"), ("prefix", "live", "padded")],
)
def test_two_ranks_follow_the_trajectory_of_one(
    tiny_student: Path, examples: list[ScoredTrace], name: str, weights: str, layout: str, tmp_path: Path
) -> None:
    """Two processes on gloo, a global normaliser, gamma over both: the loss and the norm of every step agree."""
    correction = CorrectionConfig.model_validate({"name": name, "ess_floor": 0.5, "weights": weights})
    alone, _ = run(tiny_student, examples, correction=correction)
    knobs = {"learning_rate": 1e-2, "epochs": 2, "traces_per_step": 6, "layout": layout}
    config = TrainConfig.model_validate({**knobs, "correction": correction.model_dump()})
    (tmp_path / "examples").write_bytes(pickle.dumps((examples[6:], examples[:6])))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "tests.two_ranks", str(tiny_student), str(tmp_path), config.model_dump_json()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    both = json.loads((tmp_path / "history").read_text())
    assert len(both) == len(alone.history) == 6
    for one, other in zip(alone.history, both, strict=True):
        assert set(one) == set(other)
        for figure in {"loss", "grad_norm", "gamma", "selection_nll"} & set(one):
            assert one[figure] == pytest.approx(other[figure], rel=1e-3), figure


def test_padding_is_never_counted(examples: list[ScoredTrace]) -> None:
    batch = collate(examples[:3], pad_id=2)
    assert len(batch.targets) == sum(len(e.completion_tokens) for e in examples[:3])
    assert (
        batch.spread(batch.targets)[0, : len(examples[0].completion_tokens)].tolist() == examples[0].completion_tokens
    )
