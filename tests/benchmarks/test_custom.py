"""Sets that a source describes: generated over all options, against what was put in."""

from __future__ import annotations

import gzip
import itertools
import json
import logging
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from dcod import benchmarks
from dcod.benchmarks import custom
from dcod.config import BenchmarkConfig
from dcod.errors import UserError
from dcod.traces import bounded


def save(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config(path: Path, query: str = "", **settings: Any) -> BenchmarkConfig:
    return BenchmarkConfig(name="custom", source=f"{path}?{query}" if query else str(path), **settings)


def load(path: Path, query: str = "", **settings: Any) -> list[benchmarks.Problem]:
    return benchmarks.load(config(path, query, **settings), 0.0)


def outcomes(path: Path, query: str, *said: str) -> list[str]:
    one = config(path, query)
    (problem,) = benchmarks.load(one, 0.0)
    return [grade.outcome for grade in benchmarks.grade_all(one, [(problem, text, False) for text in said])]


TEMPLATES = ["question", "{Body} {question}", "{Body}%0A%0A{question}", "Read: {Body} Say: {question}", "{question}"]
GOLDS: list[tuple[str, Any, str]] = [
    ("gold", "{n}", "{n}"),
    ("gold", "We add. #### {n}", "{n}"),
    ("gold", "So it is $\\boxed{{{n}}}$.", "{n}"),
    ("gold", ["{n}", "{m}"], "{m}, {n}"),
]
FILTERS: list[tuple[str, list[int]]] = [
    ("", [0, 1, 2, 3, 4]),
    ("&where=source:HMMT", [0, 2, 4]),
    ("&where=source:HMMT&where=level:4", [2]),
    ("&where=tags:b", [1, 2]),
    ("&where=hard:true", [3, 4]),
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_all_options_together(tmp_path: Path, template: str) -> None:
    """Template, reference, filter, kind, names, tolerance and limit, each with each."""
    cases = 0
    for (_, gold, right), (where, kept), kind, tolerance, named in itertools.product(
        GOLDS, FILTERS, ("boxed", "number"), ("", "&absolute=0.5", "&relative=0.01"), ("", "&id=name")
    ):
        rows = []
        for n in range(5):
            told = [part.format(n=n + 100, m=n + 200) for part in (gold if isinstance(gold, list) else [gold])]
            rows.append(
                {
                    "Body": f"Story {n}.", "question": f"How many are {n}?", "name": f"p{n}",
                    "gold": told if isinstance(gold, list) else told[0], "source": ["HMMT", "CMIMC"][n % 2],
                    "level": n + 2, "tags": [["a"], ["b", "a"], ["b"], [], ["c"]][n], "hard": n > 2,
                }
            )  # fmt: skip
        path = save(tmp_path / "set.jsonl", *rows)
        query = f"problem={template}&answer=gold&kind={kind}{where}{tolerance}{named}"
        one = config(path, query)
        problems = benchmarks.load(one, 0.0)
        text = template.replace("%0A", "\n") if "{" in template else f"{{{template}}}"
        assert [p.text for p in problems] == [text.format(**rows[n]) for n in kept]
        assert [p.id for p in problems] == [f"p{n}" if named else f"custom/{n + 1}" for n in kept]
        assert len(benchmarks.load(config(path, query, limit=1), 0.0)) == 1
        first, n = problems[0], kept[0]
        answer = right.format(n=n + 100, m=n + 200)
        near = answer.replace(str(n + 100), f"{n + 100}.25")
        said = [f"\\boxed{{{answer}}}", f"\\boxed{{{near}}}", "\\boxed{7}"]
        found = [grade.outcome for grade in benchmarks.grade_all(one, [(first, text, False) for text in said])]
        lists = isinstance(gold, list)
        close = tolerance == "&absolute=0.5" or (tolerance == "&relative=0.01" and not lists)
        assert found == ["correct", "correct" if close else "wrong", "wrong"], query
        cases += 1
    assert cases == 4 * 5 * 2 * 3 * 2  # 240 a template, 1,200 in all


@pytest.mark.parametrize(
    ("query", "said", "wanted"),
    [
        ("relative=0.01", ["\\boxed{202}", "\\boxed{198}", "\\boxed{202.1}", "\\boxed{-200}"], "ccww"),
        ("absolute=0.01", ["\\boxed{200.01}", "\\boxed{200.02}", "\\boxed{199.995}"], "cwc"),
        ("absolute=1&relative=0.01", ["\\boxed{202}", "\\boxed{203}"], "cw"),
        ("", ["\\boxed{200}", "\\boxed{200.01}"], "cw"),
        ("relative=0", ["\\boxed{200}", "\\boxed{201}"], "cw"),
    ],
)
def test_tolerances(tmp_path: Path, query: str, said: list[str], wanted: str) -> None:
    path = save(tmp_path / "set.jsonl", {"problem": "How far?", "answer": 200})
    assert "".join(outcome[0] for outcome in outcomes(path, query, *said)) == wanted


def test_an_answer_that_is_no_number_has_no_relative_tolerance(tmp_path: Path) -> None:
    path = save(tmp_path / "set.jsonl", {"problem": "Which?", "answer": "x^2+1"})
    assert outcomes(path, "relative=0.5", "\\boxed{1+x^2}", "\\boxed{x^2+2}") == ["correct", "wrong"]


def test_what_is_graded_otherwise_is_another_evaluation(tmp_path: Path) -> None:
    path = save(tmp_path / "set.jsonl", {"problem": "How far?", "answer": 200, "source": "a"})
    queries = ["", "absolute=1", "relative=0.1", "absolute=1&relative=0.1"]
    assert len({benchmarks.fingerprint(config(path, query)) for query in queries}) == 4
    assert benchmarks.fingerprint(config(path, "absolute=0")) == benchmarks.fingerprint(config(path))
    assert benchmarks.key(config(path, "where=source:a")) == "custom:set-a"
    assert benchmarks.key(config(path, "absolute=1")) == "custom:set"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("problem={Body} {Qestion}", "set.jsonl: problem: no row has 'Qestion'; columns: Body, problem, answer"),
        ("answer=anser", "set.jsonl: answer: no row has 'anser'; did you mean answer?"),
        ("problem=Body.text", "problem: no row has 'Body.text' .*expected an object with 'text', got str 'A'"),
        ("problem=a[b", "problem: path 'a.b': expected keys and positions"),
        ("where=source", "expected where=COLUMN:VALUE"),
        ("where=:HMMT", "expected where=COLUMN:VALUE"),
        ("where=orgin:HMMT", "where: no row has 'orgin'"),
        ("where=source:AIME", "no row of .* has where=source:AIME; values of source: HMMT"),
        ("absolute=-1", "expected a number, 0 or more"),
        ("relative=nan", "expected a number, 0 or more"),
        ("relative=1%", "expected a number, 0 or more"),
        ("absolute=inf", "expected a number, 0 or more"),
        ("problem=a&problem=b", "problem stands twice"),
        ("tolerance=1", "unknown option tolerance; expected path.*relative=NUMBER"),
    ],
)
def test_described_wrongly(tmp_path: Path, query: str, said: str) -> None:
    path = save(tmp_path / "set.jsonl", {"Body": "A", "problem": "B?", "answer": "2", "source": "HMMT"})
    with pytest.raises(UserError, match=said) as caught:
        load(path, query)
    assert "\n" not in str(caught.value)


