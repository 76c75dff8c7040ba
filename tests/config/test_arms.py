"""Arms: what they are made of, and the training that each of them is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dcod.check.checks import early
from dcod.config import Config, TrainConfig
from dcod.config.arms import NAMED, SFT, ArmConfig
from dcod.errors import UserError

HELD = {"selection_share": 0.1, "pilot_share": 0.1}


def config(wanted: Any, **train: Any) -> Config:
    return Config.model_validate({"ingest": HELD, "train": {"arms": wanted, **train}})


def test_sft_is_always_there_at_every_rate() -> None:
    made = config([{"name": "a", "learning_rate": 2e-5, "loss": {"name": "gce"}}, {"name": "b", "focus": 1.0}])
    assert [arm.name for arm in made.train.compared] == ["sft", "sft-2e-05", "a", "b"]
    assert [arm.is_sft for arm in made.train.compared] == [True, True, False, False]
    assert Config().train.compared == []
    assert Config().train.arm(SFT) == ArmConfig(name=SFT)


def test_an_arm_is_plain_but_for_what_it_names() -> None:
    """Whatever the run's own correction is; and two ways to the same setting are the same training."""
    made = config(
        [{"name": "a", "loss": {"name": "gce"}}],
        correction={"name": "surprisal"},
        learning_rate=3e-5,
        epochs=5,
        twin=True,
    )
    arm = made.train.of_arm(made.train.arm("a"))
    assert (arm.correction.name, arm.loss.name, arm.learning_rate, arm.epochs) == ("none", "gce", 3e-5, 5)
    assert arm.arms == []
    assert not arm.twin
    assert made.train.alone().correction.name == "surprisal"
    plain = Config.model_validate({"train": {"learning_rate": 3e-5, "epochs": 5}})
    assert made.train.of_arm(made.train.arm(SFT)) == plain.train
    assert plain.train.is_plain
    for named in ({"correction": {"name": "surprisal"}}, {"loss": {"name": "gce"}}, {"focus": 1.0}, {"anchor": 0.1}):
        assert not Config.model_validate({"train": named}).train.is_plain


def test_what_an_arm_names_is_a_key_of_training_with_the_same_default() -> None:
    """So that an arm, its twin and plain fine-tuning never have a field that one of them does not know."""
    assert len(NAMED) >= 5
    assert {"name", *NAMED} == set(ArmConfig.model_fields)
    alike = {name for name in NAMED if ArmConfig(name="a").model_dump()[name] == TrainConfig().model_dump()[name]}
    assert alike == set(NAMED) - {"learning_rate"}
    assert ArmConfig(name="a").learning_rate == "run"
    values = {"correction": {"name": "prefix"}, "focus": 1.0, "anchor": 0.1, "select": "accuracy", "twin": True}
    assert TrainConfig.model_validate(values).plain() == TrainConfig(select="nll")


@pytest.mark.parametrize(
    ("arms", "pilot", "halves"),
    [(4, {}, True), (3, {}, False), (3, {"halve": 2}, True), (6, {"halve": "never"}, False), (6, {"seeds": 1}, False)],
)
def test_many_arms_are_halved(arms: int, pilot: dict[str, Any], halves: bool) -> None:
    made = config([{"name": f"a{n}", "focus": 0.1 * n} for n in range(1, arms + 1)], pilot=pilot)
    assert made.train.halves is halves
    assert not config("auto").train.halves


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ([{"name": "a"}, {"name": "a"}], "a stands there twice"),
        ([{"name": "sft"}], "sft and sft-RATE are there by themselves"),
        ([{"name": "A b"}], "pattern"),
        ([{"name": "a", "focus": 1.0, "loss": {"name": "gce"}}], "focus multiplies the `log` loss only"),
        ([{"name": "a", "epochs": 3}], "epochs"),
    ],
)
def test_what_no_arm_can_be(wanted: Any, text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        config(wanted)


def test_a_retraining_has_arms_and_a_twin_but_none_of_several_rounds() -> None:
    values = {"pipeline": "retrain", "ingest": HELD, "train": {"arms": "auto", "twin": True}}
    assert Config.model_validate(values).train.compared
    with pytest.raises(ValidationError, match=r"set retrain\.rounds=1 or train\.twin=false"):
        Config.model_validate({**values, "retrain": {"rounds": 2}})
    assert Config.model_validate({**values, "pipeline": "distill", "retrain": {"rounds": 2}}).train.twin


def test_arms_need_problems_to_be_compared_on(tmp_path: Path) -> None:
    (tmp_path / "traces.jsonl").write_text("{}\n")
    sources = {"sources": [str(tmp_path / "traces.jsonl")]}
    with pytest.raises(UserError, match=r"set ingest\.pilot_share=0\.1"):
        early(Config.model_validate({"train": {"arms": "auto"}, "ingest": sources}))
    early(Config.model_validate({"train": {"arms": "auto"}, "ingest": {**sources, "pilot_share": 0.1}}))
