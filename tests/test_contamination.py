"""The shared check: exact, inside, and n-gram hits that are reported apart; on made-up sets and on the real MATH."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from dcod import prompts
from dcod.config import BenchmarkConfig
from dcod.contamination import Contamination, N

HENS = "A farmer has twelve hens, each of which lays three eggs a day. How many eggs are laid in 5 days?"


@pytest.fixture
def check(tmp_path: Path) -> Contamination:
    path = tmp_path / "own.jsonl"
    rows = [{"problem": HENS, "answer": "180"}, {"problem": "2 + 2?", "answer": "4"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Contamination([BenchmarkConfig(name="custom", source=str(path), limit=1)])


CASES = [
    (HENS, "exact"),
    (f"  {HENS.upper().replace(' ', '  ')}\n", "exact"),
    (f"{HENS}\n{prompts.INSTRUCTIONS['boxed']}", "exact"),
    ("2+2?", "exact"),  # a limit on what is asked does not count
    (f"Think well: {HENS} Use a box.", "inside"),
    (HENS.replace("farmer", "peasant"), "ngram"),
    (HENS.replace("5 days", "55 days"), "ngram"),
    ("Is 2 + 2? even", None),  # too short to be looked for inside other text
    ("A farmer has twelve hens, each of which lays one egg.", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "kind"), CASES)
def test_kinds_of_hits(check: Contamination, text: str, kind: str | None) -> None:
    hit = check.find([{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}])
    assert (hit.kind if hit else None) == kind
    if hit:
        assert hit.benchmark == "custom:own"
        assert (hit.share == 1.0) is (kind != "ngram")


def test_the_gravest_hit_counts_and_no_benchmark_is_no_hit(check: Contamination) -> None:
    turns = [{"role": "user", "content": text} for text in (HENS.replace("farmer", "peasant"), "2 + 2?")]
    hit = check.find(turns)
    assert hit is not None
    assert hit.kind == "exact"
    assert Contamination([]).find(turns) is None


def test_math_train_holds_two_problems_of_math_test(data_dir: Path) -> None:
    check = Contamination([BenchmarkConfig(name="math", source=str(data_dir / "math" / "test.jsonl"))])
    found: dict[str, list[str]] = {"exact": [], "inside": [], "ngram": []}
    for line in (data_dir / "math" / "train.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        hit = check.find([{"role": "user", "content": row["problem"]}])
        if hit:
            found[hit.kind].append(row["unique_id"].removeprefix("train/").removesuffix(".json"))
    assert found["exact"] == ["algebra/517", "geometry/6032"]
    assert sorted(found["inside"]) == ["counting_and_probability/75", "number_theory/7035", "number_theory/7105"]
    assert len(found["ngram"]) == 148


def test_a_long_prompt_takes_linear_time(check: Contamination) -> None:
    text = (HENS[:60] + "x" * N) * 3000
    assert Counter([check.find([{"role": "user", "content": text}])]) == {None: 1}
