"""Which arms suit which traces."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dcod.config import Config, TrainConfig
from dcod.objective import arms, feasibility
from dcod.objective.feasibility import Holdings

HELD = {"selection_share": 0.1, "pilot_share": 0.1}
ALONE = Holdings(traces=100, prompts=100, alone=100)
FOUR = Holdings(traces=400, prompts=100, alone=0)
WITH_LOGPROBS = Holdings(traces=400, prompts=100, alone=0, logprobs=400, totals=400)


def config(wanted: Any) -> TrainConfig:
    return Config.model_validate({"ingest": HELD, "train": {"arms": wanted}}).train


@pytest.mark.parametrize(
    ("holdings", "tried"),
    [
        (ALONE, ["gce", "support_text"]),
        (FOUR, ["naturalness", "naturalness_gce", "support_text"]),
        (WITH_LOGPROBS, ["naturalness", "naturalness_gce", "support_text"]),
        (replace(FOUR, known=0.76), ["naturalness", "naturalness_gce", "support_text"]),
        (replace(FOUR, known=0.59), ["support_text"]),
        (replace(ALONE, known=0.49), ["support_text"]),
    ],
)
def test_auto_takes_what_suits_the_traces(holdings: Holdings, tried: list[str]) -> None:
    found = arms.tried(config("auto"), holdings)
    assert [name for name, why in found.items() if not why] == tried
    text = arms.said(config("auto"), holdings)
    assert text.startswith(f"arms: sft, {', '.join(tried)}; not tried: ")


def test_what_the_start_knows_is_said_and_binds_auto_alone() -> None:
    little = replace(FOUR, known=0.49)
    assert "a mean probability of 0.49, and below 0.6" in arms.tried(config("auto"), little)["naturalness"]
    listed = config([{"name": "naturalness", "correction": {"name": "naturalness"}}])
    assert arms.tried(listed, little) == {"naturalness": ""}


def test_a_listed_arm_is_left_out_only_where_it_does_nothing() -> None:
    wanted = [
        {"name": "near", "correction": {"name": "naturalness"}},
        {"name": "words", "correction": {"name": "support_text"}},
        {"name": "ratio", "correction": {"name": "support"}},
    ]
    made = config(wanted)
    assert [bool(why) for why in arms.tried(made, ALONE).values()] == [True, False, True]
    assert "one a prompt" in arms.tried(made, ALONE)["near"]
    assert arms.left_out(made, made.compared[0], ALONE) == ""
    assert arms.said(TrainConfig(), ALONE) == ""


def test_an_idle_setting_is_named() -> None:
    plain = TrainConfig.model_validate({"correction": {"name": "naturalness"}})
    assert "does nothing" in arms.idle(plain, ALONE) or "one a prompt" in arms.idle(plain, ALONE)
    assert arms.idle(plain, FOUR) == ""
    assert arms.idle(TrainConfig(), ALONE) == ""


def test_nobody_is_left_beside_plain_fine_tuning() -> None:
    near = {"name": "near", "correction": {"name": "naturalness"}}
    ratio = {"name": "ratio", "correction": {"name": "support"}}
    assert "near (train.correction.name=naturalness compares" in arms.none_left(config([near, ratio]), ALONE)
    assert arms.none_left(config([near, ratio]), FOUR) == ""
    assert arms.none_left(config([{**near, "learning_rate": 3e-5}]), ALONE) == ""  # sft at two rates is left
    assert arms.none_left(config([{"name": "fast", "learning_rate": 3e-4}]), ALONE) == ""
    assert arms.none_left(TrainConfig(), ALONE) == ""
    assert [arms.count(config([near, ratio]), held) for held in (ALONE, FOUR, WITH_LOGPROBS)] == [0, 1, 2]


def test_an_idle_arm_is_kept_where_that_is_meant() -> None:
    wanted = [
        {"name": "near", "correction": {"name": "naturalness"}},
        {"name": "ratio", "correction": {"name": "support"}},
    ]
    meant = config(wanted).model_copy(update={"allow_idle": True})
    assert [bool(why) for why in arms.tried(meant, ALONE).values()] == [False, True]  # what cannot run never can


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, []),
        ({"train": {"sharding": "fsdp"}}, ["train.sharding=fsdp is not a pilot's"]),
        ({"cluster": {"train": {"num_nodes": 2}, "storage": "s3://b/w"}}, ["cluster.train.num_nodes=2 is not"]),
        ({"evaluate": {"engine": {"name": "vllm"}}}, ["evaluate.engine.name=vllm is not a pilot's"]),
        ({"evaluate": {"engine": {"name": "vllm"}}, "train": {"pilot": {"compare": "nll"}}}, []),
    ],
)
def test_where_a_pilot_is_not_like_its_run_is_said(changed: dict[str, Any], told: list[str]) -> None:
    given = {"ingest": HELD, **changed}
    found = list(arms.otherwise(Config.model_validate(given | {"train": {"arms": "auto", **changed.get("train", {})}})))
    assert [one.level for one in found] == ["warning"] * len(told)
    assert all(str(one).startswith(text) for one, text in zip(found, told, strict=True))
    assert list(arms.otherwise(Config.model_validate(given))) == []


def test_the_setting_that_no_arm_is_is_not_spoken_of() -> None:
    idle = {"correction": {"name": "naturalness"}}
    plain = Config.model_validate({"ingest": HELD, "train": idle})
    assert feasibility.remarks(plain, ALONE)[0].level == "idle"
    compared = Config.model_validate({"ingest": HELD, "train": {**idle, "arms": "auto"}})
    assert {one.code for one in feasibility.remarks(compared, ALONE)} & {"one_a_prompt", "plain_sft"} == set()


def test_too_few_problems_of_either_kind_are_named_with_the_way_out() -> None:
    pilot = config("auto").pilot
    assert arms.too_few(pilot, {"selection": 100, "pilot": 100}) == ""
    one = arms.too_few(pilot, {"selection": 99.9, "pilot": 100})
    assert "pilot: 99 selection problems at most, 100 of either kind are the least (train.pilot.min_problems)" in one
    assert one.endswith("; set ingest.selection_share higher, or bring more prompts")
    both = arms.too_few(pilot, {"selection": 9, "pilot": 12})
    assert "9 selection and 12 pilot problems" in both
    assert "ingest.selection_share and ingest.pilot_share" in both
    capped = arms.too_few(pilot.model_copy(update={"problems": 50}), {"selection": 50, "pilot": 50})
    assert capped.endswith("; train.pilot.problems=50 asks no more")


def test_what_a_run_will_try_is_nothing_on_too_few_problems() -> None:
    """By the counts of all traces; a kind that is missing is refused instead, and a sample tells nothing."""
    few = replace(FOUR, selection=99, pilot=400)
    assert arms.said(config("auto"), few).startswith("arms: none is tried, too few problems for a pilot: 99 selection")
    for other in (replace(few, sampled=True), replace(few, selection=0), replace(few, selection=100)):
        assert arms.said(config("auto"), other).startswith("arms: sft, naturalness")
