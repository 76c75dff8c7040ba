"""Score: whose log-probs come along token by token, whose only as a sum, and what is recorded besides."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from dcod.config import Config
from dcod.engines.transformers import TransformersEngine
from dcod.errors import UserError
from dcod.score.scores import read_scores
from dcod.stages import manifests, score
from dcod.stages.execute import RunContext, execute
from dcod.traces import Trace, prompts, write_traces
from dcod.tracking import NullLog


def trace(text: str, tokenizer: object, **fields: object) -> Trace:
    """A teacher with the student's tokenizer, its log-probs and two likeliest tokens recorded."""
    ids = prompts.encode_completion(tokenizer, text)  # type: ignore[arg-type]
    made = Trace(
        prompt=[{"role": "user", "content": "2+2?"}],
        completion=text,
        tokenizer_digest=prompts.tokenizer_digest(tokenizer),  # type: ignore[arg-type]
        token_ids=ids,
        behavior_logprobs=[-0.5] * len(ids),
        top_ids=[[token, 7] for token in ids],
        top_logprobs=[[-0.5, -2.0] for _ in ids],
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def run(tmp_path: Path, student: Path, traces: list[Trace], **section: object) -> dict[str, float]:
    (tmp_path / "traces").mkdir()
    (tmp_path / "out").mkdir()
    write_traces(tmp_path / "traces" / "traces.parquet", traces)
    config = Config.model_validate({"student": {"max_length": 512}, "score": section})
    return score.run(config, tmp_path / "out", NullLog(), traces=tmp_path / "traces", student=student)


def test_what_comes_along(tmp_path: Path, tiny_student: Path) -> None:
    """Own tokens: everything. Another tokenizer: the sum alone. Text alone: nothing."""
    tokenizer = prompts.load_tokenizer(tiny_student)
    own = trace("four", tokenizer)
    foreign = trace("it is four", tokenizer, tokenizer_digest="another", token_ids=[1, 2], behavior_logprobs=[-1.0, -2])
    plain = Trace(prompt=own.prompt, completion="4!")
    metrics = run(tmp_path, tiny_student, [own, foreign, plain])
    first, second, third = read_scores(tmp_path / "out")["train"]
    assert first.behavior_logprobs == [-0.5] * 5
    assert first.behavior_total == -2.5
    assert first.teacher_top_ids == own.top_ids
    assert first.teacher_top_logprobs == own.top_logprobs
    assert (second.behavior_logprobs, second.behavior_total, second.teacher_top_ids) == (None, -3.0, None)
    assert second.completion_tokens == prompts.encode_completion(tokenizer, "it is four")
    assert (third.behavior_logprobs, third.behavior_total) == (None, None)
    assert first.start_top_ids is None
    assert metrics["retokenised_traces"] == 1.0
    assert metrics["no_behavior_share"] == pytest.approx(1 - 5 / 19)
    chances = [math.exp(value) for one in (first, second, third) for value in one.student_logprobs]
    assert metrics["mean_student_probability"] == pytest.approx(sum(chances) / 19)
    assert metrics["unlikely_token_share"] == pytest.approx(sum(chance < 0.2 for chance in chances) / 19)
    assert len(json.loads((tmp_path / "out" / "drift.json").read_text())["positions"]) == 11


def test_the_students_likeliest_tokens_are_recorded_when_asked(tmp_path: Path, tiny_student: Path) -> None:
    tokenizer = prompts.load_tokenizer(tiny_student)
    run(tmp_path, tiny_student, [trace("four", tokenizer)], top_k=259)  # the whole vocabulary
    (example,) = read_scores(tmp_path / "out")["train"]
    assert example.start_top_ids is not None
    assert example.start_top_logprobs is not None
    engine = TransformersEngine(tiny_student, tokenizer)
    ((logprobs, _),) = engine.score([example], 512)
    for token, logprob, ids, values in zip(
        example.completion_tokens, logprobs, example.start_top_ids, example.start_top_logprobs, strict=True
    ):
        assert values == sorted(values, reverse=True)
        assert dict(zip(ids, values, strict=True))[token] == pytest.approx(logprob, abs=1e-5)


def test_log_probs_that_do_not_fit_their_tokens_stop_with_the_place(tmp_path: Path, tiny_student: Path) -> None:
    broken = trace(
        "four", prompts.load_tokenizer(tiny_student), behavior_logprobs=[-0.5], source_file="a", source_line=3
    )
    with pytest.raises(UserError, match=r"\(a:3\): 1 log-probs for 5 tokens"):
        run(tmp_path, tiny_student, [broken])


def test_ranks_local_scores_and_given_weights_are_recorded_where_they_are_wanted(
    tmp_path: Path, tiny_student: Path
) -> None:
    tokenizer = prompts.load_tokenizer(tiny_student)
    text = "One.\n2.5 is half. So? Yes"
    made = [trace(text, tokenizer, weight=2.5), trace("four", tokenizer)]
    run(tmp_path, tiny_student, made, ranks=True, local_window=4)
    first, second = read_scores(tmp_path / "out")["train"]
    assert (first.given, second.given) == (2.5, None)
    assert first.start_ranks is not None
    assert first.start_mass is not None
    assert first.local_logprobs is not None
    assert all(1 <= rank <= 259 for rank in first.start_ranks)
    # the likeliest token has all of the mass, each has at least its own
    for rank, mass, logprob in zip(first.start_ranks, first.start_mass, first.student_logprobs, strict=True):
        assert math.exp(logprob) - 1e-6 <= mass <= 1 + 1e-6
        assert rank > 1 or mass == pytest.approx(1.0, abs=1e-5)
    # by hand: every sentence after the four tokens before it; a point before a digit ends none
    engine = TransformersEngine(tiny_student, tokenizer)
    ids, expected = [*first.prompt_tokens, *first.completion_tokens], []
    begin = len(first.prompt_tokens)
    for size in (4, 1, 12, 4, 5):  # "One." "\n" "2.5 is half." " So?" " Yes" and its end
        one = replace(first, prompt_tokens=ids[begin - 4 : begin], completion_tokens=ids[begin : begin + size])
        expected += engine.score([one], 512)[0][0]
        begin += size
    assert begin == len(ids)
    assert first.local_logprobs == pytest.approx(expected, abs=1e-5)


def test_a_scoring_that_is_taken_over_tells_of_the_correction_that_is_configured(
    tmp_path: Path, tiny_student: Path
) -> None:
    traces = tmp_path / "traces"
    traces.mkdir()
    texts = ("four", "4!", "it is four", "2+2=4")
    write_traces(traces / "traces.parquet", [Trace([{"role": "user", "content": "2+2?"}], text) for text in texts])

    def figures(out: str, kind: str = "score", **correction: object) -> dict[str, float]:
        tracking = {"uri": f"sqlite:///{tmp_path}/mlflow.db", "artifacts": str(tmp_path / "artifacts")}
        given = {"tracking": tracking, "train": {"correction": correction}, "student": {"max_length": 512}}
        inputs = {"part0": tmp_path / "a"} if kind == "merge" else {"student": tiny_student}
        options = {"kind": "score"} if kind == "merge" else {}
        where = {"traces": traces, **inputs}
        return execute(kind, Config.model_validate(given), tmp_path / out, where, RunContext(), **options)

    first = figures("a", name="naturalness")
    other = figures("b", name="surprisal")
    assert manifests.read(tmp_path / "a")["digest"] == manifests.read(tmp_path / "b")["digest"]
    assert first["log_weight_spread"] > 0
    assert other["log_weight_spread"] > 0
    assert first["log_weight_spread"] != other["log_weight_spread"]
    assert "log_weight_spread" not in figures("c", name="none")
    assert "log_weight_spread" not in manifests.read(tmp_path / "b")["metrics"]
    assert figures("d", "merge", name="naturalness") == first
    assert figures("e", "merge", name="surprisal")["log_weight_spread"] == other["log_weight_spread"]
