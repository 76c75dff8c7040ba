"""Further seeds of student and twin: trained and asked as the first one, and gathered for the gate."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dcod.config import Config
from dcod.errors import UserError
from dcod.models import loading
from dcod.stages import again, seeds
from dcod.stages.arms import CHOICE
from tests.stages.test_pilot import Place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = Place(tmp_path_factory.mktemp("again"))
    train = {"seeds": 3, "twin": True, "arms": [], "epochs": 1, "loss": {"name": "gce", "power": 0.5}}
    values = made.config.model_dump(mode="json")
    made.config = Config.model_validate(values | {"train": values["train"] | train})
    return made


def made(place: Place, name: str, out: str = "", **inputs: Path) -> Path:
    given: Any = {"scores": place.folder / "scores", "student": place.student, **inputs}
    return place.run("again", out or name, None, arm=name, **given)


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
    ours, theirs = (seeds.read(gathered, which) for which in ("student", "sft"))
    assert len(ours) == len(theirs) == 2
    assert len({one.model.digest for one in (*ours, *theirs)}) == 4
    assert seeds.read(None, "student") == []
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
    (choice / CHOICE).write_text(json.dumps({"settings": {"name": "sft"}}))
    folders = {name: made(place, name, f"kept-{name}", choice=choice) for name in seeds.names(3)}
    assert not any((folder / again.HISTORY).exists() for folder in folders.values())
    gathered = place.run("seeds", "none", None, **numbered(folders.values()))
    assert seeds.read(gathered, "student") == seeds.read(gathered, "sft") == []


def test_an_unknown_student_is_named(place: Place) -> None:
    with pytest.raises(UserError, match=r"'student 3' is no further student; train.seeds=3 has \['student 1', 'sft 1'"):
        made(place, "student 3")
