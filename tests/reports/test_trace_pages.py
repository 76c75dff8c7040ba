"""The page of a scored set: the weights of training, hostile text as data, and folders that do not fit."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from dcod.config import Config, CorrectionConfig, TrainConfig
from dcod.errors import UserError
from dcod.models import loading
from dcod.objective import weighting
from dcod.reports import trace_pages, viewer
from dcod.score.scores import read_scores
from dcod.traces import prompts
from dcod.train import loop
from tests.viewed import HOSTILE, write_set


def data_of(page: str) -> Any:
    found = re.findall(r'<script type="application/json" id="data">([^<]*)</script>', page)
    assert len(found) == 1
    return json.loads(found[0])


def corrected(**correction: Any) -> Config:
    section = TrainConfig(correction=CorrectionConfig(**correction), traces_per_step=8, epochs=1)
    return Config(name="run", seed=3, train=section)


@pytest.mark.parametrize(
    "correction",
    [
        {"name": "surprisal", "scope": "trace"},
        {"name": "surprisal", "scope": "token", "bucket_width": 4},
        {"name": "trace"},
    ],
    ids=lambda c: "-".join(str(value) for value in c.values()),
)
def test_the_weights_are_those_of_training(
    tmp_path: Path, tiny_student: Path, monkeypatch: pytest.MonkeyPatch, correction: dict[str, Any]
) -> None:
    traces, scores, examples = write_set(tmp_path, tiny_student, 40)
    config = corrected(**correction)
    used: list[torch.Tensor] = []
    add = weighting.WeightCounts.add

    def noted(self: weighting.WeightCounts, weights: torch.Tensor, mask: torch.Tensor) -> None:
        used.extend(row[inside] for row, inside in zip(weights, mask, strict=True))
        add(self, weights, mask)

    monkeypatch.setattr(weighting.WeightCounts, "add", noted)
    train_set = read_scores(scores)["train"]
    model = loading.load(tiny_student)
    section = config.train.model_copy(update={"learning_rate": 1e-12})
    loop.train(model, train_set, [], section, config.seed, lambda _: None, lambda *_: None)
    page = data_of(trace_pages.page(config, scores, tiny_student, traces=traces))
    shown = {row["id"]: row["weight"] for row in page["traces"] if row["weight"] is not None}
    assert len(shown) == len(train_set) == len(used)
    lengths = {e.trace_id: len(e.completion_tokens) for e in examples}
    ours = [sorted([w] * lengths[name] if isinstance(w, float) else w) for name, w in shown.items()]
    theirs = [sorted(row.tolist()) for row in used]
    for mine, real in zip(sorted(ours), sorted(theirs), strict=True):
        assert mine == pytest.approx(real, abs=6e-5)
    assert len({round(value, 3) for row in ours for value in row}) > 5


def test_a_hostile_trace_is_data(tmp_path: Path, tiny_student: Path) -> None:
    traces, scores, _ = write_set(tmp_path, tiny_student, 4)
    page = trace_pages.page(Config(), scores, tiny_student, traces=traces)

    class Tags(HTMLParser):
        found: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found.append(tag)
            assert not [name for name, _ in attrs if name.startswith("on")]

    Tags().feed(page)
    assert Tags.found.count("script") == 2
    assert "img" not in Tags.found
    first = data_of(page)["traces"][0]
    assert HOSTILE in first["prompt"][0][1]
    assert first["teacher"] == first["answer"] == first["source_file"] == HOSTILE
    assert "http" not in re.sub(r'<meta http-equiv="Content-Security-Policy"', "", page)


def test_traces_that_the_student_itself_wrote_are_told_apart(tmp_path: Path, tiny_student: Path) -> None:
    traces, scores, _ = write_set(tmp_path, tiny_student, 4, own=2)
    rows = data_of(trace_pages.page(Config(), scores, tiny_student, traces=traces))["traces"]
    assert [row["by_student"] for row in rows] == [True, True, False, False]
    assert rows[0]["teacher"] == f"student:{HOSTILE}"
    unknown = data_of(trace_pages.page(Config(), scores, tiny_student))["traces"]
    assert not any(row.get("by_student") for row in unknown)


def test_what_the_page_says_of_a_trace(tmp_path: Path, tiny_student: Path) -> None:
    traces, scores, examples = write_set(tmp_path, tiny_student, 40)
    found = data_of(trace_pages.page(corrected(name="surprisal"), scores, tiny_student, traces=traces, limit=30))
    assert found["about"]["traces"] == "30 of 40"
    assert "not given" in found["about"]
    assert [row["id"] for row in found["traces"]] == [e.trace_id for e in examples[:30]]
    row = found["traces"][3]
    assert "".join(found["pieces"][piece] for piece in row["tokens"]).endswith("it is 2 Ã©<|im_end|>")
    assert {found["pieces"][n] for n in found["spelled"]} == {"Ã", "©", "â", "Ģ", "¨"}
    assert row["logp"] == pytest.approx(examples[3].student_logprobs, abs=6e-5)
    assert row["teacher_logp"] == pytest.approx(examples[3].behavior_logprobs, abs=6e-5)
    assert (row["verdict"], row["source_file"], row["source_line"], row["split"]) == (
        "correct",
        "file0.jsonl",
        4,
        "train",
    )
    held_back = [row for row in found["traces"] if row["split"] == "selection"]
    assert [row["weight"] for row in held_back] == [None, None]
    live = data_of(trace_pages.page(corrected(name="surprisal", weights="live"), scores, tiny_student))
    assert "before the student has learned" in live["about"]["weights"]
    plain = data_of(trace_pages.page(Config(), scores, tiny_student))
    assert {row["weight"] for row in plain["traces"]} == {1.0, None}
    assert "verdict" not in plain["traces"][0]
    assert "<|im_start|>user" in plain["traces"][2]["prompt"][0][1]
    assert next(row for row in plain["traces"] if row["teacher_logp"] is None)["teacher_total"] == -12.5


def test_the_students_own_answers(tmp_path: Path, tiny_student: Path) -> None:
    traces, scores, _ = write_set(tmp_path, tiny_student, 6)
    (tmp_path / "results").mkdir()
    row = {
        "problem": "How much is 2 and 1?",
        "response": "3, I say",
        "outcome": "wrong",
        "answer": None,
        "benchmark": "b",
    }
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "results" / "examples.parquet")
    page = trace_pages.page(Config(), scores, tiny_student, traces=traces, results=tmp_path / "results", answers=1)
    rows = data_of(page)["traces"]
    found = [row["own"] for row in rows]
    # All weigh the same, so the page opens with the trace that surprises the student most: its prompt is answered.
    surprises = [-sum(row["logp"]) / len(row["logp"]) for row in rows]
    opened = rows[surprises.index(max(surprises))]["prompt_id"]
    said = [row["prompt_id"] for row in rows if row["own"] and row["own"]["from"].startswith("written for this page")]
    assert set(said) == {opened}
    others = [own["text"] for row, own in zip(rows, found, strict=True) if own and row["prompt_id"] != opened]
    assert set(others) <= {"3, I say"}
    assert len(others) + len(said) == sum(own is not None for own in found) >= 2
    written = next(own for own in found if own and own["from"] != "b")
    assert written["outcome"] in ("correct", "wrong", "unparseable", "truncated")


def test_answers_are_to_the_prompts_that_the_page_opens_with(tmp_path: Path, tiny_student: Path) -> None:
    _, _, examples = write_set(tmp_path, tiny_student, 5, hostile=False)
    weights = {e.trace_id: [weight] for e, weight in zip(examples, (1.0, 0.9, 0.25, 2.0), strict=False)}
    order = [examples.index(e) for e in trace_pages.looked_at_first(examples, weights)]
    assert order == [2, 3, 1, 0, 4]  # 0.25 is two octaves from 1; the last one has no weight
    equal = {name: [1.0] for name in weights}
    surprised = trace_pages.looked_at_first(examples, equal)
    means = [-sum(e.student_logprobs) / len(e.student_logprobs) for e in surprised]
    assert means == sorted(means, reverse=True)


def test_the_configuration_of_a_trained_student(tmp_path: Path, tiny_student: Path) -> None:
    fallback = Config(name="mine")
    assert trace_pages.of_training(tiny_student, fallback) is fallback
    config = corrected(name="surprisal", gamma_max=0.5)
    sections = {name: getattr(config, name).model_dump(mode="json") for name in ("student", "train")}
    manifest = {"stage": "train", "config": sections, "seed": 3}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    found = trace_pages.of_training(tmp_path, fallback)
    assert (found.train, found.seed, found.name) == (config.train, 3, "mine")
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"stage": "fetch"}))
    assert trace_pages.of_training(tmp_path, fallback) is fallback


def test_folders_that_do_not_belong_together(tmp_path: Path, tiny_student: Path) -> None:
    _, scores, _ = write_set(tmp_path / "a", tiny_student, 4)
    others, _, _ = write_set(tmp_path / "b", tiny_student, 3, hostile=False)
    with pytest.raises(UserError, match="2 of 4 scored traces are not in it"):
        trace_pages.page(Config(), scores, tiny_student, traces=others)
    with pytest.raises(UserError, match="dcod evaluate"):
        trace_pages.page(Config(), scores, tiny_student, results=tmp_path)
    with pytest.raises(UserError, match="use `surprisal`"):
        trace_pages.page(corrected(name="prefix"), scores, tiny_student)
    pieces = trace_pages.Pieces(prompts.load_tokenizer(tiny_student), scores)
    with pytest.raises(UserError, match="tokenizer has"):
        pieces.number(9999)


def test_json_in_a_page_cannot_end_its_block() -> None:
    text = viewer.as_json({"a": "</script><!--&\ud800"})
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"a": "</script><!--&\ud800"}
    assert text.isascii()
    with pytest.raises(ValueError, match="JSON compliant"):
        viewer.as_json([float("nan")])
