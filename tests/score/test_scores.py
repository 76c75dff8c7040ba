"""Scores and traces say whose tokens they hold, and are refused for another student."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dcod import traces
from dcod.config import Config
from dcod.errors import UserError
from dcod.models import loading
from dcod.score import scores
from dcod.score.scores import Scored
from dcod.stages import merge, score, train
from dcod.traces import Trace, prompts
from dcod.tracking import NullLog
from tests.tiny import save_tiny_student

USER = [{"role": "user", "content": "3+3?"}]


def whose(student: Path) -> Scored:
    return Scored(loading.digest(student), prompts.tokenizer_digest(prompts.load_tokenizer(student)))


@pytest.fixture(scope="module")
def other(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another student with the same tokenizer."""
    return save_tiny_student(tmp_path_factory.mktemp("other") / "student", seed=1)


@pytest.fixture(scope="module")
def scored(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scored")
    traces.write_traces(folder / "traces.parquet", [Trace(USER, "#### 6"), Trace(USER, "It is 6. #### 6")])
    (folder / "scores").mkdir()
    score.run(Config(), folder / "scores", NullLog(), traces=folder, student=tiny_student)
    return folder / "scores"


def test_scores_say_whose_they_are(scored: Path, tiny_student: Path) -> None:
    assert scores.scored_by(scored) == whose(tiny_student)
    assert len(scores.open_scores(scored)["train"]) == 2


def test_training_another_student_is_refused_before_it_is_loaded(
    scored: Path, tiny_student: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "load", lambda *_: pytest.fail("loaded"))
    with pytest.raises(
        UserError, match=rf"scored with student {loading.digest(tiny_student)[:12]} .* score the traces"
    ):
        train.run(Config(), tmp_path, NullLog(), scores=scored, student=other)
    plain = Config.model_validate({"student": {"chat_template": "plain"}})
    with pytest.raises(UserError, match="with tokenizer and template"):
        train.run(plain, tmp_path, NullLog(), scores=scored, student=tiny_student)


def test_scores_that_do_not_say_are_made_again(scored: Path, tiny_student: Path, tmp_path: Path) -> None:
    pq.write_table(pq.read_table(scored / "scores.parquet").replace_schema_metadata(None), tmp_path / "scores.parquet")
    with pytest.raises(UserError, match="does not say which student it was scored with; score the traces again"):
        train.run(Config(), tmp_path / "out", NullLog(), scores=tmp_path, student=tiny_student)


def test_shards_of_different_students_are_not_put_together(scored: Path, other: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        shutil.copytree(scored, tmp_path / name, ignore=shutil.ignore_patterns("facts.json"))
    table = pq.read_table(scored / "scores.parquet")
    known = {**(table.schema.metadata or {}), **(whose(other).schema().metadata or {})}
    pq.write_table(table.replace_schema_metadata(known), tmp_path / "second" / "scores.parquet")
    with pytest.raises(UserError, match="the shards are of different students"):
        merge.run(Config(), tmp_path, NullLog(), kind="score", part0=tmp_path / "first", part1=tmp_path / "second")


def test_traces_with_token_ids_of_another_student_are_refused(tmp_path: Path) -> None:
    own = Trace(USER, "6", tokenizer_digest="mine", token_ids=[5], behavior_logprobs=[-1.0])
    teachers = Trace(USER, "6", tokenizer_digest="teacher", token_ids=[7], behavior_logprobs=[-1.0])
    for name, some in (("own", [teachers, own]), ("text", [teachers, Trace(USER, "6")])):
        (tmp_path / name).mkdir()
        traces.write_traces(tmp_path / name / "traces.parquet", some, tokenizer="mine")
    traces.check_tokenizer(tmp_path / "own", "mine", "student")
    traces.check_tokenizer(tmp_path / "text", "other", "student")  # a text serves all; a teacher's ids were never ours
    with pytest.raises(UserError, match=r"token ids of tokenizer and template mine, .* those of s are other; ingest"):
        traces.check_tokenizer(tmp_path / "own", "other", "s")
