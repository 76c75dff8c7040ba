"""What docs/method.md, section 7 lists: exact on an enumerable vocabulary, and right at the edges."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcod.config import CorrectionConfig
from dcod.objective import corrections, weighting
from dcod.objective.step_scores import StepScores
from dcod.objective.weighting import WeightPlan, plan, weights
from tests.objective.records import plain, random_record

V, END, LONGEST = 3, 2, 4  # a vocabulary of three tokens, the last one ends a trace


def policy(seed: int) -> dict[tuple[int, ...], torch.Tensor]:
    """A random distribution over V tokens at every prefix; after LONGEST - 1 tokens it must end."""
    generator = torch.Generator().manual_seed(seed)
    out = {}
    for length in range(LONGEST):
        for prefix in itertools.product(range(END), repeat=length):
            logits = torch.randn(V, generator=generator, dtype=torch.float64)
            out[prefix] = torch.log_softmax(logits, 0)
            if length == LONGEST - 1:
                out[prefix] = torch.tensor([-math.inf, -math.inf, 0.0], dtype=torch.float64)
    return out


def all_traces() -> list[tuple[int, ...]]:
    return [(*p, END) for n in range(LONGEST) for p in itertools.product(range(END), repeat=n)]


def logprobs(policy: dict[tuple[int, ...], torch.Tensor], trace: tuple[int, ...]) -> list[float]:
    return [float(policy[trace[:t]][token]) for t, token in enumerate(trace)]


def record_of(
    traces: list[tuple[int, ...]], student: dict, teacher: dict, prompts: list[int] | None = None
) -> StepScores:
    width = max(map(len, traces))
    pad = lambda values: values + [0.0] * (width - len(values))  # noqa: E731
    mask = torch.tensor([[t < len(trace) for t in range(width)] for trace in traces])
    return StepScores(
        torch.tensor([pad(logprobs(student, trace)) for trace in traces], dtype=torch.float64),
        mask,
        torch.tensor(prompts if prompts is not None else [0] * len(traces)),
        behavior_logprobs=torch.tensor([pad(logprobs(teacher, trace)) for trace in traces], dtype=torch.float64),
        entropies=torch.ones(mask.shape, dtype=torch.float64),
    )


@pytest.mark.parametrize("seed", range(5))
def test_prefix_estimates_the_on_policy_cross_entropy(seed: int) -> None:
    """sum_t E_mu[R_t f(s_t, y_t)] equals the exact sum_t E_{s_t ~ d_pi, y_t ~ mu}[f], f the student's surprise."""
    student, teacher, traces = policy(seed), policy(seed + 100), all_traces()
    record = record_of(traces, student, teacher)
    ratios = corrections.CORRECTIONS["prefix"](plain("prefix"), record).exp()
    probability = torch.tensor([math.exp(sum(logprobs(teacher, trace))) for trace in traces], dtype=torch.float64)
    estimate = (probability[:, None] * ratios * -record.student_logprobs * record.mask).sum()
    exact = 0.0
    for prefix in student:
        reach = math.exp(sum(float(student[prefix[:t]][token]) for t, token in enumerate(prefix)))
        mu, pi = teacher[prefix].exp(), student[prefix]
        exact += reach * float((mu * torch.where(mu > 0, -pi, 0.0)).nan_to_num().sum())
    assert float(estimate) == pytest.approx(exact, rel=1e-9)
    # E_mu[R_t] = 1 at every position, ended traces staying in the mean with R frozen
    means = (probability[:, None] * ratios).sum(0)
    torch.testing.assert_close(means, torch.ones_like(means))


