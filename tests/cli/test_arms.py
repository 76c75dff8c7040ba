"""What `dcod compare` says of one run, and of several; and which arm `dcod train` takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dcod.cli import app, stages
from dcod.config import TrainConfig
from dcod.promote.outcome import CHOICE as CHOICE_FILE
from dcod.reports import arms, latest
from tests.reports.test_arms import CHOICE, comparison


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, gains in (("one", 40), ("other", 4)):
        (folder := tmp_path / name / "decision").mkdir(parents=True)
        given = arms.answer(plain=False, full=[comparison(gains, 4)], choice=CHOICE)
        (folder / arms.ANSWER).write_text(json.dumps(given.to_dict(), default=vars))
        (folder / latest.PAGE).touch()
    return tmp_path


def compared(*words: str) -> list[str]:
    done = CliRunner().invoke(app, ["compare", *words])
    assert done.exit_code == 0, done.output
    return done.output.splitlines()


def test_two_runs_stand_in_one_table_a_column_each(runs: Path) -> None:
    said = compared("one", "other")
    assert said[0].startswith("one: The correction brought +18.0 points")
    assert said[1].startswith("other: What the correction brought could not be told from none: +0.0 points")
    assert said[2].split() == ["one", "other"]
    (row,) = [line for line in said[3:] if line.startswith("sums, report problems: against plain")]
    assert "+18.0 (" in row
    assert "+0.0 (" in row
    assert row.index("+0.0 (") == said[2].index("other")


def test_one_run_is_shown_whole(runs: Path) -> None:
    said = compared("one")
    assert said[0] == "one:"
    assert said[1].startswith("The correction brought +18.0 points")
    assert any(line.startswith("support (chosen)") for line in said)


def test_the_twin_of_what_was_chosen_is_trained_by_hand_as_in_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain fine-tuning at the rate that the pilot found best for it; any other arm is no twin of a choice."""
    monkeypatch.chdir(tmp_path)
    arm = {"name": "trust", "loss": {"name": "gce"}}
    (tmp_path / CHOICE_FILE).write_text(json.dumps({"settings": arm, "sft": {"name": "sft-9", "learning_rate": 9e-5}}))
    monkeypatch.setattr(stages, "_stage", lambda verb, config, *_, **__: seen.append(config.train))
    monkeypatch.setattr(stages, "model_of", lambda *_: tmp_path)
    seen: list[TrainConfig] = []

    def trained(*words: str) -> str:
        return str(CliRunner().invoke(app, ["train", "--scores", ".", "--out", "out", *words]).exception)

    trained("--choice", ".")
    trained("--choice", ".", "--arm", "sft")
    assert [(one.loss.name, one.learning_rate) for one in seen] == [("gce", 1e-4), ("log", 9e-5)]
    assert "not both; --arm sft --choice DIR trains the twin" in trained("--choice", ".", "--arm", "trust")
    assert len(seen) == 2
