"""Each member of the family against its formula (docs/method.md, section 1), written out in float64."""

from __future__ import annotations

import math

import pytest
import torch

from dcod.config import CorrectionConfig
from dcod.objective import corrections
from dcod.objective.step_scores import StepScores
from dcod.objective.weighting import plan, weights
from tests.objective.records import plain, random_record


def exact_record() -> StepScores:
    """Made-up scores in float64, so that a formula in plain numbers is met to the last digits."""
    record = random_record(traces=6)
    for name in ("student_logprobs", "behavior_logprobs", "entropies"):
        setattr(record, name, getattr(record, name).double())
    return record


def clipped(record: StepScores, low: float, high: float) -> list[list[float]]:
    """log pi - log mu of each token of each trace, by itself between two ends, as plain numbers."""
    assert record.behavior_logprobs is not None
    pairs = zip(record.student_logprobs.tolist(), record.behavior_logprobs.tolist(), strict=True)
    raw = [[pi - mu for pi, mu in zip(*pair, strict=True)] for pair in pairs]
    counts = [sum(inside) for inside in record.mask.tolist()]
    return [[min(max(value, low), high) for value in row[:n]] for row, n in zip(raw, counts, strict=True)]


def assert_log_weights(config: CorrectionConfig, record: StepScores, expected: list[list[float]]) -> None:
    """Those of a correction are these, behind the end of a trace as well."""
    found = corrections.CORRECTIONS[config.name](config, record)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=1e-12, rtol=1e-12)


def test_iw_sft_is_its_published_formula() -> None:
    """clamp(exp(tau * mean_t log(pi / pi_0)), 0, 16), then once rescaled to mean 1."""
    record = random_record(traces=6)
    config = CorrectionConfig(name="iw_sft", tau=4.0)
    found = weights(config, plan(config, record), record).double()
    expected = torch.zeros_like(found)
    for row in range(6):
        inside = record.mask[row]
        moved = (record.student_logprobs - record.start_logprobs)[row][inside].double().mean()  # type: ignore[operator]
        expected[row, inside] = (4.0 * moved).exp().clamp(max=16.0)
    expected /= expected.sum() / record.mask.sum()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("share", [0.5, 0.2, 0.8])
def test_the_expected_gradient_of_support_is_that_of_skew_kl(share: float) -> None:
    """At temperature 1, bias log(a/(1-a)), not rescaled: E_mu[-w grad log pi] = grad KL(mu || a mu + (1-a) pi)."""
    generator = torch.Generator().manual_seed(11)
    logits = torch.randn(40, 9, generator=generator, dtype=torch.float64, requires_grad=True)
    teacher = torch.log_softmax(2 * torch.randn(40, 9, generator=generator, dtype=torch.float64), 1)
    student = torch.log_softmax(logits, 1)
    bias = math.log(share / (1 - share))
    config = plain("support", temperature=1.0, bias=bias, normalise=False)
    # every token of the vocabulary as a trace of its own, at each of the 40 states
    record = StepScores(
        student.detach().reshape(-1, 1), torch.ones(360, 1, dtype=torch.bool), torch.zeros(360, dtype=torch.long),
        behavior_logprobs=teacher.reshape(-1, 1),
    )  # fmt: skip
    found = weights(config, plan(config, record), record).double().reshape(40, 9)
    (expected,) = torch.autograd.grad(-(teacher.exp() * found * student).sum(), logits, retain_graph=True)
    middle = torch.logaddexp(teacher + math.log(share), student + math.log1p(-share))
    (exact,) = torch.autograd.grad((teacher.exp() * (teacher - middle)).sum(), logits)
    torch.testing.assert_close(expected, exact, atol=1e-6, rtol=1e-5)  # weights are float32


