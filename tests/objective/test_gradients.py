"""Every correction with every loss and focus: one step's gradient against plain autograd in float64.

The reference runs the whole model in float64, builds the full logits, writes the losses out, and takes the
weights of dcod.objective.weighting (which tests/objective/test_corrections.py checks against exact mathematics).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch

from dcod.config import CorrectionConfig, LossConfig, TrainConfig
from dcod.config.schema import ScoreConfig
from dcod.engines.transformers import TransformersEngine
from dcod.models import loading
from dcod.models.batches import Batch, Layout, collate, stored_record
from dcod.models.fused_head import Objective
from dcod.objective import weighting
from dcod.objective.corrections import CORRECTIONS
from dcod.objective.losses import LOSSES
from dcod.score import fields
from dcod.score.fields._find import ways
from dcod.traces.prompts import load_tokenizer
from dcod.traces.scored import ScoredTrace
from dcod.train.learner import StudentWithLoss, learner_for
from dcod.train.state import TrainState
from dcod.train.step import forward_backward

TOP = 5


@pytest.fixture(scope="module")
def scored(tiny_student: Path) -> list[ScoredTrace]:
    """Six traces of two prompts, with everything recorded that any correction or loss wants."""
    generator = torch.Generator().manual_seed(3)
    draw = lambda n: torch.randint(3, 200, (n,), generator=generator).tolist()  # noqa: E731
    out = []
    for prompt in range(2):
        tokens = draw(4 + prompt)
        for copy in range(3):
            completion = [*draw(4 + 3 * copy), 2]
            behavior = (-3 - torch.rand(len(completion), generator=generator)).tolist()
            out.append(ScoredTrace(f"{prompt}/{copy}", str(prompt), tokens, completion, [], [], behavior))
    engine = TransformersEngine(tiny_student, load_tokenizer(tiny_student))
    fields.annotate(engine, out, ScoreConfig(batch_tokens=512, top_k=TOP, local_window=4), ways())
    for example in out:
        example.success = 1 / (2 + len(example.completion_tokens))
        size = len(example.completion_tokens)
        example.given, example.local_logprobs = 1.0 + size, (-9 * torch.rand(size, generator=generator)).tolist()
        logprobs = torch.log_softmax(2 * torch.randn(size, 259, generator=generator), 1)
        values, ids = logprobs.topk(TOP, dim=1)
        example.teacher_top_ids, example.teacher_top_logprobs = ids.tolist(), values.tolist()
    return out


def reference_loss(name: str, config: LossConfig, logits: torch.Tensor, targets: torch.Tensor, batch: Batch) -> Any:
    """The losses written out, over the full logits [N, V], in float64 [N]."""
    logprobs = torch.log_softmax(logits, 1)
    chosen = logprobs.gather(1, targets[:, None])[:, 0]
    if name == "log":
        return -chosen
    if name == "gce":
        return (1 - chosen.exp() ** config.power) / config.power
    if name == "deft":
        power = (logprobs.exp() ** 2).sum(1).detach()
        return (1 - chosen.exp() ** power) / power
    assert batch.teacher is not None
    apart = divergence(name, config, logprobs, batch.teacher.ids, batch.teacher.logprobs.double())
    return (1 - config.cross_entropy) * apart - config.cross_entropy * chosen


def divergence(
    name: str, config: LossConfig, logprobs: torch.Tensor, ids: torch.Tensor, known: torch.Tensor
) -> torch.Tensor:
    q_top = logprobs.gather(1, ids).exp()
    q = torch.cat([q_top, 1 - q_top.sum(1, keepdim=True)], 1)
    p_top = known.exp()
    p = torch.cat([p_top, 1 - p_top.sum(1, keepdim=True)], 1)
    if name == "forward_kl":
        return (p * (p / q).log()).sum(1)
    if name == "reverse_kl":
        return (q * (q / p).log()).sum(1)
    if name == "todi":
        towards = (p / (p + q)).detach()
        return (towards * p * (p / q).log() + (1 - towards) * q * (q / p).log()).sum(1)
    share = config.beta if name == "jsd" else config.skew
    m = share * p + (1 - share) * q
    left = (p * (p / m).log()).sum(1)
    return left if name == "skew_kl" else share * left + (1 - share) * (q * (q / m).log()).sum(1)


def gradient(model: Any) -> torch.Tensor:
    return torch.cat([p.grad.double().flatten() for p in model.parameters() if p.grad is not None])


def weights_of(correction: CorrectionConfig, examples: list[ScoredTrace], batch: Batch) -> torch.Tensor:
    record = stored_record(examples)
    # the start is not the student here, so that iw_sft has something to weigh
    record = replace(record, start_logprobs=record.student_logprobs - torch.rand(record.mask.shape))
    plan = weighting.plan(correction, record)
    return weighting.weights(correction, plan, record)[batch.mask] / len(batch.targets)


MIXED = "todi, half log"
CONFIGS = {name: LossConfig(name=name) for name in sorted(LOSSES)}  # type: ignore[arg-type]
CONFIGS[MIXED] = LossConfig(name="todi", cross_entropy=0.5)
CASES = [("log", 0.0), ("log", 0.7), ("log", 1.0), *((name, 0.0) for name in CONFIGS if name != "log")]


# the anchor knows no weights: one correction is enough for it
COMBINED = [(name, *case, 0.0) for name in sorted(CORRECTIONS) for case in CASES] + [("trace", *c, 0.3) for c in CASES]


@pytest.mark.parametrize(("name", "loss", "focus", "anchor"), COMBINED)
def test_gradient_of_every_combination(
    tiny_student: Path, scored: list[ScoredTrace], name: str, loss: str, focus: float, anchor: float
) -> None:
    torch.manual_seed(0)
    knobs = {"name": name, "ess_floor": 0.3, "threshold": 0.0025}  # the start gives each token some 0.002
    correction, config = CorrectionConfig.model_validate(knobs), CONFIGS[loss]
    batch = collate(scored)
    weights = weights_of(correction, scored, batch)
    model, normaliser = loading.load(tiny_student), 1 / len(batch.targets)
    objective = Objective(config, focus, anchor, batch.teacher, batch.start, normaliser)
    value, _, _ = StudentWithLoss(model)(batch, lambda *_: weights, objective, False)
    value.backward()

    exact, logits = exact_logits(tiny_student, scored, batch)
    per_token = reference_loss(config.name, config, logits, batch.targets, batch)
    if focus:
        chosen = torch.log_softmax(logits, 1).gather(1, batch.targets[:, None])[:, 0]
        per_token = per_token * chosen.exp().detach() ** focus
    total = (weights.double() * per_token).sum()
    if anchor:
        assert batch.start is not None
        logprobs = torch.log_softmax(logits, 1)
        pull = divergence("forward_kl", config, logprobs, batch.start.ids, batch.start.logprobs.double())
        total = total + anchor * normaliser * pull.sum()
    total.backward()
    assert value.item() == pytest.approx(total.item(), rel=1e-4, abs=1e-6)
    ours, reference = gradient(model), gradient(exact)
    assert float((ours - reference).norm() / reference.norm()) < 2e-5


def exact_logits(student: Path, examples: list[ScoredTrace], batch: Batch) -> tuple[Any, torch.Tensor]:
    """The student in float64, and its logits at the counted tokens of a padded batch."""
    exact = loading.load(student).double()
    mask = (torch.arange(batch.input_ids.shape[1]) < torch.tensor([len(e) for e in examples])[:, None]).long()
    return exact, exact(input_ids=batch.input_ids, attention_mask=mask).logits[batch.rows, batch.columns]


@pytest.mark.parametrize("weights", ["stored", "live"])
@pytest.mark.parametrize("loss", [name for name in CONFIGS if name not in ("log", "gce", "deft")])
def test_support_with_its_options_multiplies_every_divergence(
    tiny_student: Path, scored: list[ScoredTrace], loss: str, weights: str
) -> None:
    """sigmoid((log pi - log mu - bias) / temperature), not rescaled, of the stored or of the very pass's log pi."""
    knobs = {"name": "support", "temperature": 1.5, "bias": -2.0, "normalise": False, "weights": weights}
    config = TrainConfig.model_validate({"correction": knobs, "loss": CONFIGS[loss].model_dump()})
    # scored a while ago: what is stored is not what the student thinks now
    traces = [
        replace(e, student_logprobs=[v - 0.9 * (t % 3) for t, v in enumerate(e.student_logprobs)]) for e in scored
    ]
    learner = learner_for(loading.load(tiny_student), config, 0)
    plan = weighting.plan(config.correction, stored_record(traces))
    value, _, _ = forward_backward(learner, traces, plan, TrainState(micro_batch_tokens=4096))

    batch = collate(traces)
    exact, logits = exact_logits(tiny_student, traces, batch)
    now = torch.log_softmax(logits, 1).gather(1, batch.targets[:, None])[:, 0].detach()
    stored = torch.tensor([v for e in traces for v in e.student_logprobs], dtype=torch.float64)
    teacher = torch.tensor([v for e in traces for v in e.behavior_logprobs or []], dtype=torch.float64)
    weight = torch.sigmoid(((now if weights == "live" else stored) - teacher + 2.0) / 1.5)
    per_token = reference_loss(CONFIGS[loss].name, CONFIGS[loss], logits, batch.targets, batch)
    total = (weight * per_token).sum() / len(batch.targets)
    total.backward()
    assert value == pytest.approx(total.item(), rel=1e-4)
    ours, reference = gradient(learner.student), gradient(exact)
    assert float((ours - reference).norm() / reference.norm()) < 2e-5


