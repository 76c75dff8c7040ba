"""A configuration is written for what the data are, and `dcod check` finds nothing wrong with it."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dcod.check.advice import advise, described
from dcod.check.checks import checks
from dcod.config import parse_config
from dcod.errors import UserError
from dcod.ingest import contamination
from dcod.models import batches
from dcod.stages import ingest
from dcod.traces import read_traces
from dcod.tracking import NullLog
from tests.check.test_checks import lines, rows


@pytest.fixture
def problems(tmp_path: Path) -> str:
    return lines(tmp_path / "test.jsonl", ({"question": f"{n} + 7?", "label": str(n + 7)} for n in range(130)))


def test_several_traces_a_prompt_are_trained_plainly_and_the_way_to_compare_them_is_told(
    tmp_path: Path, tiny_student: Path, problems: str
) -> None:
    traces = lines(tmp_path / "mine.jsonl", rows(60, each=3))
    advice = advise([traces], problems, str(tiny_student))
    config = parse_config(advice.text())
    assert config == advice.config
    assert (config.name, config.student.max_length) == ("mine", 256)
    assert (config.train.correction.name, config.train.arms) == ("none", [])
    assert config.ingest.keep == "correct"
    assert config.evaluate.benchmarks[0].source == f"{problems}?problem=question&answer=label&kind=as_is"
    assert "train.correction.name=naturalness" in advice.text()
    assert {check.state for check in checks(config)} == {"ok"}


def test_where_the_problems_suffice_arms_are_tried(tmp_path: Path, tiny_student: Path, problems: str) -> None:
    traces = lines(tmp_path / "many.jsonl", rows(1200, each=2))
    advice = advise([traces], problems, str(tiny_student))
    config = advice.config
    assert config.train.arms == "auto"
    assert config.train.correction.name == "none"
    assert (config.ingest.selection_share, config.ingest.pilot_share) == (0.1, 0.2)
    assert any(line.startswith("ingest.selection_share: 30% of the prompts are held back") for line in advice.why)
    assert {check.state for check in checks(config)} <= {"ok", "warning"}
    told = [line for line in advice.why if line.startswith("train.arms: ")]
    assert "some 240 pilot problems (ingest.pilot_share=0.2), on which 3 arms" in told[0]
    assert re.search(r"10 points with probability 0\.8\d; plain", told[0])
    assert re.search(r"its answers counted, costs \d\d% of the run", told[1])


@pytest.mark.parametrize(("prompts", "each", "enough"), [(800, 1, 830), (860, 1, 0), (1000, 2, 1050), (1060, 2, 0)])
def test_arms_are_tried_only_where_a_pilot_would_find_ten_points(
    prompts: int, each: int, enough: int, tmp_path: Path, tiny_student: Path, problems: str
) -> None:
    """One trace a prompt: two arms; several: three, which need more problems."""
    traces = lines(tmp_path / "many.jsonl", rows(prompts, each=each))
    advice = advise([traces], problems, str(tiny_student))
    assert bool(advice.config.train.arms) == (not enough)
    why = [line for line in advice.why if line.startswith("train.arms stays empty: ")]
    assert len(why) == bool(enough)
    if enough:
        assert f"some {prompts // 5} pilot problems (ingest.pilot_share=0.2), on which {1 + each} arms" in why[0]
        assert "find a gain of 10 points with probability 0.79, less than 0.8; " in why[0]
        assert f"some {enough:,} prompts with reference answers would do" in why[0]
        assert advice.config.ingest.pilot_share == 0.0


def test_traces_that_are_missing_are_said_before_the_hub_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcod.check.student.small_files", lambda *_: pytest.fail("the student was asked for"))
    with pytest.raises(UserError, match=r"gone\.jsonl: no such file or folder"):
        advise(["gone.jsonl"], "", "")


def test_one_trace_a_prompt_is_plain_fine_tuning_and_is_said(tmp_path: Path, tiny_student: Path) -> None:
    traces = lines(tmp_path / "mine.jsonl", rows(40))
    advice = advise([traces], "", str(tiny_student))
    assert advice.config.train.correction.name == "none"
    told = "\n".join(advice.why)
    assert "40 prompts, 1.0 traces each" in told or "prompts, 1.0 traces each" in told
    assert "plain fine-tuning" in told
    assert "evaluate.benchmarks is empty" in told
    steps = 40 * advice.config.train.epochs / advice.config.train.traces_per_step
    assert steps >= 40


def test_prompts_are_held_out_where_there_is_no_benchmark(tmp_path: Path, tiny_student: Path) -> None:
    traces = lines(tmp_path / "mine.jsonl", rows(40))
    advice = advise([traces], "", str(tiny_student), 0.3, tmp_path)
    file = tmp_path / "mine-held-out.jsonl"
    held = {row["problem"]: row["answer"] for row in map(json.loads, file.read_text().splitlines())}
    assert len(held) == 12
    assert held.items() <= {(row["prompt"], row["gold"]) for row in rows(40)}
    config = advice.config
    assert config.evaluate.benchmarks[0].source == f"{file}?kind=as_is"
    assert config.promote.min_problems == 6
    assert config.promote.stability_margin == 0.35
    assert any("12 problems were held out" in line and "of which 6 decide" in line for line in advice.why)
    assert {check.state for check in checks(config)} <= {"ok", "warning"}
    found = contamination.Contamination(config.evaluate.benchmarks)
    hits = [row["prompt"] for row in rows(40) if found.find([{"role": "user", "content": str(row["prompt"])}])]
    assert set(hits) == set(held)  # which ingestion leaves out
    with pytest.raises(UserError, match="is there already"):
        advise([traces], "", str(tiny_student), 0.3, tmp_path)
    assert advise([traces], "", str(tiny_student), 0.3, tmp_path, force=True).config == config
    file.write_text("my own problems")
    with pytest.raises(UserError, match="did not write it"):
        advise([traces], "", str(tiny_student), 0.3, tmp_path, force=True)
    assert file.read_text() == "my own problems"
    with pytest.raises(UserError, match=r"2 of 40 prompts.* take --hold-out 0\.2, or give --benchmark"):
        advise([traces], "", str(tiny_student), 0.05, tmp_path)


def test_steps_are_those_of_the_training(tmp_path: Path, tiny_student: Path) -> None:
    """Without what is wrong, held back or held out, and with the traces of a prompt in one step."""
    given = rows(60, each=3)
    for row in given[:30:3]:
        row["completion"] = "Way 0. #### 0"
    traces = lines(tmp_path / "mine.jsonl", given)
    advice = advise([traces], "", str(tiny_student), 0.3, tmp_path)
    overrides = [f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"]
    config = parse_config(advice.text(), overrides)
    ingest.run(config, tmp_path / "set", NullLog(), student=tiny_student)
    sizes = Counter(trace.prompt_id for trace in read_traces(tmp_path / "set") if trace.split == "train")
    prompts = batches.numbered(name for name, count in sizes.items() for _ in range(count))
    train = config.train
    taken = sum(len(batches.epoch_rows(prompts, train.traces_per_step, 0, epoch)[1]) for epoch in range(train.epochs))
    (told,) = [line for line in advice.why if line.startswith("train.traces_per_step")]
    found = re.fullmatch(r"train\.traces_per_step: about (\d+) optimizer steps on the (\d+) traces .*", told)
    assert found
    assert int(found[2]) == sizes.total() < 120
    assert abs(int(found[1]) - taken) <= 0.1 * taken


@pytest.mark.parametrize("source", [".", "*.jsonl", "../data", "**/*.jsonl"])
def test_problems_are_not_held_out_among_the_traces(
    tmp_path: Path, tiny_student: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    lines(tmp_path / "data" / "mine.jsonl", rows(40))
    monkeypatch.chdir(tmp_path / "data")
    with pytest.raises(UserError, match=r"held-out\.jsonl would be read as traces.*run in another folder"):
        advise([source], "", str(tiny_student), 0.3)
    assert [file.name for file in Path().iterdir()] == ["mine.jsonl"]
    advise([source], "", str(tiny_student), 0.3, tmp_path)
    assert len(list(tmp_path.glob("*-held-out.jsonl"))) == 1
    advise(["mine.jsonl"], "", str(tiny_student), 0.3)
    assert Path("mine-held-out.jsonl").is_file()


@pytest.mark.parametrize("share", [0.2, 0.4, 0.9])
def test_of_what_is_held_out_enough_decides(tmp_path: Path, tiny_student: Path, share: float) -> None:
    traces = lines(tmp_path / "mine.jsonl", rows(40))
    config = advise([traces], "", str(tiny_student), share, tmp_path).config
    found = {check.name: check for check in checks(config)}["custom:mine-held-out"]
    assert found.state != "failed", found.text
    assert f"{round(40 * share)} problems: {config.promote.min_problems} for the gate" in found.text
    assert f"; {round(40 * share)} of the traces are to these problems, and are left out of the training" in found.text
    assert config.promote.min_problems >= 5


def test_only_what_is_possible_is_offered(tmp_path: Path, tiny_student: Path) -> None:
    def told(given: list[dict[str, object]]) -> str:
        (line,) = [one for one in advise([lines(tmp_path / "t.jsonl", given)], "", str(tiny_student)).why
                   if one.startswith("evaluate.benchmarks is empty")]  # fmt: skip
        return line

    assert "--hold-out 0.3" in told(rows(40))
    assert "--hold-out 0.4" in told(rows(20))
    assert "8 prompts with answers are too few" in told(rows(8))
    bare = [{key: value for key, value in row.items() if key != "gold"} for row in rows(40)]
    assert "no trace has an answer to measure by; give `dcod init` --benchmark" in told(bare)
    with pytest.raises(UserError, match=r"--hold-out 0\.3: no trace has an answer.*--benchmark FILE"):
        advise([str(tmp_path / "t.jsonl")], "", str(tiny_student), 0.3, tmp_path)


def test_traces_of_which_none_is_right_are_refused_with_an_example(tmp_path: Path, tiny_student: Path) -> None:
    wrong = [{**row, "gold": "7000"} for row in rows(40)]
    told = r"0 of 40 traces have the right answer: 40 wrong_answer \(.*t\.jsonl:1: the answer '1' is not"
    with pytest.raises(UserError, match=told):
        advise([lines(tmp_path / "t.jsonl", wrong)], "", str(tiny_student))


def test_a_benchmark_is_asked_in_the_form_that_the_traces_ask_for(tmp_path: Path, tiny_student: Path) -> None:
    problems = lines(tmp_path / "p.jsonl", ({"problem": f"{n} + 7?", "answer": str(n + 7)} for n in range(130)))
    asked = [row | {"prompt": f"{row['prompt']} Put it into \\boxed{{}}."} for row in rows(20)]
    told = advise([lines(tmp_path / "t.jsonl", asked)], problems, str(tiny_student)).config
    assert told.evaluate.benchmarks[0].source == problems
    bare = advise([lines(tmp_path / "t.jsonl", rows(20))], problems, str(tiny_student)).config
    assert bare.evaluate.benchmarks[0].source == f"{problems}?kind=as_is"


def test_without_answers_all_is_kept_and_said(tmp_path: Path, tiny_student: Path) -> None:
    for text, keep in (("So it is 7. #### 7", "answered"), ("Because it is so.", "all")):
        traces = lines(tmp_path / "bare.jsonl", ({"prompt": f"p{n}?", "completion": f"{n}. {text}"} for n in range(20)))
        advice = advise([traces], "gsm8k", str(tiny_student))
        assert advice.config.ingest.keep == keep
        assert any("no trace has a reference answer" in line for line in advice.why)
        assert advice.config.evaluate.benchmarks[0].name == "gsm8k"


def test_answers_that_nothing_marks_are_found(tmp_path: Path, tiny_student: Path) -> None:
    traces = lines(
        tmp_path / "plain.jsonl",
        ({"prompt": f"{n} + 1?", "completion": f"We count on and get {n + 1}", "gold": str(n + 1)} for n in range(20)),
    )
    advice = advise([traces], "", str(tiny_student))
    assert advice.config.ingest.answers == "last_number"
    assert "ingest.keep stays `correct`: 20 of 20 traces have the right answer" in advice.why


def test_long_traces_set_the_length(tmp_path: Path, tiny_student: Path) -> None:
    long = [{**row, "completion": "word " * 200 + str(row["completion"])} for row in rows(30)]
    assert advise([lines(tmp_path / "t.jsonl", long)], "", str(tiny_student)).config.student.max_length == 1152


@pytest.mark.parametrize("columns", [["a", "b"], ["question"], ["answer"]])
def test_columns_that_nobody_knows_are_asked_for(columns: list[str]) -> None:
    with pytest.raises(UserError, match=r"which of its columns is the .*problem=COLUMN&answer=COLUMN"):
        described("x.jsonl", columns)


def test_usual_columns_need_no_word() -> None:
    assert described("x.jsonl", ["problem", "answer"]) == "x.jsonl"
    assert described("x.csv", ["Task", "Worked out", "Result"]) == "x.csv?problem=Task&answer=Result"
    assert described("x.csv", ["Task", "Final answer"]) == "x.csv?problem=Task&answer=Final%20answer"
    assert described("x.jsonl", ["Question", "final answer", "Answer"]) == "x.jsonl?problem=Question&answer=Answer"


def test_rows_that_are_no_traces(tmp_path: Path, tiny_student: Path) -> None:
    with pytest.raises(UserError, match=r"none of 3 rows is a trace: 3 .*/x\.jsonl\?prompt=COLUMN&completion=COLUMN"):
        advise([lines(tmp_path / "x.jsonl", [{"a": 1}] * 3)], "", str(tiny_student))


def openr1(count: int) -> Iterator[dict[str, Any]]:
    """Rows in the shape of open-r1/OpenR1-Math-220k."""
    for n in range(count):
        said = [f"<think>\nI add {way}.\n</think>\n\nIt is \\boxed{{{n + 7}}}." for way in ("slowly", "at once")]
        yield {"problem": f"What is {n} + 7?", "solution": f"Sum: \\boxed{{{n + 7}}}.", "answer": str(n + 7),
               "generations": said}  # fmt: skip


def test_a_mapping_by_name_is_taken_where_the_columns_are_a_sets(tmp_path: Path, tiny_student: Path) -> None:
    known, own = lines(tmp_path / "known.jsonl", openr1(30)), lines(tmp_path / "own.jsonl", rows(9))
    config = parse_config("{}", [f"student.model={tiny_student}", f'ingest.sources=["{known}", "{own}"]'])
    found = {check.name: check for check in checks(config)}
    assert found["mapping"].state == "warning"
    assert f"{known}: 30 of 30 rows look like open-r1/OpenR1-Math-220k or -Raw, which `map: openr1-math` reads" in (
        found["mapping"].text
    )
    advice = advise([known, own], "", str(tiny_student))
    assert advice.values["ingest"]["sources"] == [{"path": known, "map": "openr1-math"}, own]
    comments = [line for line in advice.text().splitlines() if line.startswith("# - ingest.sources: ")]
    assert len(comments) == 1
    assert "looks like open-r1/OpenR1-Math-220k or -Raw by its columns (30 of 30 rows)" in comments[0]
    assert parse_config(advice.text()) == advice.config
    found = {check.name: check for check in checks(advice.config)}
    assert "mapping" not in found
    assert "69 traces from all 39 rows; read as openr1-math (30)" in found["traces"].text


def test_a_mapping_by_name_is_not_taken_for_few_rows_nor_beside_another(tmp_path: Path, tiny_student: Path) -> None:
    mixed = lines(tmp_path / "mixed.jsonl", [*rows(9), *openr1(9)])
    assert advise([mixed], "", str(tiny_student)).values["ingest"]["sources"] == [mixed]
    mapped = f"{lines(tmp_path / 'known.jsonl', openr1(9))}?prompt=problem&completion=generations[0]"
    assert advise([mapped], "", str(tiny_student)).values["ingest"]["sources"] == [mapped]


def test_the_system_prompt_of_the_traces_is_asked_behind_as_well(
    tmp_path: Path, tiny_student: Path, problems: str
) -> None:
    system = {"role": "system", "content": "Work it out."}
    given: list[dict[str, object]] = []
    for row in rows(60, each=3):
        asked = {"role": "user", "content": str(row["prompt"])}
        said = {"role": "assistant", "content": str(row["completion"])}
        given.append({"messages": [system, asked, said], "gold": row["gold"]})
    advice = advise([lines(tmp_path / "mine.jsonl", given)], problems, str(tiny_student))
    assert advice.config.student.system_prompt == "Work it out."
    assert "problems are asked behind it as well" in "\n".join(advice.why)
    config = parse_config(advice.text())
    assert config == advice.config
    assert {check.state for check in checks(config)} == {"ok"}
    otherwise = parse_config(advice.text(), ["student.system_prompt=template"])
    (told,) = [check for check in checks(otherwise) if check.state == "warning"]
    assert "asked otherwise than it is taught" in told.text


def test_a_template_that_leaves_system_prompts_out_is_told(tmp_path: Path, tiny_student: Path, problems: str) -> None:
    student = Path(shutil.copytree(tiny_student, tmp_path / "student"))
    own = "{% for m in messages %}{% if m.role != 'system' %}<{{ m.role }}>{{ m.content }}</s>{% endif %}{% endfor %}"
    (student / "chat_template.jinja").write_text(own + "{% if add_generation_prompt %}<assistant>{% endif %}")
    system = {"role": "system", "content": "Work it out."}
    given = [
        {"messages": [system, {"role": "user", "content": f"What is {n} + 1?"},
                      {"role": "assistant", "content": f"#### {n + 1}"}], "gold": str(n + 1)}
        for n in range(60)
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"60 template .*leaves the system's turn out.*student\.chat_template=plain"):
        advise([lines(tmp_path / "mine.jsonl", given)], problems, str(student))