def test_support_is_its_formula_with_and_without_the_teacher() -> None:
    record = random_record(traces=6)
    assert record.behavior_logprobs is not None
    assert record.entropies is not None
    for name, against in (("support", record.behavior_logprobs), ("support_text", -record.entropies)):
        config = CorrectionConfig(name=name, temperature=2.0, bias=-0.5, clip=0.1, truncate=1.0, ess_floor=0.9)  # type: ignore[arg-type]
        found = weights(config, plan(config, record), record).double()
        expected = torch.sigmoid((record.student_logprobs - against + 0.5).double() / 2.0) * record.mask
        torch.testing.assert_close(found, expected * record.mask.sum() / expected.sum(), atol=1e-5, rtol=1e-4)
        bare = config.model_copy(update={"normalise": False})
        torch.testing.assert_close(weights(bare, plan(bare, record), record).double(), expected, atol=1e-6, rtol=1e-5)


def test_naturalness_compares_mean_log_probs_within_prompts() -> None:
    """The same tokens twice over weigh as once; with gamma fixed the weights are the formula's."""
    record = random_record(traces=8, prompts=2)
    config = plain("naturalness", gamma_max=0.25)
    found = weights(config, plan(config, record), record).double()[:, 0]
    means = [
        float(row[inside].double().mean()) for row, inside in zip(record.student_logprobs, record.mask, strict=True)
    ]
    raw = [math.exp(0.25 * 8 * value) for value in means]
    relative = [raw[b] / (sum(raw[b % 2 :: 2]) / 4) for b in range(8)]
    scale = float(record.mask.sum()) / sum(r * float(n) for r, n in zip(relative, record.mask.sum(1), strict=True))
    torch.testing.assert_close(found, torch.tensor(relative, dtype=torch.float64) * scale, atol=1e-5, rtol=1e-4)


def test_iw_opd_is_its_published_formula() -> None:
    record = random_record(traces=5)
    config = plain("iw_opd", normalise=False)
    found = weights(config, plan(config, record), record)
    for b in range(5):
        count = int(record.mask[b].sum())
        apart = [abs(float(record.behavior_logprobs[b, t] - record.student_logprobs[b, t])) for t in range(count)]  # type: ignore[index]
        expected = [1 + 0.5 * (1 - sum(apart[:t]) / sum(apart)) for t in range(count)]
        assert found[b, :count].tolist() == pytest.approx(expected, rel=1e-5)


def test_token_support_asks_the_start_alone() -> None:
    record = random_record(traces=5)
    assert record.start_logprobs is not None
    start = record.start_logprobs.exp()
    for rule, expected in (("probability", start), ("threshold", (start >= 0.3).float())):
        config = plain("token_support", rule=rule, threshold=0.3, normalise=False)
        found = weights(config, plan(config, record), record)
        torch.testing.assert_close(found, expected * record.mask)
        moved = StepScores(**{**vars(record), "student_logprobs": record.student_logprobs - 1})
        assert torch.equal(weights(config, plan(config, moved), moved), found)


def test_token_support_by_mass_keeps_a_token_that_is_likely_among_what_is_likely() -> None:
    record = random_record(traces=5)
    assert record.start_mass is not None
    config = plain("token_support", rule="mass", normalise=False)
    found = weights(config, plan(config, record), record)
    assert torch.equal(found, (record.start_mass >= 0.5).float() * record.mask)
    assert 0 < found.sum() < record.mask.sum()
    assert config.threshold_of_rule == 0.5
    assert plain("token_support").threshold_of_rule == 0.4


@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
def test_idft_is_its_published_formula(progress: float) -> None:
    record = random_record(traces=6)
    record.progress = torch.full((6,), progress)
    config = plain("idft", normalise=False)
    found = weights(config, plan(config, record), record)
    assert record.entropies is not None
    strange = torch.exp(-(record.student_logprobs + record.entropies).double()).clip(0.1, 2.0)
    expected = record.student_logprobs.double().exp() ** (1 + progress * (strange - 1))
    torch.testing.assert_close(found.double(), expected * record.mask, atol=1e-6, rtol=1e-5)
    if not progress:  # DFT, until it knows more
        torch.testing.assert_close(found, record.student_logprobs.exp() * record.mask)


