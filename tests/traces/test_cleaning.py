"""Cleaning: known marks go, loops are found, sound mathematics is left alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dcod.config import IngestConfig
from dcod.grading.extract import extract
from dcod.ingest.examine import clean
from dcod.traces import Trace, cleaning
from dcod.traces.formats import RowError


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


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("So \\boxed{4}.\n\nQuestion:\nWhat is 3+3?\nSo \\boxed{6}.", "So \\boxed{4}."),
        ("#### 4\nQ: What is 3+3?\nA: 6", "#### 4"),
        ("The answer is 4<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nAnd 3+3?", "The answer is 4"),
        ("No answer here.<|im_end|>\n<|endoftext|>\n", "No answer here."),
        ("<think>\\boxed{3}?\nQuestion: really?</think>\n\\boxed{4}\nProblem 2: x", None),
        ("Question: what is asked?\nIt is 2+2, so \\boxed{4}.", None),
        ("First find x.\nProblem: none so far.\nSo \\boxed{4}.", None),
        ("<think>\nSo \\boxed{4}.\nQuestion: is it?\nHm", None),
        ("<|im_end|>", None),
    ],
)
def test_invented_questions_are_cut_behind_a_stated_answer(text: str, kept: str | None) -> None:
    if text.startswith("<think>\\boxed{3}"):
        kept = text.partition("\nProblem 2")[0]
    assert cleaning.cut_run_on(text) == (text if kept is None else kept)
    assert cleaning.cut_run_on(cleaning.cut_run_on(text)) == cleaning.cut_run_on(text)


def test_run_on_in_real_traces_is_cut_and_no_answer_changes(data_dir: Path) -> None:
    cut = {}
    for file in sorted((data_dir / "traces/nemo_math_train").glob("math_train_gen_rs*.jsonl")):
        for number, line in enumerate(file.open(encoding="utf-8"), start=1):
            text = json.loads(line)["generation"]
            if cleaning.cut_run_on(text) != text:
                cut[file.stem, number] = extract(text) == extract(cleaning.cut_run_on(text))
    assert set(cut) == {(f"math_train_gen_{a}", n) for a, n in (("rs0", 1), ("rs0", 36), ("rs1", 15), ("rs1", 39))}
    assert all(cut.values())


def test_every_change_is_counted_and_recorded_tokens_are_never_cut() -> None:
    changes: list[str] = []
    prompt = [{"role": "user", "content": "2+2?"}]
    text = "</think>2+2=<<2+2=4>>4\n#### 4\n\nQuestion: 3+3?\n#### 6"
    trace = clean(Trace(prompt, text), IngestConfig(), changes)
    assert trace.completion == "</think>2+2=4\n#### 4"
    assert trace.trace_id == Trace(prompt, trace.completion).trace_id != Trace(prompt, text).trace_id
    assert changes == ["calculator", "run_on", "thought_unopened"]
    with pytest.raises(RowError, match=r"run_on: recorded tokens run on after the answer.*Question"):
        clean(Trace(prompt, text, token_ids=[1, 2]), IngestConfig(), changes)


SPOKEN = {
    "en": "First we write down what is known, then we add the two numbers and look at what we get in the end.",
    "de": "Zuerst schreiben wir auf, was bekannt ist, dann addieren wir die beiden Zahlen und sehen, was wir haben.",
    "fr": "D'abord, nous calculons combien de pommes il reste à la fin de la journée, puis nous les partageons.",
    "es": "Primero calculamos cuántas manzanas le quedan al final del día y luego las repartimos entre todos.",
    "zh": "首先我们计算一天结束时还剩下多少个苹果，然后把它们平均分给四个朋友。" * 3,
}


@pytest.mark.parametrize("code", SPOKEN)
@pytest.mark.parametrize(
    "beside", ["", "$$x\n+ y$$ ", "\\[ a \\] \\(b\\) ", "```python\nprint('this is a long English word')\n``` ", "\\( "]
)
def test_languages(code: str, beside: str) -> None:
    assert cleaning.language(beside + SPOKEN[code]) == code
    assert code in cleaning.languages()


@pytest.mark.parametrize(
    "text", ["", "1 + 1", "\\(x\\)" * 100, "\\alpha" * 100, "$ab cd$" * 100, "```" + "a b" * 100 + "```"]
)
def test_formulas_and_code_are_in_no_language(text: str) -> None:
    assert cleaning.language(text) is None