@pytest.mark.parametrize("seed", range(5))
def test_trace_estimates_an_expectation_under_the_student(seed: int) -> None:
    """E_mu[R g(y)] equals E_pi[g(y)]."""
    student, teacher, traces = policy(seed), policy(seed + 100), all_traces()
    record = record_of(traces, student, teacher)
    ratio = corrections.CORRECTIONS["trace"](plain("trace"), record)[:, 0].exp()
    g = torch.randn(len(traces), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    mu = torch.tensor([math.exp(sum(logprobs(teacher, trace))) for trace in traces], dtype=torch.float64)
    pi = torch.tensor([math.exp(sum(logprobs(student, trace))) for trace in traces], dtype=torch.float64)
    assert float((mu * ratio * g).sum()) == pytest.approx(float((pi * g).sum()), rel=1e-9)


def test_surprisal_is_a_martingale_under_the_student() -> None:
    """E_pi[delta] = 0 at every position (docs/method.md, section 1): the plain running sum has mean 0."""
    student, traces = policy(3), all_traces()
    record = record_of(traces, student, student)
    entropies = [
        [float(-(student[t[:k]].exp() * student[t[:k]]).nan_to_num().sum()) for k in range(len(t))] for t in traces
    ]
    record.entropies = torch.tensor(
        [e + [0.0] * (record.mask.shape[1] - len(e)) for e in entropies], dtype=torch.float64
    )
    steps = record.surprisals(plain("surprisal"))
    pi = torch.tensor([math.exp(sum(logprobs(student, trace))) for trace in traces], dtype=torch.float64)
    total = (pi[:, None] * record.before(steps)).sum(0)
    torch.testing.assert_close(total, torch.zeros_like(total), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", sorted(corrections.CORRECTIONS))
def test_gamma_zero_is_plain_supervision_bit_for_bit(name: str) -> None:
    record = random_record()
    for config in (plain(name, gamma_max=0.0, floor=0.3, truncate=1.0), plain(name, ess_floor=1.0)):
        found = weights(config, WeightPlan() if config.gamma_max == 0.0 else plan(config, record), record)
        if config.gamma_max == 0.0:
            assert torch.equal(found, record.mask.float())
    assert torch.equal(weights(plain("none"), plan(plain("none"), record), record), record.mask.float())


@pytest.mark.parametrize("name", ["support", "prefix", "trace", "trace_mean", "mixed"])
def test_a_teacher_equal_to_the_student_gives_weights_of_one(name: str) -> None:
    record = random_record()
    record.behavior_logprobs = record.student_logprobs.clone()
    config = CorrectionConfig(name=name)  # type: ignore[arg-type]
    found = plan(config, record)
    assert found.gamma == config.gamma_max
    torch.testing.assert_close(weights(config, found, record), record.mask.float())


GROUPS = ["auto", "prompt", "position", "length", "batch"]
# position_decay within prompts is refused: equal positions would cancel it
GROUPED = [(n, g) for n in sorted(corrections.CORRECTIONS) for g in GROUPS if (n, g) != ("position_decay", "prompt")]


# by their definition bounded and compared with nothing: no gamma, no floor, no truncation
BOUNDED = {
    name for name, member in corrections.CORRECTIONS.items() if member.group(CorrectionConfig(base="trace")) == "none"
}


def test_what_is_bounded_by_itself_is_named() -> None:
    assert {"none", "support", "support_text", "iw_sft", "iw_opd", "idft", "token_support", "given"} == BOUNDED


@pytest.mark.parametrize(("name", "group"), [pair for pair in GROUPED if pair[0] not in BOUNDED])
@pytest.mark.parametrize("scope", ["token", "trace"])
def test_the_plan_keeps_the_ess_floor_and_the_mean(name: str, scope: str, group: str) -> None:
    record = random_record(traces=24)
    knobs = {"name": name, "scope": scope, "group": group, "ess_floor": 0.65, "clip": 5.0, "gamma_max": 4.0}
    config = CorrectionConfig.model_validate(knobs)
    found = plan(config, record)
    assert 0.0 < found.gamma < config.gamma_max
    assert found.ess == pytest.approx(0.65, abs=1e-3)
    assert found.ess_at_max < 0.65
    assert weights(config, found, record)[record.mask].mean().item() == pytest.approx(1.0, abs=1e-5)


def naive_prefix(config: CorrectionConfig, gamma: float, record: StepScores) -> torch.Tensor:
    """The text of docs/method.md, section 2, in float64 and plain loops."""
    rows, width = record.mask.shape
    logs = [[0.0] * width for _ in range(rows)]
    for b in range(rows):
        for t in range(1, width):
            if record.mask[b, t - 1]:
                step = float(record.student_logprobs[b, t - 1].double() - record.behavior_logprobs[b, t - 1].double())
                logs[b][t] = config.decay * logs[b][t - 1] + min(max(step, -config.clip), config.clip)
            else:
                logs[b][t] = logs[b][t - 1]
    out = torch.zeros(rows, width, dtype=torch.float64)
    for start in range(0, width, config.bucket_width):
        columns = range(start, min(start + config.bucket_width, width))
        values = [math.exp(gamma * logs[b][t]) for b in range(rows) for t in columns]
        mean = sum(values) / len(values)
        for b in range(rows):
            for t in columns:
                ratio = min(math.exp(gamma * logs[b][t]) / mean, config.truncate)
                out[b, t] = ((1 - config.floor) * ratio + config.floor) * float(record.mask[b, t])
    return out / (out.sum() / record.mask.sum())


@pytest.mark.parametrize("decay", [1.0, 0.9])
def test_prefix_against_a_naive_reference(decay: float) -> None:
    config = CorrectionConfig(name="prefix", decay=decay, clip=0.7, truncate=1.5, floor=0.2, bucket_width=8)
    record = random_record()
    found = plan(config, record)
    assert found.gamma > 0
    torch.testing.assert_close(
        weights(config, found, record).double(), naive_prefix(config, found.gamma, record), atol=1e-5, rtol=1e-4
    )


def test_trace_compares_within_prompts_and_leaves_single_traces_alone() -> None:
    record = random_record(traces=5, prompts=5)
    record.prompts = torch.tensor([7, 3, 7, 9, 7])
    config = plain("trace", gamma_max=0.05)
    found = weights(config, plan(config, record), record)
    single = found[1][record.mask[1]]
    torch.testing.assert_close(single / found[3][record.mask[3]][0], torch.ones_like(single))
    assert found[0][0] != found[2][0]


@pytest.mark.parametrize(("name", "group"), GROUPED)
def test_the_weights_of_a_step_do_not_depend_on_how_it_is_split(name: str, group: str) -> None:
    """Micro-batches (whole prompts together), other paddings, another order of the traces."""
    record = random_record(traces=12, prompts=4)
    config = CorrectionConfig.model_validate({"name": name, "ess_floor": 0.4, "group": group})
    found = plan(config, record)
    whole = weights(config, found, record)
    for prompt in range(4):
        rows = record.prompts == prompt
        pad = lambda t: torch.nn.functional.pad(t, (0, 5)) if t.dim() == 2 else t  # noqa: E731
        part = StepScores(**{name: pad(value) for name, value in record.pick(rows).known().items()})
        torch.testing.assert_close(weights(config, found, part)[:, :-5], whole[rows])
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    shuffled = record.pick(order)
    again = plan(config, shuffled)
    if name != "shuffled":  # whose weights follow the order of the traces
        assert again.gamma == pytest.approx(found.gamma, abs=1e-6)
        torch.testing.assert_close(weights(config, again, shuffled), whole[order])


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(sorted(set(corrections.CORRECTIONS) - {"none"})),
    st.integers(1, 6),
    st.integers(1, 9),
    st.integers(0, 10_000),
    st.booleans(),
)
def test_always_finite_and_never_negative(name: str, traces: int, width: int, seed: int, lowest: bool) -> None:
    """Also with fully masked rows, single tokens, log-probs of -inf, one trace in a bucket."""
    record = random_record(traces=traces, width=width, seed=seed, prompts=2)
    record.mask[seed % traces] = False
    if lowest:
        record.student_logprobs[0, 0] = -math.inf
        record.behavior_logprobs[-1, -1] = -math.inf
    config = CorrectionConfig(name=name, bucket_width=2)  # type: ignore[arg-type]
    found = weights(config, plan(config, record), record)
    assert torch.isfinite(found).all()
    assert (found[record.mask] >= 0).all() if name in BOUNDED else (found[record.mask] > 0).all()
    assert (found[~record.mask] == 0).all()


def test_one_sided_clipping_never_raises_what_the_teacher_finds_unlikely() -> None:
    record = random_record()
    assert record.log_ratios(plain("trace", one_sided=True)).max() <= 0.0


def test_feedback_is_how_far_weights_lie_apart_and_how_they_go_with_length() -> None:
    record = random_record()
    config = plain("naturalness", gamma_max=0.5)
    made = plan(config, record)
    found = weighting.diagnostics(config, made, record)
    used = weighting.weights(config, made, record)
    each = [float(row[mask].mean()) for row, mask in zip(used.expand(record.mask.shape), record.mask, strict=True)]
    long = [int(mask.sum()) for mask in record.mask]
    assert found["weight_spread"] == pytest.approx(np.std(each), rel=1e-5)
    assert found["weight_length_correlation"] == pytest.approx(np.corrcoef(each, long)[0, 1], rel=1e-4)
    assert "weight_spread" not in weighting.diagnostics(plain("none"), plan(plain("none"), record), record)


def test_diagnostics_report_what_was_clipped_and_truncated() -> None:
    record = random_record()
    config = CorrectionConfig(name="trace", clip=0.5, truncate=1.0, ess_floor=0.0)
    found = weighting.diagnostics(config, plan(config, record), record)
    step = (record.student_logprobs - record.behavior_logprobs)[record.mask].abs()
    assert found["clipped_share"] == pytest.approx((step >= 0.5).double().mean().item())
    assert 0.0 < found["truncated_share"] < 1.0
    assert found["gamma"] == 1.0


def test_a_shuffled_correction_gives_every_weight_to_another_trace_of_the_prompt() -> None:
    record = random_record(traces=12, prompts=4)
    record.mask[:] = True
    own = CorrectionConfig(name="trace", ess_floor=0.2)
    other = CorrectionConfig(name="shuffled", base="trace", ess_floor=0.2)
    before, after = (weights(c, plan(c, record), record)[:, 0] for c in (own, other))
    for prompt in range(4):
        rows = record.prompts == prompt
        torch.testing.assert_close(before[rows].sort().values, after[rows].sort().values)
        assert (before[rows] != after[rows]).all()


def test_the_controls_know_only_what_they_say() -> None:
    record = random_record(traces=12, prompts=4)
    count = record.mask.sum(1)

    def per_trace(name: str) -> torch.Tensor:
        config = CorrectionConfig(name=name, ess_floor=0.2, clip=5.0)  # type: ignore[arg-type]
        return weights(config, plan(config, record), record)[:, 0]

    short, easy = per_trace("length_only"), per_trace("student_likelihood_only")
    total = record.student_logprobs.masked_fill(~record.mask, 0.0).sum(1)
    for prompt in range(4):
        rows = (record.prompts == prompt).nonzero()[:, 0].tolist()
        for a in rows:
            for b in rows:
                assert not (count[a] < count[b]) or short[a] >= short[b]
                assert not (total[a] > total[b]) or easy[a] >= easy[b]
    config = CorrectionConfig(name="position_decay", ess_floor=0.2)
    decay = weights(config, plan(config, record), record)
    assert all((row[: n - 1] >= row[1:n]).all() for row, n in zip(decay, count.tolist(), strict=True))


def test_a_teacher_with_another_tokenizer_gives_totals_only() -> None:
    """`trace` compares totals then; the same weights where nothing is clipped (docs/method.md, section 1.3)."""
    record = random_record(traces=8, prompts=2)
    config = plain("trace", gamma_max=0.1)
    known = weights(config, plan(config, record), record)
    assert record.behavior_logprobs is not None
    record.behavior_total = record.behavior_logprobs.masked_fill(~record.mask, 0.0).sum(1)
    record.behavior_logprobs = None
    torch.testing.assert_close(weights(config, plan(config, record), record), known, atol=1e-5, rtol=1e-4)


def test_a_lagged_plan_serves_groups_that_it_has_not_seen() -> None:
    """A longer trace than any of the step before, or a new bucket of length, takes the nearest mean."""
    config = CorrectionConfig(name="prefix", bucket_width=4)
    short, long = random_record(width=8, seed=1), random_record(width=40, seed=2)
    found = weights(config, plan(config, short), long)
    assert torch.isfinite(found).all()
    assert (found[long.mask] > 0).all()


def test_histograms_count_every_token_once() -> None:
    record = random_record(traces=8)
    config = CorrectionConfig(name="trace", ess_floor=0.2)
    found = weights(config, plan(config, record), record)
    counts = weighting.WeightCounts(config)
    counts.add(found, record.mask)
    counts.merge(counts)
    plainly = counts.plain()
    assert sum(sum(row) for row in plainly["counts"].values()) == 2 * int(record.mask.sum())  # type: ignore[attr-defined]
    first = found[:, :16][record.mask[:, :16]]
    middle = int((first < counts.edges[10]).sum())
    assert sum(plainly["counts"]["0-15"][:10]) == 2 * middle  # type: ignore[index]
