"""Evaluate on a tiny model and on recorded responses: figures, counts, the same digits again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tokenizers import normalizers

from dcod import benchmarks
from dcod.config import BenchmarkConfig, Config, EvaluateConfig, StudentConfig
from dcod.errors import UserError
from dcod.evaluate.summaries import OUTCOMES
from dcod.stages import evaluate
from dcod.stages.execute import RunContext, execute
from dcod.traces import FILE, Trace, write_traces
from dcod.tracking import NullLog
from tests import families

SUMS = "reasoning-gym://chain_sum?problems=24&seed=5&min_terms=2&max_terms=2&min_digits=1&max_digits=1"


def configured(*found: BenchmarkConfig, **fields: Any) -> Config:
    return Config(
        student=StudentConfig(max_length=512),
        evaluate=EvaluateConfig(benchmarks=list(found), batch_size=16, **fields),
    )


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    def go(config: Config, name: str = "out", **inputs: Any) -> Path:
        out = tmp_path / name
        out.mkdir()
        evaluate.run(config, out, NullLog(), **inputs)
        return out

    return go


Run = Callable[..., Path]


def rows(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder / "examples.parquet").to_pylist()
    return found


def test_samples_of_a_model_with_every_figure_and_the_same_digits_again(run: Run, tiny_student: Path) -> None:
    sampled = BenchmarkConfig(name="reasoning_gym", source=SUMS, samples=4, temperature=1.0, max_new_tokens=12)
    config = configured(sampled)
    first, second = run(config, "a", student=tiny_student), run(config, "b", student=tiny_student)
    for name in ("summary.json", "recorded.json", "examples.parquet"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    other = run(config.model_copy(update={"seed": 1}), "c", student=tiny_student)
    assert rows(other) != rows(first)
    summary = json.loads((first / "summary.json").read_text())
    entry = summary["benchmarks"]["reasoning_gym:chain_sum"]
    both = entry["prompting"]["zero_shot"]
    assert both["gate"]["n"] + both["report"]["n"] == 24
    for split in both.values():
        assert sum(split["outcomes"][o] for o in OUTCOMES) == 4 * split["n"]
        assert set(split["at_k"]) == {"avg@4", "maj@4", "pass@2", "pass@4"}
        assert split["at_k"]["avg@4"][0] == pytest.approx(split["accuracy"])
        assert {"truncated", "looping", "contradicting", "agreement", "entropy", "tokens_sd"} <= set(split["stability"])
        assert 0 < split["detectable"] <= 1
    assert summary["evaluator"]["engine"][0] == "transformers"
    assert summary["evaluator"]["seed"] == 0
    assert entry["sampling"] == {"samples": 4, "temperature": 1.0, "top_p": 0.95, "max_new_tokens": 12}
    assert len({row["sample"] for row in rows(first)}) == 4
    assert (
        entry["fingerprint"]
        != json.loads((other / "summary.json").read_text())["benchmarks"]["reasoning_gym:chain_sum"]["fingerprint"]
    )


def test_a_results_folder_is_graded_anew_without_a_model(run: Run, tiny_student: Path) -> None:
    asked = BenchmarkConfig(name="reasoning_gym", source=SUMS, max_new_tokens=8)
    folder = run(configured(asked), "a", student=tiny_student)
    again = run(configured(asked), "b", responses=folder / "examples.parquet")
    assert rows(again) == rows(folder)
    ours, theirs = (json.loads((one / "summary.json").read_text()) for one in (folder, again))
    key = "reasoning_gym:chain_sum"
    assert ours["benchmarks"][key]["prompting"] == theirs["benchmarks"][key]["prompting"]
    assert ours["benchmarks"][key]["fingerprint"] != theirs["benchmarks"][key]["fingerprint"]
    assert not (again / "recorded.json").exists()


def test_recorded_responses_are_matched_by_text_or_name(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    problems = [{"problem": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in problems))
    config = configured(BenchmarkConfig(name="custom", source=f"{path}?kind=number"), report_share=0.0)
    said = [
        {"problem": f"what is {n} +  {n}?", "response": f"so {n} + {n} = {2 * n + (n == 3)}", "finish_reason": "stop"}
        for n in range(8)
    ]
    said[5] = {"problem_id": "custom/6", "response": "on and on", "finish_reason": "length", "tokens": 99}
    file = tmp_path / "said.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in said))
    found = json.loads((run(config, "a", responses=file) / "summary.json").read_text())
    gate = found["benchmarks"]["custom:own"]["prompting"]["zero_shot"]["gate"]
    assert gate["outcomes"] == {"correct": 6, "wrong": 1, "unparseable": 0, "truncated": 1, "error": 0}
    assert gate["stability"]["contradicting"] == pytest.approx(1 / 8)
    assert gate["stability"]["truncated"] == pytest.approx(1 / 8)
    assert gate["low"] < gate["accuracy"] == 0.75 < gate["high"]
    assert "custom:own (gate, zero-shot): 75.0%" in evaluate.table(tmp_path / "a")
    assert "detectable difference" in evaluate.table(tmp_path / "a")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda said: said[:-1], "1 of 3 problems of custom:own have no response"),
        (lambda said: [*said, said[0]], r"have \[1, 2\] responses; give as many each"),
        (lambda said: [*said, {"problem": "other", "response": "x"}], r":4: no configured benchmark has this problem"),
        (lambda said: [*said, {"problem": "other"}], r":4: "),
        (lambda said: [{"problem": "p0"}, *said[1:]], r":1: `response` is missing"),
        (lambda said: [{"response": "x"}, *said[1:]], r":1: a recorded response needs"),
        (lambda said: ["text", *said], r":1: not a JSON object"),
        (lambda said: [{**said[0], "benchmark": "gsm8k"}, *said[1:]], None),  # only one is configured
    ],
)
def test_recorded_responses_that_do_not_fit(run: Run, tmp_path: Path, change: Any, told: str | None) -> None:
    path, file = tmp_path / "own.jsonl", tmp_path / "said.jsonl"
    path.write_text("".join(json.dumps({"problem": f"p{n}", "answer": "1"}) + "\n" for n in range(3)))
    said = [{"problem": f"p{n}", "response": "\\boxed{1}"} for n in range(3)]
    file.write_text("".join(json.dumps(row) + "\n" for row in change(said)))
    config = configured(BenchmarkConfig(name="custom", source=str(path)))
    if told is None:
        run(config, responses=file)
        return
    with pytest.raises(UserError, match=told):
        run(config, responses=file)


def test_traces_are_searched_for_benchmark_problems_and_the_drift_is_measured(
    run: Run, tiny_student: Path, tmp_path: Path
) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(
        "".join(json.dumps({"problem": f"What is the sum {n} plus {n}?", "answer": "1"}) + "\n" for n in range(3))
    )
    folder = tmp_path / "traces"
    folder.mkdir()
    texts = ["What is the sum 1 plus 1?", "Please: What is the sum 2 plus 2? Thanks.", "Is 4 even?"]
    made = [
        Trace(prompt=[{"role": "user", "content": text}], completion="It is 4.", split="selection", source_line=n)
        for n, text in enumerate(texts)
    ]
    write_traces(folder / "traces.parquet", made)
    config = configured(BenchmarkConfig(name="custom", source=str(path), max_new_tokens=4))
    out = run(config, student=tiny_student, traces=folder)
    dirty = json.loads((out / "summary.json").read_text())["contamination"]
    assert {kind: dirty[kind] for kind in ("traces", "exact", "inside", "ngram")} == {
        "traces": 3,
        "exact": 1,
        "inside": 1,
        "ngram": 0,
    }
    assert "contamination: 3 traces, 1 exact, 1 inside, 0 ngram" in evaluate.table(out)
    drift = json.loads((out / "drift.json").read_text())
    assert drift["traces"] == 3
    assert drift["positions"] == [0]
    assert drift["count"] == [3 * len("It is 4.") + 3]  # bytes, and the end of the turn
    assert drift["mean_loss"][0] > 0


def test_what_is_missing_is_said(run: Run, tiny_student: Path, tmp_path: Path) -> None:
    sums = BenchmarkConfig(name="reasoning_gym", source=SUMS)
    with pytest.raises(UserError, match="benchmarks is empty"):
        run(configured(), "a", student=tiny_student)
    with pytest.raises(UserError, match="reasoning_gym:chain_sum stands there twice"):
        run(configured(sums, sums.model_copy(update={"source": SUMS.replace("24", "25")})), "e", student=tiny_student)
    with pytest.raises(UserError, match="not both"):
        run(configured(sums), "b")
    with pytest.raises(UserError, match="no such file"):
        run(configured(sums), "c", responses=tmp_path / "gone.jsonl")
    long = sums.model_copy(update={"max_new_tokens": 4000})
    with pytest.raises(UserError, match="has 2048 positions; lower max_new_tokens"):
        run(configured(long), "d", student=tiny_student)


def test_the_stage_runs_on_responses_alone(tmp_path: Path) -> None:
    path, file = tmp_path / "own.jsonl", tmp_path / "said.jsonl"
    path.write_text(json.dumps({"problem": "p", "answer": "1"}) + "\n")
    file.write_text(json.dumps({"problem": "p", "response": "\\boxed{1}"}) + "\n")
    config = configured(BenchmarkConfig(name="custom", source=str(path)), report_share=0.0)
    found = execute("evaluate", config, tmp_path / "out", {"responses": file}, RunContext(tracked=False))
    assert found["custom/own/gate/accuracy"] == 1.0
    assert benchmarks.key(config.evaluate.benchmarks[0]) == "custom:own"


def test_worked_examples_are_single_questions_with_or_without_a_system_prompt(tmp_path: Path) -> None:
    system, said = {"role": "system", "content": "Be brief."}, {"role": "assistant", "content": "a"}
    users = [{"role": "user", "content": text} for text in "pqr"]
    some = [Trace([system, users[0]], "x"), Trace([users[1]], "y"), Trace([users[2], said, users[2]], "z")]
    write_traces(tmp_path / FILE, some)
    turns = evaluate.worked_examples(tmp_path, 3, 0)
    assert {(turns[n]["content"], turns[n + 1]["content"]) for n in (0, 2)} == {("p", "x"), ("q", "y")}
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * 2


def test_a_control_token_in_a_problem_is_one_line_and_a_lost_character_a_warning(
    run: Run, tiny_student: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    student, path = tmp_path / "student", tmp_path / "own.jsonl"
    shutil.copytree(tiny_student, student)
    fast = families.tokenizer("chatml")
    fast.backend_tokenizer.normalizer = normalizers.NFKC()
    fast.save_pretrained(student)
    config = configured(
        BenchmarkConfig(name="custom", source=f"{path}?kind=number", max_new_tokens=2), report_share=0.0
    )
    path.write_text('{"problem": "What is <|pad|> in 2+2?", "answer": "4"}\n')
    with pytest.raises(UserError, match=r"<\|pad\|> is a control token of the student"):
        run(config, "a", student=student)
    path.write_text('{"problem": "What is 2²?", "answer": "4"}\n{"problem": "What is 2+2?", "answer": "4"}\n')
    run(config, "b", student=student)
    assert (
        "1 of 2 prompts do not reach the student as they are: the student's tokenizer does not spell '²'" in caplog.text
    )
