"""What is said of a set of traces is what the weights do: checked against the weights themselves."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import product
from typing import get_args

import numpy as np
import pytest

from dcod.config import Config, CorrectionConfig, TrainConfig, parse_config
from dcod.config.losses import _NOT_CROSSED, OF_TEACHER, WITHDRAWN
from dcod.models import batches
from dcod.objective import corrections, weighting
from dcod.objective.corrections import CORRECTIONS, Group
from dcod.objective.feasibility import Holdings, of_setting, refusal, remarks, steps, unfit
from dcod.objective.losses import LOSSES
from tests.objective.records import random_record

FULL = Holdings(
    40, 20, 0, logprobs=40, totals=40, top_k=40, golds=40, weights=40, verdicts={"correct": 40}, selection=16
)
LONE = replace(FULL, prompts=40, alone=40)
GROUPS = ("auto", *(group for group in get_args(Group) if group != "none"))
WEIGHTS = {"success": "stored"}  # of which it has no others
SETTINGS = [
    CorrectionConfig.model_validate(
        {"name": name, "group": group, "scope": scope, "weights": WEIGHTS.get(name, "live"), "base": base}
    )
    for name, group, scope in product(sorted(CORRECTIONS), GROUPS, ("trace", "token"))
    for base in (("trace", "prefix") if name == "shuffled" else ("trace",))
    if (name == "surprisal" or scope == "trace") and (name, group) != ("position_decay", "prompt")
]


def levels(correction: CorrectionConfig, holdings: Holdings, **train: object) -> set[str]:
    setting = TrainConfig.model_validate({"correction": correction.model_dump(), **train})
    return {remark.level for remark in of_setting(setting, holdings)}


def all_ones(correction: CorrectionConfig, prompts: int) -> bool:
    """Whether the weights of some steps are ones."""
    found = True
    for seed in range(3):
        record = random_record(traces=12, prompts=prompts, seed=seed)
        weights = weighting.weights(correction, weighting.plan(correction, record), record)[record.mask]
        found &= bool((weights - 1.0).abs().max() < 1e-6)
    return found


def test_the_facts_are_those_of_the_formulas() -> None:
    assert {name for name, loss in LOSSES.items() if loss.needs_teacher} == OF_TEACHER
    for correction in SETTINGS:
        record = random_record()
        width = CORRECTIONS[correction.name](correction, record).shape[1]
        assert (width > 1) == CORRECTIONS[correction.name].by_token(correction), correction.name


def test_weights_cross_is_refused_for_what_the_students_own_scores_do_not_change() -> None:
    one, two = random_record(seed=0), random_record(seed=1)
    two = replace(one, student_logprobs=two.student_logprobs, entropies=two.entropies)
    blind = set()
    for name in set(CORRECTIONS) - {"none"}:
        setting = CorrectionConfig.model_validate({"name": name})
        if CORRECTIONS[name](setting, one).equal(CORRECTIONS[name](setting, two)):
            blind.add(name)
    assert {"success", "given", "rsr"} < blind
    assert blind == set(_NOT_CROSSED)


def test_idle_is_said_where_all_weights_are_one_and_only_there() -> None:
    assert len(SETTINGS) > 80
    for correction in SETTINGS:
        if correction.name in ("none", "shuffled"):
            continue
        name = f"{correction.name} {correction.group} {correction.scope}"
        assert ("idle" in levels(correction, LONE)) == all_ones(correction, prompts=12), name
        assert "idle" not in levels(correction, FULL), name
        assert not all_ones(correction, prompts=4), name


def test_what_would_do_nothing_is_refused_unless_it_is_meant() -> None:
    """Nothing is refused where arms are compared: of those each is looked at by itself."""
    train = {"correction": {"name": "naturalness"}}
    told = refusal(Config.model_validate({"train": train}), LONE)
    assert told.endswith("; if that is meant, set train.allow_idle=true")
    assert "there is one a prompt (40 prompts)" in told
    assert refusal(Config.model_validate({"train": train}), FULL) == ""
    assert refusal(Config(), LONE) == ""
    assert refusal(Config.model_validate({"train": {**train, "allow_idle": True}}), LONE) == ""
    needs = Config.model_validate({"train": {"correction": {"name": "prefix"}, "allow_idle": True}})
    assert "prefix needs behavior_logprobs" in refusal(needs, replace(LONE, logprobs=3))
    assert (
        refusal(Config.model_validate({"train": {**train, "arms": "auto"}, "ingest": {"pilot_share": 0.2}}), LONE) == ""
    )


@pytest.mark.parametrize(("key", "off"), [("gamma_max", 0.0), ("floor", 1.0), ("ess_floor", 1.0)])
def test_a_correction_that_is_switched_off_is_idle(key: str, off: float) -> None:
    seen = set()
    for correction in SETTINGS:
        if correction.name in ("none", "shuffled"):
            continue
        switched = correction.model_copy(update={key: off})
        said = "idle" in levels(switched, FULL)
        assert said == all_ones(switched, prompts=4), f"{correction.name} {correction.group}"
        seen.add(said)
    assert True in seen


def test_one_trace_a_step_leaves_nothing_to_compare() -> None:
    whole = CorrectionConfig(name="naturalness", group="batch")
    assert levels(whole, FULL, traces_per_step=1) == {"idle"}
    assert levels(CorrectionConfig(name="position_decay"), FULL, traces_per_step=1) == set()


def test_the_shuffled_weights_of_lone_traces_are_their_own() -> None:
    assert levels(CorrectionConfig(name="shuffled", base="prefix"), LONE) == {"idle"}


@pytest.mark.parametrize("missing", ["logprobs", "totals", "top_k"])
def test_what_some_traces_lack_is_impossible(missing: str) -> None:
    names = {field.name for field in fields(Holdings)}
    assert missing in names
    lacking = replace(FULL, **{missing: 39})
    lacking = replace(lacking, logprobs=39) if missing == "totals" else lacking
    for correction in SETTINGS:
        wanted = {field for alternatives in corrections.needs(correction) for field in alternatives}
        hit = "behavior_logprobs" in wanted and (missing == "totals" or "behavior_total" not in wanted)
        hit &= missing != "top_k"
        assert ("impossible" in levels(correction, lacking)) == hit, correction.name
    for loss in LOSSES:
        hit = missing == "top_k" and loss in OF_TEACHER
        assert ("impossible" in levels(CorrectionConfig(), lacking, loss={"name": loss})) == hit, loss


def test_what_a_newcomer_reads() -> None:
    lone = Holdings(40, 40, 40, verdicts={"unverified": 40}, teachers={"": 40})
    assert str(lone) == "40 prompts, 1.0 traces each, text only, no log-probs, no reference answers"
    brought = replace(lone, golds=40, weights=3)
    assert str(brought).endswith(", no log-probs, reference answers for all 40, weights of their own for 3 of 40")
    config = parse_config("{}", ["train.correction.name=surprisal", "train.correction.scope=trace"])
    told = remarks(config, lone)
    assert [remark.code for remark in told] == ["one_a_prompt", "unverified", "few_steps", "no_selection"]
    assert "there is one a prompt (40 prompts): every weight is 1, which is plain fine-tuning" in str(told[0])
    assert "dcod teach" in told[0].way_out
    assert "table in README.md" in told[0].way_out
    checked = replace(lone, golds=40, verdicts={"correct": 40})
    assert "train.arms=auto ingest.pilot_share=0.2" in remarks(config, checked)[0].way_out
    assert "all 40 traces are unverified" in told[1].text
    assert [remark.code for remark in remarks(Config(), FULL)] == ["few_steps", "plain_sft"]


def test_some_lone_prompts_are_counted() -> None:
    some = replace(FULL, prompts=35, alone=30)
    (remark,) = of_setting(TrainConfig(correction=CorrectionConfig(name="surprisal")), some)
    assert (remark.level, "30 of 40 are alone" in remark.text) == ("warning", True)


def possible(holdings: Holdings) -> dict[str, str]:
    """Every correction by name, with why it cannot act on such traces; "" where it can. Controls are left out."""
    reasons = {}
    for name in CORRECTIONS:
        if name in ("none", "shuffled", "length_only", "student_likelihood_only", "position_decay"):
            continue
        live = {"weights": "live"} if name == "iw_sft" else {}
        train = TrainConfig(correction=CorrectionConfig.model_validate({"name": name, **live}))
        why = [remark.text for remark in of_setting(train, holdings) if remark.level in ("impossible", "idle")]
        reasons[name] = why[0] if why else ""
    return reasons


def test_which_corrections_can_act() -> None:
    assert {name for name, why in possible(FULL).items() if why} == set()
    text = possible(Holdings(40, 40, 40))
    assert {name for name, why in text.items() if not why} == {"support_text", "token_support", "iw_sft", "idft"}
    assert len(text) == 16


def test_what_would_do_nothing_is_listed() -> None:
    lists = dict(part.split(": ") for part in unfit(Holdings(40, 40, 40)).split("; "))
    assert {"naturalness", "surprisal"} <= set(lists["would do nothing here"].split(", "))
    assert {"trace", "support", "given", "success"} <= set(lists["lack what they need here"].split(", "))
    assert not {"none", "support_text", *WITHDRAWN} & {name for names in lists.values() for name in names.split(", ")}
    assert unfit(FULL) == ""


def test_a_ratio_to_a_greedy_teacher_or_across_teachers_is_said() -> None:
    config = parse_config("{}", ["train.correction.name=trace"])
    told = remarks(config, replace(FULL, greedy=40, teachers={"a": 20, "b": 20}))
    assert {"greedy", "several_teachers"} <= {remark.code for remark in told}


def withdrawn(name: str, *settings: str) -> Config:
    """A configuration with a correction that Python alone takes."""
    config = parse_config("{}", [*settings])
    correction = config.train.correction.model_copy(update={"name": name})
    return config.model_copy(update={"train": config.train.model_copy(update={"correction": correction})})


def test_a_published_name_whose_settings_are_not_the_published_ones_is_said() -> None:
    """`idft` as it stands by itself is stored and rescaled; published it is neither (docs/method.md, section 1)."""
    published = ["train.correction.weights=live", "train.correction.normalise=false"]

    def said(*settings: str) -> list[str]:
        told = remarks(withdrawn("idft", *settings), FULL)
        return [remark.way_out for remark in told if remark.code == "unpublished"]

    for some in ([], published[:1], published[1:], ["train.correction.weights=cross", published[1]]):
        assert said(*some) == [f"as published: {' '.join(published)}"], some
    assert said(*published) == []
    for name in sorted(set(CORRECTIONS) - {"idft"}):
        assert CorrectionConfig(name=name).as_published == ""


def test_the_anchor_needs_what_scoring_records() -> None:
    config = parse_config("{}", ["train.anchor=0.1"])
    assert remarks(config, FULL)[0].code == "not_scored"


@pytest.mark.parametrize(
    ("correction", "key"),
    [
        ("rsr", "score.ranks=true"),
        ("local_naturalness", "score.local_window=32"),
    ],
)
def test_what_the_score_stage_must_record_is_said_with_the_key(correction: str, key: str) -> None:
    first = remarks(withdrawn(correction), FULL)[0]
    assert (first.level, first.code) == ("impossible", "not_scored")
    assert f"set {key}" in str(first)
    assert not [one for one in remarks(withdrawn(correction, key), FULL) if one.level == "impossible"]


def test_given_weights_are_asked_of_every_trace() -> None:
    (first, *_) = remarks(parse_config("{}", ["train.correction.name=given"]), replace(FULL, weights=3))
    assert (first.level, first.code) == ("impossible", "no_weights")
    assert "3 of 40 have one; bring a `weight` with every row" in str(first)


@pytest.mark.parametrize(
    ("prompts", "each", "per_step", "taken"), [(37, 1, 8, 5), (37, 3, 8, 13), (37, 3, 4, 19), (5, 20, 8, 5)]
)
def test_the_traces_of_a_prompt_stay_in_one_step(prompts: int, each: int, per_step: int, taken: int) -> None:
    train = TrainConfig(traces_per_step=per_step, epochs=2)
    numbered = np.repeat(np.arange(prompts, dtype=np.int32), each)
    assert len(batches.epoch_rows(numbered, per_step, 0, 0)[1]) == taken  # as the training makes them
    assert steps(train, Holdings(prompts * each, prompts, 0)) == 2 * taken
    assert steps(train, Holdings(0, 0, 0)) == 0
