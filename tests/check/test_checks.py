"""Faults planted in configuration, student, traces and benchmarks, each found before a run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from dcod.check import student
from dcod.check.checks import Check, checks, early
from dcod.config import Config, StudentConfig, parse_config
from dcod.errors import UserError
from dcod.promote.compare import compare


def lines(path: Path, rows: Iterable[object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def rows(count: int, each: int = 1, **more: object) -> list[dict[str, object]]:
    return [
        {"prompt": f"What is {n} + 1?", "completion": f"Way {k}. #### {n + 1}", "gold": str(n + 1), **more}
        for n in range(count)
        for k in range(each)
    ]


@pytest.fixture
def good(tmp_path: Path, tiny_student: Path) -> list[str]:
    traces = lines(tmp_path / "traces.jsonl", rows(60, each=3))
    problems = lines(tmp_path / "problems.jsonl", ({"problem": f"{n} + 7?", "answer": str(n + 7)} for n in range(130)))
    return [
        f"student.model={tiny_student}",
        "student.max_length=400",
        f"ingest.sources=[{traces}]",
        "train.correction.name=surprisal",
        "train.correction.weights=live",
        f"evaluate.benchmarks=[{{name: custom, source: {problems}?kind=as_is}}]",
    ]


def answers(overrides: list[str]) -> dict[str, list[Check]]:
    found: dict[str, list[Check]] = {}
    for check in checks(parse_config("{}", overrides)):
        found.setdefault(check.name, []).append(check)
    return found


def test_a_benchmark_that_asks_otherwise_than_the_traces_is_told(good: list[str]) -> None:
    """Seen: a student that was always right wrote an empty box, as the words say that it had never been taught."""
    found = answers([*good, f"evaluate.benchmarks.0.source={good[-1].partition('source: ')[2].partition('?')[0]}"])
    (told,) = [check for check in found["custom:problems"] if check.state == "warning"]
    assert "boxed" in told.text
    assert "kind=as_is" in told.text


def test_nothing_is_wrong_with_what_is_right(good: list[str]) -> None:
    found = answers(good)
    assert {check.state for group in found.values() for check in group} == {"ok"}
    assert found["traces"][0].text == "180 traces from all 180 rows; read as prompt_completion (180)"
    assert found["correction"][0].text == "train.correction.name=surprisal can act on these traces"
    assert list(found) == [
        *("student", "traces", "lengths", "holdings", "corrections", "correction"),
        *("custom:problems", "disk", "memory", "time"),
    ]


@pytest.mark.parametrize(
    ("override", "name", "told"),
    [
        ("student.model=./gone", "student", "no such folder"),
        ("student.max_length=4096", "student", "has 2048 positions"),
        ("ingest.sources=[]", "traces", "ingest.sources is empty"),
        ("ingest.sources=[nowhere.jsonl]", "traces", "nowhere.jsonl: no such file"),
        ("ingest.format=conversations", "traces", "none of all 180 rows would be accepted"),
        ("student.max_length=16", "traces", "too_long"),
        ("train.arms=auto", "arms", "set ingest.pilot_share=0.1"),
        ("train.correction.name=prefix", "correction", "traces have them; use `surprisal`"),
        ("train.correction.gamma_max=0", "correction", "every weight is 1"),
        ("train.loss.name=forward_kl", "correction", "top-k"),
        ("train.anchor=0.1", "correction", "score.top_k"),
        ("evaluate.benchmarks=[]", "benchmarks", "nothing can be measured"),
        ("evaluate.benchmarks=[{name: gsm9k}]", "benchmarks", "'gsm9k' is unknown; known: aime24"),
        ("evaluate.benchmarks.0.source=nowhere.jsonl", "benchmarks", "evaluate.benchmarks.0.source: no such file"),
        (
            "evaluate.benchmarks.0.limit=20",
            "custom:problems",
            "the gate needs 50 (promote.min_problems): bring about 125",
        ),
    ],
)
def test_a_planted_fault_is_found(good: list[str], override: str, name: str, told: str) -> None:
    wrong = [check for check in answers([*good, override]).get(name, []) if check.state == "failed"]
    assert any(told in check.text for check in wrong), wrong
    assert all("\n" not in check.text for check in wrong)


def test_so_few_problems_that_no_student_could_pass_are_found(good: list[str]) -> None:
    """By the gate's own test: four gains and no loss have p = 0.0625."""
    few = [*good, "promote.min_problems=1", "promote.stability=[]"]
    for limit in range(2, 40):
        (check,) = answers([*few, f"evaluate.benchmarks.0.limit={limit}"])["custom:problems"]
        deciding = int(re.findall(r"(\d+) for the gate", check.text)[0])
        ours, theirs = ({str(n): [right] for n in range(deciding)} for right in (1.0, 0.0))
        passes = bool(deciding) and compare("sums", "primary", ours, theirs, 0.05).p_value < 0.05
        assert (check.state != "failed") == passes, check.text
        assert passes or "the test's level of 0.05 takes 5; bring about 12 problems" in check.text


