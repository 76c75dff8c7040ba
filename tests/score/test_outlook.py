"""What is said of scores before training: figures of the first traces, and of the start."""

from __future__ import annotations

import math
from dataclasses import replace

import pyarrow as pa
import pytest

from dcod.config import TrainConfig
from dcod.models.batches import stored_record
from dcod.objective import weighting
from dcod.score import scores
from dcod.score.outlook import Outlook, of_start, of_weights
from dcod.traces.scored import ScoredTrace


def made(count: int, prompts: int) -> list[ScoredTrace]:
    out = []
    for number in range(count):
        size = 3 + number % 4
        logprobs = [-0.1 * (1 + (number * 7 + t) % 5) for t in range(size)]
        out.append(ScoredTrace(str(number), str(number % prompts), [1], [5] * size, logprobs, [0.2] * size))
    return out


def outlook(traces: list[ScoredTrace], **correction: object) -> dict[str, float]:
    found = Outlook(TrainConfig.model_validate({"correction": correction}))
    table = scores.table(traces, ["train"] * len(traces))
    for part in (table.slice(0, 5), table.slice(5)):
        found.add(part)
    held = replace(traces[0], prompt_id="held back")
    found.add(scores.table([held], ["selection"]))
    return found.metrics()


def test_the_figures_are_those_of_the_weights() -> None:
    traces = made(12, prompts=4)
    figures = outlook(traces, name="naturalness", gamma_max=0.5)
    assert figures["traces_a_prompt"] == 3.0
    means = [8 * sum(t.student_logprobs) / len(t.student_logprobs) for t in traces]
    groups = [means[p::4] for p in range(4)]
    spread = [math.sqrt(sum((v - sum(g) / 3) ** 2 for v in g) / 3) for g in groups]
    assert figures["log_weight_spread"] == pytest.approx(sum(spread) / 4, rel=1e-5)
    config = TrainConfig.model_validate({"correction": {"name": "naturalness", "gamma_max": 0.5, "ess_floor": 0.0}})
    record = stored_record(traces)
    assert figures["ess_at_full_strength"] == pytest.approx(weighting.plan(config.correction, record).ess)
    assert figures["ess_at_full_strength"] < 0.99


def test_of_a_large_set_whole_prompts_are_drawn_wherever_their_traces_stand() -> None:
    """Round by round, as `dcod teach` writes: the first of every prompt, then the second."""
    found = Outlook(TrainConfig.model_validate({"correction": {"name": "naturalness"}}))
    traces = made(6003, prompts=2001)
    for begin in range(0, 6003, 500):
        part = traces[begin : begin + 500]
        found.add(scores.table(part, ["train"] * len(part)))
    assert 200 < len(found.seen) <= 1024
    assert found.metrics()["traces_a_prompt"] == 3.0
    assert found.metrics()["log_weight_spread"] > 0.1


def test_one_trace_a_prompt_has_no_spread_and_loses_nothing() -> None:
    figures = outlook(made(6, prompts=6), name="surprisal")
    assert figures == {"traces_a_prompt": 1.0, "log_weight_spread": 0.0, "ess_at_full_strength": 1.0}


def test_weights_that_are_all_alike_are_idle_and_said_so() -> None:
    def said(traces: list[ScoredTrace], **correction: object) -> list[str]:
        config = TrainConfig.model_validate({"correction": correction})
        return [str(remark) for remark in of_weights(config, outlook(traces, **correction))]

    alike = [replace(trace, given=2.5) for trace in made(6, prompts=3)]
    (text,) = said(alike, name="given")
    assert text.startswith("train.correction.name=given finds no difference between the traces: every weight is 1")
    assert said([replace(alike[0], given=2.0), *alike[1:]], name="given") == []
    twice = [replace(made(1, 1)[0], trace_id=str(number), prompt_id=str(number // 2)) for number in range(6)]
    assert len(said(twice, name="naturalness")) == 1
    assert said(made(6, prompts=3), name="naturalness") == []
    assert said(twice, name="none") == []


@pytest.mark.parametrize("name", ["none", "support", "rsr", "iw_sft"])
def test_where_nothing_can_be_said_of_weights_only_the_counts_are(name: str) -> None:
    assert outlook(made(6, prompts=3), name=name, weights="live") == {"traces_a_prompt": 2.0}


@pytest.mark.parametrize(
    ("train", "probability", "said"),
    [
        ({"loss": {"name": "gce"}}, 0.5, "or set train.loss.name=log"),
        ({"focus": 1.0}, 0.05, "found it harmful"),
        ({"correction": {"name": "token_support"}}, 0.3, "mean probability of 0.30"),
        ({"correction": {"name": "naturalness"}}, 0.49, "or set train.correction.name=none"),
        (
            {"correction": {"name": "naturalness"}, "loss": {"name": "gce"}},
            0.6,
            "naturalness and train.loss.name=gce: ",
        ),
        ({"correction": {"name": "local_naturalness"}}, 0.67, "gained nothing or lost"),
        ({"correction": {"name": "support"}}, 0.59, "gained nothing or lost"),
        ({"correction": {"name": "support_text"}}, 0.49, ""),
        ({"correction": {"name": "naturalness"}}, 0.7, ""),
        ({"correction": {"name": "naturalness"}, "arms": "auto"}, 0.49, ""),
        ({"loss": {"name": "gce"}}, 0.8, ""),
        ({"correction": {"name": "surprisal"}}, 0.05, ""),
    ],
)
def test_what_leans_on_the_student_is_doubted_where_it_does_not_know_the_traces(
    train: dict[str, object], probability: float, said: str
) -> None:
    told = of_start(TrainConfig.model_validate(train), probability)
    assert bool(told) == bool(said)
    assert not told or said in str(told[0])


def test_scores_of_an_earlier_version_are_read() -> None:
    table = scores.table(made(3, prompts=3), ["train"] * 3).drop_columns(["start_ranks", "given"])
    assert isinstance(table, pa.Table)
    assert scores.traces_of(table)[0].given is None
