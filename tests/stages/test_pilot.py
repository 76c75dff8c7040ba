"""Pilots of arms: tiny students on traces that say one thing only."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dcod.config import Config, TrainConfig
from dcod.config.arms import CHOSEN
from dcod.errors import UserError
from dcod.promote.outcome import CHOICE
from dcod.reports import arms as report
from dcod.retrain.arms import Kept
from dcod.stages import arms, pilot, piloting, remarks
from dcod.stages.asked import SPLITS, Problem
from dcod.stages.execute import RunContext, execute
from dcod.stages.tried import gathered
from tests.stages.pilots import Place, graded, told, with_pilots


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return with_pilots(tmp_path_factory.mktemp("pilot"))


def test_an_arm_is_asked_what_was_held_back_and_nothing_else(place: Place) -> None:
    rows = pq.read_table(place.folder / "pilot-sft" / piloting.ANSWERS).to_pylist()
    traces = pq.read_table(place.folder / "traces" / "traces.parquet").to_pylist()
    by_split: dict[str, set[str]] = {}
    for row in traces:
        by_split.setdefault(row["split"], set()).add(row["prompt_id"])
    assert min(len(by_split[split]) for split in ("train", "selection", "pilot")) >= 5
    asked = {split: {row["problem_id"] for row in rows if row["split"] == split} for split in SPLITS}
    assert asked == {split: by_split[split] for split in SPLITS}
    assert not asked["selection"] & asked["pilot"]
    assert len(rows) == 2 * (2 * len(asked["selection"]) + len(asked["pilot"]))  # seeds, temperatures
    figures = told(place.folder / "pilot-sft")["figures"]
    best = max((0.0, 1.0), key=lambda temperature: figures[f"selection/{temperature:g}"])
    assert {row["temperature"] for row in rows if row["split"] == "pilot"} == {best} == {figures["temperature"]}
    right = [row["outcome"] == "correct" for row in rows if row["split"] == "pilot"]
    assert figures["pilot"] == pytest.approx(sum(right) / len(right))
    assert figures["pilot"] > 0.3  # it has learned the one thing that there is
    assert 1.0 <= figures["openings"] <= len(asked["pilot"])
    assert figures["traces_openings"] == 1.0  # all traces begin alike
    trained = -(-len(by_split["train"]) * 8 // 10)
    assert figures["traces"] == trained


def test_arms_that_the_traces_do_not_suit_are_not_counted(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in what a pilot can tell nor in what it costs, said before anything is trained."""

    def fail(*_: object, **__: object) -> None:
        raise UserError("nothing is trained here")

    monkeypatch.setattr(pilot, "_compared", fail)
    given = {name: place.folder / name for name in ("student", "traces", "scores")}
    with pytest.raises(UserError, match="nothing is trained"):
        execute("pilot", place.config, tmp_path / "out", given, RunContext(tracked=False), arm="sft")
    said = " ".join(capsys.readouterr().out.split())
    assert "pilot: 1 arm against plain fine-tuning" in said  # "ratio" wants log-probs
    assert "pilot: 4 students at most, each learns" in said
    assert re.search(r"answered 2 times and \d+ pilot problems answered once cost as much as .*; about 1 minute", said)
    assert re.search(r"; about 1 minute, about .* tokens a second on \d", said)


@pytest.mark.parametrize("kinds", [("pilot",), ("selection", "pilot")])
def test_too_few_problems_and_nothing_is_trained(place: Place, kinds: tuple[str, ...]) -> None:
    """Neither the arms nor plain fine-tuning; that is kept, and the first line says why."""
    held = remarks.held(place.folder / "traces")
    assert 0 < held.pilot < held.selection
    wanted = 1 + max(getattr(held, kind) for kind in kinds)
    least = place.config.train.pilot.model_copy(update={"min_problems": wanted})
    config = place.config.model_copy(update={"train": place.config.train.model_copy(update={"pilot": least})})
    given = {"student": place.student, "traces": place.folder / "traces", "scores": place.folder / "scores"}
    assert pilot.untried(config, place.folder / "traces", "trust", held)[0] == piloting.FEW
    names, few = ("sft", "trust", "ratio"), f"few-{len(kinds)}"
    arms = {name: place.run("pilot", f"{few}-{name}", config, arm=name, **given) for name in names}
    assert {told(folder)["state"] for folder in arms.values()} == {piloting.FEW}
    assert not any((folder / piloting.STUDENT).exists() for folder in arms.values())
    made = json.loads((place.run("choose", few, config, **arms) / "choice.json").read_text())
    assert made["choice"]["arm"] == made["settings"]["name"] == "sft"
    assert made["at"] == 0.0
    answer = report.answer(plain=True, choice=made)
    assert answer.text.startswith("Plain fine-tuning was kept: too few problems for a pilot: ")
    counts = " and ".join(f"{getattr(held, kind)} {kind}" for kind in kinds)
    assert f": {counts} problems at most, {wanted} of either kind are the least" in answer.text
    assert f"; set {' and '.join(f'ingest.{kind}_share' for kind in kinds)} higher" in answer.text
    assert "not tried" in "\n".join(report.lines(answer.to_dict()))