def test_one_trace_a_prompt_is_told(good: list[str], tmp_path: Path) -> None:
    traces = lines(tmp_path / "lone.jsonl", rows(60))
    (idle,) = [c for c in answers([*good, f"ingest.sources=[{traces}]"])["correction"] if c.state == "failed"]
    assert "there is one a prompt" in idle.text
    assert "dcod teach" in idle.text
    meant = answers([*good, f"ingest.sources=[{traces}]", "train.allow_idle=true"])["correction"]
    assert [c.state for c in meant if c.text == idle.text] == ["warning"]


def test_rows_that_are_refused_are_counted_with_an_example(good: list[str], tmp_path: Path) -> None:
    wrong = [{**row, "gold": "x"} for row in rows(40)]
    traces = lines(tmp_path / "mixed.jsonl", [*rows(20), *wrong, *rows(20)])
    check = answers([*good, f"ingest.sources=[{traces}]"])["traces"][0]
    assert check.state == "warning"
    assert "20 traces from all 80 rows" in check.text
    assert "40 wrong_answer" in check.text
    assert "20 duplicate" in check.text
    assert "mixed.jsonl:21: " in check.text


def test_without_a_network_it_is_said_what_stays_unchecked(good: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> Path:
        raise student.UncheckedError("the hub was not reached (ConnectionError)")

    monkeypatch.setattr(student, "_from_hub", away)
    found = answers([*good, "student.model=owner/name", "evaluate.benchmarks=[]"])
    assert [found[name][0].state for name in ("student", "traces", "correction", "room")] == ["unchecked"] * 4
    assert "hub was not reached" in found["student"][0].text
    assert found["benchmarks"][0].state == "failed"
    assert answers([*good, "student.model=s3://bucket/student"])["student"][0].state == "unchecked"


def test_a_student_is_looked_at_without_its_weights(tiny_student: Path, tmp_path: Path) -> None:
    copy = tmp_path / "student"
    copy.mkdir()
    for path in tiny_student.glob("*.json"):
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "model.safetensors").write_bytes(b"never read")
    assert student.small_files(StudentConfig(model=str(copy))) == copy
    from dcod.models import loading

    assert student.parameters(copy) == sum(p.numel() for p in loading.load(tiny_student).parameters())
    (copy / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"no \*\.safetensors"):
        student.small_files(StudentConfig(model=str(copy)))


def test_a_run_is_not_started_without_traces() -> None:
    with pytest.raises(UserError, match="name your traces"):
        early(Config())
    early(parse_config("{}", ["ingest.sources=[s3://bucket/traces/]", "evaluate.benchmarks=[{name: gsm8k}]"]))


@pytest.mark.parametrize(
    ("override", "name", "told"),
    [
        ("evaluate.benchmarks.0.role=guard", "custom:problems", "promote.margin=0.02 is kept where no answer changes"),
        ("promote.stability_margin=0.01", "custom:problems", "to the gate, or set promote.stability_margin higher"),
        ("promote.stability_margin=0", "custom:problems", "set promote.stability_margin above 0"),
    ],
)
def test_limits_that_few_problems_cannot_show_are_told(good: list[str], override: str, name: str, told: str) -> None:
    """A warning: a student that is better in just that passes."""
    doubtful = [check for check in answers([*good, override])[name] if check.state == "warning"]
    assert any(told in check.text for check in doubtful), doubtful
    quiet = answers([*good, override, "promote.stability=[disagreeing]", "promote.margin=0.9"])[name]
    assert [check.state for check in quiet] == ["ok"]


