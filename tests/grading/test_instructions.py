"""IFEval's instructions: every kind holds on a text that follows it and fails on one that does not."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from dcod import benchmarks
from dcod.config import BenchmarkConfig
from dcod.errors import UserError
from dcod.grading import instructions

CASES: list[tuple[str, dict[str, Any], str, str]] = [  # kind, arguments, a text that follows it, one that does not
    (
        "change_case:capital_word_frequency",
        {"capital_relation": "at least", "capital_frequency": 3},
        "A BIG, LOUD cry",
        "A BIG cry",
    ),
    ("change_case:english_capital", {}, "THE WEATHER IS FINE TODAY AND WE ARE GOING OUT.", "The WEATHER IS FINE."),
    ("change_case:english_lowercase", {}, "the weather is fine today and we are going out.", "The weather is fine."),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say HI."}, "  say hi. hi!", "hi! Say HI."),
    ("combination:two_responses", {}, "One.\n******\nTwo.", "One.\n******\nOne."),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] of [city]", "[name] of [city"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye.\nP. P. S done", "Bye.\nP.S. done"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\np.s. done", "Bye. PS done"),
    ("detectable_format:constrained_response", {}, "Well. My answer is maybe.", "My answer is perhaps."),
    ("detectable_format:json_format", {}, '```json\n{"a": [1]}\n```', '{"a": [1}'),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        "SECTION 1\na\nSECTION 2",
        "SECTION 1",
    ),
    ("detectable_format:number_bullet_lists", {"num_bullets": 3}, "* a\n  - b\n- c", "* a\n** b\n- c"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and **b**", "*a* and **"),
    ("detectable_format:title", {}, "<<Joy>>\nText", "<< >>\nText"),
    ("keywords:existence", {"keywords": ["Salt", "sea"]}, "The SEA is salty.", "The sea."),
    ("keywords:forbidden_words", {"forbidden_words": ["sea"]}, "Seasoned seafarers", "The Sea!"),
    ("keywords:frequency", {"keyword": "sea", "relation": "at least", "frequency": 2}, "Sea and seal", "Sea"),
    ("keywords:frequency", {"keyword": "sea", "relation": "less than", "frequency": 2}, "Sea", "Sea and seal"),
    ("keywords:letter_frequency", {"letter": "#", "let_relation": "at least", "let_frequency": 2}, "#a #b", "#a"),
    (
        "language:response_language",
        {"language": "de"},
        "Das Wetter ist heute sehr schön.",
        "The weather is very nice today.",
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "weekend"},
        "One.\n\nWeekend! Two.",
        "Weekend.\n\nTwo.",
    ),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", "a\n***\n\n***\nb"),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 3, "relation": "less than"},
        "Mr. A. Smith paid 3.5 dollars. He left",
        "A cat. A dog! A cow?",
    ),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "one, two three", "one two"),
    ("punctuation:no_comma", {}, "one two", "one, two"),
    ("startend:end_checker", {"end_phrase": "The end."}, 'So it goes. the END."\n', "The end. Or so."),
    ("startend:quotation", {}, ' "Quoted" ', '"Quoted'),
]


def test_every_kind_has_a_case() -> None:
    assert {kind for kind, *_ in CASES} == instructions.CHECKS.keys()
    assert len(instructions.CHECKS) == 25


@pytest.mark.parametrize(("kind", "given", "follows", "fails"), CASES, ids=[case[0] for case in CASES])
def test_kinds(kind: str, given: dict[str, Any], follows: str, fails: str) -> None:
    assert instructions.followed([kind], [given], follows) == [True]
    assert instructions.followed([kind], [given], fails) == [False]
    assert instructions.followed([kind], [given], " \n") == [False]


def test_loose_forgives_a_first_line_a_last_line_and_asterisks() -> None:
    quoted, text = ["startend:quotation"], '**"Quoted"**'
    for wrapped in (text, f"Sure:\n{text}", f"{text}\nThat is it.", f"Sure:\n{text}\nThat is it."):
        assert instructions.followed(quoted, [{}], wrapped) == [False]
        assert instructions.followed(quoted, [{}], wrapped, loose=True) == [True]
    assert len(instructions.variants("a\nb\nc")) == 8
    with pytest.raises(ValueError, match="unknown instruction kind x:y"):
        instructions.followed(["x:y"], [{}], "a")
    with pytest.raises(ValueError, match="relation 'about'"):
        instructions.followed(["length_constraints:number_words"], [{"num_words": 1, "relation": "about"}], "a")


SENTENCES = [
    ("One. Two! Three? ", 3),
    ("Dr. Who met J. R. Smith at 5 p.m. yesterday.", 1),
    ("It costs 3.5 dollars, i.e. little... and more.", 1),
    ('He said "Stop!" Then he left.', 2),
    ("1. First item.\n2. Second item.", 2),
    ("a list\n- without\n- stops", 1),
    ("", 0),
]


@pytest.mark.parametrize(("text", "count"), SENTENCES)
def test_sentences(text: str, count: int) -> None:
    assert len(instructions.sentences(text)) == count


def ifeval(data_dir: Path) -> BenchmarkConfig:
    return BenchmarkConfig(name="ifeval", source=str(data_dir / "ifeval" / "input_data.jsonl"), role="guard")


def test_the_benchmark_asks_the_prompt_as_it_is_and_counts_at_both_levels(data_dir: Path) -> None:
    config = ifeval(data_dir)
    problems = benchmarks.load(config, 0.5)
    assert len(problems) == 541
    assert sum(len(p.metadata["kinds"]) for p in problems) == 834
    rows = [json.loads(line) for line in Path(config.source).read_text().splitlines()]
    assert problems[1].prompt == [{"role": "user", "content": rows[1]["prompt"].strip()}]
    no_comma, three = problems[1], problems[0]
    assert three.metadata["kinds"][0] == "punctuation:no_comma"
    said = [
        (no_comma, "Verily I say.", False),
        (no_comma, "<think>one, two</think>Verily", False),
        (no_comma, "Verily, I say.", False),
        (no_comma, "Verily, I", True),
        (no_comma, "<think>Verily", True),
        (no_comma, "", False),
        (three, "*a* *b* *c*", False),
    ]
    grades = benchmarks.grade_all(config, said)
    outcomes = [grade.outcome for grade in grades]
    assert outcomes == ["correct", "correct", "wrong", "truncated", "truncated", "unparseable", "wrong"]
    assert grades[-1].answer == "punctuation:no_comma, detectable_format:number_highlighted_sections"
    count = benchmarks.get("ifeval").figures
    assert count is not None
    assert count([dict(grades[0].figures), dict(grades[-1].figures)]) == {
        "prompt_loose": 0.5,
        "instruction_strict": 0.75,
        "instruction_loose": 0.75,
    }
    assert count([]) == {}


def test_a_row_with_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    row = {"key": 1, "prompt": "p", "instruction_id_list": ["x:y"], "kwargs": [{}]}
    (tmp_path / "bad.jsonl").write_text(json.dumps(row))
    with pytest.raises(UserError, match="unknown instruction kind x:y"):
        benchmarks.load(BenchmarkConfig(name="ifeval", source=str(tmp_path / "bad.jsonl")), 0.5)


def test_the_same_answer_gets_the_same_language() -> None:
    assert len({instructions.language("la casa 12 no") for _ in range(5)}) == 1
    assert instructions.language("123 456") is None


@pytest.mark.parametrize(
    "text", ["[" * 200_000, "<" * 200_000, "\n" * 200_000, "*" * 200_000, "p.s" * 70_000, ". " * 90_000]
)
def test_hostile_texts_take_linear_time(text: str) -> None:
    kinds = [case for case in CASES if not case[0].startswith(("language", "change_case:english"))]
    begun = time.process_time()
    instructions.followed([kind for kind, *_ in kinds], [given for _, given, *_ in kinds], text)
    assert time.process_time() - begun < 5
