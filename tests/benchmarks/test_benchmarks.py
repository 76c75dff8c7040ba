"""All benchmarks, found by looking: they load, split, fingerprint, and take their own gold answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dcod import benchmarks, prompts
from dcod.config import BenchmarkConfig
from dcod.errors import UserError

ROWS = {"gsm8k": 1319, "math": 5000, "math500": 500, "amc23": 40, "aime24": 30, "aime25": 30}
CHAIN = "reasoning-gym://chain_sum?problems=40&seed=5&min_terms=3&max_terms=3"


def test_all_are_found_and_well_formed() -> None:
    assert benchmarks.names() == sorted([*ROWS, "reasoning_gym"])
    for name in benchmarks.names():
        found = benchmarks.get(name)
        assert found.name == name
        assert found.version >= 1
        assert found.asks in prompts.INSTRUCTIONS
    with pytest.raises(UserError, match="gsm8k"):
        benchmarks.get("gsm9k")


@pytest.mark.parametrize("name", sorted(ROWS))
def test_published_sets(name: str, data_dir: Path) -> None:
    config = BenchmarkConfig(name=name, source=str(data_dir / name / "test.jsonl"))
    problems = benchmarks.load(config, 0.5)
    assert len(problems) == ROWS[name]
    assert len({p.id for p in problems}) == len(problems)
    assert {p.split for p in problems} == {"gate", "report"}
    taken = problems[:40]
    said = benchmarks.grade_all(config, [(p, f"\\boxed{{{p.gold}}}", False) for p in taken])
    assert {grade.outcome for grade in said} == {"correct"}


def test_splits_do_not_move_when_a_set_grows_and_fingerprints_do() -> None:
    small, large = (BenchmarkConfig(name="reasoning_gym", source=CHAIN.replace("40", count)) for count in ("20", "40"))
    first, second = benchmarks.load(small, 0.5), benchmarks.load(large, 0.5)
    assert [(p.id, p.split) for p in first] == [(p.id, p.split) for p in second[:20]]
    assert benchmarks.fingerprint(small) != benchmarks.fingerprint(large)
    assert benchmarks.fingerprint(small) == benchmarks.fingerprint(small)
    longer = small.model_copy(update={"max_new_tokens": 7})
    assert benchmarks.fingerprint(small) != benchmarks.fingerprint(longer)
    assert benchmarks.key(small) == "reasoning_gym:chain_sum"


def test_reasoning_gym_outcomes() -> None:
    config = BenchmarkConfig(name="reasoning_gym", source=CHAIN)
    problem = benchmarks.load(config, 0.0)[0]
    said = [
        (f"#### {problem.gold}", False),
        (f"so {problem.gold}", False),
        ("#### 12345678", False),
        ("?", False),
        ("5", True),
    ]
    grades = benchmarks.grade_all(config, [(problem, *answer) for answer in said])
    assert [g.outcome for g in grades] == ["correct", "correct", "wrong", "unparseable", "truncated"]


def test_bad_sources(tmp_path: Path) -> None:
    (tmp_path / "short.jsonl").write_text(json.dumps({"question": "q", "answer": "#### 1"}) + "\n")
    with pytest.raises(UserError, match="has 1 rows, the published set 1319"):
        benchmarks.load(BenchmarkConfig(name="gsm8k", source=str(tmp_path / "short.jsonl")), 0.5)
    (tmp_path / "broken.jsonl").write_text("{}\n{\n")
    with pytest.raises(UserError, match=r"broken\.jsonl"):
        benchmarks.load(BenchmarkConfig(name="gsm8k", source=str(tmp_path / "broken.jsonl")), 0.5)
    with pytest.raises(UserError, match="no such file"):
        benchmarks.load(BenchmarkConfig(name="gsm8k", source=str(tmp_path / "gone.jsonl")), 0.5)