def test_what_a_guard_needs_is_what_the_gate_asks(good: list[str]) -> None:
    """With as many problems as it says the limit can be kept, with one fewer it cannot."""
    asked = answers([*good, "evaluate.benchmarks.0.role=guard"])["custom:problems"]
    (check,) = [check for check in asked if check.state == "warning"]
    enough = int(re.findall(r"bring (\d+) or more to", check.text)[0])
    ours = {count: {str(n): [1.0] for n in range(count)} for count in (enough - 1, enough)}
    worst = [compare("sums", "guard", ours[count], ours[count], 0.05).worst for count in (enough - 1, enough)]
    assert worst[0] <= -0.02 < worst[1]


def test_a_teacher_that_could_say_whether_errors_compound_is_named(good: list[str], tiny_student: Path) -> None:
    """With the key and what it costs; not where it is asked already, or where no teacher can score a given text."""
    (told,) = answers([*good, f"teach.model={tiny_student}"])["exposure"]
    assert told.state == "ok"
    assert "will not measure whether errors compound (ExAccErr); promote.exposure_traces=128 does" in told.text
    assert "2 students then write 128 answers each" in told.text
    written, read = (int(n.replace(",", "")) for n in re.findall(r"([\d,]+) (?:tokens written|read)", told.text))
    assert written % 256 == 0
    assert read > 1.5 * written
    (twin,) = answers([*good, "teach.model=owner/teacher", "train.twin=true"])["exposure"]
    assert "3 students" in twin.text
    assert f"{3 * written // 2:,} tokens written" in twin.text
    server = "{name: openai, endpoint: http://h/v1, model: m}"
    for other in (
        [],
        [f"teach.model={tiny_student}", "promote.exposure_traces=64"],
        ["teach.model=owner/teacher", f"teach.engine={server}"],
    ):
        assert "exposure" not in answers([*good, *other])


def test_the_time_counts_all_trainings_and_the_evaluation(good: list[str]) -> None:
    findings = [answers([*good, *more])["time"][0].text for more in ([], ["train.twin=true", "train.seeds=3"])]
    assert "2 epochs: " in findings[0]
    assert "2 epochs, 6 trainings: " in findings[1]


def test_a_pilot_is_told_with_what_it_finds_and_costs(good: list[str], tmp_path: Path) -> None:
    """Beside its price; where its run does what it cannot; and where no arm is left, with the way out."""
    traces = lines(tmp_path / "many.jsonl", rows(1000))
    sources, shares = f"ingest.sources=[{traces}]", ("ingest.pilot_share=0.2", "ingest.selection_share=0.2")
    arms = [*good, sources, *shares, "train.arms=auto", "train.sharding=fsdp"]
    told = [(check.state, check.text) for check in answers(arms)["pilot"]]
    assert [state for state, _ in told] == ["ok", "ok", "warning"]
    assert told[0][1].startswith("2 arms against plain fine-tuning on ")
    assert re.search(r"6 students at most, .* \d\d% of the run", told[1][1])
    assert "train.sharding=fsdp is not a pilot's" in told[2][1]
    near = "[{name: near, correction: {name: naturalness}}]"
    idle = answers([*good, sources, *shares, f"train.arms={near}"])
    assert [check.state for check in idle["arms"]] == ["ok", "failed"]
    assert "no arm but plain fine-tuning suits these traces: near (" in idle["arms"][1].text
    assert "train.allow_idle=true" in idle["arms"][1].text
    assert "pilot" not in idle
    meant = answers([*good, sources, *shares, f"train.arms={near}", "train.allow_idle=true"])
    assert [check.text for check in meant["arms"]] == ["arms: sft, near"]
    few = answers([*good, *shares, "train.arms=auto"])
    assert [(one.state, "100 of either kind are the least" in one.text) for one in few["arms"]] == [("warning", True)]


def test_what_the_files_hold_and_allow_is_told(good: list[str], tmp_path: Path) -> None:
    traces = lines(tmp_path / "one.jsonl", rows(60, weight=2.0))
    found = answers([*good, f"ingest.sources=[{traces}]", "train.correction.name=none"])
    assert re.search(r"reference answers for all \d+, weights of their own for all \d+", found["holdings"][0].text)
    assert "would do nothing here: naturalness, " in found["corrections"][0].text
    assert "given" not in found["corrections"][0].text
