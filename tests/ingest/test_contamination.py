"""The shared check: exact, inside, and n-gram hits that are reported apart; on made-up sets and on the real MATH."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from dcod.config import BenchmarkConfig
from dcod.ingest.contamination import Contamination, N
from dcod.traces import prompts

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


def hits(check: Contamination, path: Path, column: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"exact": [], "inside": [], "ngram": []}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        row = json.loads(line)
        hit = check.find([{"role": "user", "content": row[column]}])
        if hit:
            found[hit.kind].append(row.get("unique_id", str(number)).removeprefix("train/").removesuffix(".json"))
    return found


def test_math_train_holds_five_problems_of_math_test(data_dir: Path) -> None:
    """Each was read; `tan 225` of geometry/527 is not the test's `tan 22.5`."""
    check = Contamination([BenchmarkConfig(name="math", source=str(data_dir / "math" / "test.jsonl"))])
    found = hits(check, data_dir / "math" / "train.jsonl", "problem")
    exact = ["algebra/2197", "algebra/517", "algebra/777", "geometry/6032", "intermediate_algebra/850"]
    assert sorted(found["exact"]) == exact
    assert sorted(found["inside"]) == ["counting_and_probability/75", "number_theory/7035", "number_theory/7105"]
    assert len(found["ngram"]) == 155


def test_no_problem_of_gsm8k_train_is_taken_for_another(data_dir: Path) -> None:
    names = {"gsm8k": "gsm8k", "math500": "math500", "amc23": "amc23", "aime24": "aime24", "aime25": "aime25"}
    sources = {name: next((data_dir / folder).glob("test*.jsonl"), None) for name, folder in names.items()}
    assert all(sources.values())
    check = Contamination([BenchmarkConfig(name=name, source=str(path)) for name, path in sources.items()])
    assert hits(check, data_dir / "gsm8k" / "train.jsonl", "question") == {"exact": [], "inside": [], "ngram": []}


def test_another_number_in_front_or_behind_is_another_problem(check: Contamination) -> None:
    for text in (f"1{HENS[:-6].lower()}", "12 + 2?", "2 + 2.5?", "2 + 25?"):
        hit = check.find([{"role": "user", "content": text}])
        assert hit is None or hit.kind != "exact"


def test_a_lower_share_finds_paraphrases(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"problem": HENS, "answer": "180"}) + "\n")
    configured = [BenchmarkConfig(name="custom", source=str(path))]
    other = HENS.replace("twelve", "thirteen").replace("5 days", "6 weeks")
    assert Contamination(configured).find([{"role": "user", "content": other}]) is None
    hit = Contamination(configured, 0.3).find([{"role": "user", "content": other}])
    assert hit is not None
    assert 0.3 <= hit.share < 0.7


def test_a_long_prompt_takes_linear_time(check: Contamination) -> None:
    text = (HENS[:60] + "x" * N) * 3000
    assert Counter([check.find([{"role": "user", "content": text}])]) == {None: 1}
