"""Whether a night compares the arms, what it trains else, and what it says of that."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dcod import storage
from dcod.config import Config
from dcod.config.arms import CHOSEN, ArmConfig
from dcod.retrain import arms, history
from dcod.retrain.arms import DAY, Kept
from dcod.retrain.decide import RetrainDecision
from dcod.retrain.pools import Pool
from dcod.stages import decide, taking_over
from dcod.stages.decide import Measured
from dcod.traces import Split, Trace, holdings

TRUST: dict[str, Any] = {"name": "trust", "loss": {"name": "gce", "power": 0.25}}
KEPT = Kept(ArmConfig.model_validate(TRUST), at=100 * DAY, alone=1.0)


class Students:
    """A registry with students, the newest last; each has what its pilot chose, or nothing."""

    tracker = None

    def __init__(self, *kept: Kept | None) -> None:
        self.kept = kept

    def versions(self, _: str) -> list[int]:
        return list(range(len(self.kept)))

    def attached(self, version: int, _: str, into: Path) -> Path:
        if kept := self.kept[version]:
            storage.write_json(into / CHOSEN, kept.to_dict())
        return into


def held_back(problems: int, split: Split = "pilot") -> list[Trace]:
    asked = [[{"role": "user", "content": f"{split} {number}"}] for number in range(problems)]
    return [Trace(prompt, text, gold="4", split=split) for prompt in asked for text in ("a", "b")]


def night(
    folder: Path,
    students: Students,
    problems: int = 100,
    selection: int = 100,
    moved: str = "",
    now: float = 101 * DAY,
    **train: Any,
) -> tuple[str, bool]:
    settings = {
        "train": {"arms": [TRUST], **train},
        "ingest": {"pilot_share": 0.1},
        "promote": {"schedule": "repeated"},
    }
    taught = [Trace([{"role": "user", "content": f"{number}"}], "4") for number in range(9)]
    picked = [*taught, *held_back(problems), *held_back(selection, "selection")]
    config, held = Config.model_validate(settings), holdings.of(picked, "")
    folder.mkdir()
    go, said = RetrainDecision("go", ()), [moved] if moved else []
    decision, compared = taking_over.settle(folder, config, students, go, picked, held, said, now)  # type: ignore[arg-type]
    (reason,) = decision.reasons
    return reason.text, compared


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "pilots", lambda *_: 3)


@pytest.mark.usefixtures("before")
def test_the_last_pilot_counts_whoever_became_champion(tmp_path: Path) -> None:
    """Its student may be refused: the champion, an older version, names another arm, or none."""
    older = replace(KEPT, arm=ArmConfig(name="sft"), at=50 * DAY)
    for name, students in {"none": Students(None, KEPT), "old": Students(older, KEPT, None)}.items():
        text, compared = night(tmp_path / name, students)
        assert not compared
        assert text == (
            "trust, which the pilot of 1970-04-11 chose, is taken over: that is younger than 30 days "
            "(retrain.pilot_every), and the traces have not moved"
        )
        assert arms.read(tmp_path / name / CHOSEN) == replace(KEPT, why=text)
    text, compared = night(tmp_path / "late", Students(older, KEPT), now=131 * DAY)
    assert compared
    assert text == "the arms are compared anew: the last pilot was 31 days ago (retrain.pilot_every=30)"
    assert json.loads((tmp_path / "late" / arms.PILOTS).read_text()) == {"before": 3}
    assert not (tmp_path / "late" / CHOSEN).exists()


@pytest.mark.usefixtures("before")
def test_a_night_whose_traces_suit_no_arm_is_no_pilot(tmp_path: Path) -> None:
    near = [{"name": "near", "correction": {"name": "naturalness"}}]  # and every prompt has one trace
    text, compared = night(tmp_path / "alone", Students(None), arms=near)
    assert not compared
    assert text.startswith("no arm is compared, though no pilot chose an arm yet: no arm but plain fine-tuning suits")
    assert not (tmp_path / "alone" / arms.PILOTS).exists()
    assert night(tmp_path / "meant", Students(None), arms=near, allow_idle=True)[1]


@pytest.mark.usefixtures("before")
def test_a_night_with_too_few_problems_keeps_what_was_chosen_and_is_no_pilot(tmp_path: Path) -> None:
    """Problems count, not traces: 99 of two traces each are too few, and of 100 each is asked."""
    text, compared = night(tmp_path / "few", Students(KEPT), problems=99, moved="another style")
    assert not compared
    assert text == (
        "trust, which the pilot of 1970-04-11 chose, is taken over, though the traces have moved: another style: too "
        "few problems for a pilot: 99 pilot problems at most, 100 of either kind are the least "
        "(train.pilot.min_problems); set ingest.pilot_share higher, or bring more prompts"
    )
    assert arms.read(tmp_path / "few" / CHOSEN) == replace(KEPT, why=text)
    assert not (tmp_path / "few" / arms.PILOTS).exists()
    assert night(tmp_path / "enough", Students(KEPT), problems=100, moved="another style")[1]
    text, compared = night(tmp_path / "selection", Students(KEPT), selection=99, moved="another style")
    assert (compared, "99 selection problems" in text) == (False, True)


@pytest.mark.parametrize(
    ("students", "train", "said"),
    [
        (Students(), {}, "no pilot chose an arm yet"),
        (Students(None, replace(KEPT, at=0.0)), {}, "no pilot chose an arm yet"),  # of a version that had too few
        (
            Students(KEPT),
            {"arms": [{"name": "trust", "focus": 1.0}]},
            "trust, which the last pilot chose, is not in train.arms",
        ),
        (
            Students(replace(KEPT, arm=ArmConfig.model_validate({"name": "near", "correction": {"name": "prefix"}}))),
            {"arms": [{"name": "near", "correction": {"name": "prefix"}}, TRUST]},  # alone it would be no pilot
            "train.correction.name=prefix needs",
        ),
    ],
)
@pytest.mark.usefixtures("before")
def test_with_nothing_to_take_over_and_too_few_problems_no_arm_is_compared(
    tmp_path: Path, students: Students, train: dict[str, Any], said: str
) -> None:
    text, compared = night(tmp_path / "few", students, problems=7, **train)
    assert not compared
    assert re.match(
        rf"no arm is compared, though {re.escape(said)}.*: too few problems for a pilot: 7 pilot problems", text
    ), text
    assert list((tmp_path / "few").iterdir()) == []
    assert night(tmp_path / "enough", students, **train)[1]


STYLES = {
    "old": "add the numbers then say the sum",
    "pilots": "hmm wait let us look at this once more",
    "like": "wait once more let us look hmm at this",
    "other": "therefore by induction the claim follows",
}


def written(source: str, teacher: str | None, each: int = 1) -> list[Trace]:
    asked = [[{"role": "user", "content": f"{source} {number}"}] for number in range(40 // each)]
    texts = [f"{STYLES[source]} {number}" for number in range(each)]
    return [Trace(prompt, text, teacher=teacher, source_digest=source) for prompt in asked for text in texts]


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (written("like", "a"), ""),
        (written("other", "a"), "the teacher writes in another style"),
        (written("like", "b"), "the traces name another teacher: teacher_unknown is 1, limit 0"),
        (written("like", None), ""),
        (written("like", "student:mine"), ""),
        (written("like", "a", each=4), "a prompt has another number of traces: teacher_traces_ratio is 4, limit 1.5"),
    ],
)
def test_traces_have_moved_since_the_last_pilot(tmp_path: Path, new: list[Trace], said: str) -> None:
    """Against what was new then: its student was refused, so the champion still knows the old style alone."""
    pool = Pool([*written("old", "a"), *written("pilots", "a"), *new], {"old"}, {"old", "pilots"})
    files: list[dict[str, Any]] = [
        {"digest": name, "accepted": 40, "quarantined": {}} for name in ("old", "pilots", "like")
    ]
    storage.write_json(tmp_path / "sources.json", {"files": files})

    class Judge:
        config = Config()

        def score(self, _: list[Trace]) -> list[Any]:
            return []

    figures = {"teacher_style": 0.9}  # against what the champion learned: that would be a pilot every night
    last = {"new": ["pilots"], "tried": {"old": "old.jsonl", "pilots": "pilots.jsonl"}}
    measured = Measured({}, set(), [], [])
    found = decide._moved(last, figures, pool, tmp_path, measured, Judge())  # type: ignore[arg-type]
    assert [text.startswith(said) for text in found] == [True] * bool(said), found
    others: list[dict[str, Any]] = [{}, {"new": ["gone"], "tried": {}}, {"tried": {}}]
    for unknown in others:  # no pilot, or nothing of it: by the champion
        found = decide._moved(unknown, figures, pool, tmp_path, measured, Judge())  # type: ignore[arg-type]
        assert found == ["the teacher writes in another style: teacher_style is 0.9, limit 0.1"]
