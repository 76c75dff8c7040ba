"""The stage `gate`: from folders to a decision, a card, a page and a table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcod import storage
from dcod.config import Config, CorrectionConfig, TrainConfig, parse_config
from dcod.errors import UserError
from dcod.evaluate.results import ModelRef, Results, SplitFigures
from dcod.evaluate.summaries import OUTCOMES
from dcod.promote.decision import TRAINED_ON, read_decision
from dcod.stages import component, gate, seeds
from dcod.stages.execute import RunContext, execute
from dcod.stages.gate import EXPOSURE
from dcod.traces import FILE, Trace, write_traces
from dcod.tracking import NullLog
from tests.promote.test_promote import NAME, Place, results
from tests.promote.test_promotion_checks import manifest
from tests.reports.test_trace_pages import data_of
from tests.viewed import write_set


def trained(folder: Path, correction: str) -> Path:
    config = Config(train=TrainConfig(correction=CorrectionConfig(name=correction)))
    sections = {name: getattr(config, name).model_dump(mode="json") for name in ("student", "train")}
    return manifest(folder, config=sections)


def folders(place: Place, tmp_path: Path) -> dict[str, Path]:
    """All that the stage may be given but scores; the twin answers one problem less than the student."""
    student, twin, traces = place.student(1), place.student(2), tmp_path / "traces"
    traces.mkdir()
    write_traces(traces / FILE, [Trace([{"role": "user", "content": "p"}], "c", source_file="a.jsonl")])
    start = results(tmp_path / "start", place.start, range(30))
    return {
        "start": place.start,
        "student": trained(student, "trace"),
        "twin": trained(twin, "none"),
        "traces": traces,
        "results": results(tmp_path / "ours", student, range(60)),
        "start_results": start,
        "champion_results": start,
        "few_shot_results": results(tmp_path / "few", place.start, range(31)),
        "twin_results": results(tmp_path / "twins", twin, range(59)),
    }


def test_from_folders_to_decision_card_and_pages(tmp_path: Path, tiny_student: Path) -> None:
    place = Place(tmp_path, tiny_student)
    inputs: dict[str, Any] = {name: str(path) for name, path in folders(place, tmp_path).items()}
    for name in ("results", "twin_results"):
        on_both_splits(Path(inputs[name]))
    paths = [str(tmp_path / name) for name in ("out", "page.html", "summary.md", "traces.html")]
    pages = paths[1], paths[3]
    outcome, figures = component.run_gate(place.config.to_json(), "p1", paths[0], inputs, pages, paths[2])
    assert (outcome, figures["promoted"]) == ("promote", 1.0)
    decision = read_decision(Path(paths[0]))
    assert (decision.outcome, decision.challenger.version, decision.baseline.version) == ("promote", 2, 1)
    assert [reason.code for reason in decision.reasons][-2:] == ["uncontaminated", "beats_twin"]
    assert [one.role for one in decision.comparisons][-1] == "twin"
    (parent,) = place.tracker._parents("p1")
    summary, description = Path(paths[2]).read_text(), parent.data.tags["mlflow.note.content"]
    told = "What the correction brought could not be told from none: +1.0 points"
    assert summary.startswith(f"# promote\n\n{told}")
    for shown in (summary, description):
        assert shown.index(told) < shown.index("\n| sums | 60.0% | 59.0% | +1.0 |") < shown.index("\n\n- yes: ")
    assert figures["correction/sums/difference"] == pytest.approx(0.01)
    assert parent.data.metrics["correction/sums/difference"] == pytest.approx(0.01)
    assert "0 worse than the SFT twin" in (Path(paths[0]) / "report.html").read_text()
    out = Path(paths[0])
    assert Path(paths[1]).read_text() == (out / "report.html").read_text()
    traces = out / "traces.html"
    assert Path(paths[3]).read_text() == (traces.read_text() if traces.is_file() else component.NO_PAGE)
    for name in ("start", "start, few-shot", "champion", "student", "SFT twin"):
        assert f"results of {name}" in (out / "report.html").read_text()
    assert "<dt>MLflow run</dt>" in (out / "report.html").read_text()
    assert (out / "accuracy.txt").read_text() == "no results on the report split\n"
    assert (out / TRAINED_ON).is_file()
    assert "version 2" in place.registry.card(f"models:/{NAME}@challenger")
    assert "not trained by dcod" in place.registry.card(f"models:/{NAME}@champion")


def test_accuracies_on_the_report_split_stand_in_columns() -> None:
    outcomes = dict.fromkeys(OUTCOMES, 0) | {"correct": 3, "unparseable": 1}
    row = SplitFigures("sums", "zero_shot", "report", 4, 1, 0.75, 0.3, 0.95, 0.5, outcomes, {}, {}, {}, 9.0)
    told = {label: Results(ModelRef("d"), {}, (row, replace(row, split="gate"))) for label in ("start", "student")}
    head, *rows = gate.accuracy_table(told).splitlines()
    assert [line.index("75.0%") for line in rows] == [head.index("accuracy")] * 2
    assert " ".join(rows[1].split()) == "student: sums 75.0% 30.0% to 95.0% 4 50.0 points 25.0% 0.0%"


def test_the_page_of_the_traces_holds_the_students_own_answers(tmp_path: Path, tiny_student: Path) -> None:
    traces, scores, _ = write_set(tmp_path, tiny_student, 4)
    given = gate.Inputs(tiny_student, tiny_student, tmp_path, tmp_path, tmp_path, scores=scores, traces=traces)
    served = parse_config("evaluate: {engine: {name: openai, endpoint: http://server/v1, model: m}}")
    for config, count in ((Config(), 4), (served, 0)):  # a server may hold another model
        assert gate._viewer(config, tmp_path, NullLog(), given) == "traces.html"
        rows = data_of((tmp_path / "traces.html").read_text(encoding="utf-8"))["traces"]
        assert sum(row["own"] is not None for row in rows) == count


def test_the_report_says_whether_errors_compound(tmp_path: Path, tiny_student: Path) -> None:
    place = Place(tmp_path, tiny_student)
    given = folders(place, tmp_path)
    selection = [
        Trace([{"role": "user", "content": f"p {i}"}], "c", split="selection", source_file="a.jsonl") for i in range(12)
    ]
    write_traces(given["traces"] / FILE, selection)
    asked = {"promote": place.config.promote.model_copy(update={"exposure_traces": 12})}
    config = place.config.model_copy(update=asked | {"teach": place.config.teach.model_copy(update={"model": "t"})})
    with pytest.raises(UserError, match="needs the teacher"):
        execute("gate", config, tmp_path / "without", given, RunContext())
    found = execute("gate", config, tmp_path / "out", {**given, "teacher": place.start}, RunContext())
    told = storage.read_json(tmp_path / "out" / EXPOSURE, made_by="dcod promote")["students"]
    assert set(told) == {"start", "SFT twin", "student"}
    assert {name for name in found if name.startswith("exposure/")} == {f"exposure/{name}" for name in told}
    assert "the errors of its own answers exceed" in (tmp_path / "out" / "report.html").read_text()


def on_both_splits(folder: Path) -> Path:
    """The same answers once more, as if they were to report problems."""
    file = folder / "examples.parquet"
    rows = [{**row, "problem": "p", "gold": "7", "response": "7"} for row in pq.read_table(file).to_pylist()]
    pq.write_table(pa.Table.from_pylist([*rows, *({**row, "split": "report"} for row in rows)]), file)
    return folder


def test_the_answer_is_over_all_seeds_that_have_both(tmp_path: Path, tiny_student: Path) -> None:
    """Two pairs and a student whose twin is missing; the answers are on the report split."""
    place = Place(tmp_path, tiny_student)
    given = folders(place, tmp_path) | {"seeds": tmp_path / "seeds"}
    for name in ("results", "twin_results"):
        on_both_splits(given[name])
    for name, right in (("student 1", 70), ("sft 1", 50), ("student 2", 60), ("sft 2", 55), ("student 3", 99)):
        which, number = name.split()
        model = place.student(10 * int(number) + (which == "sft"))
        on_both_splits(results(given["seeds"] / name / seeds.RESULTS, model, range(right)))
        told = {"arm": which, "seed": int(number), "compared": True, "why": ""}
        storage.write_json(given["seeds"] / name / seeds.FILE, told)
    lost = {"arm": "sft", "seed": 3, "compared": False, "why": "no room"}
    storage.write_json(given["seeds"] / "sft 3" / seeds.FILE, lost)
    config = place.config.model_copy(update={"train": TrainConfig(twin=True, seeds=4)})
    execute("gate", config, tmp_path / "out", given, RunContext())
    answer = storage.read_json(tmp_path / "out" / "answer.json", made_by="dcod promote")
    (one,) = answer["comparisons"]
    assert one["difference"] == pytest.approx((1 + 20 + 5) / 3 / 100)
    assert "3 seeds each" in answer["text"]
    assert answer["missing"] == "sft 3: no room"
    assert [student["name"].rpartition(", ")[2] for student in answer["students"]].count("seed 2") == 2
    assert "3 trainings of each" in (tmp_path / "out" / "report.html").read_text()
    assert "Not there: sft 3: no room" in (tmp_path / "out" / "report.html").read_text()


def test_a_twin_needs_both(tmp_path: Path, tiny_student: Path) -> None:
    place = Place(tmp_path, tiny_student)
    given = folders(place, tmp_path)
    for name in ("twin", "twin_results"):
        with pytest.raises(UserError, match="a twin needs its model folder and its results"):
            execute("gate", place.config, tmp_path / "out", {k: v for k, v in given.items() if k != name}, RunContext())
