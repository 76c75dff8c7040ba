"""Sets of one's own whose problems and answers a mapping finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dcod import benchmarks
from dcod.config import BenchmarkConfig, parse_config
from dcod.config.mapping import ProblemMap
from dcod.errors import UserError

ROW: dict[str, Any] = {
    "turns": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which is even?"}],
    "options": ["three", "four"], "right": 1, "meta": json.dumps({"final": "72", "set": "a"}), "uuid": "p1",
    "parts": [{"q": "1+1?", "a": 2}, {"q": "2+2?", "a": 4}], "golds": [{"v": 3}, {"v": 5}],
    "odd name/x": "Story.", "a.b": "dotted", "hard": True,
}  # fmt: skip


def load(path: Path, *rows: dict[str, Any], query: str = "", **chosen: Any) -> list[benchmarks.Problem]:
    path = path / "set.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return benchmarks.load(config(f"{path}{query}", **chosen), 0.0)


def config(source: str, **chosen: Any) -> BenchmarkConfig:
    return BenchmarkConfig(name="custom", source=source, map=ProblemMap.model_validate(chosen))


@pytest.mark.parametrize(
    ("chosen", "problem", "gold"),
    [
        ({"problem": "turns[role=user].content", "answer": "meta.final"}, "Which is even?", "72"),
        ({"problem": "turns[-1].content", "answer": {"pick": "options", "at": "right"}}, "Which is even?", "four"),
        (
            {"problem": {"text": "{turns[1].content}\n{options|letters}"}, "answer": {"value": "B"}},
            "Which is even?\n(A) three\n(B) four",
            "B",
        ),
        ({"problem": {"text": "{turns[1].content} {options[*]|lines}"}, "answer": "right"},
         "Which is even? three\nfour", "1"),
        ({"problem": {"join": ['"odd name/x"', "turns[1].content"], "by": " "}, "answer": "right"},
         "Story. Which is even?", "1"),
        ({"problem": ["gone", "uuid"], "answer": "golds[*].v"}, "p1", "3, 5"),
        ({"problem": "uuid", "answer": "hard"}, "p1", "True"),
        ({"problem": "uuid", "answer": "meta.final", "where": [{"meta.set": "b"}, {"meta.set": "a", "hard": True}]},
         "p1", "72"),
    ],
)  # fmt: skip
def test_values_of_a_mapping(tmp_path: Path, chosen: dict[str, Any], problem: str, gold: str) -> None:
    (found,) = load(tmp_path, ROW, **chosen)
    assert (found.text, found.gold) == (problem, gold)
    assert found.metadata["several"] == (chosen["answer"] == "golds[*].v")


def test_simple_paths_stand_in_the_address(tmp_path: Path) -> None:
    """The name of a column is that column, whatever signs stand in it; anything else is a path."""
    (found,) = load(tmp_path, ROW, query="?problem={a.b}: {turns[role=user].content}&answer=meta.final&id=uuid")
    assert (found.text, found.gold, found.id) == ("dotted: Which is even?", "72", "p1")
    (found,) = load(tmp_path, ROW | {"a": {"b": "other"}}, query="?problem=a.b&answer=right&where=meta.set:a")
    assert found.text == "dotted"
    assert benchmarks.key(config(f"{tmp_path}/set.jsonl?where=meta.set:a")) == "custom:set-a"


def test_a_star_makes_several_problems_of_a_row(tmp_path: Path) -> None:
    chosen = {"problem": "parts[*].q", "answer": "parts[*].a", "id": "uuid"}
    found = load(tmp_path, ROW, **chosen)
    assert [(one.id, one.text, one.gold) for one in found] == [("p1.1", "1+1?", "2"), ("p1.2", "2+2?", "4")]
    whole = load(tmp_path, ROW, **chosen | {"problem": {"text": "{uuid}: {parts[*].q}"}})
    assert [one.text for one in whole] == ["p1: 1+1?", "p1: 2+2?"]
    short = ROW | {"parts": [{"q": "1+1?"}], "golds": []}
    with pytest.raises(UserError, match=r"set\.jsonl:2: answer: golds\[\*\]\.v: 0 items, none at 1"):
        load(tmp_path, ROW, short, problem="parts[*].q", answer="golds[*].v")
    with pytest.raises(UserError, match=r"set\.jsonl:1: problem: 0 items at parts\[\*\]\.q"):
        load(tmp_path, {"parts": [], "right": 1}, problem="parts[*].q", answer="right")


PLAIN = {"problem": "uuid", "answer": "right"}


@pytest.mark.parametrize(
    ("chosen", "change", "said"),
    [
        ({"answer": "meta.final"}, {"meta": "{}"}, "2: answer: meta.final: no 'final' there"),
        ({"answer": "meta.final"}, {"meta": 7}, "2: answer: meta.final: expected an object with 'final', got int 7"),
        ({"problem": "options"}, {}, "1: problem: options: expected text, got a list of 2"),
        ({"answer": "parts"}, {}, "1: answer: parts: expected text or a number, got {'q'"),
        ({"problem": {"text": "{hard}"}}, {}, "1: problem: hard: expected text, got bool True"),
        ({"answer": {"pick": "options", "at": "right"}}, {"right": 9}, "2: answer: options: no item 9"),
        ({"where": [{"meta.set": "a"}]}, {"meta": "{}"}, "2: where: meta.set: no"),
        ({"where": [{"meta.set": "z"}]}, {}, "where=meta.set:z; values of meta.set: a"),
        ({"problem": "uid"}, {}, "problem: no row has 'uid'; did you mean uuid?"),
        ({"problem": ["uid", "id"]}, {}, "problem: no row has 'uid'"),
        ({"answer": "meta.fnal"}, {}, r"answer: no row has 'meta.fnal' \(meta.fnal: no 'fnal' there"),
        ({"answer": "[0]"}, {}, "answer: path '.0.': expected keys"),
        ({"problem": "gone?"}, {}, "1 has an empty problem or answer"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(
    tmp_path: Path, chosen: dict[str, Any], change: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said) as caught:
        load(tmp_path, ROW, ROW | {"uuid": "p2"} | change, **PLAIN | chosen)
    assert "set.jsonl" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_path_of_the_chosen_rows_alone_fits(tmp_path: Path) -> None:
    """Rows that the filter leaves out need not have it."""
    others = [{"kind": "choice", "q": f"{n}?"} for n in range(300)]
    (found,) = load(tmp_path, *others, {"kind": "open", "q": "Why?", "a": {"v": 1}},
                    problem="q", answer="a.v", where=[{"kind": "open"}])  # fmt: skip
    assert (found.id, found.gold) == ("custom/301", "1")


def test_answers_in_a_second_file(tmp_path: Path) -> None:
    other = tmp_path / "answers.jsonl"
    other.write_text('{"key": "p1", "a": 9}\n{"key": "p3", "a": 1}\n{"key": "p3", "a": 2}\n')
    chosen = {"problem": "uuid", "answer": "request.a", "join": [{"file": str(other), "on": "uuid", "by": "key"}]}
    (found,) = load(tmp_path, ROW, **chosen)
    assert found.gold == "9"
    for name, said in (("p2", "no row of .* has it"), ("p3", "2 rows of .* have it")):
        with pytest.raises(UserError, match=rf"set\.jsonl:2: uuid '{name}': {said}"):
            load(tmp_path, ROW, ROW | {"uuid": name}, **chosen)


def test_the_example_of_the_page(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/evaluation.md").read_text(encoding="utf-8")
    text = page.partition("map` does")[2].partition("```yaml\n")[2].partition("```")[0]
    (one,) = parse_config(text.replace("passages.jsonl", str(tmp_path / "passages.jsonl"))).evaluate.benchmarks
    (tmp_path / "passages.jsonl").write_text('{"id": 7, "text": "Tom has four hens."}\n')
    asked = [
        {"text": "How many?", "options": ["3", "4"], "key": "B"},
        {"text": "Whose?", "options": ["Tom"], "key": "A"},
    ]
    row = {"passage_id": 7, "questions": asked, "meta": {"set": "dev"}, "lang": "de"}
    found = load(tmp_path, row, row | {"meta": {"set": "test"}}, **one.map.model_dump())
    assert [(each.text, each.gold) for each in found] == [
        ("Tom has four hens.\nHow many?\n(A) 3\n(B) 4", "B"),
        ("Tom has four hens.\nWhose?\n(A) Tom", "A"),
    ]


def test_a_mapping_is_of_a_set_of_ones_own_and_stands_in_one_place(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"evaluate.benchmarks.0: map says how a set of your own is read, name=custom"):
        parse_config("{evaluate: {benchmarks: [{name: gsm8k, map: {problem: q}}]}}")
    with pytest.raises(UserError, match="in its address and in `map`; say all of it in `map`"):
        load(tmp_path, ROW, query="?kind=number", problem="uuid", answer="right")
    with pytest.raises(UserError, match=r"evaluate.benchmarks.0.map.absolute: "):
        parse_config("{evaluate: {benchmarks: [{name: custom, source: a.jsonl, map: {absolute: -1}}]}}")


def test_what_is_graded_otherwise_is_another_evaluation(tmp_path: Path) -> None:
    load(tmp_path, ROW, problem="uuid", answer="right")
    base = {"problem": "uuid", "answer": "right"}
    chosen: list[dict[str, Any]] = [
        base,
        base | {"kind": "number"},
        base | {"absolute": 1.0},
        base | {"answer": "meta.final"},
    ]
    assert len({benchmarks.fingerprint(config(f"{tmp_path}/set.jsonl", **one)) for one in chosen}) == 4
    written = config(f"{tmp_path}/set.jsonl?problem=uuid&answer=right")
    assert benchmarks.fingerprint(written) == benchmarks.fingerprint(config(f"{tmp_path}/set.jsonl", **PLAIN))
