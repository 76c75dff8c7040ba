"""Cleaning: known marks go, loops are found, sound mathematics is left alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dcod import cleaning


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("48/2 = <<48/2=24>>24 clips", "48/2 = 24 clips"),
        ("<<1+1=2>>2 and <<2+2=4>>4", "2 and 4"),
        ("a << b and c >> d", "a << b and c >> d"),
        ("<<not a sum>>", "<<not a sum>>"),
        ("<<3*4=\n12>>", "<<3*4=\n12>>"),
    ],
)
def test_calculator_annotations(text: str, cleaned: str) -> None:
    assert cleaning.strip_calculator(text) == cleaned
    assert cleaning.strip_calculator(cleaned) == cleaned


def test_no_annotation_is_left_in_gsm8k(data_dir: Path) -> None:
    answers = [json.loads(line)["answer"] for line in (data_dir / "gsm8k/train.jsonl").open(encoding="utf-8")]
    assert sum("<<" in answer for answer in answers) > 7000
    assert not any("<<" in cleaning.strip_calculator(answer) for answer in answers)
    assert not any(cleaning.fault(answer) for answer in answers)


@pytest.mark.parametrize(
    "text",
    [
        "so we get \\boxed{4}. " + "\\boxed{}. " * 40,
        "0." + "3" * 400,
        "Wait. " + "Let me check this once more, step by step.\n" * 12 + "Let me check",
        "One.\nTwo.\n" + "We try again with another value.\n" * 12 + "Then the answer is 4.",
    ],
)
def test_loops_are_found(text: str) -> None:
    assert cleaning.repetition(text)
    assert cleaning.fault(text)[0] == "repetition"  # type: ignore[index]


@pytest.mark.parametrize(
    "text",
    [
        "4",
        "ha " * 20,
        "\n".join(f"{n} + {n} = {2 * n}" for n in range(200)),
        "\\begin{pmatrix} " + "0 & 0 & 0 \\\\ " * 6 + "\\end{pmatrix}, so the answer is \\boxed{0}",
        "\n".join(["Step.", "x = 1", "Step.", "x = 2"] * 6),
    ],
)
def test_sound_text_is_no_loop(text: str) -> None:
    assert cleaning.repetition(text) is None


def test_empty_completions_and_broken_characters() -> None:
    for text in ("", " \n\t"):
        assert cleaning.fault(text) == ("empty_completion", "the completion is empty")
    assert cleaning.encoding_fault("naïve – 数学 🙂") is None
    assert cleaning.encoding_fault("a\x00b") == "a NUL character"
    assert cleaning.encoding_fault("ab\ud83d") == "half a surrogate pair at character 2"


def test_a_hostile_completion_costs_no_time() -> None:
    assert cleaning.fault(("ab" * 2000 + "c") * 500) is None
