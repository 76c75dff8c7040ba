"""ExAccErr: against the definition, written out over a full vocabulary, and at its fixed points."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dcod.config import Config
from dcod.engines.transformers import TransformersEngine
from dcod.score import exposure
from dcod.traces import FILE, Trace, write_traces
from dcod.traces.prompts import encode_completion, load_tokenizer
from dcod.traces.scored import ScoredTrace
from tests.tiny import save_tiny_student

V = 259


@pytest.fixture(scope="module")
def engines(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TransformersEngine, ...]:
    teacher = save_tiny_student(tmp_path_factory.mktemp("teacher"), seed=7)
    tokenizer = load_tokenizer(tiny_student)
    return TransformersEngine(teacher, tokenizer), TransformersEngine(tiny_student, tokenizer)


def made(count: int, seed: int) -> list[ScoredTrace]:
    generator = torch.Generator().manual_seed(seed)
    draw = lambda n: torch.randint(3, 200, (n,), generator=generator).tolist()  # noqa: E731
    return [ScoredTrace(str(i), str(i), draw(3 + i % 4), draw(2 + i % 6), [], []) for i in range(count)]


def test_the_divergences_are_those_of_the_full_distributions(engines: tuple[TransformersEngine, ...]) -> None:
    teacher, student = engines
    traces = made(7, seed=0)
    teacher.annotate(traces, 64, top_k=V)
    for trace in traces:
        trace.teacher_top_ids, trace.teacher_top_logprobs = trace.start_top_ids, trace.start_top_logprobs
    found = exposure.divergences(student, traces, 64)
    for trace, values in zip(traces, found, strict=True):
        ids, begin = torch.tensor([trace.prompt_tokens + trace.completion_tokens]), len(trace.prompt_tokens)
        ours, theirs = (
            torch.log_softmax(one.model(input_ids=ids).logits[0].double(), 1)[begin - 1 : -1] for one in engines
        )
        expected = (ours.exp() * (ours - theirs)).sum(1)
        assert values == pytest.approx(expected.tolist(), rel=1e-3, abs=1e-5)


def test_equal_errors_in_both_places_are_no_excess_and_twice_as_large_ones_are_one() -> None:
    rows = [[0.1, 0.2, 0.3]] * exposure.FEWEST
    curve = exposure.excess(rows, rows)
    assert curve["lengths"] == [1, 2, 3]
    assert curve["epsilon"] == pytest.approx([0.1, 0.15, 0.2])
    assert curve["accumulated"] == pytest.approx([0.1, 0.3, 0.6])
    assert curve["excess"] == pytest.approx([0.0, 0.0, 0.0])
    doubled = exposure.excess(rows, [[2 * value for value in row] for row in rows])
    assert doubled["excess"] == pytest.approx([1.0, 1.0, 1.0])


def test_errors_that_grow_on_the_students_own_prefixes_compound() -> None:
    """Linear on the teacher's, quadratic on the student's: R(l) = l (l + 1) / 2 against l."""
    teacher, student = [[1.0] * 6] * 12, [[1.0 + t for t in range(6)]] * 12
    assert exposure.excess(teacher, student)["excess"] == pytest.approx([(n + 1) / 2 - 1 for n in range(1, 7)])


def test_lengths_that_few_reach_are_not_on_the_curve() -> None:
    rows = [[0.1, 0.1]] * exposure.FEWEST + [[0.1] * 9] * (exposure.FEWEST - 1)
    assert exposure.excess(rows, [[0.1] * 9] * 20)["lengths"] == [1, 2]
    assert exposure.excess([[0.1]], [])["excess"] == []


def held(folder: Path, count: int) -> Path:
    """Traces of so many prompts, and as many that are taught."""
    folder.mkdir()
    splits = ("selection", "train")
    write_traces(
        folder / FILE,
        [
            Trace([{"role": "user", "content": f"{split} {i}"}], "abcdef", split=split, source_file="a.jsonl")
            for i in range(count)
            for split in splits
        ],
    )
    return folder


def measuring(count: int) -> Config:
    return Config.model_validate(
        {"promote": {"exposure_traces": count}, "teach": {"model": "teacher", "chat_template": "plain"},
         "student": {"chat_template": "plain"}}
    )  # fmt: skip


def test_students_are_compared_on_their_own_answers_to_the_same_prompts(tiny_student: Path, tmp_path: Path) -> None:
    """A student that is the teacher makes no error anywhere, its twin by another seed does."""
    other = save_tiny_student(tmp_path / "other", seed=7)
    students = {"same": tiny_student, "other": other}
    found = exposure.compare(measuring(12), tiny_student, students, held(tmp_path / "traces", 14))
    length = len(encode_completion(load_tokenizer(tiny_student, "plain"), "abcdef"))
    assert (found["traces"], found["length"]) == (12, length)
    same, errs = found["students"]["same"], found["students"]["other"]
    assert max(same["epsilon"]) < 1e-3 < errs["epsilon"][0]
    assert errs["at"] == min(length, len(errs["lengths"]))
    assert errs["excess_error"] == errs["excess"][errs["at"] - 1]
    again = exposure.compare(measuring(12), tiny_student, students, tmp_path / "traces")
    assert again == found


def test_what_cannot_be_measured_says_why(tiny_student: Path, tmp_path: Path) -> None:
    few = exposure.compare(measuring(40), tiny_student, {"one": tiny_student}, held(tmp_path / "few", 9))
    assert few == {"why": "9 prompts are held back (ingest.selection_share), 10 are the fewest"}
    stranger = save_tiny_student(tmp_path / "stranger")
    config = stranger / "tokenizer.json"
    config.write_text(config.read_text().replace('"a":', '"é":'))
    other = exposure.compare(measuring(40), stranger, {"one": tiny_student}, held(tmp_path / "enough", 10))
    assert other == {"why": "the teacher's tokens are not those of the student"}


def test_it_is_asked_for_with_a_teacher_alone() -> None:
    for teach in ({}, {"model": "m", "engine": {"name": "openai", "endpoint": "http://h/v1", "model": "m"}}):
        with pytest.raises(ValueError, match="needs the distribution of a teacher"):
            Config.model_validate({"promote": {"exposure_traces": 8}, "teach": teach})
