"""All benchmarks, found by looking: they load, split, fingerprint, and take their own gold answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dcod import benchmarks, grading
from dcod.config import BenchmarkConfig
from dcod.errors import UserError
from dcod.grading import spelling
from dcod.traces import prompts, synthetic

ROWS = {
    "gsm8k": 1319,
    "math": 5000,
    "math500": 500,
    "amc23": 40,
    "aime24": 30,
    "aime25": 30,
    "olympiadbench": 675,
}
CHAIN = "reasoning-gym://chain_sum?problems=40&seed=5&min_terms=3&max_terms=3"


def published(name: str, data_dir: Path, **fields: Any) -> BenchmarkConfig:
    return BenchmarkConfig(name=name, source=str(data_dir / name / "test.jsonl"), **fields)


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_all_are_found_and_well_formed() -> None:
    assert benchmarks.names() == sorted([*ROWS, "reasoning_gym", "custom", "ifeval"])
    for name in benchmarks.names():
        found = benchmarks.get(name)
        assert found.name == name
        assert found.version >= 1
        assert found.rows == {**ROWS, "ifeval": 541}.get(name, 0)
        assert len(prompts.INSTRUCTIONS[found.asks].split()) <= 15
    with pytest.raises(UserError, match="gsm8k"):
        benchmarks.get("gsm9k")


@pytest.mark.parametrize("name", sorted(ROWS))
def test_published_sets(name: str, data_dir: Path) -> None:
    config = published(name, data_dir)
    problems = benchmarks.load(config, 0.5)
    assert len(problems) == ROWS[name]
    assert len({p.id for p in problems}) == len(problems)
    assert {p.split for p in problems} == {"gate", "report"}
    said = benchmarks.grade_all(config, [(p, f"\\boxed{{{p.gold}}}", False) for p in problems])
    assert {grade.outcome for grade in said} == {"correct"}
    silent = benchmarks.grade_all(config, [(p, "I do not know", True) for p in problems])
    assert {grade.outcome for grade in silent} == {"truncated"}


def test_a_limit_takes_the_first_and_a_share_of_zero_leaves_all_to_the_gate(data_dir: Path) -> None:
    every = benchmarks.load(published("math500", data_dir), 0.5)
    first = benchmarks.load(published("math500", data_dir, limit=7), 0.5)
    assert first == every[:7]
    assert {p.split for p in benchmarks.load(published("math500", data_dir), 0.0)} == {"gate"}
    report = sum(p.split == "report" for p in every)
    assert 200 < report < 300


def test_problem_texts_are_those_of_the_whole_set(data_dir: Path) -> None:
    texts = benchmarks.problem_texts(published("math500", data_dir, limit=3))
    assert len(texts) == 500
    assert benchmarks.normalise_problem("What  is\n2 + X?") == "whatis2+x?"


def test_math_takes_all_boxes_that_stand_together(data_dir: Path) -> None:
    problems = benchmarks.load(published("math", data_dir), 0.5)
    assert problems[762].gold == "-2, 1"
    grade = benchmarks.get("math").grade
    assert grade(problems[762], "\\boxed{1, -2}", False).outcome == "correct"
    assert grade(problems[762], "\\boxed{1}", False).outcome == "wrong"


def test_olympiadbench_wants_every_answer_and_no_other(data_dir: Path) -> None:
    config = published("olympiadbench", data_dir)
    answered = []
    for problem in benchmarks.load(config, 0.5):
        listed = spelling.enclosed(spelling.tidy(problem.gold))
        if not problem.metadata["several"] or listed is None or listed[0] or len(set(listed[1])) < len(listed[1]):
            continue
        members = listed[1][::-1]
        answered += [
            (problem, f"The answers are ${'$, $'.join(members[:-1])}$ and ${members[-1]}$.", "correct"),
            (problem, " and ".join(f"$\\boxed{{{member}}}$" for member in members), "correct"),
            (problem, f"\\boxed{{{', '.join(members[:-1])}}}", "wrong"),
            (problem, f"\\boxed{{{', '.join([*members, '12345'])}}}", "wrong"),
        ]
    grades = benchmarks.grade_all(config, [(problem, response, False) for problem, response, _ in answered])
    assert len(answered) > 300
    assert [a for a, grade in zip(answered, grades, strict=True) if grade.outcome != a[2]] == []


def test_olympiadbench_takes_units_and_its_own_tolerance(data_dir: Path) -> None:
    problems = {p.id: p for p in benchmarks.load(published("olympiadbench", data_dir), 0.5)}
    grade = benchmarks.get("olympiadbench").grade
    percent, minutes = problems["olympiadbench/2592"], problems["olympiadbench/2253"]
    assert percent.metadata["tolerance"] == 0.1
    assert [grade(percent, f"\\boxed{{{text}}}", False).outcome for text in ("4.25\\%", "4.2", "4.4")] == [
        "correct",
        "correct",
        "wrong",
    ]
    assert grade(minutes, "\\boxed{45 \\text{ minutes}}", False).outcome == "correct"


def test_splits_do_not_move_when_a_set_grows_and_fingerprints_do() -> None:
    small, large = (BenchmarkConfig(name="reasoning_gym", source=CHAIN.replace("40", count)) for count in ("20", "40"))
    first, second = benchmarks.load(small, 0.5), benchmarks.load(large, 0.5)
    assert [(p.id, p.split) for p in first] == [(p.id, p.split) for p in second[:20]]
    assert benchmarks.fingerprint(small) != benchmarks.fingerprint(large)
    assert benchmarks.fingerprint(small) == benchmarks.fingerprint(small)
    longer = small.model_copy(update={"max_new_tokens": 7})
    assert benchmarks.fingerprint(small) != benchmarks.fingerprint(longer)
    assert benchmarks.key(small) == "reasoning_gym:chain_sum"


def test_a_fingerprint_moves_with_everything_that_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "own.jsonl", {"problem": "1+1?", "answer": "2"})
    config = BenchmarkConfig(name="custom", source=str(path))
    seen = {benchmarks.fingerprint(config)}
    changes: list[dict[str, Any]] = [
        {"samples": 4, "temperature": 0.5},
        {"temperature": 0.7},
        {"top_p": 0.9},
        {"source": f"{path}?kind=number"},
    ]
    seen |= {benchmarks.fingerprint(config.model_copy(update=change)) for change in changes}
    with monkeypatch.context() as patched:
        patched.setattr(grading, "VERSION", grading.VERSION + 1)
        seen.add(benchmarks.fingerprint(config))
    with monkeypatch.context() as patched:
        patched.setitem(prompts.INSTRUCTIONS, "boxed", "Think.")
        seen.add(benchmarks.fingerprint(config))
    for evaluator in ({"seed": 1}, {"seed": 2}, {"seed": 1, "engine": ["vllm", "0.32.0"]}):
        seen.add(benchmarks.fingerprint(config, evaluator))
    write(path, {"problem": "1+1?", "answer": "3"})
    seen.add(benchmarks.fingerprint(config))
    assert len(seen) == 11
    role = config.model_copy(update={"role": "guard"})
    assert benchmarks.fingerprint(config) == benchmarks.fingerprint(role)


def test_reasoning_gym_outcomes() -> None:
    config = BenchmarkConfig(name="reasoning_gym", source=CHAIN)
    problem = benchmarks.load(config, 0.0)[0]
    said = [
        (f"#### {problem.gold}", False),
        (f"so {problem.gold}", False),
        (f"#### $ {problem.gold} $", False),
        ("#### 12345678", False),
        ("?", False),
        ("5", True),
    ]
    grades = benchmarks.grade_all(config, [(problem, *answer) for answer in said])
    assert [g.outcome for g in grades] == ["correct", "correct", "correct", "wrong", "unparseable", "truncated"]


def test_a_scorer_that_evaluates_answers_cannot_hang() -> None:
    config = BenchmarkConfig(name="reasoning_gym", source="reasoning-gym://polynomial_multiplication?problems=3&seed=1")
    problem = benchmarks.load(config, 0.0)[0]
    texts = [f"#### {problem.gold}", "#### 9**(9**(9**9))", f"#### {problem.gold}"]
    grades = benchmarks.grade_all(config, [(problem, text, False) for text in texts])
    assert grades[0].outcome == grades[2].outcome == "correct"
    assert grades[1].outcome in ("wrong", "error")


def test_reasoning_gym_takes_its_own_gold_on_many_tasks() -> None:
    tasks = (
        "gsm_symbolic",
        "leg_counting",
        "spell_backward",
        "fraction_simplification",
        "word_sorting",
        "base_conversion",
    )
    for task in tasks:
        config = BenchmarkConfig(name="reasoning_gym", source=f"reasoning-gym://{task}?problems=3&seed=2")
        problems = benchmarks.load(config, 0.0)
        grades = benchmarks.grade_all(config, [(p, f"The answer is {p.gold}", False) for p in problems])
        assert {g.outcome for g in grades} == {"correct"}, task
        assert all(isinstance(p.metadata["problem"], synthetic.SyntheticProblem) for p in problems)


def test_a_set_of_your_own(tmp_path: Path) -> None:
    rows = [{"q": "1+1?", "a": 2, "n": "x"}, {"q": "Roots of x^2=1?", "a": [1, -1], "n": "y"}]
    path = write(tmp_path / "mine.v2.jsonl", *rows)
    config = BenchmarkConfig(name="custom", source=f"{path}?problem=q&answer=a&id=n&kind=number")
    problems = benchmarks.load(config, 0.0)
    assert benchmarks.key(config) == "custom:mine.v2"
    assert [(p.id, p.gold) for p in problems] == [("x", "2"), ("y", "1, -1")]
    assert problems[0].prompt[-1]["content"] == f"1+1?\n{prompts.INSTRUCTIONS['number']}"
    said = [(problems[0], "so it is 2", False), (problems[1], "\\boxed{-1, 1}", False), (problems[1], "#### 1", False)]
    assert [g.outcome for g in benchmarks.grade_all(config, said)] == ["correct", "correct", "wrong"]
    assert benchmarks.problem_texts(config) == {"1+1?", "Roots of x^2=1?"}


def test_a_set_of_your_own_as_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"problem": ["1+1?"], "answer": ["2"]}), tmp_path / "own.parquet")
    problems = benchmarks.load(BenchmarkConfig(name="custom", source=str(tmp_path / "own.parquet")), 0.0)
    assert [(p.id, p.gold) for p in problems] == [("custom/1", "2")]
    (tmp_path / "bad.parquet").write_bytes(b"no")
    with pytest.raises(UserError, match="not a Parquet file"):
        benchmarks.load(BenchmarkConfig(name="custom", source=str(tmp_path / "bad.parquet")), 0.0)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", "no source; expected path"),
        ("{}?colum=q", "unknown option colum"),
        ("{}?kind=essay", "kind='essay' is unknown; known: number, boxed, as_is"),
        ("{}?problem=text", "problem: no row has 'text'; columns: problem, answer"),
        ("{}?answer=empty", "answer: no row has 'empty'"),
    ],
)
def test_a_set_of_your_own_described_wrongly(tmp_path: Path, source: str, said: str) -> None:
    path = write(tmp_path / "own.jsonl", {"problem": "1+1?", "answer": "2"})
    with pytest.raises(UserError, match=said):
        benchmarks.load(BenchmarkConfig(name="custom", source=source.format(path)), 0.0)


def test_bad_sources(tmp_path: Path) -> None:
    write(tmp_path / "short.jsonl", {"question": "q", "answer": "#### 1"})
    with pytest.raises(UserError, match="has 1 rows, the published set 1319"):
        benchmarks.load(BenchmarkConfig(name="gsm8k", source=str(tmp_path / "short.jsonl")), 0.5)
    (tmp_path / "broken.jsonl").write_text("{}\n{\n")
    with pytest.raises(UserError, match=r"broken\.jsonl"):
        benchmarks.load(BenchmarkConfig(name="gsm8k", source=str(tmp_path / "broken.jsonl")), 0.5)
    with pytest.raises(UserError, match="no such file"):
        benchmarks.load(BenchmarkConfig(name="gsm8k", source=str(tmp_path / "gone.jsonl")), 0.5)
    write(tmp_path / "empty.jsonl", {"question": "q", "answer": "#### "})
    with pytest.raises(UserError, match="1 has an empty problem or answer"):
        benchmarks.load(BenchmarkConfig(name="gsm8k", source=str(tmp_path / "empty.jsonl")), 0.5)
    (tmp_path / "bytes.jsonl").write_bytes(b'{"question": "q", "answer": "#### 1"}\n\xff\n')
    with pytest.raises(UserError, match=r"bytes\.jsonl:2: not a JSON object"):
        benchmarks.load(BenchmarkConfig(name="gsm8k", source=str(tmp_path / "bytes.jsonl")), 0.5)
    for name, told in (("olympiadbench", "path or s3"), ("reasoning_gym", "reasoning-gym://chain_sum")):
        with pytest.raises(UserError, match=told):
            benchmarks.load(BenchmarkConfig(name=name), 0.5)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"name": "gsm8k"}, (1, 0.0, 1.0, 256)),
        ({"name": "aime24"}, (8, 0.6, 0.95, 4096)),
        ({"name": "amc23", "temperature": 0.0}, (1, 0.0, 1.0, 4096)),
        ({"name": "amc23", "samples": 1, "max_new_tokens": 9}, (1, 0.0, 1.0, 9)),
        ({"name": "amc23", "samples": 16, "temperature": 1.0, "top_p": 1.0}, (16, 1.0, 1.0, 4096)),
        ({"name": "gsm8k", "samples": 4}, (4, 0.6, 0.95, 256)),
    ],
)
def test_what_is_said_wins_over_the_plan(fields: dict[str, Any], expected: tuple[int, float, float, int]) -> None:
    assert benchmarks.plan(BenchmarkConfig(**fields)) == benchmarks.SamplingPlan(*expected)


def test_small_sets_are_sampled_at_least_eight_times() -> None:
    for name in ("aime24", "aime25", "amc23"):
        assert benchmarks.plan(BenchmarkConfig(name=name)).samples >= 8