def test_too_few_selection_problems_are_as_bad(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """They choose every temperature, and the rate of plain fine-tuning; traces may be more than problems."""
    held, traces = replace(remarks.held(place.folder / "traces"), selection=4), place.folder / "traces"
    few = "too few problems for a pilot: 4 selection problems at most, 5 of either kind are the least"
    state, why = pilot.untried(place.config, traces, "trust", held)
    assert (state, why.partition(" (")[0]) == (piloting.FEW, few)
    every = pilot.asked.problems

    def some(*given: Any) -> list[Problem]:
        of = {split: [one for one in every(*given) if one.split == split] for split in SPLITS}
        return [*of["selection"][:4], *of["pilot"]]

    monkeypatch.setattr(pilot.asked, "problems", some)
    given = {"student": place.student, "traces": traces, "scores": place.folder / "scores"}
    counted = told(place.run("pilot", "few-selection", None, arm="sft", **given))
    assert (counted["state"], counted["why"]) == (piloting.FEW, why)


def test_all_arms_train_on_the_same_and_ask_the_same(place: Place) -> None:
    sft, trust = (told(place.folder / f"pilot-{name}") for name in ("sft", "trust"))
    for name in ("share", "traces", "steps", "tokens"):
        assert sft["figures"][name] == trust["figures"][name]
    assert sft["sft"]
    assert not trust["sft"]
    assert trust["arm"]["loss"]["name"] == "gce"


def test_a_first_seed_and_the_further_ones_are_the_pilot_in_two_parts(place: Place) -> None:
    """Answers, figures and choice are those of all seeds at once; a dropped arm is not tried further, and counts."""
    given = {"student": place.student, "traces": place.folder / "traces", "scores": place.folder / "scores"}
    names = ("sft", "trust", "ratio")
    first = {name: place.run("pilot", f"first-{name}", None, arm=name, first=True, **given) for name in names}
    assert {row["seed"] for row in pq.read_table(first["trust"] / piloting.ANSWERS).to_pylist()} == {0}
    halved = place.run("halve", "halved", None, **first)
    halves = json.loads((halved / piloting.DROPPED_AS).read_text())
    assert halves["gone"] == {}  # of two, one of which is not tried
    best = {name: told(first[name])["figures"]["temperature"] for name in ("sft", "trust")}
    assert halves["best"] == best
    further = {name: place.run("pilot", f"more-{name}", None, arm=name, dropped=halved, **given) for name in names}
    assert not (further["trust"] / piloting.STUDENT).exists()
    parts = gathered(place.config, [*further.values(), *first.values()])  # in whatever order
    whole = gathered(place.config, [place.folder / f"pilot-{name}" for name in names])
    for name in ("sft", "trust"):
        ours, theirs = parts[name], whole[name]
        assert told(theirs.folder)["figures"]["temperature"] == best[name]
        rows = [row for folder in ours.folders for row in pq.read_table(folder / piloting.ANSWERS).to_pylist()]
        at_once = pq.read_table(theirs.folder / piloting.ANSWERS).to_pylist()
        kept = [row for row in at_once if row["seed"] == 0 or row["temperature"] == best[name]]
        assert sorted(map(str, rows)) == sorted(map(str, kept))  # the further seed is asked at that temperature alone
        assert len(rows) < len(at_once)
        for figure in ("pilot", "openings", "steps", "tokens", f"selection/{best[name]:g}"):
            assert ours.fields["figures"][figure] == theirs.fields["figures"][figure]
        assert ours.answers().best == theirs.answers().best == best[name]
        assert (ours.answers().pilot[best[name]] == theirs.answers().pilot[best[name]]).all()
        assert ours.fields["seeds"] == [0, 1]
    assert parts["ratio"].state == piloting.LEFT_OUT

    dropped = place.folder / "dropped"
    dropped.mkdir()
    gone_as = {"gone": {"trust": [piloting.DROPPED, "in the worse half"]}, "best": best}
    (dropped / piloting.DROPPED_AS).write_text(json.dumps(gone_as))
    held = remarks.held(place.folder / "traces")
    assert pilot.untried(place.config, given["traces"], "trust", held, dropped) == ("dropped", "in the worse half")
    assert pilot.untried(place.config, given["traces"], "sft", held, dropped) == ("", "")
    gone = place.run("pilot", "more-gone", None, arm="trust", dropped=dropped, **given)
    made = place.run("choose", "choice-halved", None, a=first["sft"], b=further["sft"], c=first["trust"], d=gone,
                     e=first["ratio"], f=further["ratio"])  # fmt: skip
    choice = json.loads((made / CHOICE).read_text())
    assert choice["choice"]["arm"] == "sft"
    (shown,) = [
        line
        for line in report.lines({"text": "", "choice": choice})
        if line.startswith("trust (left") and " to " in line
    ]
    assert "trust (left out after the first half)" in shown
    assert choice["dropped"][0]["name"] == "trust"
    assert choice["dropped"][0]["low"] < choice["dropped"][0]["difference"] < choice["dropped"][0]["high"]


def test_what_failed_or_fell_behind_gets_no_further_seed(place: Place, tmp_path: Path) -> None:
    """`halve` on arms whose answers are made up."""
    arms_, rows = {}, pq.read_table(place.folder / "pilot-sft" / piloting.ANSWERS)
    right = graded(rows, "correct")
    sft = told(place.folder / "pilot-sft")
    for number, (name, state) in enumerate(
        {"sft": "trained", "a": "trained", "b": "trained", "c": "trained", "d": "trained", "e": "failed"}.items()
    ):
        (folder := tmp_path / f"{number}").mkdir()
        fields = {**sft, "sft": name == "sft", "state": state, "why": "not finite" if state == "failed" else ""}
        (folder / piloting.ARM).write_text(json.dumps({**fields, "arm": {"name": name}}))
        pq.write_table(right if name in ("a", "c") else rows, folder / piloting.ANSWERS)
        arms_[name] = folder
    train = {"arms": [{"name": name, "focus": 0.1 * n} for n, name in enumerate("abcde", 1)]}
    config = Config.model_validate({"ingest": {"pilot_share": 0.1}, "train": train})
    assert config.train.halves
    halved = json.loads((place.run("halve", "halved-made-up", config, **arms_) / piloting.DROPPED_AS).read_text())
    gone = halved["gone"]
    assert halved["best"].keys() == {"sft", "a", "b", "c", "d"}
    assert gone.keys() == {"b", "d", "e"}
    assert gone["e"] == ["failed", "not finite"]
    assert gone["b"][1] == "+0.0 points to plain fine-tuning after the first seed, in the worse half of 4"


def test_an_arm_that_the_traces_do_not_suit_says_why(place: Place) -> None:
    found = told(place.folder / "pilot-ratio")
    assert found["state"] == piloting.LEFT_OUT
    assert "needs behavior_logprobs" in found["why"]
    assert not (place.folder / "pilot-ratio" / piloting.STUDENT).exists()


def test_an_arm_that_fails_takes_no_other_along(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise UserError("three steps in a row were not finite")

    monkeypatch.setattr(pilot.loop, "train", fail)
    with pytest.raises(UserError, match="not finite"):
        place.pilot("sft", place.config.model_copy(update={"seed": 5}))
    hot = [{"name": "hot", "learning_rate": 0.05, "loss": {"name": "gce"}}]
    train = TrainConfig.model_validate({**place.config.train.model_dump(mode="json"), "arms": hot})
    further = told(place.pilot("sft-0.05", place.config.model_copy(update={"train": train})))
    assert (further["state"], further["sft"]) == (piloting.FAILED, True)  # at a rate of an arm, beside the run's own
    other = Place.run  # the outputs of the others stay
    folder = other(
        place, "pilot", "failed", None, arm="trust", student=place.student, traces=place.folder / "traces",
        scores=place.folder / "scores",
    )  # fmt: skip
    assert told(folder)["state"] == piloting.FAILED
    made = place.run(
        "choose", "choice-failed", pilot0=place.folder / "pilot-sft", pilot1=folder, pilot2=place.folder / "pilot-ratio"
    )
    choice = json.loads((made / CHOICE).read_text())
    assert choice["choice"]["arm"] == "sft"
    assert (
        next(arm["why"] for arm in choice["arms"] if arm["arm"]["name"] == "trust")
        == "three steps in a row were not finite"
    )


def test_an_arm_that_a_schedule_takes_over_is_the_choice_and_nothing_is_tried(place: Place, tmp_path: Path) -> None:
    """As `decide` leaves it beside the traces; the training is settled as a pilot would have settled it."""
    traces = tmp_path / "traces"
    shutil.copytree(place.folder / "traces", traces)
    kept = Kept(place.config.train.arm("trust"), at=5.0, alone=1.0, why="trust is taken over")
    (traces / CHOSEN).write_text(json.dumps(kept.to_dict()))
    given = {"student": place.student, "traces": traces, "scores": place.folder / "scores"}
    names = ("sft", "trust", "ratio")
    pilots = {name: place.run("pilot", f"kept-{name}", None, arm=name, **given) for name in names}
    assert {told(folder)["state"] for folder in pilots.values()} == {piloting.KEPT}
    made = place.run("choose", "kept-choice", None, **pilots)
    choice = json.loads((made / CHOICE).read_text())
    assert (choice["at"], choice["alone"], choice["choice"]["arm"]) == (5.0, 1.0, "trust")
    assert arms.of_training(place.config, choice=made).train.loss.name == "gce"
    answer = report.answer(plain=False, choice=choice)
    assert answer.text == "What the correction brought was not measured anew: trust is taken over."
    assert "No arm was tried: trust is taken over." in str(report.section(answer))
    assert "not tried: trust is taken over" in "\n".join(report.lines(answer.to_dict()))


def test_no_answers_no_pilot(place: Place) -> None:
    """Traces without reference answers cannot be graded: refused, with the way out."""
    bare = place.config.model_copy(update={"ingest": place.config.ingest.model_copy(update={"pilot_share": 0.0})})
    traces = place.run("ingest", "bare", bare, student=place.student)
    scores = place.run("score", "bare-scores", bare, student=place.student, traces=traces)
    with pytest.raises(UserError, match=r"holds back no pilot problem .* give ingest\.pilot_share a part.*compare=nll"):
        place.run("pilot", "none", arm="sft", student=place.student, traces=traces, scores=scores)


def test_without_references_the_likelihood_of_held_back_traces_compares(place: Place) -> None:
    """Asked for by name; nothing is generated or graded, and the choice says what it favours."""
    given = place.config.train.pilot.model_copy(update={"compare": "nll", "share": 0.2})
    keep = place.config.ingest.model_copy(update={"keep": "all"})
    train = place.config.train.model_copy(update={"pilot": given, "epochs": 2})
    config = place.config.model_copy(update={"train": train, "ingest": keep})
    rows = [json.loads(line) for line in (place.folder / "traces.jsonl").read_text().splitlines()]
    (place.folder / "open.jsonl").write_text("".join(json.dumps({**row, "gold": None}) + "\n" for row in rows))
    source = config.ingest.model_copy(update={"sources": [str(place.folder / "open.jsonl")]})
    config = config.model_copy(update={"ingest": source})
    inputs = {"student": place.student, "traces": place.run("ingest", "open", config, student=place.student)}
    inputs["scores"] = place.run("score", "open-scores", config, **inputs)
    arms_ = {name: place.run("pilot", f"open-{name}", config, arm=name, **inputs) for name in ("sft", "trust", "ratio")}
    answers = pq.read_table(arms_["sft"] / piloting.ANSWERS).to_pylist()
    assert {row["outcome"] for row in answers} == {"likelihood"}
    assert all(0.0 < row["value"] < 1.0 for row in answers)
    assert {row["split"] for row in answers} == set(SPLITS)
    assert told(arms_["sft"])["figures"]["pilot"] > 0.05  # it was taught what the held-back ones say
    made = json.loads((place.run("choose", "open-choice", config, **arms_) / CHOICE).read_text())
    assert "compared by likelihood, which favours plain fine-tuning" in made["choice"]["why"]
    assert made["examples"] == []


def test_in_a_pipeline_the_chosen_arm_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice becomes the configuration of the training, which is not handed it; the stage is not run here."""
    from dcod.stages import component

    (tmp_path / "choice").mkdir()
    (tmp_path / "choice" / "choice.json").write_text(
        json.dumps({"settings": {"name": "trust", "loss": {"name": "gce"}}})
    )
    seen: dict[str, Any] = {}

    def execute(stage: str, config: Config, out: Path, inputs: Any, where: Any, **options: Any) -> dict[str, float]:
        seen.update(stage=stage, loss=config.train.loss.name, inputs=set(inputs), options=options)
        return {}

    monkeypatch.setattr(component, "execute", execute)
    text = Config.model_validate({"train": {"arms": [{"name": "trust", "loss": {"name": "gce"}}]}}).to_json()
    inputs = {name: str(tmp_path / name) for name in ("scores", "student", "choice")}
    component.run("train", text, "run", str(tmp_path / "out"), inputs)
    assert seen == {"stage": "train", "loss": "gce", "inputs": {"scores", "student"}, "options": {}}
