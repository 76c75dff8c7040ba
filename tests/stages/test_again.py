"""Further seeds of student and twin: trained and asked as the first one, and gathered for the gate."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dcod.config import Config
from dcod.config.arms import SFT, PilotConfig
from dcod.errors import UserError
from dcod.models import loading
from dcod.promote.outcome import CHOICE
from dcod.stages import again, seeds, train
from dcod.stages.arms import narrowed
from dcod.stages.execute import RunContext, execute
from tests.stages.test_pilot import Place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = Place(tmp_path_factory.mktemp("again"))
    train = {"seeds": 3, "twin": True, "arms": [], "epochs": 1, "loss": {"name": "gce", "power": 0.5}}
    values = made.config.model_dump(mode="json")
    made.config = Config.model_validate(values | {"train": values["train"] | train})
    return made


def made(place: Place, name: str, out: str = "", config: Config | None = None, **inputs: Path) -> Path:
    """As a pod has it run: with the configuration of that one training."""
    given: dict[str, Path] = {"scores": place.folder / "scores", "student": place.student, **inputs}
    options: dict[str, Any] = {}
    own = narrowed("again", config or place.config, name, given, options)
    execute("again", own, place.folder / (out or name), given, RunContext(tracked=False), **options)
    return place.folder / (out or name)


def numbered(folders: Iterable[Path]) -> Any:
    return {f"student{number}": folder for number, folder in enumerate(folders)}


def test_names_are_those_of_every_further_seed() -> None:
    assert seeds.names(1) == []
    assert seeds.names(3) == ["student 1", "sft 1", "student 2", "sft 2"]


def test_a_further_seed_is_another_order_and_its_weights_go(place: Place) -> None:
    folders = {name: made(place, name) for name in seeds.names(3)}
    asked = {}
    for name, folder in folders.items():
        assert not (folder / "student").exists()
        assert json.loads((folder / seeds.FILE).read_text())["compared"]
        rows = pq.read_table(folder / seeds.RESULTS / "examples.parquet").to_pylist()
        assert {row["split"] for row in rows} == {"report"}
        asked[name] = {row["problem_id"] for row in rows}
        losses = [json.loads(line)["loss"] for line in (folder / again.HISTORY).read_text().splitlines()]
        assert len(losses) > 2
        folders[name] = folder
    assert len({frozenset(one) for one in asked.values()}) == 1
    first, second = ((folders[name] / again.HISTORY).read_text() for name in ("student 1", "student 2"))
    assert first != second
    assert first != (folders["sft 1"] / again.HISTORY).read_text()

    gathered = place.run("seeds", "gathered", None, **numbered(folders.values()))
    both, missing = seeds.pairs(gathered)
    assert (len(both), missing) == (2, "")
    assert len({one.model.digest for pair in both for one in pair}) == 4
    assert seeds.pairs(None) == ([], "")
    assert not list((place.folder / "checkpoints").rglob("*.safetensors"))
    with pytest.raises(UserError, match="seeds: no training of sft 2"):
        place.run("seeds", "few", None, **numbered(list(folders.values())[:3]))


def test_a_seed_is_trained_as_the_stage_train_would(place: Place) -> None:
    """The same training with that seed, by hand, is equal to the bit."""
    own = place.config.model_copy(update={"seed": place.config.seed + 1})
    own = own.model_copy(update={"train": place.config.train.alone()})
    student = place.run("train", "by-hand", own, scores=place.folder / "scores", student=place.student)
    told = json.loads((made(place, "student 1", "anew") / seeds.RESULTS / "summary.json").read_text())
    assert told["model"]["digest"] == loading.digest(student)


def test_where_plain_fine_tuning_was_chosen_nothing_is_trained(place: Place) -> None:
    choice = place.folder / "choice"
    choice.mkdir()
    (choice / CHOICE).write_text(json.dumps({"settings": {"name": "sft"}, "sft": {"name": "sft"}}))
    folders = {name: made(place, name, f"kept-{name}", choice=choice) for name in seeds.names(3)}
    assert not any((folder / again.HISTORY).exists() for folder in folders.values())
    gathered = place.run("seeds", "none", None, **numbered(folders.values()))
    both, missing = seeds.pairs(gathered)
    assert both == []
    assert missing.count("plain fine-tuning is the student's own arm") == 4


def test_one_that_fails_is_left_out_with_its_twin(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = train.run

    def fails(config: Config, *args: Any, **inputs: Any) -> dict[str, float]:
        if config.seed == place.config.seed + 2 and config.train.loss.name == "gce":
            raise UserError("train: loss not finite")
        return trained(config, *args, **inputs)

    monkeypatch.setattr(train, "run", fails)
    folders = {name: made(place, name, f"failing-{name}") for name in seeds.names(3)}
    assert not (folders["student 2"] / "student").exists()
    gathered = place.run("seeds", "one-pair", None, **numbered(folders.values()))
    both, missing = seeds.pairs(gathered)
    assert len(both) == 1
    assert missing == "student 2: train: loss not finite"


def test_more_seeds_or_another_pilot_void_no_training(place: Place) -> None:
    other = place.config.train.model_copy(update={"seeds": 5, "pilot": PilotConfig(samples=3)})
    options: list[dict[str, Any]] = [{}, {}]
    ours = narrowed("again", place.config, "sft 1", {}, options[0])
    theirs = narrowed("again", place.config.model_copy(update={"train": other}), "sft 1", {}, options[1])
    assert (ours, options[0]) == (theirs, options[1])


def test_twins_of_a_rate_are_trained_at_the_one_that_was_best_for_plain_fine_tuning(tmp_path: Path) -> None:
    """Else what the rate brings would pass for what the correction brings, at full size."""
    arms = [{"name": "fast", "loss": {"name": "gce"}, "learning_rate": 5e-5}]
    config = Config.model_validate({"ingest": {"pilot_share": 0.1}, "train": {"arms": arms, "twin": True, "seeds": 2}})
    chosen = {"settings": arms[0], "sft": {"name": "sft-5e-05", "learning_rate": 5e-5}}
    (tmp_path / CHOICE).write_text(json.dumps(chosen))
    own = narrowed("again", config, "student 1", {"choice": tmp_path}, {})
    for verb, name in (("train", SFT), ("again", "sft 1")):
        twin = narrowed(verb, config, name, {"choice": tmp_path}, {})
        assert twin.train.is_plain
        assert twin.train.learning_rate == own.train.learning_rate == 5e-5
        bare = narrowed(verb, config, name, {}, {})  # nothing was chosen
        assert bare.train.learning_rate == config.train.learning_rate


def test_an_unknown_student_is_named(place: Place) -> None:
    with pytest.raises(UserError, match=r"'student 3' is no further student; train.seeds=3 has \['student 1', 'sft 1'"):
        made(place, "student 3")