def test_rank_surprisal_chooses_the_trace_of_the_least_published_ratio() -> None:
    record = random_record(traces=8, prompts=2)
    assert record.start_ranks is not None
    assert record.start_logprobs is not None
    record.start_ranks[0, 0] = 5000  # counts no further than 100
    ratio = []
    for ranks, logprobs, inside in zip(record.start_ranks, record.start_logprobs, record.mask, strict=True):
        ratio.append(float(ranks[inside].clip(max=100).sum() / -logprobs[inside].sum()))
    config = plain("rsr", gamma_max=1 / 8)
    found = weights(config, plan(config, record), record).double()[:, 0]
    raw = [1 / one for one in ratio]
    relative = torch.tensor([raw[b] / (sum(raw[b % 2 :: 2]) / 4) for b in range(8)], dtype=torch.float64)
    torch.testing.assert_close(found / found[0], relative / relative[0], atol=1e-5, rtol=1e-4)


def test_across_prompts_naturalness_is_centred_by_the_entropy_and_within_them_it_is_not() -> None:
    record = random_record(traces=6, prompts=6)
    log = lambda group: corrections.CORRECTIONS["naturalness"](plain("naturalness", group=group), record)  # noqa: E731
    assert record.entropies is not None
    plainly, centred = record.student_logprobs, record.student_logprobs + record.entropies
    for group, values in (("auto", plainly), ("prompt", plainly), ("batch", centred), ("length", centred)):
        expected = 8 * (values * record.mask).sum(1, keepdim=True) / record.mask.sum(1, keepdim=True)
        torch.testing.assert_close(log(group), expected)
    assert corrections.needs(plain("naturalness", group="batch")) == (("entropies",),)
    assert corrections.needs(plain("naturalness")) == ()


def test_local_naturalness_reads_the_local_scores_alone() -> None:
    record = random_record(traces=4)
    log = corrections.CORRECTIONS["local_naturalness"](plain("local_naturalness"), record)
    assert record.local_logprobs is not None
    expected = 8 * (record.local_logprobs * record.mask).sum(1, keepdim=True) / record.mask.sum(1, keepdim=True)
    torch.testing.assert_close(log, expected)


def test_success_weighs_by_the_chance_itself_within_a_prompt() -> None:
    record = random_record()
    config = plain("success", gamma_max=2.0)
    made = plan(config, record)
    assert made.gamma == 2.0  # no floor holds it back
    found, chance = weights(config, made, record)[:, 0].double(), record.success.double() ** 2  # type: ignore[union-attr]
    for prompt in record.prompts.unique():
        rows = record.prompts == prompt
        torch.testing.assert_close(found[rows] / found[rows].sum(), chance[rows] / chance[rows].sum())


def test_given_weights_are_the_users_own_up_to_the_scale_of_a_step() -> None:
    record = random_record(traces=4)
    record.given = torch.tensor([0.5, 1.0, 400.0, 2.0])  # nothing bounds them
    config = plain("given")
    found = weights(config, plan(config, record), record)
    assert found[record.mask].mean().item() == pytest.approx(1.0, rel=1e-5)
    torch.testing.assert_close(found[:, 0] / found[1, 0], record.given)
    bare = plain("given", normalise=False)
    torch.testing.assert_close(weights(bare, plan(bare, record), record)[:, 0], record.given)