def test_each_likelihood_weighs_by_the_scores_of_its_own_name(scored: list[ScoredTrace]) -> None:
    record, found = stored_record(scored), []
    for name, field in (("naturalness", "student_logprobs"), ("local_naturalness", "local_logprobs")):
        found.append(CORRECTIONS[name](CorrectionConfig.model_validate({"name": name}), record)[:, 0])
        expected = torch.tensor([8 * mean(getattr(one, field)) for one in scored])
        torch.testing.assert_close(found[-1], expected)
    assert (found[0] - found[1]).abs().min() > 0.1


def left_padded(examples: list[ScoredTrace]) -> Batch:
    """As collate, with the padding in front."""
    right = collate(examples)
    width = right.input_ids.shape[1]
    shift = torch.tensor([width - len(e) for e in examples])
    ids, mask = torch.zeros_like(right.input_ids), torch.zeros_like(right.input_ids)
    for row, example in enumerate(examples):
        ids[row, int(shift[row]) :] = torch.tensor(example.prompt_tokens + example.completion_tokens)
        mask[row, int(shift[row]) :] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return replace(
        right, input_ids=ids, attention_mask=mask, position_ids=positions, columns=right.columns + shift[right.rows]
    )


@pytest.mark.parametrize("how", ["left", "packed", "alone"])
def test_one_loss_for_any_layout(tiny_student: Path, scored: list[ScoredTrace], how: str) -> None:
    """Padding on either side, one packed row, or every trace alone: the same log-probs and gradients."""
    generator = torch.Generator().manual_seed(1)
    whole = collate(scored)
    weights = torch.rand(len(whole.targets), generator=generator)
    start = 0
    model, other = loading.load(tiny_student), loading.load(tiny_student)
    loss, logprobs, _ = StudentWithLoss(model)(whole, lambda *_: weights, Objective(), False)
    loss.backward()
    groups = [[e] for e in scored] if how == "alone" else [scored]
    found, total = [], 0.0
    for group in groups:
        layout: Layout = "packed" if how == "packed" else "padded"
        batch = left_padded(group) if how == "left" else collate(group, layout=layout)
        part = weights[start : start + len(batch.targets)]
        start += len(batch.targets)
        value, some, _ = StudentWithLoss(other)(batch, lambda *_, part=part: part, Objective(), False)
        value.backward()
        total += value.item()
        found.append(some)
    assert total == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close(torch.cat(found), logprobs, atol=2e-5, rtol=1e-5)
    ours, reference = gradient(other), gradient(model)
    assert float((ours - reference).norm() / reference.norm()) < 2e-5


def test_packed_traces_do_not_see_each_other(tiny_student: Path, scored: list[ScoredTrace]) -> None:
    """Changing one trace of a packed row leaves the log-probs of all others as they were."""
    model = StudentWithLoss(loading.load(tiny_student))

    def logprobs(examples: list[ScoredTrace]) -> list[torch.Tensor]:
        batch = collate(examples, layout="packed")
        ones = torch.ones(len(batch.targets))
        _, found, _ = model(batch, lambda *_: ones, Objective(), False)
        return list(found.split([len(e.completion_tokens) for e in examples]))

    before = logprobs(scored)
    changed = [replace(scored[0], prompt_tokens=[9, 9, 9, 9, 9, 9, 9]), *scored[1:]]
    after = logprobs(changed)
    assert not torch.allclose(before[0], after[0], atol=1e-3)
    for one, other in zip(before[1:], after[1:], strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-5)
