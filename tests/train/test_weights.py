"""The table of weights: those of training, in the student's tokens, with the selection split at 1."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from dcod import api
from dcod.cli import app
from dcod.config import parse_config
from dcod.errors import UserError
from dcod.score.scores import open_scores
from dcod.train import loop, weights
from dcod.train.sets import trace_set
from tests.viewed import write_set


def settings(name: str = "surprisal", **more: object) -> list[str]:
    return [f"train.correction.name={name}", *(f"{key}={value}" for key, value in more.items())]


def test_the_table_has_the_weights_of_training(tmp_path: Path, tiny_student: Path) -> None:
    _, scores, examples = write_set(tmp_path, tiny_student, 40)
    done = CliRunner().invoke(app, ["weights", str(scores), "--out", str(tmp_path / "out"), *settings()])
    assert done.exit_code == 0, done.output
    assert "wrote" in done.stdout
    assert "40 traces" in done.stdout
    rows = pq.read_table(tmp_path / "out" / "weights.parquet").to_pylist()
    assert len(rows) == len(examples)
    config = parse_config("{}", settings())
    learnt = [
        example for example in examples if example.trace_id in {r["trace_id"] for r in rows if r["split"] == "train"}
    ]
    expected = loop.first_weights(learnt, config.train, config.seed)
    by_id = {row["trace_id"]: row for row in rows}
    held = 0
    for example in examples:
        row, before = by_id[example.trace_id], len(example.prompt_tokens)
        assert row["input_ids"] == example.prompt_tokens + example.completion_tokens
        assert row["completion_mask"] == [0] * before + [1] * len(example.completion_tokens)
        assert row["weights"][:before] == [0.0] * before
        if row["split"] == "selection":
            held += 1
            assert set(row["weights"][before:]) == {1.0}
        else:
            assert row["weights"][before:] == expected[example.trace_id]
    assert held == 4
    assert len({w for row in rows for w in row["weights"]}) > 10


def test_what_would_do_nothing_is_refused(tmp_path: Path, tiny_student: Path) -> None:
    _, scores, examples = write_set(tmp_path, tiny_student, 4)
    splits = open_scores(scores)
    with pytest.raises(UserError, match="gives every trace the weight 1; name a correction"):
        next(weights.weighted(splits, parse_config("{}")))
    with pytest.raises(UserError, match="needs behavior_logprobs"):
        next(weights.weighted(splits, parse_config("{}", settings("prefix"))))
    alone = {"train": trace_set(examples[::2]), "selection": trace_set([])}
    with pytest.raises(UserError, match="surprisal"):
        next(weights.weighted(alone, parse_config("{}", settings())))
    with pytest.raises(UserError, match=r"no scores\.parquet"):
        api.weights(tmp_path, settings={"train.correction.name": "surprisal"})
    assert not (tmp_path / "out").exists()
