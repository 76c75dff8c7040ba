"""The choice among arms whose pilots ended, on answers of tiny students or made-up ones."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dcod.config import Config
from dcod.errors import UserError
from dcod.evaluate.results import load_results
from dcod.promote.outcome import CHOICE, Against, Arm, Chosen, Outcome
from dcod.reports import arms as report
from dcod.stages import arms, piloting
from tests.stages.pilots import Place, graded, told, with_pilots


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return with_pilots(tmp_path_factory.mktemp("pilot"))


def test_the_choice_settles_the_training(place: Place) -> None:
    """Whichever arm it is: the training is what that arm names, at the run's epochs, with nothing of the others."""
    made = place.run(
        "choose",
        "choice",
        **{f"pilot{n}": place.folder / f"pilot-{a}" for n, a in enumerate(("ratio", "sft", "trust"))},
    )
    choice = json.loads((made / CHOICE).read_text())
    assert Outcome.__required_keys__ <= choice.keys() <= Outcome.__annotations__.keys()
    assert Chosen.__annotations__.keys() == choice["choice"].keys()
    assert all(Arm.__annotations__.keys() <= arm.keys() for arm in choice["arms"])
    assert all(Against.__annotations__.keys() == one.keys() for one in choice["choice"]["against"])
    assert choice["choice"]["arm"] in ("sft", "trust")
    assert choice["sft"]["name"] == choice["choice"]["sft"] == "sft"
    assert [arm["arm"]["name"] for arm in choice["arms"]] == [
        "sft",
        "trust",
        "ratio",
    ]  # as configured, whatever the order of the inputs
    assert choice["choice"]["problems"] >= 5
    settled = arms.of_training(place.config, choice=made).train
    assert settled.arms == []
    assert settled.epochs == 6
    assert settled.loss.name == ("gce" if choice["choice"]["arm"] == "trust" else "log")
    assert arms.of_training(place.config, "sft").train.loss.name == "log"
    with pytest.raises(UserError, match=r"arm 'other': not in train\.arms; there are sft, trust, ratio"):
        arms.of_training(place.config, "other")


def test_a_better_arm_is_chosen_and_asked_the_report_problems(place: Place) -> None:
    """Answers of a made-up arm that is always right, in place of its own."""
    better = place.folder / "better"
    fields = told(place.folder / "pilot-trust")
    rows = pq.read_table(place.folder / "pilot-sft" / piloting.ANSWERS)
    wrong, right = graded(rows, "wrong"), graded(rows, "correct")
    worse = place.folder / "worse"
    for folder, source, table in ((better, "trust", right), (worse, "sft", wrong)):
        folder.mkdir()
        (folder / piloting.STUDENT).symlink_to(place.folder / f"pilot-{source}" / piloting.STUDENT)
        (folder / piloting.ARM).write_text(
            json.dumps(fields if source == "trust" else told(place.folder / "pilot-sft"))
        )
        pq.write_table(table, folder / piloting.ANSWERS)
    made = place.run("choose", "choice-better", pilot0=worse, pilot1=better, pilot2=place.folder / "pilot-ratio")
    choice = json.loads((made / CHOICE).read_text())
    assert choice["choice"]["arm"] == "trust"
    assert [one["role"] for one in choice["report"]] == ["twin"]
    (asked,) = load_results(made / "report-trust").rows[1:]
    assert (asked.split, asked.n) == ("report", choice["report"][0]["n"])
    assert asked.n > 5
    assert {name: [one["role"] for one in rows] for name, rows in choice["asked"].items()} == {
        "sft": ["primary"],
        "trust": ["primary"],
    }
    assert choice["asked"]["trust"][0]["n"] == asked.n
    assert choice["examples"][0]["right"] == "other"
    assert arms.of_training(place.config, choice=made).train.loss.name == "gce"


def test_a_missing_arm_is_named(place: Place) -> None:
    with pytest.raises(UserError, match="no pilot of trust, ratio"):
        place.run("choose", "incomplete", pilot0=place.folder / "pilot-sft")


def test_an_arm_is_compared_with_the_plain_fine_tuning_that_ended(place: Place, tmp_path: Path) -> None:
    """It names a rate at which plain fine-tuning failed: that one is shown as failed, and counts for nothing."""
    rows, sft = pq.read_table(place.folder / "pilot-sft" / piloting.ANSWERS), told(place.folder / "pilot-sft")
    hot = {"name": "hot", "learning_rate": 0.05, "loss": {"name": "gce", "power": 0.5}}
    config = Config.model_validate(
        {**place.config.model_dump(mode="json"), "train": {**place.config.train.model_dump(mode="json"), "arms": [hot]}}
    )
    assert [arm.name for arm in config.train.compared] == ["sft", "sft-0.05", "hot"]
    for arm, outcome in zip(config.train.compared, ("wrong", "", "correct"), strict=True):
        (folder := tmp_path / arm.name).mkdir()
        fields = {**sft, "arm": arm.model_dump(mode="json"), "sft": arm.is_sft}
        if outcome:
            pq.write_table(graded(rows, outcome), folder / piloting.ANSWERS)
            (folder / piloting.STUDENT).symlink_to(place.folder / "pilot-sft" / piloting.STUDENT)
        else:
            fields |= {"state": piloting.FAILED, "why": "not finite", "figures": {}}
        (folder / piloting.ARM).write_text(json.dumps(fields))
    pilots = {f"pilot{n}": tmp_path / arm.name for n, arm in enumerate(config.train.compared)}
    choice = json.loads((place.run("choose", "hot", config, **pilots) / CHOICE).read_text())
    assert (choice["choice"]["arm"], choice["choice"]["sft"]) == ("hot", "sft")
    assert [one["name"] for one in choice["choice"]["against"]] == ["hot"]
    assert "sft-0.05: failed: not finite" in report.lines({"text": "", "choice": choice})
    gone = json.loads((place.run("halve", "hot-halved", config, **pilots) / piloting.DROPPED_AS).read_text())
    assert gone["gone"] == {"sft-0.05": [piloting.FAILED, "not finite"]}  # no further seed of it is tried