def test_a_narrow_upper_clip_and_a_share_of_the_prefix_bound_the_ratios() -> None:
    record = random_record(traces=6)
    assert record.behavior_logprobs is not None
    raw = record.student_logprobs - record.behavior_logprobs
    narrow = record.log_ratios(plain("prefix", clip=1.0, clip_high=0.2))
    torch.testing.assert_close(narrow[record.mask], raw.clamp(-1.0, 0.2)[record.mask])
    half = record.log_ratios(plain("prefix", prefix_share=0.5))
    for row, ratios, inside in zip(half, raw, record.mask, strict=True):
        count = int(inside.sum())
        counted = -(-count // 2)
        torch.testing.assert_close(row[:counted], ratios[:counted])
        assert not row[counted:].any()
    prefix = corrections.CORRECTIONS["prefix"](plain("prefix", prefix_share=0.5), record)
    last = int(record.mask[0].sum()) - 1
    assert prefix[0, -1] == pytest.approx(float(raw[0, : -(-(last + 1) // 2)].sum()), rel=1e-4)
    with pytest.raises(ValueError, match="one_sided"):
        plain("prefix", one_sided=True, clip_high=0.5)


@pytest.mark.parametrize("scope", ["token", "trace"])
@pytest.mark.parametrize("decay", [1.0, 0.9])
def test_surprisal_is_its_formula_in_plain_numbers(scope: str, decay: float) -> None:
    """-max(L, 0), L the sum of -log pi - H, each clipped to 0.8 either way: before a token, or of the whole trace."""
    record = exact_record()
    assert record.entropies is not None
    expected, ends = [], []
    fields = [values.tolist() for values in (record.student_logprobs, record.entropies, record.mask)]
    for pi, entropy, inside in zip(*fields, strict=True):
        so_far, row = 0.0, []
        for t in range(len(inside)):
            row.append(-max(so_far, 0.0))
            if inside[t]:
                so_far = decay * so_far + min(max(-pi[t] - entropy[t], -0.8), 0.8)
        expected.append(row if scope == "token" else [-max(so_far, 0.0)])
        ends.append(so_far)
    assert min(ends) < -0.5 < 0.5 < max(ends)  # so the max has something to do, and the sign as well
    assert_log_weights(plain("surprisal", scope=scope, decay=decay, clip=0.8), record, expected)


@pytest.mark.parametrize(("rho", "decay"), [(0.0, 1.0), (0.5, 1.0), (1.0, 1.0), (0.0, 0.9), (0.5, 0.9)])
def test_mixed_is_its_formula_in_plain_numbers(rho: float, decay: float) -> None:
    """The (decayed) sum of what came before a token, and rho of the plain sum from it on; none is counted twice."""
    record = exact_record()
    expected = []
    for ratios in clipped(record, -0.7, 0.4):
        before, row = 0.0, []
        for t in range(record.mask.shape[1]):
            row.append(before + rho * sum(ratios[t:]))
            before = decay * before + ratios[t] if t < len(ratios) else before
        expected.append(row)
    assert_log_weights(plain("mixed", rho=rho, decay=decay, clip=0.7, clip_high=0.4), record, expected)


@pytest.mark.parametrize("one_sided", [False, True])
def test_trace_mean_is_its_formula_in_plain_numbers(one_sided: bool) -> None:
    """The mean of the clipped ratios of a trace; where only the teacher's total is known, of the plain ones."""
    record = exact_record()
    config = plain("trace_mean", clip=0.7, one_sided=one_sided)
    ratios = clipped(record, -0.7, 0.0 if one_sided else 0.7)
    assert_log_weights(config, record, [[sum(row) / len(row)] for row in ratios])
    whole = clipped(record, -math.inf, math.inf)
    pi = [sum(row[: len(kept)]) for row, kept in zip(record.student_logprobs.tolist(), whole, strict=True)]
    totals = [total - sum(row) for total, row in zip(pi, whole, strict=True)]
    record.behavior_total, record.behavior_logprobs = torch.tensor(totals, dtype=torch.float64), None
    differences = [min(sum(row), 0.0) if one_sided else sum(row) for row in whole]
    assert_log_weights(config, record, [[d / len(row)] for d, row in zip(differences, whole, strict=True)])


def test_trace_mean_does_not_know_how_long_a_trace_is() -> None:
    """The same tokens twice over: `trace` squares the ratio, `trace_mean` leaves it."""
    record = random_record(traces=4, width=10)
    record.mask[:] = True
    twice = StepScores(
        torch.cat([record.student_logprobs] * 2, 1), torch.cat([record.mask] * 2, 1), record.prompts,
        behavior_logprobs=torch.cat([record.behavior_logprobs] * 2, 1),  # type: ignore[list-item]
    )  # fmt: skip
    log = lambda name, r: corrections.CORRECTIONS[name](plain(name), r)  # noqa: E731
    torch.testing.assert_close(log("trace", twice), 2 * log("trace", record))
    torch.testing.assert_close(log("trace_mean", twice), log("trace_mean", record))
