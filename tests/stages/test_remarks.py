"""What the traces allow is said by pods and the command line alike, from counts that the ingestion made on its way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dcod.config import Config, parse_config
from dcod.config.arms import CHOSEN
from dcod.errors import UserError
from dcod.objective.feasibility import Holdings
from dcod.reports import arms as report
from dcod.stages import component, manifests, pilot, piloting, remarks
from dcod.stages.execute import RunContext, execute
from dcod.traces import holdings
from tests.stages.test_pilot import Place, told
from tests.tiny import TWICE


def test_a_pod_says_once_what_its_traces_allow(
    tmp_path: Path, tiny_student: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the training that is configured now, also of a set that was taken over; a shard says nothing."""
    rows = [{"problem": text, "response": said, "gold": said.rpartition(" ")[2]} for text, said in TWICE.items()]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def text(loss: str = "log", **correction: str) -> str:
        tracking = {"uri": f"sqlite:///{tmp_path}/mlflow.db", "artifacts": str(tmp_path / "artifacts")}
        ingest = {"sources": [str(tmp_path / "rows.jsonl")], "selection_share": 0.0}
        given = {"ingest": ingest, "tracking": tracking, "train": {"correction": correction, "loss": {"name": loss}}}
        return parse_config(json.dumps(given)).to_json()

    def ran(stage: str, config: str, out: Path, inputs: dict[str, str], **more: Any) -> tuple[str, dict[str, float]]:
        figures = component.run(stage, config, "p", str(out), inputs, **more)
        return capfd.readouterr().out, figures

    monkeypatch.setattr(holdings, "count", lambda *_: pytest.fail("the set is read once more"))
    start = {"student": str(tiny_student)}
    said, figures = ran("ingest", text(name="prefix"), tmp_path / "one", start)
    assert said.count("[dcod] ingest") == 5  # what they are, these two, what would do nothing, and how long it took
    assert said.count("6 prompts, 1.0 traces each, text only, no log-probs, reference answers for all 6\n") == 1
    assert "note: corrections that would do nothing here: naturalness, " in said
    assert "impossible: train.correction.name=prefix needs behavior_logprobs: 0 of 6 traces have them" in said
    assert "warning: 6 traces make 2 optimizer steps" in said
    assert figures["warnings"] == 2
    said, figures = ran("ingest", text(name="surprisal"), tmp_path / "two", start)  # taken over
    assert "idle: train.correction.name=surprisal with scope=trace compares the traces of a prompt" in said
    assert "impossible" not in said
    inputs = {"traces": str(tmp_path / "two"), **start}
    said, _ = ran("score", text("gce"), tmp_path / "part", inputs, shard="1/2")
    assert "warning" not in said
    assert "traces each" not in said
    said, _ = ran("score", text("gce"), tmp_path / "scores", inputs)
    assert "train.loss.name=gce: the start gives the traces' tokens a mean probability of 0.00" in said
    assert said.count("few to learn much from") == 1
    monkeypatch.setattr(holdings, "count", lambda *_: Holdings(5, 4, 3))
    manifest = tmp_path / "two" / "manifest.json"
    values = json.loads(manifest.read_text())
    del values["facts"]["holdings"]
    manifest.write_text(json.dumps(values))
    found = remarks.of("ingest", parse_config("{}"), tmp_path / "two", {}, {})
    assert found is not None
    assert found[0] == Holdings(5, 4, 3)  # a set of an earlier version does not know
    compared = remarks.of("ingest", parse_config("{}", ["train.arms=auto"]), tmp_path / "two", {}, {})
    assert compared is not None
    assert (compared[1][-1].code, compared[1][-1].level) == ("arms", "impossible")
    monkeypatch.setattr(holdings, "count", lambda *_: Holdings(500, 250, 0, golds=400, selection=300, pilot=500))
    compared = remarks.of("ingest", parse_config("{}", ["train.arms=auto"]), tmp_path / "two", {}, {})
    assert compared is not None
    assert str(compared[1][-2]).startswith("arms: sft, ")
    assert str(compared[1][-1]).startswith("3 arms against plain fine-tuning on 200 problems")
    (tmp_path / "two" / CHOSEN).write_text("{}")  # a scheduled run takes the champion's arm over: no pilot
    compared = remarks.of("ingest", parse_config("{}", ["train.arms=auto"]), tmp_path / "two", {}, {})
    assert compared is not None
    assert not {one.code for one in compared[1]} & {"arms", "pilot"}
    assert remarks.of("evaluate", parse_config("{}"), tmp_path / "two", {}, {}) is None


