"""Shards of score and evaluate, and their merge: what one pod would have written."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dcod.config import Config
from dcod.errors import UserError
from dcod.score.scores import read_scores
from dcod.stages import component, manifests, shards
from dcod.stages.catalogue import stage_of
from dcod.stages.execute import RunContext, execute
from tests.pipelines.test_distill import write_inputs

HERE = RunContext(tracked=False)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, tiny_student: Path) -> tuple[Path, Config]:
    folder = tmp_path_factory.mktemp("sharding")
    _, config = write_inputs(folder, tiny_student)
    benchmark = config.evaluate.benchmarks[0]
    other = benchmark.model_copy(update={"source": benchmark.source.replace("seed=90000", "seed=70000"), "limit": 10})
    other = other.model_copy(update={"name": "reasoning_gym", "source": other.source.replace("gcd", "lcm")})
    section = config.evaluate.model_copy(update={"benchmarks": [benchmark.model_copy(update={"limit": 12}), other]})
    config = config.model_copy(update={"evaluate": section, "tracking": config.tracking})
    execute("ingest", config, folder / "traces", {"student": tiny_student}, HERE)
    return folder, config


def test_scores_of_shards_are_those_of_one_pod(prepared: tuple[Path, Config], tiny_student: Path) -> None:
    folder, config = prepared
    config = config.model_copy(update={"score": config.score.model_copy(update={"batch_tokens": 512})})
    inputs = {"traces": str(folder / "traces"), "student": str(tiny_student)}
    parts = {}
    for number in (1, 2, 3):
        out = folder / f"score-{number}"
        component.run("score", config.to_json(), "p", str(out), inputs, shard=f"{number}/3")
        parts[f"part{number - 1}"] = out
    whole = execute("score", config, folder / "whole", {name: Path(path) for name, path in inputs.items()}, HERE)
    merged = execute("merge", config, folder / "merged", {**parts, "traces": folder / "traces"}, HERE, kind="score")
    assert merged == pytest.approx(whole, rel=1e-5)
    one, many = read_scores(folder / "whole"), read_scores(folder / "merged")
    for split in ("train", "selection"):
        assert [e.trace_id for e in many[split]] == [e.trace_id for e in one[split]]
        for a, b in zip(one[split], many[split], strict=True):
            assert b.student_logprobs == pytest.approx(a.student_logprobs, abs=1e-5)
    curves = [json.loads((folder / name / "drift.json").read_text()) for name in ("whole", "merged")]
    assert curves[0]["count"] == curves[1]["count"]
    assert curves[1]["mean_surprisal"] == pytest.approx(curves[0]["mean_surprisal"], abs=1e-5)
    names = [sorted(path.name for path in (folder / name).glob("[!.]*")) for name in ("whole", "merged")]
    assert names[0] == names[1] == ["card.html", "card.md", "drift.json", "manifest.json", "scores.parquet"]
    told = [manifests.read(place)["facts"]["student"] for place in (folder / "merged", *parts.values())]
    assert told[0] in told[1:]  # as one of them was read
    assert told[0]["speed"]["tokens"] > 0
    assert (folder / "merged" / "card.md").read_text() == (folder / "whole" / "card.md").read_text()
    assert "Not scored yet" not in (folder / "merged" / "card.html").read_text()
    some = {"part0": parts["part0"], "part1": parts["part2"], "traces": folder / "traces"}
    with pytest.raises(UserError, match=r"^merge score: \d+ scores of \d+ traces; give each shard of a scoring once$"):
        execute("merge", config, folder / "some", some, HERE, kind="score")


def test_results_of_shards_are_those_of_one_pod(prepared: tuple[Path, Config], tiny_student: Path) -> None:
    folder, config = prepared
    inputs = {"student": str(tiny_student)}
    parts = {}
    for number in (1, 2, 3):  # of two benchmarks: the third shard is empty
        out = folder / f"evaluate-{number}"
        options = {"shard": f"{number}/3", "few_shot": False}
        component.run("evaluate", config.to_json(), "p", str(out), inputs, label="start", **options)
        parts[f"part{number - 1}"] = out
    assert [path.name for path in (folder / "evaluate-3").glob("[!.]*")] == [shards.EMPTY]
    whole = execute("evaluate", config, folder / "all", {"student": tiny_student}, HERE, few_shot=False)
    merged = execute("merge", config, folder / "both", parts, HERE, kind="evaluate")
    assert merged == whole
    one, many = (json.loads((folder / name / "summary.json").read_text()) for name in ("all", "both"))
    assert many["benchmarks"] == one["benchmarks"]
    assert len(many["benchmarks"]) == 2
    rows = [pq.read_table(folder / name / "examples.parquet").to_pylist() for name in ("all", "both")]
    assert rows[0] == rows[1]
    assert (folder / "both" / "recorded.json").is_file()
    for others in ({"part0": parts["part0"]}, {**parts, "part3": parts["part0"]}):
        with pytest.raises(UserError, match=r"^merge evaluate: results of .*; give each shard of an evaluation once$"):
            execute("merge", config, folder / "some", others, HERE, kind="evaluate")


def test_what_cannot_be_cut_or_merged(prepared: tuple[Path, Config], tmp_path: Path) -> None:
    folder, config = prepared
    for shard in ("0/2", "3/2", "1", "a/b"):
        with pytest.raises(UserError, match="expected k/n"):
            shards.part(stage_of("score"), shard, shards.Work(config, {"traces": folder / "traces"}, {}), tmp_path)
    assert [str(shards.Shard.of(name)) for name in shards.plan(3)] == shards.plan(3) == ["1/3", "2/3", "3/3"]
    shards.write_empty(tmp_path / "empty")
    with pytest.raises(UserError, match="all 1 shards are empty"):
        execute("merge", config, tmp_path / "out", {"part0": tmp_path / "empty"}, HERE, kind="score")
    with pytest.raises(UserError, match="expected score or evaluate"):
        execute("merge", config, tmp_path / "out", {"part0": tmp_path / "empty"}, HERE, kind="train")
