"""Ingest: every row is accepted or quarantined with its reason, on real files and on broken ones."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dcod import storage
from dcod.config import BenchmarkConfig, Config, EvaluateConfig, IngestConfig, StudentConfig
from dcod.errors import UserError
from dcod.objective.feasibility import Holdings
from dcod.stages import execute, ingest, pages
from dcod.traces import Trace, holdings, prompts, read_traces, tokenizer_of
from dcod.tracking import NullLog


def solved(number: int, answer: int | None = None, prefix: str = "What is twice") -> dict[str, Any]:
    """A GSM8K row; the answer is right unless another one is given."""
    said = 2 * number if answer is None else answer
    return {"question": f"{prefix} {number}?", "answer": f"{number} * 2 = <<{number}*2={said}>>{said}\n#### {said}"}


def response(number: int, text: str, **more: Any) -> dict[str, Any]:
    return {"problem": f"What is twice {number}?", "response": text, "gold": str(2 * number), **more}


class Ingested:
    """A finished ingest, read back."""

    def __init__(self, out: Path, metrics: dict[str, float]) -> None:
        self.metrics = metrics
        self.out = out
        self.counts = json.loads((out / "counts.json").read_text())
        self.files: dict[str, dict[str, Any]] = {}
        for item in json.loads((out / "sources.json").read_text())["files"]:
            assert item["read"] == item["accepted"] + sum(item["quarantined"].values())
            self.files[item["file"]] = item
        self.traces: list[Trace] = list(read_traces(out))
        self.quarantine: list[dict[str, Any]] = pq.read_table(out / "quarantine.parquet").to_pylist()
        assert self.counts["read"] == self.counts["accepted"] + sum(self.counts["quarantined"].values())
        assert self.counts["accepted"] == len(self.traces)
        splits = Counter(trace.split for trace in self.traces)
        assert splits == {name: n for name in ("train", "selection", "pilot") if (n := self.counts[name])}
        assert Counter(row["reason"] for row in self.quarantine) == self.counts["quarantined"]
        places = [(trace.source_file, trace.source_line, trace.source_digest) for trace in self.traces]
        places += [(row["source_file"], row["source_line"], row["source_digest"]) for row in self.quarantine]
        assert len(set(places)) == self.counts["read"], "two rows share a place"
        held = json.loads((out / "facts.json").read_text())["holdings"]  # counted on the way
        assert Holdings(**held) == holdings.count(out, tokenizer_of(out))

    def reasons(self) -> dict[int, str]:
        """Reason by line."""
        return {row["source_line"]: row["reason"] for row in self.quarantine}


class Ingest:
    """Runs the stage on rows written to a file, or on given sources, for a student with as many positions as asked."""

    def __init__(self, folder: Path, student: Path) -> None:
        self.folder, self.student, self.count = folder, student, 0

    def __call__(
        self,
        *rows: Any,
        sources: list[str] | None = None,
        max_length: int = 2048,
        system_prompt: str = prompts.OF_TEMPLATE,
        benchmarks: list[BenchmarkConfig] | None = None,
        earlier: dict[str, Path] | None = None,
        workers: int = 0,
        **options: Any,
    ) -> Ingested:
        self.count += 1
        if sources is None:
            file = self.folder / f"rows{self.count}.jsonl"
            file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
            sources = [str(file)]
        config = Config(
            student=StudentConfig(max_length=max_length, system_prompt=system_prompt),
            ingest=IngestConfig(sources=sources, **options),
            evaluate=EvaluateConfig(benchmarks=benchmarks or []),
        )
        out, student = self.folder / f"out{self.count}", self.student
        if max_length > 2048:
            student = shutil.copytree(self.student, self.folder / f"student{self.count}")
            known = json.loads((student / "config.json").read_text())
            (student / "config.json").write_text(json.dumps({**known, "max_position_embeddings": max_length}))
        with storage.output_folder(out) as scratch:
            metrics = ingest.run(config, scratch, NullLog(), student=student, workers=workers, **(earlier or {}))
            pages.show("ingest", scratch, NullLog(), {})
        return Ingested(out, metrics)


@pytest.fixture
def run(tmp_path: Path, tiny_student: Path) -> Ingest:
    return Ingest(tmp_path, tiny_student)


def test_accepted_and_quarantined_rows_with_their_places(run: Ingest) -> None:
    found = run(
        solved(1),
        '{"question": "broken',
        response(2, "I do not know."),
        response(2, "The answer is 5."),
        response(2, "  "),
        response(2, "It is \\boxed{4}."),
        response(2, "It is \\boxed{4}."),
        response(2, "again. " * 100),
        {"foo": 1},
        {"problem": "What is?", "response": "\\boxed{4}"},
        response(3, "\ud83d \\boxed{6}"),
        [1, 2],
    )
    assert found.reasons() == {
        2: "bad_json",
        3: "no_answer",
        4: "wrong_answer",
        5: "empty_completion",
        7: "duplicate",
        8: "repetition",
        9: "unknown_format",
        10: "unverified",
        11: "bad_encoding",
        12: "bad_row",
    }
    assert [trace.source_line for trace in found.traces] == [1, 6]
    assert found.metrics["read"] == 12
    assert found.metrics["accepted"] == 2
    assert found.metrics["quarantined"] == 10
    assert found.metrics["problems"] == 2
    by_line = {row["source_line"]: row for row in found.quarantine}
    assert by_line[2]["raw"] == '{"question": "broken'
    assert "'5'" in by_line[4]["message"]
    assert "'4'" in by_line[4]["message"]
    file = found.traces[0].source_file
    assert file is not None
    assert found.files[file]["digest"] == storage.digest_file(Path(file))
    assert {row["source_digest"] for row in found.quarantine} == {storage.digest_file(Path(file))}
    assert found.files[file]["read"] == 12
    assert found.files[file]["quarantined"] == found.counts["quarantined"]
    assert by_line[7]["duplicate_of"] == found.traces[1].trace_id
    _, told = ingest.table(found.out).splitlines()
    assert told.split()[1:4] == ["12", "2", "10"]
    assert "1 bad_json" in told


def test_the_completion_is_cleaned_and_verified(run: Ingest) -> None:
    trace = run(solved(3)).traces[0]
    assert trace.completion == "3 * 2 = 6\n#### 6"
    assert (trace.answer, trace.gold, trace.verdict) == ("6", "6", "correct")
    kept = run(solved(3), strip_calculator=False).traces[0]
    assert kept.completion == "3 * 2 = <<3*2=6>>6\n#### 6"
    assert kept.trace_id != trace.trace_id
    assert kept.prompt_id == trace.prompt_id


def test_recorded_tokens_keep_their_text(run: Ingest) -> None:
    row = {"prompt": [{"role": "user", "content": "3+3?"}], "completion": "<<3+3=6>>6\n#### 6", "gold": "6"}
    trace = run(row | {"token_ids": [5, 2], "behavior_logprobs": [-1.0, -0.5]}).traces[0]
    assert trace.completion == row["completion"]
    assert (trace.token_ids, trace.behavior_logprobs) == ([5, 2], [-1.0, -0.5])


@pytest.mark.parametrize(
    ("keep", "verdicts"),
    [
        ("correct", ["correct"]),
        ("answered", ["correct", "wrong", "unverified"]),
        ("all", ["correct", "wrong", "unverified", "unparseable", "unverified"]),
    ],
)
def test_what_keep_keeps(run: Ingest, keep: str, verdicts: list[str]) -> None:
    no_gold = {"prompt": "How many?", "completion": "The answer is 4."}
    found = run(
        response(2, "\\boxed{4}"),
        response(2, "\\boxed{5}"),
        no_gold,
        response(2, "Hm."),
        no_gold | {"completion": "Hm."},
        keep=keep,
    )
    assert [trace.verdict for trace in found.traces] == verdicts


def test_a_completion_longer_than_the_context(run: Ingest) -> None:
    found = run(solved(1), response(2, "Well, so. " + "x = 1, y = 2. z" * 9 + " \\boxed{4}"), max_length=160)
    assert found.reasons() == {2: "too_long"}
    assert "student.max_length is 160" in found.quarantine[0]["message"]


def test_length_counts_prompt_completion_and_end_token(run: Ingest, tiny_student: Path) -> None:

    tokenizer = prompts.load_tokenizer(tiny_student)
    trace = run(solved(1)).traces[0]
    size = len(prompts.encode_prompt(tokenizer, trace.prompt)) + len(trace.completion.encode()) + 1
    assert len(run(solved(1), max_length=size).traces) == 1
    with pytest.raises(UserError, match="1 too_long"):
        run(solved(1), max_length=size - 1)


def test_limit_takes_whole_problems_in_source_order(run: Ingest) -> None:
    rows = [response(n, f"{text} \\boxed{{{2 * n}}}") for text in ("One.", "Two.") for n in range(1, 6)]
    found = run(*rows, limit=2)
    assert [trace.source_line for trace in found.traces] == [1, 2, 6, 7]
    assert set(found.reasons().values()) == {"over_limit"}
    assert found.counts["problems"] == 2


def test_the_same_text_of_another_teacher_is_a_duplicate(run: Ingest) -> None:
    found = run(response(2, "\\boxed{4}", model="a"), response(2, "\\boxed{4}", model="b"), response(3, "\\boxed{6}"))
    assert found.reasons() == {2: "duplicate"}


def test_benchmark_problems_are_dropped_however_they_are_asked(run: Ingest, tmp_path: Path) -> None:
    long = "A farmer has twelve hens, each of which lays three eggs a day. How many eggs are laid in 5"
    known = [{"question": long + " days?", "answer": "#### 180"}, {"question": "What is twice 7?", "answer": "#### 14"}]
    file = tmp_path / "benchmark.jsonl"
    rows = known + [{"question": f"Filler {n}?", "answer": f"#### {n}"} for n in range(1317)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    benchmarks = [BenchmarkConfig(name="gsm8k", source=str(file))]
    traces = [
        {"question": f"  {long.upper()}\n days?", "answer": "#### 180"},
        {"prompt": f"Think well.\n{long} days? Put the answer in a box.", "completion": "\\boxed{180}", "gold": "180"},
        {"question": "What is twice 7?", "answer": "#### 14"},
        {"problem": "What is twice 7?", "response": "\\boxed{14}", "gold": "14"},
        {"question": f"{long}0 days?", "answer": "#### 1800"},
        {"question": "What is twice 77?", "answer": "#### 154"},
    ]
    found = run(*traces, benchmarks=benchmarks)
    assert found.reasons() == {1: "contaminated", 2: "contaminated_inside", 3: "contaminated", 4: "contaminated"}
    assert "benchmark gsm8k" in found.quarantine[0]["message"]
    assert found.counts["ngram_hits"] == {"gsm8k": 1}  # line 5 is another problem with nearly the same words
    assert ":5: afarmerhas" in found.counts["ngram_examples"][0]
    assert len(run(*traces, benchmarks=benchmarks, decontaminate=False).traces) == 6
    found = run(*traces, benchmarks=benchmarks, ngram_share=0.6)
    assert found.reasons()[5] == "contaminated_ngram"
    assert "ngram_share is 0.6" in found.quarantine[-1]["message"]


def test_all_traces_of_a_problem_are_on_one_side(run: Ingest) -> None:
    rows = [response(n, f"{text} \\boxed{{{2 * n}}}") for text in ("One.", "Two.") for n in range(300)]
    found = run(*rows, selection_share=0.3)
    sides: dict[str, set[str]] = {}
    for trace in found.traces:
        sides.setdefault(trace.prompt_id, set()).add(trace.split)
    assert all(len(split) == 1 for split in sides.values())
    assert 60 <= sum(split == {"selection"} for split in sides.values()) <= 120
    more = run(*rows, response(1000, "\\boxed{2000}"), selection_share=0.3)
    assert {trace.trace_id: trace.split for trace in more.traces}.items() >= {
        trace.trace_id: trace.split for trace in found.traces
    }.items()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_there_is_always_something_to_train_on(run: Ingest, share: float) -> None:
    rows = [response(n, f"{text} \\boxed{{{2 * n}}}") for text in ("One.", "Two.") for n in range(3)]
    found = run(*rows, selection_share=share)
    assert found.counts["train"] == (6 if share == 0.0 else 2)
    assert {trace.prompt_id for trace in found.traces if trace.split == "train"} >= {found.traces[0].prompt_id}


def test_a_trace_set_can_be_ingested_again(run: Ingest, tmp_path: Path) -> None:
    first = run(*[solved(n) for n in range(5)], response(9, "Hm."))
    again = run(sources=[str(tmp_path / "out1")])
    assert again.counts["quarantined"] == {}
    assert [trace.trace_id for trace in again.traces] == [trace.trace_id for trace in first.traces]
    assert [trace.split for trace in again.traces] == [trace.split for trace in first.traces]


def test_synthetic_traces_are_all_right(run: Ingest) -> None:
    uri = "reasoning-gym://chain_sum?problems=20&traces=2&seed=1&min_terms=3&max_terms=4"
    found = run(sources=[uri])
    assert found.counts["quarantined"] == {}
    assert found.counts["problems"] == 20
    assert {(trace.teacher, trace.verdict, trace.attempts) for trace in found.traces} == {
        ("dcod.synthetic", "correct", None)
    }


def test_a_fixed_format_refuses_other_rows(run: Ingest) -> None:
    found = run(solved(1), response(2, "\\boxed{4}"), format="gsm8k")
    assert found.reasons() == {2: "bad_field"}
    with pytest.raises(UserError, match=r"ingest\.format 'csv': unknown; known: auto, "):
        run(solved(1), format="csv")


def test_nothing_accepted_names_the_reasons(run: Ingest, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none of 3 rows was accepted: 2 no_answer \(.*rows1.jsonl:1: ") as caught:
        run(response(1, "Hm."), response(1, "Hm!"), response(1, "\\boxed{3}"))
    assert "1 wrong_answer" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out1").exists()


def test_mistakes_are_one_line(run: Ingest, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    with pytest.raises(UserError, match=r"empty\.jsonl: there is no row in it"):
        run(sources=[str(empty)])
    with pytest.raises(UserError, match=r"gone\.jsonl: no such file or folder"):
        run(sources=[str(tmp_path / "gone.jsonl")])
    with pytest.raises(UserError, match=r"ingest\.sources is empty: give files"):
        run(sources=[])
    run.student = tmp_path / "bare"
    run.student.mkdir()
    with pytest.raises(UserError, match="bare: no tokenizer in the folder"):
        run(solved(1))


def test_an_output_that_cannot_be_written(run: Ingest, tmp_path: Path, tiny_student: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "rows.jsonl").write_text(json.dumps(solved(1)))
    config = Config(ingest=IngestConfig(sources=[str(tmp_path / "rows.jsonl")]))
    out = tmp_path / "file" / "out"
    with pytest.raises(UserError, match=r"file/out.*: cannot be written"):
        ingest.run(config, out, NullLog(), student=tiny_student)
    with pytest.raises(UserError, match=r"cannot be written .*; choose another --out"):
        execute.execute("ingest", config, out, {"student": tiny_student}, execute.RunContext(tracked=False))


def test_the_digest_of_the_stage_follows_the_sources(tmp_path: Path, tiny_student: Path) -> None:
    file = tmp_path / "rows.jsonl"
    config = Config(ingest=IngestConfig(sources=[str(file)]))
    seen = []
    for row in (solved(1), solved(2), solved(1)):
        file.write_text(json.dumps(row))
        execute.execute(
            "ingest", config, tmp_path / "out", {"student": tiny_student}, execute.RunContext(tracked=False)
        )
        seen.append(json.loads((tmp_path / "out" / "manifest.json").read_text())["digest"])
    assert seen[0] == seen[2] != seen[1]


REAL = {
    "gsm8k/train.jsonl": 7473,
    "math/train.jsonl": 7500,
    "traces/gsm8k_openai/gsm8k_test_model_solutions.jsonl": 5276,
    "traces/nemo_math_train/math_train_gen_rs0.jsonl": 50,
    "traces/nemo_math_train/math_train_gen_rs1.jsonl": 50,
    "traces/nemo_math_train/openmathinstruct2_100.jsonl": 100,
    "traces/nemo_math_train/sft_messages_5.jsonl": 5,
    "traces/nemo_math_train/sft_templated_10.jsonl": 10,
    "traces/qwen_rm_maj/math_cot_100x8.jsonl": 800,
    "traces/r1_math500/pilot_math500_llama8b.jsonl": 20,
    "traces/r1_math500/pilot_math500_qwen7b.jsonl": 20,
    "traces/r1_math500/pilot_math500_r1.jsonl": 10,
    "traces/skythought/Qwen2.5-14B-Instruct__aime24.jsonl": 30,
    "traces/skythought/Qwen2.5-14B-Instruct__amc23.jsonl": 40,
    "traces/skythought/Qwen2.5-14B-Instruct__math500.jsonl": 500,
    "traces/skythought/Qwen2.5-14B-Instruct__minerva_math.jsonl": 272,
    "traces/skythought/Qwen2.5-14B-Instruct__olympiadbench.jsonl": 675,
    "traces/skythought/Qwen2.5-Math-7B__aime24.jsonl": 30,
    "traces/skythought/Qwen2.5-Math-7B__amc23.jsonl": 40,
    "traces/skythought/Qwen2.5-Math-7B__math500.jsonl": 500,
    "traces/skythought/Sky-T1-math-correct-5K-27B__aime24.jsonl": 30,
    "traces/skythought/Sky-T1-math-correct-5K-27B__amc23.jsonl": 40,
    "traces/skythought/chat__Qwen2.5-32B-Instruct_MATH500_test_None_0_-1_cw_0.1.jsonl": 500,
}


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["correct", "all"])
def test_every_row_of_every_real_file_is_accounted_for(run: Ingest, data_dir: Path, keep: str) -> None:
    found = run(sources=[str(data_dir / name) for name in REAL], keep=keep, max_length=40_000)
    files = {name: found.files[str(data_dir / name)] for name in REAL}
    assert {name: count["read"] for name, count in files.items()} == REAL
    faults = {"repetition", "duplicate", "too_long"}
    missing = set() if keep == "all" else {"no_answer", "wrong_answer", "unverified", "flagged_wrong"}
    assert set(found.counts["quarantined"]) == faults | missing
    assert files["gsm8k/train.jsonl"]["accepted"] == 7473
    assert files["math/train.jsonl"]["accepted"] >= 7498


def test_real_benchmark_problems_are_found_in_real_traces(run: Ingest, data_dir: Path) -> None:
    """MATH500 is a part of MATH test: exactly its rows go, also out of chats that wrap the problem in other text."""
    file = data_dir / "traces/qwen_rm_maj/math_cot_100x8.jsonl"
    inside = [json.loads(line)["in_math500"] for line in file.open(encoding="utf-8")]
    benchmarks = [BenchmarkConfig(name="math500", source=str(data_dir / "math500/test.jsonl"))]
    found = run(sources=[str(file)], keep="all", max_length=40_000, benchmarks=benchmarks)
    faults = {line for line, reason in found.reasons().items() if reason == "duplicate"}
    expected = {line for line, known in enumerate(inside, start=1) if known} - faults
    assert {line for line, reason in found.reasons().items() if reason == "contaminated"} == expected
    assert len(expected) >= 40
    chats = data_dir / "traces/skythought/chat__Qwen2.5-32B-Instruct_MATH500_test_None_0_-1_cw_0.1.jsonl"
    part = [json.loads(line) for line in chats.open(encoding="utf-8")][:60]
    mixed = run(*part, response(1, "\\boxed{2}"), keep="all", max_length=100_000, benchmarks=benchmarks)
    assert [trace.source_line for trace in mixed.traces] == [61]