def test_a_missing_story_is_empty_and_a_missing_problem_or_answer_is_told(tmp_path: Path) -> None:
    row = {"Body": None, "Question": "How many?", "answer": "2"}
    (problem,) = load(save(tmp_path / "a.jsonl", row), "problem={Body} {Question}")
    assert problem.text == "How many?"
    for change in ({"answer": None}, {"Question": None}, {"answer": " "}):
        with pytest.raises(UserError, match="empty problem or answer"):
            load(save(tmp_path / "a.jsonl", row | change), "problem=Question")


def test_rows_that_repeat_are_one_problem(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file of several responses each describes its own set."""
    rows = [{"problem": f"{n}+1?", "answer": n + 1, "response": "?"} for n in (1, 2, 3) for _ in range(4)]
    path = save(tmp_path / "responses.jsonl", *rows)
    with caplog.at_level(logging.WARNING):
        problems = load(path)
        load(path)
    assert [p.id for p in problems] == ["custom/1", "custom/5", "custom/9"]
    assert [r.getMessage().partition(": 9")[2] for r in caplog.records] == [
        " of 12 rows repeat a problem; each is asked once"
    ]
    with pytest.raises(UserError, match=r"custom/1 and custom/13 ask the same with different answers \('2' and '5'\)"):
        load(save(tmp_path / "b.jsonl", *rows, {"problem": "1+1?", "answer": 5}))
    with pytest.raises(UserError, match="two problems are named 'x'"):
        load(save(tmp_path / "c.jsonl", *({"problem": f"{n}?", "answer": 1, "n": "x"} for n in range(2))), "id=n")


STORY = "Tom had 12 red and 14 blue marbles in a bag, and his sister brought him 25 more of them from the school yard."


@pytest.mark.parametrize(
    ("beside", "warned"),
    [
        ({"Body": STORY}, True),
        ({"context": STORY}, True),
        ({"solution": STORY}, False),  # by its name
        ({"steps": f"{STORY} So the answer is 777."}, False),  # it holds the answer
        ({"steps": f"{STORY} \\boxed{{7}}"}, False),
        ({"Body": "Short."}, False),
        ({"level": 5}, False),
        ({}, False),
    ],
)
def test_a_story_that_is_left_out(
    tmp_path: Path,
    beside: dict[str, Any],
    warned: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(custom, "_told", set())
    path = save(tmp_path / "set.jsonl", *({"problem": f"How many, {n}?", "answer": "777", **beside} for n in range(9)))
    with caplog.at_level(logging.WARNING):
        load(path)
    assert len(caplog.records) == warned
    if warned:
        (name,) = beside
        assert f"problem={{{name}}} {{problem}}" in caplog.records[0].getMessage()
        caplog.clear()
        load(path, f"problem={{{name}}} {{problem}}")
        assert not caplog.records


def test_endings(tmp_path: Path) -> None:
    row = {"problem": "1+1?", "answer": "2"}
    for name in ("a.jsonl", "a.json", "a.ndjson", "a"):
        assert len(load(save(tmp_path / name, row))) == 1
    text = json.dumps(row).encode()
    table = b"problem,answer\n1+1?,2\n"
    for name, data in (("b.json", b"[\n" + text + b"]"), ("b.jsonl.gz", gzip.compress(text)), ("b.csv", table)):
        (tmp_path / name).write_bytes(data)
        assert len(load(tmp_path / name)) == 1
    for name, data in (("a.tex", b"problem,answer\n1,2\n"), ("a.jsonl.gz", b"\x1f\x8b\x08"), ("c.jsonl", b"[\n{}]"),
                       ("deep.jsonl", b"[" * 200_000), ("c.jsonl", text[:-1] + b', "problem": "1+2?"}')):  # fmt: skip
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=r"Parquet \(.parquet\) and JSON Lines") as caught:
            load(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    for place, said in ((tmp_path / "pipe.jsonl", "a pipe"), (Path("/dev/zero"), "a device")):
        with pytest.raises(UserError, match=said):
            load(place)


def test_an_endless_problem_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", {"problem": "x" * bounded.LONGEST, "answer": "2"})
    with pytest.raises(UserError, match=rf"a\.jsonl:1 has {bounded.LONGEST + 1} characters, at most"):
        load(path)


def test_a_part_of_a_published_set(tmp_path: Path) -> None:
    path = save(tmp_path / "gsm8k.jsonl", {"question": "1+1?", "answer": "#### 2"})
    for limit, said in (
        ("all", "take part of the whole set with limit; a file that holds a part"),
        (1, "limit takes part"),
    ):
        with pytest.raises(UserError, match=said):
            benchmarks.load(BenchmarkConfig(name="gsm8k", source=str(path), limit=limit), 0.0)


def test_signs_of_an_address_in_a_template(tmp_path: Path) -> None:
    path = save(tmp_path / "set.jsonl", {"a & b": "x+y", "q=": "Which?", "answer": "2"})
    (problem,) = load(path, f"problem={quote('{a & b} + {q=}')}")
    assert problem.text == "x+y + Which?"
