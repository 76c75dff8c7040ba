"""The arms side by side: what each table holds, and what it leaves out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dcod.evaluate import results, summaries
from dcod.reports import arms, side_by_side
from dcod.reports.report import page
from dcod.reports.run_page import RunPage
from dcod.reports.sections import Cost
from tests.reports.test_arms import CHOICE, comparison, one_arm


def evaluated(said: list[str]) -> results.Results:
    rows = [
        {"problem_id": str(n), "outcome": "correct", "answer": "1", "response": text, "tokens": 7, "truncated": False,
         **summaries.of_answer(text)} for n, text in enumerate(said)
    ]  # fmt: skip
    figures = {**summaries.summarise(rows, 1), "figures": {}}
    asked = {"role": "primary", "fingerprint": "f", "prompting": {"zero_shot": {"report": figures, "gate": figures}}}
    return results.of_summary({"model": {"digest": "d", "uri": "u"}, "benchmarks": {"sums": asked}})


def student(folder: Path, name: str, said: list[str]) -> dict[str, object]:
    folder.mkdir()
    history = [{"tokens": 300.0, "selection_kl": 0.5}, {"tokens": 200.0, "selection_kl": 0.25}, {"tokens": 100.0}]
    (folder / "training.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history))
    costs = [Cost("train", 75.0, False), Cost("train", 9.0, True)]
    return side_by_side.student(name, folder, evaluated(said), costs, {"excess_error": 0.5})


def test_students_at_full_size(tmp_path: Path) -> None:
    """A student that begins all answers alike is seen, beside what it took and how far it went."""
    plain = student(tmp_path / "plain", "plain fine-tuning", ["2 + 2 = 4", "First 2", "Let us see"])
    one = student(tmp_path / "one", "correction (support)", ["2 + 2 = 4", "3 + 1 = 5", "1 + 1 = 2"])
    shown = side_by_side.took([plain, one])
    assert side_by_side.unequal([plain, one]) == ""
    assert shown[1][0] == ["plain fine-tuning", "3", "600", "1 min 15 s", "0.250", "+0.50"]
    head, rows = side_by_side.filled(side_by_side.asked({str(s["name"]): s["asked"] for s in (plain, one)}))  # type: ignore[misc]
    by_name = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert by_name["plain fine-tuning"]["ways to begin"] == "3.0"
    assert by_name["correction (support)"]["ways to begin"] == "1.0"
    assert by_name["correction (support)"]["wrong steps"] == "33.3%"
    assert by_name["correction (support)"]["problems"] == "3"
    given = arms.answer(plain=False, full=[comparison(40, 4)], students=[plain, one])
    text = page(RunPage(title="t", decision=None, results={}, answer=given))
    lines = arms.lines(given.to_dict())
    for said in ("1 min 15 s", "ways to begin", "KL from the start", "correction (support)"):
        assert said in text
        assert said in "\n".join(lines)
    assert text.index(given.text) < text.index("<h1>")  # the page opens with the answer


def test_trainings_that_took_other_steps_are_said_to(tmp_path: Path) -> None:
    """On the page, in the terminal, and of the two that were trained: further seeds tell nothing of it."""
    plain, one = student(tmp_path / "plain", side_by_side.PLAIN, ["4"]), student(tmp_path / "one", "support", ["4"])
    one |= {"steps": 2, "tokens": 500.0}
    given = arms.answer(plain=False, full=[comparison(40, 4)], students=[plain, one, {"name": "seed 1", "asked": []}])
    said = (
        "Not at equal compute: plain fine-tuning 3 steps, 600 tokens; support 2 steps, 500 tokens. train.patience ends"
    )
    assert said in str(arms.section(given))
    assert any(line.startswith(said) for line in arms.lines(given.to_dict()))
    assert "Not at equal" not in str(arms.section(arms.answer(plain=False, students=[plain])))


def test_runs_stand_in_columns(tmp_path: Path) -> None:
    """Whatever one of them lacks is empty."""
    trained = student(tmp_path / "one", "correction (support)", ["4"])
    first = arms.answer(plain=False, full=[comparison(40, 4)], choice=CHOICE, students=[trained]).to_dict()
    second = json.loads(json.dumps(arms.answer(plain=True, choice=CHOICE).to_dict()))
    head, rows = side_by_side.runs(
        {"a": json.loads(json.dumps(first)), "b": second, "c": arms.answer(plain=True).to_dict()}
    )
    by_title = {row[0]: row[1:] for row in rows}
    assert head == ["", "a", "b", "c"]
    assert by_title["compared at"] == ["full size", "", ""]
    assert by_title["sums, report problems: against plain"][0].startswith("+18.0 (+")
    assert by_title["the pilot's choice"] == ["support", "support", ""]
    assert by_title["pilot problems, support: against plain"] == ["+6.1 (+2.0 to +10.1)"] * 2 + [""]
    assert by_title["correction: steps"] == ["3", "", ""]


def test_an_arm_that_was_dropped_stands_with_what_its_first_seed_showed() -> None:
    told = [one_arm("sft"), one_arm("support"), one_arm("gce", "dropped", "worse", openings=1.5, seconds=9.0)]
    gone = {"name": "gce", "difference": -0.05, "low": -0.11, "high": 0.01}
    choice = CHOICE | {"arms": told, "dropped": [gone]}
    head, rows = side_by_side.accuracies(choice)
    row = dict(zip(head, rows[2], strict=True))
    assert row == {
        "arm": "gce (left out after the first half)", "selection, greedy": "50.0%", "selection, at 0.6": "40.0%",
        "best at": "0.6", "pilot problems": "45.0%", "against plain": "−5.0", "95 % interval": "−11.0 to +1.0",
    }  # fmt: skip
    assert side_by_side.writing(choice)[1][2][0] == "gce (left out after the first half)"
    text = str(arms.section(arms.answer(plain=False, choice=choice)))
    assert "gce, left out after the first half" in text  # a line of the plot
    figures = told[1]["figures"]
    figures["pilot/0.6"] = figures.pop("pilot")  # of a version that asked them at all temperatures
    assert "45.0%" in side_by_side.accuracies(choice)[1][1]
    earlier = side_by_side.accuracies(CHOICE | {"arms": told})[1]  # of a version that kept no figures
    assert earlier[2][0] == "gce: dropped: worse"


def test_what_is_unknown_has_no_column(tmp_path: Path) -> None:
    bare = side_by_side.student("plain", tmp_path, evaluated(["4"]), [], {})
    assert side_by_side.filled(side_by_side.took([bare])) == (["arm (full size)"], [["plain"]])


def test_a_pilots_arms_and_their_traces() -> None:
    told = [one_arm("sft", seconds=61.0, openings=2.5, looping=0.1, traces_openings=3.2), one_arm("gce", "failed", "x")]
    head, rows = side_by_side.filled(side_by_side.writing(CHOICE | {"arms": told}))
    assert head == ["arm (pilot)", "tokens learnt", "time", "length", "ways to begin", "cut off", "loops"]
    assert rows[0] == ["sft", "1,000", "1 min 01 s", "12", "2.5", "1.0%", "10.0%"]
    assert rows[1][0] == "the traces of these problems, sampled"
    assert rows[1][4] == "3.2"
    assert side_by_side.writing(CHOICE | {"arms": told[1:]})[1] == []
    scored = [one_arm("sft", seconds=61.0, traces_openings=3.2)]  # by likelihood: nothing was written
    head, rows = side_by_side.filled(side_by_side.writing(CHOICE | {"arms": scored}))
    assert (head, rows) == (["arm (pilot)", "tokens learnt", "time"], [["sft", "1,000", "1 min 01 s"]])


@pytest.mark.parametrize(("correction", "loss", "name"), [("support", "log", "support"), ("none", "gce", "gce")])
def test_a_correction_is_called_by_its_name_or_that_of_its_loss(
    tmp_path: Path, correction: str, loss: str, name: str
) -> None:
    from dcod.config import Config

    config = Config.model_validate({"train": {"correction": {"name": correction}, "loss": {"name": loss}}})
    manifest = {"stage": "train", "seed": 0, "config": config.model_dump(mode="json", include={"train", "student"})}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert side_by_side.name_of(tmp_path) == name