def test_a_pipeline_does_not_score_what_training_can_do_nothing_with(
    tmp_path: Path, tiny_student: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line and no GPU, before any weights are read; not where it is meant, nor for another stage."""
    rows = [{"problem": text, "response": said, "gold": said.rpartition(" ")[2]} for text, said in TWICE.items()]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tracking = {"uri": f"sqlite:///{tmp_path}/mlflow.db", "artifacts": str(tmp_path / "artifacts")}
    ingest = {"sources": [str(tmp_path / "rows.jsonl")], "selection_share": 0.0}

    def text(**train: object) -> str:
        given = {"ingest": ingest, "tracking": tracking, "train": {"correction": {"name": "naturalness"}, **train}}
        return parse_config(json.dumps(given)).to_json()

    traces, scores = tmp_path / "traces", tmp_path / "scores"
    component.run("ingest", text(), "p", str(traces), {"student": str(tiny_student)})
    inputs = {"traces": str(traces), "student": str(tiny_student)}
    (tmp_path / "config.json").write_text(text())
    assert component.is_there("score", str(tmp_path / "config.json"), dict(inputs), {})
    assert "it will be refused, no GPU is needed" in capfd.readouterr().out
    with pytest.raises(SystemExit) as ended:
        component.run("score", text(), "p", str(scores), inputs)
    assert ended.value.code == 2
    assert "failed: train.correction.name=naturalness compares the traces of a prompt" in capfd.readouterr().out
    assert not scores.exists()
    component.run("score", text(allow_idle=True), "p", str(scores), inputs)
    by_hand = {"scores": scores, "student": tiny_student}
    with pytest.raises(UserError, match=r"one a prompt \(6 prompts\).*set train.allow_idle=true"):
        execute("train", parse_config(text()), tmp_path / "student", by_hand, RunContext(tracked=False))
    short = parse_config(text(allow_idle=True, epochs=1, checkpoints={"uri": ""}))
    execute("train", short, tmp_path / "student", by_hand, RunContext(tracked=False))


def test_what_the_start_knows_comes_from_its_scores(tmp_path: Path) -> None:
    """An untrained start gives each of its some hundred tokens next to nothing, so of `auto` one arm is left."""
    place = Place(tmp_path)
    scores = place.folder / "scores"
    known = remarks.held(place.folder / "traces", scores).known
    assert known == manifests.read(scores)["metrics"]["mean_student_probability"]
    assert known is not None
    assert known < 0.1
    assert remarks.held(place.folder / "traces").known is None
    auto = place.config.model_copy(update={"train": place.config.train.model_copy(update={"arms": "auto"})})
    out = place.run("pilot", "unknown", auto, arm="gce", student=place.student, traces=place.folder / "traces",
                    scores=scores)  # fmt: skip
    assert told(out)["state"] == piloting.LEFT_OUT
    assert "gained nothing or lost" in told(out)["why"]


def test_where_no_arm_suits_the_traces_plain_fine_tuning_has_nobody_to_beat(tmp_path: Path) -> None:
    """One trace a prompt: nobody is trained, and the first line says why; meant so, the arm is tried."""
    place = Place(tmp_path)
    near = [{"name": "near", "correction": {"name": "naturalness"}}]

    def config(**train: Any) -> Config:
        return Config.model_validate(place.config.model_dump() | {"train": place.config.train.model_dump() | train})

    held = remarks.held(place.folder / "traces", place.folder / "scores")
    meant = config(arms=near, allow_idle=True)
    assert pilot.untried(meant, place.folder / "traces", "near", held) == ("", "")
    rates = config(arms=[{**near[0], "learning_rate": 0.01}])  # two rates of plain fine-tuning can be compared
    assert pilot.untried(rates, place.folder / "traces", "sft", held) == ("", "")
    given = {"student": place.student, "traces": place.folder / "traces", "scores": place.folder / "scores"}
    idle = config(arms=near)
    folders = {name: place.run("pilot", f"nobody-{name}", idle, arm=name, **given) for name in ("sft", "near")}
    states = {name: told(folder)["state"] for name, folder in folders.items()}
    assert states == {"sft": piloting.FEW, "near": piloting.LEFT_OUT}
    assert not any((folder / piloting.STUDENT).exists() for folder in folders.values())
    made = json.loads((place.run("choose", "nobody", idle, **folders) / "choice.json").read_text())
    assert made["choice"]["arm"] == "sft"
    answer = report.answer(plain=True, choice=made)
    assert "Plain fine-tuning was kept: no arm but plain fine-tuning suits these traces: near (tr" in answer.text
